"""What stands beside an engine: its sidecar (manifest.py) and the shapes that it takes (profile.py)."""
