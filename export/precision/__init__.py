"""fp16 that is right: roles of the nodes, fp32 islands, casts at their borders, and how the choice was measured."""
