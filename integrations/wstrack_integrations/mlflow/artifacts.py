"""What lies among a run's artifacts beside its metrics: the manifest and the recording."""

from __future__ import annotations

import base64
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Manifest
from wstrack_integrations.mlflow.address import local_path, redacted, required
from wstrack_integrations.mlflow.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wstrack_integrations.mlflow.history import Store, StoredRun

__all__ = ["FOLDER", "MANIFEST", "artifact", "manifest_tags", "read_manifest", "tagged_manifest"]

FOLDER = "wstrack"
"""The folder of everything of ours among a run's artifacts."""
MANIFEST = "manifest.json"
TAG = "wstrack.manifest"
LONGEST_TAG = 4000  # MLflow takes 8000 characters, and took 5000 before
PROXIED = "mlflow-artifacts:"  # the scheme of artifacts that the tracking server itself hands out


@contextmanager
def artifact(name: str, run: StoredRun, uri: str, store: Store) -> Iterator[Path]:
    """A file or folder in ours: where it lies, or a copy of it for as long as the context is open; or nothing there.

    Raises:
        WstrackError: it cannot be fetched.
    """
    here = local_path(run.artifacts)
    if here is not None:
        yield here / FOLDER / name
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / name
        if isinstance(store, Server) and run.artifacts.startswith(f"{PROXIED}/"):
            place = f"{run.artifacts.removeprefix(PROXIED).strip('/')}/{FOLDER}"
            for path in [name] if copy.suffix else store.files(place, name):
                (copy.parent / path).parent.mkdir(exist_ok=True)
                (copy.parent / path).write_bytes(store.file(f"{place}/{path}"))
        else:
            _download(name, run, uri, scratch)
            copy = Path(scratch) / FOLDER / name
        yield copy


def _download(name: str, run: StoredRun, uri: str, folder: str) -> None:
    required()
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        there = mlflow.MlflowClient(uri).list_artifacts(run.id, FOLDER)
        if any(each.path == f"{FOLDER}/{name}" for each in there):
            path = f"{FOLDER}/{name}"
            mlflow.artifacts.download_artifacts(run_id=run.id, artifact_path=path, dst_path=folder, tracking_uri=uri)
    except (MlflowException, OSError, ImportError) as error:  # ImportError: boto3, say, for a store on S3
        where = redacted(run.artifacts, uri)
        raise WstrackError(
            f"cannot fetch artifacts of run {run.id} from {where}: {redacted(str(error), uri)}"
        ) from None


def manifest_tags(manifest: Manifest) -> dict[str, str]:
    """The manifest as tags of a run, for one without artifacts: packed, in pieces that MLflow takes.

    Example:
        >>> sorted(manifest_tags(Manifest("run", (), ("rwc",), 1)))
        ['wstrack.manifest.0']
    """
    packed = base64.b85encode(zlib.compress(manifest.to_json().encode(), 9)).decode()
    pieces = (packed[at : at + LONGEST_TAG] for at in range(0, len(packed), LONGEST_TAG))
    return {f"{TAG}.{number}": piece for number, piece in enumerate(pieces)}


def tagged_manifest(tags: Mapping[str, str]) -> Manifest | None:
    """The manifest in a run's tags; None if it is not there.

    Raises:
        WstrackError: it cannot be read.
    """
    packed = "".join(tags.get(f"{TAG}.{number}", "") for number in range(len(tags)))
    try:
        return Manifest.from_json(zlib.decompress(base64.b85decode(packed)).decode()) if packed else None
    except (ValueError, zlib.error) as error:
        raise WstrackError(f"the manifest in the tags {TAG}.* cannot be read: {error}") from error


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        WstrackError: it is not there or cannot be read.
    """
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WstrackError(f"the artifact {FOLDER}/{MANIFEST} cannot be read: {error}") from error
