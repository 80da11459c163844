"""The deformable convolution of a training step on CPU cores, with its gradients."""
