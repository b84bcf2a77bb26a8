"""fastai: a callback that watches what `learn.fit` trains. fastai's own optimizers are not those of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.trackers.registry import active
from wstrack.training.acting import stopped_by
from wstrack.training.watching import watch

try:
    from fastai.callback.core import Callback, CancelFitException
    from fastai.learner import Recorder
    from fastai.optimizer import OptimWrapper
except ModuleNotFoundError as error:
    if error.name != "fastai":
        raise
    raise ModuleNotFoundError("fastai is not installed: pip install 'wstrack[fastai]'") from error

if TYPE_CHECKING:
    from wstrack.runs.alerts import Alert
    from wstrack.training.watcher import Watcher

__all__ = ["WeightChangeCallback"]


class WeightChangeCallback(Callback):
    """Logs each layer's relative weight change while a `Learner` fits.

    Steps are optimizer steps, counted on from one fit of the learner to the next (`fine_tune` fits twice).

    Args:
        **options: those of `wstrack.watch`; `window="step"` needs an optimizer of torch (`OptimWrapper`). Without `to`,
            samples go to an active W&B or MLflow run and to the writer of the learner's `TensorBoardCallback`; if there
            is none of these, where `watch` sends them. `act="stop"` ends the fit after the batch.

    Attributes:
        watcher: what `watch` returned at the start of the latest fit; not pickled with the learner.
    """

    order, run_valid = Recorder.order + 2, False  # when the callbacks that log have opened what they log to

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.watcher: Watcher | None = None
        self.options = options
        self.steps = 0
        self.cancelled = self.stopped = False

    def before_fit(self) -> None:
        """Watch the model, unless this is a search for a learning rate or a prediction."""
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self, "gather_preds")
        self.stopped = False
        if self.run:
            given = {"to": _behind(self.learn), "start": self.steps}
            options = {**self.options, "act": stopped_by(self.options.get("act"), self._stop)}
            self.watcher = watch(self.learn.model, **{**given, **options})

    def after_cancel_step(self) -> None:
        """Remember that the step that is about to end was none."""
        self.cancelled = True

    def after_step(self) -> None:
        """Count a step of fastai's own optimizers; those of torch are followed by themselves."""
        if self.watcher is not None and not self.cancelled and not isinstance(self.learn.opt, OptimWrapper):
            self.watcher.step()
        self.cancelled = False

    def after_batch(self) -> None:
        """End the fit if a rule has asked for it."""
        if self.stopped:
            raise CancelFitException

    def after_fit(self) -> None:
        """Finish what was logged."""
        if self.watcher is not None:
            self.steps = self.watcher.steps
            self.watcher.close()

    def _stop(self, alert: Alert) -> None:
        self.stopped = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "watcher": None}


def _behind(learn: Any) -> list[object] | None:
    """What the learner's callbacks log to, as `to` of `watch`."""
    writers = [
        one.writer for one in learn.cbs if type(one).__name__ == "TensorBoardCallback" and hasattr(one, "writer")
    ]
    return [*active(), *writers] or None
