"""The TensorRT plugins: shells over the CUDA kernels, and what builds and drives them without a GPU."""
