"""Measuring: which tensors are layers, what of them this process holds, and how their raw sums are taken."""
