"""What a graph would cost on a device, worked out on paper: nothing is run there.

shapes.py finds the size of every tensor, layers.py groups operators as a builder would fuse them and counts,
roofline.py turns counts into times and memory, table.py prints them and chart.py draws them.
"""
