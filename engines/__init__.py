"""What runs on the device: images in, sessions over ONNX graphs and TensorRT engines, images out.

This storey needs numpy, Pillow and one runtime. It never imports torch or onnx, so a Jetson can carry it
without them.
"""
