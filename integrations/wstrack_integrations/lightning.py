"""Lightning: a callback that watches what `trainer.fit` trains, in the trainer's own loggers and on its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.training.acting import stopped_by
from wstrack.training.watching import watch

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    try:  # its older name, under which the same package is still released
        from pytorch_lightning import Callback  # type: ignore[assignment]
    except ModuleNotFoundError as error:
        if error.name != "pytorch_lightning":
            raise
        raise ModuleNotFoundError("Lightning is not installed: pip install 'wstrack[lightning]'") from error

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from wstrack.training.watcher import Watcher

__all__ = ["WeightChangeCallback"]


class WeightChangeCallback(Callback):
    """Logs each layer's relative weight change while `trainer.fit` runs.

    Steps are optimizer steps, as `trainer.global_step` counts them with one optimizer; with several they are rounds, as
    in `wstrack.watch`. They are saved in the trainer's checkpoints and go on from there.

    Args:
        **options: those of `wstrack.watch`. Without `to`, samples go to the W&B runs, MLflow runs and TensorBoard
            writers behind the trainer's loggers; if there are none, where `watch` sends them. `act="stop"` sets
            `trainer.should_stop`, which heeds `min_steps` and `min_epochs`.

    Attributes:
        watcher: what `watch` returned at the start of the latest fit.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[WeightChangeCallback(every=100)], accelerator="cpu", logger=False)
    """

    def __init__(self, **options: Any) -> None:
        self.watcher: Watcher | None = None
        self._options = options
        self._start: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the steps of a checkpoint that was loaded for something else."""
        self._start = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the model, which by now is wrapped and has the weights of the checkpoint that is gone on from."""
        start = trainer.global_step if self._start is None else self._start
        model = trainer.strategy.model or pl_module  # with the outermost wrapper: FSDP's holds weights of its own
        options = {**self._options, "act": stopped_by(self._options.get("act"), lambda alert: _stop(trainer))}
        self.watcher = watch(model, **{"to": _behind(trainer), "start": start, **options})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the epoch."""
        if self.watcher is not None:
            self.watcher.mark(f"epoch {trainer.current_epoch}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish what was logged, while the loggers are open."""
        if self.watcher is not None:
            self.watcher.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Finish what was logged until then."""
        self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The steps so far, for the trainer's checkpoint."""
        return {} if self.watcher is None else {"steps": self.watcher.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the steps of a checkpoint."""
        self._start = state_dict["steps"]


def _stop(trainer: Trainer) -> None:
    """End the fit after this batch, as the trainer's own early stopping does."""
    trainer.should_stop = True


def _behind(trainer: Trainer) -> list[object] | None:
    """What the trainer's loggers write to, as `to` of `watch`."""
    found: list[object] = []
    for logger in trainer.loggers if trainer.is_global_zero else ():  # the others' loggers write nothing
        kinds = {kind.__name__ for kind in type(logger).__mro__}  # by name: Lightning has two, loggers import trackers
        if "MLFlowLogger" in kinds:
            found.append(f"mlflow:{logger.run_id}")  # type: ignore[attr-defined]
        elif kinds & {"WandbLogger", "TensorBoardLogger"}:
            found.append(logger.experiment)  # type: ignore[attr-defined]
    return found or None
