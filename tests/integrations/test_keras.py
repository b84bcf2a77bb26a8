"""Keras on torch, watched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from steps import agree, at_step_2, tracked

import wstrack

pytest.importorskip("keras", reason="the extra wstrack[keras] is not installed")

import keras
from wstrack_integrations.keras import WeightChangeCallback

pytestmark = pytest.mark.slow

EVERY = 2
X, Y = (np.random.default_rng(seed).normal(size=(64, width)).astype("float32") for seed, width in ((1, 6), (2, 3)))


class Follow(keras.callbacks.Callback):  # type: ignore[misc]
    """The kernels after each micro-batch."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[int, list[np.ndarray]] = {}

    def _keep(self) -> None:
        kernels = [one for one in self.model.trainable_variables if len(one.shape) > 1]
        self.states[int(self.model.optimizer.iterations)] = [np.array(one.numpy(), "float64") for one in kernels]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._keep()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._keep()

    def changes(self) -> pd.DataFrame:
        first, *steps = [step for step in self.states if step == min(self.states) or step % EVERY == 0]
        rows = {}
        for step in steps:
            pairs = zip(self.states[step], self.states[first], strict=True)
            rows[step] = [np.abs(w - p).sum() / np.abs(p).sum() for w, p in pairs]
            first = step
        return pd.DataFrame.from_dict(rows, orient="index", columns=["dense.kernel", "out.kernel"])


def model(**options: Any) -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((6,)), keras.layers.Dense(16, "relu", name="dense"), keras.layers.Dense(3, name="out")]
    made = keras.Sequential(layers)
    made.compile(optimizer=keras.optimizers.Adam(1e-2, **options), loss="mse")
    return made


def fit(made: Any, *callbacks: Any, epochs: int = 2) -> None:
    made.fit(X, Y, batch_size=4, epochs=epochs, callbacks=list(callbacks), verbose=0, validation_data=(X, Y))


def test_a_resume_in_tensorboard_goes_on_at_the_checkpoint_and_logs_no_step_twice() -> None:
    first, second = Follow(), Follow()
    made = model(gradient_accumulation_steps=4)
    fit(made, WeightChangeCallback(every=EVERY, to="./logs"), first, keras.callbacks.ModelCheckpoint("{epoch}.keras"))
    again = keras.models.load_model("1.keras")
    fit(again, WeightChangeCallback(every=EVERY, to="./logs"), second)
    run = tracked("tensorboard:logs")
    agree(run, pd.concat([first.changes().loc[:4], second.changes()]))
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12]


@pytest.mark.usefixtures("_mixed")
def test_mixed_precision_and_a_frozen_layer() -> None:
    made = model()
    made.layers[1].trainable = False
    callback = WeightChangeCallback(every=8, layers="kernel")
    fit(made, callback, epochs=1)
    assert callback.watcher is not None
    assert list(callback.watcher.run().series["rwc"].columns) == ["dense.kernel"]
    assert callback.watcher.run().steps.tolist() == [8, 16]


@pytest.fixture
def _mixed() -> Any:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_the_line_alone_works_with_steps_of_ones_own() -> None:
    follow, made = Follow(), model()
    with wstrack.watch(made, to="./plain", every=EVERY) as watcher:
        step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: watcher.step())
        fit(made, step, follow, epochs=1)
    found = tracked("tensorboard:plain").series["rwc"]
    np.testing.assert_allclose(found.to_numpy(), follow.changes().to_numpy(), rtol=1e-6)


def test_epochs_are_marked() -> None:
    callback = WeightChangeCallback(every=EVERY, to="./runs/it")
    fit(model(gradient_accumulation_steps=4), callback, epochs=3)
    assert callback.watcher is not None
    assert callback.watcher.run().marks == ((0, "epoch 0"), (4, "epoch 1"), (8, "epoch 2"))


def test_a_rule_that_stops_ends_the_fit() -> None:
    callback = WeightChangeCallback(every=EVERY, to="./stopped", rules=at_step_2, act="stop")

    class Delivered(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert callback.watcher is not None
            callback.watcher._measured.flush(60)

    made = model()
    fit(made, callback, Delivered(), epochs=3)
    assert int(made.optimizer.iterations) == 4
    assert wstrack.pull("stopped").steps.tolist() == [2, 4]
