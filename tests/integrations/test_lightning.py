"""Lightning's trainer, watched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from steps import Steps, agree, at_step_2, delivered, tracked
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import wstrack

pytest.importorskip("lightning", reason="the extra wstrack[lightning] is not installed")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from wstrack_integrations.lightning import WeightChangeCallback

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from wstrack.runs.run import Run

EVERY = 2
MICRO, ACCUMULATE = 16, 4  # micro-batches in an epoch, and how many make a step


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = self.net(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val", self.net(batch[0]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Follow(ModelCheckpoint):
    """Keeps a checkpoint of each epoch, and each step's weights."""

    def __init__(self, begin: int = 0) -> None:
        super().__init__(dirpath="checkpoints", save_top_k=-1, filename="{step}")
        self.begin = begin

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.steps = Steps(pl_module, trainer.optimizers[0], begin=self.begin)


def data() -> DataLoader[Any]:
    torch.manual_seed(1)
    return DataLoader(TensorDataset(torch.randn(4 * MICRO, 6)), batch_size=4)


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return Trainer(accelerator="cpu", devices=1, callbacks=list(callbacks), **{**quiet, **options})


def test_a_resume_in_tensorboard_goes_on_at_the_checkpoint_and_logs_no_step_twice() -> None:
    logger = TensorBoardLogger(".", name="logs", version="one")
    options = {"logger": logger, "accumulate_grad_batches": ACCUMULATE}
    first = Follow()
    trainer(WeightChangeCallback(every=EVERY), first, max_epochs=2, **options).fit(Net(), data(), data())
    second = Follow(begin=4)
    model = Net()
    resumed = trainer(WeightChangeCallback(every=EVERY), second, max_epochs=3, **options)
    resumed.fit(model, data(), data(), ckpt_path="checkpoints/step=4.ckpt")

    assert resumed.global_step == 12
    run = tracked("tensorboard:logs/one/wstrack")
    again = second.steps.changes(EVERY)
    agree(run, pd.concat([first.steps.changes(EVERY), again[again.index > 8]]))
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12]
    assert set(run.intervals) == {EVERY}


@pytest.mark.usefixtures("_quiet")
def test_wandb_and_mlflow_get_the_same_run(mlflow_store: str) -> None:
    wandb, mlflow = WandbLogger(offline=True, save_dir="."), MLFlowLogger(tracking_uri=mlflow_store)
    follow = Follow()
    trainer(
        WeightChangeCallback(every=EVERY), follow, max_epochs=2, logger=[wandb, mlflow], accumulate_grad_batches=4
    ).fit(Net(), data(), data())
    folder = Path(wandb.experiment.dir)
    wandb.experiment.finish()
    agree(tracked(f"wandb:{folder}"), follow.steps.changes(EVERY))
    agree(tracked(f"mlflow:{mlflow.run_id}"), follow.steps.changes(EVERY))
    assert mlflow.experiment.get_run(mlflow.run_id).info.status == "FINISHED"


def test_the_line_alone_works_inside_in_mixed_precision() -> None:
    model, follow = Net(), Follow()
    with wstrack.watch(model, to="./plain", every=EVERY):
        trainer(follow, max_epochs=1, logger=False, precision="bf16-mixed").fit(model, data())
    agree(tracked("tensorboard:plain"), follow.steps.changes(EVERY))


def test_two_fits_and_a_logger_without_a_tracker() -> None:
    callback, follow, model = WeightChangeCallback(every=4, name="csv"), Follow(), Net()
    twice = trainer(callback, follow, max_epochs=1, logger=CSVLogger("."))
    twice.fit(model, data(), data())
    first = follow.steps.changes(4)
    twice.fit_loop.max_epochs, follow.begin = 2, 16
    twice.fit(model, data(), data())
    agree(tracked("tensorboard:runs/csv"), pd.concat([first, follow.steps.changes(4)]))


class TakingTurns(Net):
    """Two optimizers by hand, as a GAN has them."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[torch.Tensor], index: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.net(batch[0]).square().mean())
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (self.net[0], self.net[2])]


def test_of_two_optimizers_a_checkpoint_keeps_the_rounds() -> None:
    first = trainer(WeightChangeCallback(every=4, to="./first"), Follow(), max_epochs=1, logger=False)
    first.fit(TakingTurns(), data())
    assert first.global_step == 32
    second = trainer(WeightChangeCallback(every=4, to="./second"), max_epochs=2, logger=False)
    second.fit(TakingTurns(), data(), ckpt_path="checkpoints/step=32.ckpt")
    assert wstrack.pull("first").steps.tolist() == [4, 8, 12, 16]
    assert wstrack.pull("second").steps.tolist() == [20, 24, 28, 32]


class Fails(Net):
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 5:
            raise RuntimeError("enough")


def test_an_exception_leaves_what_there_was_and_ends_the_watch() -> None:
    callback = WeightChangeCallback(every=2, to="./failed")
    with pytest.raises(RuntimeError, match="enough"):
        trainer(callback, max_epochs=1, logger=False).fit(Fails(), data())
    assert callback.watcher is not None
    assert "closed" in repr(callback.watcher)
    run: Run = tracked("tensorboard:failed")
    assert run.steps.tolist() == [2, 4, 6]
    assert run.completeness.missing == 0


def test_the_package_under_its_older_name() -> None:
    older = pytest.importorskip("pytorch_lightning")

    class Older(older.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(6, 3)

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters())

    logger = older.loggers.TensorBoardLogger(".", name="logs", version="older")
    callbacks = [WeightChangeCallback(every=4)]
    older.Trainer(accelerator="cpu", callbacks=callbacks, logger=logger, max_epochs=1, enable_progress_bar=False).fit(
        Older(), data()
    )
    assert wstrack.pull("logs/older/wstrack").steps.tolist() == [4, 8, 12, 16]


def test_epochs_are_marked() -> None:
    watching = WeightChangeCallback(every=EVERY, to="runs/it")
    trainer(watching, max_epochs=3, logger=False, accumulate_grad_batches=ACCUMULATE).fit(Net(), data())
    assert watching.watcher is not None
    assert watching.watcher.run().marks == ((0, "epoch 0"), (4, "epoch 1"), (8, "epoch 2"))


def test_a_rule_that_stops_ends_the_fit_as_early_stopping_does() -> None:
    callback = WeightChangeCallback(every=EVERY, to="./stopped", rules=at_step_2, act="stop")
    stopped = trainer(callback, max_epochs=3, logger=False)
    with delivered(lambda: callback.watcher):
        stopped.fit(Net(), data(), data())
    assert stopped.global_step == 4
    assert stopped.state.finished
    assert wstrack.pull("stopped").marks[-1] == (2, "alert: at_step_2: net.0.weight is as planned")
