"""Keras 3 on torch: a callback that watches what `model.fit` trains. Keras steps no torch optimizer by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.training.acting import stopped_by
from wstrack.training.watching import watch

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise ModuleNotFoundError("Keras is not installed: pip install 'wstrack[keras]'") from error

if TYPE_CHECKING:
    from torch import nn

    from wstrack.runs.alerts import Alert
    from wstrack.training.watcher import Watcher

__all__ = ["WeightChangeCallback"]


class WeightChangeCallback(keras.callbacks.Callback):
    """Logs each layer's relative weight change while `model.fit` runs, with torch as Keras's backend.

    Steps are those of `model.optimizer.iterations`, which a saved model keeps: real steps, also where gradients are
    accumulated. Layers have Keras's names with dots, as in torch: `dense_1.kernel`; `layers` chooses by these.

    Args:
        **options: those of `wstrack.watch`; except for `window="step"`, which needs a torch optimizer. Without `to`,
            samples go where `watch` sends them: to an active W&B or MLflow run, or else to TensorBoard under `runs/`.
            `act="stop"` sets `model.stop_training`.

    Attributes:
        watcher: what `watch` returned at the start of the latest fit.

    Raises:
        RuntimeError: Keras's backend is not torch.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise RuntimeError(
                f"Keras's backend is {keras.backend.backend()}; set KERAS_BACKEND=torch before keras is imported"
            )
        self.watcher: Watcher | None = None
        self._options = options

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier fit."""
        self.watcher = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Watch the weights: by now they are built, and restored if another callback does that."""
        if self.watcher is None:
            self._weights = _as_module(self.model)  # kept: a watch ends with its model
            options = {**self._options, "act": stopped_by(self._options.get("act"), self._stop)}
            self.watcher = watch(self._weights, **{"start": self._iterations(), **options})
        self.watcher.mark(f"epoch {epoch}")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the optimizer's step, if this batch ended in one."""
        if self.watcher is not None and self._iterations() > self.watcher.steps:
            self.watcher.step()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Finish what was logged."""
        if self.watcher is not None:
            self.watcher.close()

    def _stop(self, alert: Alert) -> None:
        self.model.stop_training = True

    def _iterations(self) -> int:
        return int(self.model.optimizer.iterations)  # Keras has waited for the device already, to hand over `logs`


def _as_module(model: keras.Model) -> nn.Module:
    """The trainable weights under Keras's names, as a module; the model itself has them in one flat dictionary."""
    from torch import nn

    root = nn.Module()
    for variable in model.trainable_variables:
        # A Sequential that was saved and loaded has lost its own name in front.
        *path, own = variable.path.removeprefix(f"{model.name}/").split("/")
        owner = root
        for part in path:
            if part not in dict(owner.named_children()):
                setattr(owner, part, nn.Module())
            owner = owner.get_submodule(part)
        owner.register_parameter(own, variable.value)
    return root
