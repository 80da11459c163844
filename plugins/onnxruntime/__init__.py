"""The operators for ONNX Runtime: a custom-op library, and how it is built."""
