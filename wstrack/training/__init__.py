"""Training: what counts as a step, when a sample is due, and how it gets from the device to trackers and disk."""
