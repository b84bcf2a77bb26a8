"""skorch: a callback that watches what `net.fit` trains, in the loggers among the net's callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.training.acting import stopped_by
from wstrack.training.watching import watch

try:
    from skorch.callbacks import Callback
except ModuleNotFoundError as error:
    if error.name != "skorch":
        raise
    raise ModuleNotFoundError("skorch is not installed: pip install 'wstrack[skorch]'") from error

if TYPE_CHECKING:
    from skorch import NeuralNet

    from wstrack.runs.alerts import Alert
    from wstrack.training.watcher import Watcher

__all__ = ["WeightChangeCallback"]


class WeightChangeCallback(Callback):
    """Logs each layer's relative weight change while `net.fit` or `net.partial_fit` runs.

    Steps are optimizer steps. A net that is trained further, or from a checkpoint, goes on at the training batches in
    its history.

    Args:
        **options: those of `wstrack.watch`. Without `to`, samples go to what the net's `WandbLogger`, `MlflowLogger`
            and `TensorBoard` callbacks log to; if there is none of these, where `watch` sends them. `act="stop"` ends
            `fit` after the batch, without an error.

    Attributes:
        watcher_: what `watch` returned at the start of the latest fit; not pickled with the net.

    Example:
        >>> import torch
        >>> from skorch import NeuralNetClassifier
        >>> net = NeuralNetClassifier(torch.nn.Linear, callbacks=[WeightChangeCallback(every=100)])
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.watcher_: Watcher | None = None
        self._stopped = False

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The options, so that scikit-learn can clone the net and search over them."""
        return dict(self.options)

    def set_params(self, **params: Any) -> WeightChangeCallback:
        """Change options."""
        self.options.update(params)
        return self

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:  # noqa: N803
        """Forget an earlier fit."""
        self.watcher_, self._stopped = None, False

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Watch the module: by now another callback has loaded a checkpoint, if one does."""
        if self.watcher_ is None:
            start = sum(epoch.get("train_batch_count", 0) for epoch in net.history)
            options = {**self.options, "act": stopped_by(self.options.get("act"), self._stop)}
            self.watcher_ = watch(net.module_, **{"to": _behind(net), "start": start, **options})
        self.watcher_.mark(f"epoch {len(net.history)}")

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """End the training if a rule has asked for it, as skorch's own early stopping does."""
        if self._stopped and training:
            raise KeyboardInterrupt

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:  # noqa: N803
        """Finish what was logged."""
        if self.watcher_ is not None:
            self.watcher_.close()

    def _stop(self, alert: Alert) -> None:
        self._stopped = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "watcher_": None}


def _behind(net: NeuralNet) -> list[object] | None:
    """What the net's callbacks log to, as `to` of `watch`."""
    attributes = {"WandbLogger": "wandb_run", "MlflowLogger": "run_", "TensorBoard": "writer"}
    found = [
        getattr(callback, attributes[kind.__name__])
        for _, callback in net.callbacks_
        for kind in type(callback).__mro__
        if kind.__module__ == "skorch.callbacks.logging" and kind.__name__ in attributes
    ]
    return found or None
