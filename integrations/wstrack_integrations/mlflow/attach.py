"""A report among a run's artifacts, where MLflow's pages show it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack_integrations.mlflow.address import SCHEME, Address, redacted, required
from wstrack_integrations.mlflow.artifacts import FOLDER
from wstrack_integrations.mlflow.source import open_store, the_run

if TYPE_CHECKING:
    from wstrack.trackers.contract import Attachment

__all__ = ["attach"]

PLACE = f"{FOLDER}/report"


def attach(address: str, attachment: Attachment) -> str:
    """Put a report among the artifacts of a run, also of one that is over; where to look at it.

    Raises:
        ValueError: a malformed address.
        WstrackError: there is no such run, or MLflow cannot be reached or refuses.
    """
    required()
    from mlflow import MlflowClient

    place = Address.of(address)
    run = the_run(place, open_store(place.uri))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in attachment.files().items():
            (Path(folder) / name).write_bytes(content)
        try:
            MlflowClient(place.uri).log_artifacts(run.id, folder, PLACE)
        except Exception as error:  # noqa: BLE001  of MLflow, boto3, ...: each may name the password
            where = redacted(place.uri, place.uri)
            raise WstrackError(f"{where}: {type(error).__name__}: {redacted(str(error), place.uri)}") from None
    return f"{SCHEME}{address}: {PLACE}/report.html among its artifacts"
