"""The two operators on CPU cores, and their test library."""
