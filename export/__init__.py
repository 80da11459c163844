"""From a checkpoint to the two ONNX graphs that go onto devices, and the proof that they compute the same."""
