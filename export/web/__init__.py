"""Panoramas in a browser: a static site that grows a small LR picture back where its visitor looks.

A room of export/: a site is what a checkpoint becomes, as a graph is. Making one needs torch and onnx, and nothing of
it runs on a device. graph.py makes the graph that browsers run, packages.py fetches the pinned npm packages, site.py
writes the site, and module/ is the npm-shaped module that the page uses.
"""
