"""Hugging Face Transformers: a callback that watches what a `Trainer` trains, where it reports to and on its steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wstrack.trackers.registry import active
from wstrack.training.acting import stopped_by
from wstrack.training.watching import watch

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ModuleNotFoundError("Transformers is not installed: pip install 'wstrack[transformers]'") from error

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from wstrack.runs.alerts import Alert
    from wstrack.training.watcher import Watcher

__all__ = ["WeightChangeCallback"]

BESIDE = "wstrack"  # in the folder of a SummaryWriter, as the TensorBoard tracker has it


class WeightChangeCallback(TrainerCallback):
    """Logs each layer's relative weight change while `trainer.train` runs.

    Steps are optimizer steps, as `state.global_step` counts them, and go on from the checkpoint that is resumed from.

    Args:
        **options: those of `wstrack.watch`. Without `to`, samples go where `report_to` of the trainer's arguments says:
            the active W&B run, the active MLflow run, and `wstrack` in the folder of TensorBoard's events; if it names
            none of these, where `watch` sends them. `act="stop"` sets `control.should_training_stop`.

    Attributes:
        watcher: what `watch` returned at the start of the latest training.

    Example:
        >>> callback = WeightChangeCallback(every=100)  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, **options: Any) -> None:
        self.watcher: Watcher | None = None
        self._options = options
        self._stopped = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget an earlier training."""
        self.watcher, self._stopped = None, False

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watch the model, and mark the epoch: by now each callback has begun, and opened what it reports to."""
        if self.watcher is None:
            given = _behind(args) if state.is_world_process_zero else {}
            options = {**self._options, "act": stopped_by(self._options.get("act"), self._stop)}
            self.watcher = watch(kwargs["model"], **{"start": state.global_step, **given, **options})
        self.watcher.mark(f"epoch {int((state.epoch or 0) + 1e-3)}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End the training if a rule has asked for it."""
        if self._stopped:
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finish what was logged."""
        if self.watcher is not None:
            self.watcher.close()

    def _stop(self, alert: Alert) -> None:
        self._stopped = True


def _behind(args: TrainingArguments) -> dict[str, object]:
    """`to` and `name` of `watch`, by what the trainer's own callbacks report to."""
    reports = args.report_to or ()
    to: list[object] = [one for one in active() if one in reports]
    name = args.run_name
    if "tensorboard" in reports:
        given = getattr(args, "logging_dir", None) or os.environ.get("TENSORBOARD_LOGGING_DIR")  # Transformers 4; 5
        root = Path(given or f"{args.output_dir}/runs").expanduser()
        # The trainer hands its writer to nobody, but the writer's file is there, and has this process's number.
        files = [file for file in root.rglob(f"*.tfevents.*.{os.getpid()}.*") if file.parent.name != BESIDE]
        if files:
            folder = max(files, key=lambda file: file.stat().st_mtime_ns).parent
            to.append(folder / BESIDE)
            name = name or folder.name
    return {"to": to or None, "name": name}
