"""The operators on CPU cores: for inference, for the fused nodes of CPU graphs, and for training."""
