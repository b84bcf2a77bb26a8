"""MLflow's old file store, `mlruns/`, read directly: MLflow itself refuses it since 3.13."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack_integrations.mlflow.history import EVERY, METRICS, History, StoredRun, chosen_experiment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wstrack.runs.asked import Asked

__all__ = ["Folder"]

_STATUS = {"1": "running", "2": "scheduled", "3": "finished", "4": "failed", "5": "killed"}  # MLflow's protocol


class Folder:
    """A tracking store of plain files, `<experiment>/<run>/metrics/<key>`; see `Store`."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def place(self, run_id: str) -> Path:
        """A run's own folder.

        Raises:
            WstrackError: there is no such run.
        """
        found = next((path.parent for path in self._top.glob("*/*/meta.yaml") if path.parent.name == run_id), None)
        if found is None:
            raise WstrackError(f"MLflow has no run {run_id!r} in {self._top}")
        return found

    def runs(
        self, experiment: str | None, *, settings: bool = False, ours: bool = False, asked: Asked = EVERY
    ) -> Iterator[StoredRun]:
        """Every run that is not deleted, of an experiment by name or id, in the order of their starts; see `Store`.

        Raises:
            WstrackError: there is no such experiment.
        """
        folders = [path.parent for path in sorted(self._top.glob("*/meta.yaml"))]
        if experiment is not None:
            number = chosen_experiment(experiment, [(_meta(each).get("name", ""), each.name, None) for each in folders])
            folders = [folder for folder in folders if folder.name == number]
        runs = [path.parent for folder in folders for path in folder.glob("*/meta.yaml")]
        started = {run: _meta(run) for run in runs}
        kept = [run for run, meta in started.items() if meta.get("lifecycle_stage") != "deleted" and "run_id" in meta]
        kept.sort(key=lambda run: (int(started[run].get("start_time", "0")), run.name), reverse=asked.newest)
        yield from (self._stored(run, settings=settings) for run in kept)

    def run(self, run_id: str, *, settings: bool = False) -> StoredRun:
        """One run."""
        return self._stored(self.place(run_id), settings=settings)

    def keys(self, run_id: str) -> list[str]:
        """The metrics that a run has, by name."""
        return list(_files(self.place(run_id) / "metrics"))

    def history(self, run_id: str, keys: Sequence[str] | None = None) -> History:
        """Every point of a run, or of some of its metrics; a line that is half written is left out."""
        files = _files(self.place(run_id) / "metrics")
        names = [key for key in files if keys is None or key in keys]
        places: list[int] = []
        points: list[tuple[int, float, int]] = []
        for place, name in enumerate(names):
            for line in files[name].read_text(encoding="utf-8").splitlines(keepends=True):
                words = line.split()
                if len(words) >= 2 and line.endswith("\n"):
                    # "time value step", and what later versions add; the oldest wrote no step
                    points.append((int(words[0]), float(words[1]), int(words[2]) if len(words) > 2 else 0))
                    places.append(place)
        times, values, steps = zip(*points, strict=True) if points else ((), (), ())
        return History.of(names, places, steps, times, values)

    def _stored(self, run: Path, *, settings: bool) -> StoredRun:
        tags = {key: path.read_text(encoding="utf-8") for key, path in _files(run / "tags").items()}
        meta = _meta(run)
        name = meta.get("run_name") or tags.get("mlflow.runName") or run.name
        # Where the folder was moved to counts, not where it was.
        artifacts = str(run / "artifacts") if (run / "artifacts").is_dir() else meta.get("artifact_uri", "")
        if not settings:
            return StoredRun(run.name, name, artifacts, tags)
        params = {key: path.read_text(encoding="utf-8") for key, path in _files(run / "params").items()}
        ours = ("wstrack/", *(f"{metric}/" for metric in tags.get(METRICS, "").split(",") if metric))
        latest = {
            key: _last(path)
            for key, path in _files(run / "metrics").items()
            if not key.startswith(ours) and path.stat().st_size
        }
        number = meta.get("status", "")
        status = _STATUS.get(number, number)
        return StoredRun(run.name, name, artifacts, tags, status, int(meta.get("start_time") or 0), params, latest)


def _last(path: Path) -> float:
    """The value in the last whole line of a metric's file."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    values = [words[1] for words in lines if len(words) >= 2]
    return float(values[-1]) if values else float("nan")


def _files(top: Path) -> dict[str, Path]:
    return {path.relative_to(top).as_posix(): path for path in sorted(top.rglob("*")) if path.is_file()}


def _meta(folder: Path) -> dict[str, str]:
    """The lines of a `meta.yaml`, which MLflow writes flat."""
    pairs = (line.partition(":") for line in (folder / "meta.yaml").read_text(encoding="utf-8").splitlines())
    return {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
