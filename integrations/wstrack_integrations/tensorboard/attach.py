"""A report in a run's directory: pictures and words in an event file, where TensorBoard shows them, and the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack.runs.files import write_whole
from wstrack_integrations.tensorboard.files import SCHEME, holds, only, places_at
from wstrack_integrations.tensorboard.records import record
from wstrack_integrations.tensorboard.source import MANIFEST
from wstrack_integrations.tensorboard.summaries import image, text

if TYPE_CHECKING:
    from wstrack.trackers.contract import Attachment

__all__ = ["attach"]

EVENTS = "events.out.tfevents.{:010d}.wstrack-report"
FOLDER = "wstrack-report"
TAG = "wstrack-report"


def attach(address: str, attachment: Attachment) -> str:
    """Put a report into a run's directory, in place of an earlier one; where to look at it.

    The pictures are in TensorBoard's tab Images, the findings and clusters in its tab Text, under `wstrack-report`.

    Raises:
        WstrackError: there is no such run, or its directory cannot be written to.
    """
    places = places_at(address)
    place = only(address, [each for each in places if holds(each, MANIFEST)] or places)
    assert place is not None
    directory = place.parent if place.is_file() else place
    try:
        (directory / FOLDER).mkdir(exist_ok=True)
        for name, content in attachment.files().items():
            write_whole(directory / FOLDER / name, content)
        events = directory / EVENTS.format(int(time.time()))
        write_whole(events, _events(attachment))
        for path in directory.glob(EVENTS.replace("{:010d}", "*")):
            if path != events:
                path.unlink()
    except OSError as error:
        raise WstrackError(f"cannot write to {directory}: {error.strerror or error}") from error
    return f"{SCHEME}{directory}: under {TAG} in the tabs Images and Text, and {directory / FOLDER / 'report.html'}"


def _events(attachment: Attachment) -> bytes:
    """The content of an event file with the pictures and the summary."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [image(f"{TAG}/{name}", picture) for name, picture in attachment.pictures.items()]
    values.append(text(f"{TAG}/summary", "text", attachment.summary.encode(errors="backslashreplace")))
    version = Event(wall_time=time.time(), file_version="brain.Event:2")
    pictures = Event(wall_time=time.time(), summary=Summary(value=values))
    return record(version.SerializeToString()) + record(pictures.SerializeToString())
