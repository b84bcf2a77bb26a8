"""A Lightning trainer, watched: `python examples/lightning_run.py`, then `tensorboard --logdir lightning_logs`."""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from wstrack_integrations.lightning import WeightChangeCallback

import wstrack


class Digits(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.net(images).argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


torch.manual_seed(0)
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
train, test = random_split(TensorDataset((images / 16).float(), labels), [0.8, 0.2])

logger = TensorBoardLogger(".")
trainer = Trainer(accelerator="cpu", max_epochs=8, logger=logger, callbacks=[WeightChangeCallback(every=10)])
trainer.fit(Digits(), DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=512))
print(f"accuracy {trainer.callback_metrics['accuracy']:.2f}")

folder = f"{logger.log_dir}/wstrack"
change = wstrack.pull(folder).series["rwc"]
print(f"\nchange of each layer over 10 steps, at the start and at the end ({folder}):")
print(change.iloc[[0, -1]].T.to_string(float_format="%.2g"))
