"""Engines built from graphs for a target: here (build.py), or by trtexec on the device (trtexec.py)."""
