"""NVIDIA's packages: CUDA through cuda-bindings, TensorRT and TensorRT-RTX behind one door."""
