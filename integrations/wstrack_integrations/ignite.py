"""PyTorch Ignite: a handler that watches what an engine trains, in the loggers that are attached to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.trackers.registry import active
from wstrack.training.acting import stopped_by
from wstrack.training.watching import watch

try:
    from ignite.engine import Events
except ModuleNotFoundError as error:
    if error.name != "ignite":
        raise
    raise ModuleNotFoundError("Ignite is not installed: pip install 'wstrack[ignite]'") from error

if TYPE_CHECKING:
    from ignite.engine import Engine
    from torch import nn

    from wstrack.training.watcher import Watcher

__all__ = ["WeightChangeHandler"]


class WeightChangeHandler:
    """Logs each layer's relative weight change while an engine runs.

    Steps are optimizer steps. Put the handler among what `ignite.handlers.Checkpoint` saves, and a run that is resumed
    goes on at them; else it goes on at the engine's iteration.

    Args:
        **options: those of `wstrack.watch`. Without `to`, samples go to an active W&B or MLflow run and to the
            TensorBoard writer of a logger that is attached to the engine; if there is none of these, where `watch`
            sends them. `act="stop"` calls `engine.terminate()`.

    Attributes:
        watcher: what `watch` returned at the start of the latest run.

    Example:
        >>> import torch
        >>> from ignite.engine import create_supervised_trainer
        >>> model = torch.nn.Linear(8, 2)
        >>> trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.MSELoss())
        >>> WeightChangeHandler(every=100).attach(trainer, model)
    """

    def __init__(self, **options: Any) -> None:
        self.watcher: Watcher | None = None
        self._options = options
        self._start: int | None = None

    def attach(self, engine: Engine, model: nn.Module) -> None:
        """Watch `model` whenever the engine runs."""
        engine.add_event_handler(Events.STARTED, self._begin, model)
        engine.add_event_handler(Events.EPOCH_STARTED, self._mark)
        engine.add_event_handler(Events.COMPLETED, self._end)  # with a handler for exceptions they would not be raised

    def state_dict(self) -> dict[str, int]:
        """The steps so far, for a checkpoint."""
        return {"steps": self.watcher.steps if self.watcher is not None else self._start or 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on at the steps of a checkpoint."""
        self._start = state_dict["steps"]

    def _begin(self, engine: Engine, model: nn.Module) -> None:
        start = engine.state.iteration if self._start is None else self._start
        options = {**self._options, "act": stopped_by(self._options.get("act"), lambda alert: engine.terminate())}
        self.watcher = watch(model, **{"to": _behind(engine), "start": start, **options})

    def _mark(self, engine: Engine) -> None:
        assert self.watcher is not None
        self.watcher.mark(f"epoch {engine.state.epoch}")

    def _end(self, engine: Engine) -> None:
        assert self.watcher is not None
        self.watcher.close()
        self._start = None if engine.state.iteration == 0 else self.watcher.steps  # if the engine is run further


def _behind(engine: Engine) -> list[object] | None:
    """What the loggers attached to an engine write to, as `to` of `watch`."""
    attached = [one for handlers in engine._event_handlers.values() for _, args, _ in handlers for one in args]
    boards = {id(one): one.writer for one in attached if type(one).__name__ == "TensorboardLogger"}
    return [*active(), *boards.values()] or None
