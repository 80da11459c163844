"""Panoramas of any size through a graph: files in and out, rows streamed, tiles without a seam.

rescale_file.py does one file; rescaler.py runs a graph tile by tile, as tiles.py cuts them; sources.py and sinks.py
read and write rows (png.py streams them), metadata.py and record.py keep what a file says; video.py does frames.
"""
