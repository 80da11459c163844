"""What tests and benchmarks need and no product: the emulator, a TensorRT driver, the CPU operators for numpy."""
