"""One HTML page about a checkpoint on one panorama, complete in itself: it needs no other file and no network.

contents.py finds out what the page says, page.py writes it; page.html, page.css and page.js are its form, viewer.py
brings the 360-degree viewer inside.
"""
