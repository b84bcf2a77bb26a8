"""Trackers: the contract that each keeps, how they are found, and the runs behind a reference.

Who writes a tracker imports from here what it is handed, and what names its keys, finds its series and tells what it
lacks (docs/third-party-tracker.md).
"""

from wstrack.trackers.contract import Attachment, Recorded, Sample, Sink, Source, Tracker, WritingTracker
from wstrack.trackers.matching import assigned, compiled, layer_of, wanted
from wstrack.trackers.naming import layer_keys, run_folder, run_home
from wstrack.trackers.pushing import lacking
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
    "assigned",
    "compiled",
    "lacking",
    "layer_keys",
    "layer_of",
    "open_sinks",
    "run_folder",
    "run_home",
    "tracker",
    "trackers",
    "wanted",
    "writer",
]
