"""Clusters that read the runs of a sweep, a file for each: `wstrack.sweep(client=...)`."""
