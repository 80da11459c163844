"""A folder of thousands of panoramas: many processes on one machine, or a Ray cluster; the same results either way.

work.py is what a worker does with one file, local.py and cluster.py give files to workers, outcomes.py keeps the book.
"""
