"""The invertible networks, from a dataclass that fixes the architecture to the two directions."""
