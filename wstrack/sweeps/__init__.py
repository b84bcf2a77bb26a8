"""Sweeps: many runs, each read, summarised and let go, on this machine or many; and the pages that show them."""
