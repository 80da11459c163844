"""Whole rescaling chains on whole panoramas, by the metrics of the sphere, side by side."""
