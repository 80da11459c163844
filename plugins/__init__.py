"""The deformable operators for the runtimes: kernels, shells, and what builds and finds their libraries."""
