"""One W&B run that gets a run's samples, its manifest and its recording."""

from __future__ import annotations

import logging
import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError
from wstrack.runs.files import write_whole
from wstrack.runs.marks import SUFFIX as MARKS
from wstrack.runs.recording import FOLDER
from wstrack.trackers.contract import Sample
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import numbers_of, series_keys, width_of
from wstrack_integrations.wandb.about import About
from wstrack_integrations.wandb.pace import ROWS_PER_MINUTE, VALUES_PER_MINUTE, Pace
from wstrack_integrations.wandb.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wstrack.runs.alerts import Alert
    from wstrack.runs.manifest import Manifest

__all__ = ["INTERVAL", "MANIFEST_FILE", "STEP", "WandbSink"]

log = logging.getLogger("wstrack")

STEP, INTERVAL = "wstrack/step", "wstrack/interval"
MANIFEST_FILE = "wstrack-manifest.json"
DEFINED = 500  # keys that are defined one by one; W&B's process takes about 2 s for 1,000, beside the training
DRAIN = 20.0  # seconds that the end of a run waits for samples on their way


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
        # `wandb sync` puts the files of all sessions of an offline run into one folder.
        self.recording_label = secrets.token_hex(4) if run.offline else ""
        self.reference = f"wandb:{self._files if run.offline else f'{run.entity}/{run.project}/{run.id}'}"
        if run.resumed and not run.offline and session is None:
            _fetch_recording(run, self._files)
        self._manifest = manifest
        self._commit, self._thin, self._session = commit, thin, session
        self._rows: Rows | None = None
        self._samples = self._thinned = 0
        self._uploading = self._drained = False

    def bind(self, directory: Path, manifest: Manifest, flush: Callable[[float], bool] | None = None) -> None:
        """Say in the run what is to come; the recording in this folder is uploaded."""
        run, self._recording, self._flush = self._run, directory, flush
        self._about = About.of(run)
        merged, self._number = self._about.begin(run, manifest, alone=self._session is not None)
        self._keys = _keys(merged, manifest)
        self._metrics, self._has = manifest.metrics, manifest.has
        self._width = width_of(manifest)
        self._pace = Pace.of(sum(map(len, self._keys.values()))) if self._thin and not run.offline else None
        write_whole(self._files / MANIFEST_FILE, merged.to_json())
        run.save(str(self._files / MANIFEST_FILE), base_path=str(self._files), policy="now", glob=False)
        run.define_metric(STEP, summary="none", hidden=True)
        # Key by key where it can be: of two patterns that fit, a "*" of the user's and one of ours, W&B takes any.
        keys = [key for keys in self._keys.values() for key in keys]
        if len(keys) > DEFINED:
            keys = [f"{metric}/*" for metric in self._metrics]
        for key in (INTERVAL, *keys):
            run.define_metric(key, step_metric=STEP, summary="none")
        # Several writers share a run in this mode: it has no current step to ask for, and takes none.
        shared = getattr(run.settings, "mode", None) == "shared"
        self._rows = Rows.of(run)
        self._rows.join(self, commit=self._commit or shared)

    def write(self, samples: Sequence[Sample]) -> None:
        """Have these samples logged, each in a row of history.

        Raises:
            WstrackError: the run is finished.
        """
        if self._rows is None:
            self.bind(self._recording, self._manifest)
        assert self._rows is not None
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

    def alert(self, alerts: Sequence[Alert]) -> None:
        """Send what rules said as alerts of W&B, one a rule: by mail or to Slack, as the user has set it up there.

        Raises:
            WstrackError: the run is finished.
        """
        if getattr(self._run, "_is_finished", False):
            raise WstrackError("the W&B run was finished before its alerts came; call watcher.close() first")
        for rule in dict.fromkeys(alert.rule for alert in alerts):
            text = "\n".join(f"step {each.step}: {each.sentence}" for each in alerts if each.rule == rule)
            self._run.alert(title=f"wstrack: {rule}"[:64], text=text, level="WARN", wait_duration=0)

    def close(self) -> None:
        """Upload the finished recording. What waits for a row is logged when the run finishes, which the user does."""
        if self._rows is None or getattr(self._run, "_is_finished", False):
            return
        self._upload("*.arrow", "now")
        self._upload("*.arrows", "now")  # parts that nobody finished; `watch` leaves none
        self._upload(f"*{MARKS}", "now")
        self._rows.leave(self)
        self._drained = True
        self.complete()

    def _row(self, sample: Sample) -> dict[str, float]:
        row: dict[str, float] = {STEP: sample.step, INTERVAL: sample.interval}
        for metric in self._metrics:
            row.update(
                zip(self._keys[metric], numbers_of(metric, sample.values[metric], self._has(metric)), strict=True)
            )
        return row

    def drain(self) -> None:
        """The run is about to end, perhaps before the watch: wait for what is on its way here."""
        self._drained = self._flush is None or self._flush(DRAIN)

    def _upload(self, pattern: str, policy: str) -> None:
        base = self._recording
        self._uploading = True
        for part in sorted((base / FOLDER).glob(pattern)):
            self._run.save(str(part), base_path=str(base), policy=policy, glob=False)

    def complete(self) -> None:
        """Say in the run's config how much there should be, if all that was measured came here."""
        if not self._drained:
            return
        counted = {"samples": self._samples, "thinned": self._thinned, "values": self._samples * self._width}
        self._about.complete(self._run, self._number, self._session or counted)


def _keys(merged: Manifest, manifest: Manifest) -> dict[str, list[str]]:
    """By metric, the keys of this session's layers among those of all sessions."""
    names = [layer.name for layer in merged.layers]
    key = dict(zip(names, layer_keys(names), strict=True))
    ours = [key[layer.name] for layer in manifest.layers]
    return {metric: series_keys(metric, ours, manifest.has(metric)) for metric in manifest.metrics}


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
