"""One W&B run that gets a run's samples, its manifest and its recording."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError
from wstrack.runs.files import write_whole
from wstrack.runs.manifest import Manifest
from wstrack.runs.recording import FOLDER
from wstrack.trackers.contract import Sample
from wstrack.trackers.naming import layer_keys
from wstrack_integrations.wandb.pace import ROWS_PER_MINUTE, VALUES_PER_MINUTE, Pace
from wstrack_integrations.wandb.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CONFIG", "INTERVAL", "MANIFEST_FILE", "STEP", "WandbSink"]

log = logging.getLogger("wstrack")

CONFIG = "wstrack"  # the key in the run's config
STEP, INTERVAL = "wstrack/step", "wstrack/interval"
MANIFEST_FILE = "wstrack-manifest.json"


class WandbSink:
    """One run; see `open_sink` and `Rows`. Charts are thinned to W&B's guidance; the recording is not.

    Args:
        run: what `wandb.init` returned.
        manifest: of the samples to come.
        commit: see `WandbTarget`.
        thin: whether to thin; an offline run has no guidance to keep.
        session: what is in the run once these samples have come; None = counted here, beside earlier sessions.

    Raises:
        WstrackError: the run is finished, or what it holds of an earlier session cannot be fetched.
    """

    name = "W&B"

    def __init__(
        self,
        run: Any,
        manifest: Manifest,
        *,
        commit: bool = False,
        thin: bool = True,
        session: Mapping[str, int] | None = None,
    ) -> None:
        if getattr(run, "_is_finished", False):
            raise WstrackError(f"W&B run {run.id} is finished; call wandb.init() again, with resume= to go on with it")
        self._run = run
        self._recording = self._files = Path(run.dir).absolute()
        self.recording_directory: Path | None = self._files
        self.reference = f"wandb:{self._files if run.offline else f'{run.entity}/{run.project}/{run.id}'}"
        if run.resumed and not run.offline and session is None:
            _fetch_recording(run, self._files)
        about = dict(run.config.get(CONFIG) or {})
        merged = _merged(about.get("manifest"), manifest)
        self._keys = _keys(merged, manifest)
        self._metrics = manifest.metrics
        self._width = len(manifest.metrics) * len(manifest.layers)
        self._pace = Pace.of(self._width) if thin and not run.offline else None
        self._samples = self._thinned = 0
        self._uploading = False
        self._session = session
        self._sessions: list[Mapping[str, int]] = [*about.get("sessions", ()), {}] if session is None else [session]
        self._config = {"manifest": merged.to_json()}
        self._tell()
        write_whole(self._files / MANIFEST_FILE, merged.to_json())
        run.save(str(self._files / MANIFEST_FILE), base_path=str(self._files), policy="now", glob=False)
        run.define_metric(STEP, summary="none", hidden=True)
        for name in (INTERVAL, *(f"{metric}/*" for metric in manifest.metrics)):
            run.define_metric(name, step_metric=STEP, summary="none")
        # Several writers share a run in this mode: it has no current step to ask for, and takes none.
        shared = getattr(run.settings, "mode", None) == "shared"
        self._rows = Rows(run, commit=commit or shared)
        self._told_of_end = _at_finish(run, self._finish)

    def bind(self, directory: Path) -> None:
        """Upload the recording in this folder."""
        self._recording = directory

    def write(self, samples: Sequence[Sample]) -> None:
        """Have these samples logged, each in a row of history.

        Raises:
            WstrackError: the run is finished.
        """
        if not self._uploading:
            self._upload("*.arrows", "live")
        self._samples += len(samples)
        kept = [sample for sample in samples if self._pace is None or self._pace.takes(sample.time)]
        if len(kept) < len(samples) and not self._thinned:
            log.warning(
                "W&B: charts get fewer samples, to stay within its guidance of %d rows and %d values a minute; "
                "the recording has them all (said once)",
                ROWS_PER_MINUTE,
                VALUES_PER_MINUTE,
            )
        self._thinned += len(samples) - len(kept)
        self._rows.put([partial(self._row, sample) for sample in kept])

    def close(self) -> None:
        """Upload the finished recording. What waits for a row is logged when the run finishes, which the user does."""
        if getattr(self._run, "_is_finished", False):
            return
        self._upload("*.arrow", "now")
        self._upload("*.arrows", "now")  # parts that nobody finished; `watch` leaves none
        if not self._told_of_end:
            self._rows.finish()
        self._complete()

    def _row(self, sample: Sample) -> dict[str, float]:
        row: dict[str, float] = {STEP: sample.step, INTERVAL: sample.interval}
        for metric in self._metrics:
            row.update(zip(self._keys[metric], sample.values[metric].tolist(), strict=True))
        return row

    def _finish(self) -> None:
        """The last moment at which the run takes rows; runs inside the user's `run.finish()`."""
        try:
            self._rows.finish()
            self._complete()
        except Exception as error:  # noqa: BLE001  the user's run must finish whatever becomes of ours
            log.warning("W&B: waiting samples cannot be logged: %s; the recording has them", type(error).__name__)

    def _upload(self, pattern: str, policy: str) -> None:
        base = self._recording
        self._uploading = True
        for part in sorted((base / FOLDER).glob(pattern)):
            self._run.save(str(part), base_path=str(base), policy=policy, glob=False)

    def _complete(self) -> None:
        """Say in the run's config how much there should be."""
        counted = {"samples": self._samples, "thinned": self._thinned, "values": self._samples * self._width}
        self._sessions[-1] = self._session or counted
        self._tell()

    def _tell(self) -> None:
        config = {**self._config, "sessions": self._sessions}
        self._run.config.update({CONFIG: config}, allow_val_change=True)


def _merged(before: str | None, manifest: Manifest) -> Manifest:
    """The manifest of all sessions of a run: this one's facts, everybody's layers and metrics."""
    try:
        old = Manifest.from_json(before) if before else manifest
    except ValueError:
        return manifest
    layers = {layer.name: layer for layer in (*old.layers, *manifest.layers)}
    metrics = dict.fromkeys((*old.metrics, *manifest.metrics))
    return replace(manifest, layers=tuple(layers.values()), metrics=tuple(metrics))


def _keys(merged: Manifest, manifest: Manifest) -> dict[str, list[str]]:
    """By metric, the keys of this session's layers among those of all sessions."""
    names = [layer.name for layer in merged.layers]
    key = dict(zip(names, layer_keys(names), strict=True))
    return {metric: [f"{metric}/{key[layer.name]}" for layer in manifest.layers] for metric in manifest.metrics}


def _fetch_recording(run: Any, files: Path) -> None:
    """Bring the recording of earlier sessions here: its parts would be overwritten, and steps go on from its last."""
    import wandb

    try:
        for file in wandb.Api().run(f"{run.entity}/{run.project}/{run.id}").files():
            if Path(file.name).parent == Path(FOLDER):
                file.download(root=str(files), replace=True)
    except (OSError, ValueError, wandb.Error) as error:
        raise WstrackError(
            f"the recording of run {run.id} so far cannot be fetched ({type(error).__name__}); go on when W&B can be "
            "reached, or begin a run of its own"
        ) from error


def _at_finish(run: Any, call: Any) -> bool:
    """Have `call` called when the run finishes, before its last message; False if this wandb cannot."""
    try:
        from wandb.sdk.wandb_run import TeardownHook, TeardownStage
    except ImportError:
        return False
    hooks = getattr(run, "_teardown_hooks", None)
    if isinstance(hooks, list):
        hooks.append(TeardownHook(call, TeardownStage.EARLY))
    return isinstance(hooks, list)
