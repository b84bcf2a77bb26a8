"""The steps of `benchmarks/on_gpu.py`, a room each."""
