"""Panoramas on disk: the layouts of the data sets, a survey of what a folder holds, and training crops."""
