"""What each operator of the package means in operators of the ONNX standard, written into a graph."""
