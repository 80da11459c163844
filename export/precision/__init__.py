"""fp16 that is right: roles of the nodes, what stays in fp32, casts at its borders, how that was chosen."""
