"""A recipe for NVIDIA's Polygraphy: a folder that compares a graph in TensorRT with ONNX Runtime, layer by layer.

recipe.py writes it; the .template files are what lies in it. They need the packages polygraphy, onnx and onnxruntime,
and nothing of this one.
"""
