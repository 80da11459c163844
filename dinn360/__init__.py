"""DINN360: a deformable invertible network that rescales 360-degree panoramas (CVPR 2023).

The model, its training and its evaluation. This storey needs torch; what runs on a device lives in `engines`.
"""

__version__ = "0.2.0"
