"""What only a machine with an NVIDIA GPU can show: python -m tests.device.gpu, and its steps."""
