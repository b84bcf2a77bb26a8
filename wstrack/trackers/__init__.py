"""Trackers: the contract that each keeps, how they are found, and the runs behind a reference.

Who writes a tracker imports what it is handed and what names its keys and folders from here.
"""

from wstrack.trackers.contract import Attachment, Recorded, Sample, Sink, Source, Tracker
from wstrack.trackers.naming import layer_keys, run_folder
from wstrack.trackers.registry import open_sinks, tracker, trackers

__all__ = [
    "Attachment",
    "Recorded",
    "Sample",
    "Sink",
    "Source",
    "Tracker",
    "layer_keys",
    "open_sinks",
    "run_folder",
    "tracker",
    "trackers",
]
