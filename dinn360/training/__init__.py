"""From crops to a checkpoint: Algorithm 1 of the slides, and a run in a folder that can be stopped and resumed."""
