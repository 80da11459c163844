"""Engines: built from graphs for a target (build.py, trtexec.py), and described by a sidecar (manifest.py)."""
