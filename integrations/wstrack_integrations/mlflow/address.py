"""What the address in a run reference names: a tracking store and what in it; and keeping passwords out of messages."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from wstrack.errors import WstrackError
from wstrack.messages import without_secrets

__all__ = [
    "SCHEME",
    "Address",
    "is_database",
    "is_folder",
    "is_page",
    "local_path",
    "redacted",
    "required",
    "tracking_uri",
]

# A page of MLflow's, such as http://host:5000/#/experiments/1/runs/0a1b?...: the server, the experiment and the run.
_PAGE = re.compile(r"(https?://[^#]+?)/?#/experiments/([^/?#]+)(?:/(?:runs/([^/?#]+)[^#]*|[^#]*)?)?(?:\?.*)?")
SCHEME = "mlflow:"
"""How a run reference of MLflow starts."""


@dataclass(frozen=True)
class Address:
    """A tracking store, and one run or one experiment in it; neither = all of its runs.

    Attributes:
        uri: the tracking URI.
        place: what stands before the run in a reference: nothing, or a path and a slash.
        folder: whether it was named by a folder of a file store, as its runs then are.
    """

    uri: str
    place: str = ""
    run: str | None = None
    experiment: str | None = None
    folder: bool = False

    @classmethod
    def of(cls, text: str) -> Address:
        """`<run id>`, `experiment/<name or id>`, or nothing, in the tracking store of this process; or a path.

        A path is a database file or a folder of a file store (`mlruns/`), with any of these after it, or a folder of a
        run or an experiment in such a store. The address of a page of MLflow's is what it shows.

        Example:
            >>> address = Address.of("experiment/digits")
            >>> address.experiment, address.run
            ('digits', None)
        """
        if page := _PAGE.fullmatch(text):
            uri, experiment, run = page.groups()
            _check_server(uri)
            return cls(uri, "", run=run, experiment=None if run else unquote(experiment))
        if re.fullmatch(r"https?://[^/#]+/?", text):
            _check_server(text)
            return cls(text.rstrip("/"))
        path = Path(text).expanduser()
        if text and path.is_dir() and (found := cls._in_folder(path.absolute())):
            return found
        for file in (path, *path.parents):
            if file.is_file() and is_database(file):
                rest = path.relative_to(file).as_posix().removeprefix(".")
                return cls._named(f"sqlite:///{file.absolute()}", f"{file}/", rest)
            if file != Path() and not _is_entry(file) and is_folder(file):
                return replace(
                    cls._named(str(file.absolute()), f"{file}/", path.relative_to(file).as_posix()), folder=True
                )
        return cls._named(tracking_uri(), "", text)

    @classmethod
    def _named(cls, uri: str, place: str, text: str) -> Address:
        kind, _, name = text.partition("/")
        if kind == "experiment" and name:
            return cls(uri, place, experiment=name)
        if "/" in text:
            raise ValueError(
                f"{SCHEME}{redacted(text)} is no reference; it is {SCHEME}<run id>, {SCHEME}experiment/<name or id>, "
                "or a path to an mlruns folder or a database; a server goes into MLFLOW_TRACKING_URI"
            )
        return cls(uri, place, run=text or None)

    @classmethod
    def _in_folder(cls, path: Path) -> Address | None:
        """Any path in a run's folder stands for the run, one in an experiment's folder for the experiment."""
        entry = next(filter(_is_entry, (path, *path.parents)), None)
        if entry is None:
            return cls(str(path), folder=True) if is_folder(path) else None
        if _is_entry(entry.parent):
            return cls(str(entry.parent.parent), run=entry.name, folder=True)
        return cls(str(entry.parent), experiment=entry.name, folder=True)


def is_page(url: str) -> bool:
    """Whether an address is that of a page of MLflow's which shows a run or an experiment."""
    return _PAGE.fullmatch(url) is not None


def _check_server(uri: str) -> None:
    """Refuse a page of another server than the user's: the user's password must not go to wherever a link points."""
    secret = any(os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("PASSWORD", "TOKEN", "USERNAME"))
    if secret and urlsplit(uri).netloc.rpartition("@")[2] != urlsplit(tracking_uri()).netloc.rpartition("@")[2]:
        raise WstrackError(
            f"{redacted(uri)} is not the server that MLFLOW_TRACKING_URI names, for which the user and password in the "
            "environment are; set it to that one"
        )


def is_database(path: Path) -> bool:
    """Whether the file is an SQLite database of MLflow, by its first page: the tables' definitions begin there."""
    if path.suffix not in (".db", ".sqlite", ".sqlite3"):
        return False
    try:
        with path.open("rb") as file:
            return file.read(15) == b"SQLite format 3" and _has_table(path, "latest_metrics")
    except OSError:
        return False


def _has_table(path: Path, name: str) -> bool:
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            return bool(connection.execute("select 1 from sqlite_master where name = ?", (name,)).fetchone())
        finally:
            connection.close()
    except sqlite3.Error:
        return False


def is_folder(path: Path) -> bool:
    """Whether the folder is an MLflow file store (`mlruns/`), or of an experiment or a run in one."""
    return path.is_dir() and (_is_entry(path) or any(map(_is_entry, path.iterdir())))


def _is_entry(folder: Path) -> bool:
    try:  # others have files of this name too, conda for one
        return "lifecycle_stage:" in (folder / "meta.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def tracking_uri() -> str:
    """The tracking URI that MLflow uses in this process."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given and "mlflow" not in sys.modules:
        return given
    required()
    import mlflow

    return str(mlflow.get_tracking_uri())


def required() -> None:
    """Import MLflow.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import mlflow  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise ModuleNotFoundError("MLflow is not installed: pip install 'wstrack[mlflow]'", name="mlflow") from error


def local_path(uri: str) -> Path | None:
    """The folder behind the URI of an artifact or of a file store; None if it is not on this machine."""
    scheme, colon, _ = uri.partition(":")
    if not colon or len(scheme) < 2:  # one letter is a drive
        return Path(uri)
    return Path(url2pathname(unquote(urlsplit(uri).path))) if scheme == "file" else None


def redacted(text: str, uri: str = "") -> str:
    """`text` without what is secret in `uri`, in any other address in it, or in MLflow's own variables.

    Example:
        >>> redacted("cannot reach postgresql://me:my%20secret@db/runs (my secret)", "postgresql://me:my%20secret@db")
        'cannot reach postgresql://***@db/runs (***)'
    """
    for secret in (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("PASSWORD", "TOKEN")):
        text = text.replace(secret, "***") if secret else text
    return without_secrets(text, uri)
