"""What runs on the device: images in, sessions over ONNX (and later TensorRT) graphs, images out.

This storey needs numpy, Pillow and one runtime. It never imports torch or onnx, so a Jetson can carry it
without them.
"""
