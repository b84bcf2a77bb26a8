"""Trackers: the contract that each keeps, how they are found, and the runs behind a reference.

Who writes a tracker imports what it is handed and what names its keys and folders from here.
"""

from wstrack.trackers.contract import Attachment, Recorded, Sample, Sink, Source, Tracker, WritingTracker
from wstrack.trackers.naming import layer_keys, run_folder
from wstrack.trackers.registry import active, open_sinks, tracker, trackers, writer

__all__ = [
    "Attachment",
    "Recorded",
    "Sample",
    "Sink",
    "Source",
    "Tracker",
    "WritingTracker",
    "active",
    "layer_keys",
    "open_sinks",
    "run_folder",
    "tracker",
    "trackers",
    "writer",
]
