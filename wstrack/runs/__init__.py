"""Runs: what one holds, the recording that keeps it whole, and tables of anyone's numbers."""

from wstrack.runs.manifest import Layer, Manifest, layer_table
from wstrack.runs.run import Completeness, Run

__all__ = ["Completeness", "Layer", "Manifest", "Run", "layer_table"]
