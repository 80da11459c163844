"""The CUDA kernels' own source, run thread by thread on a CPU: for tests and for counting memory traffic."""
