"""A W&B run, watched, and read back: `python examples/wandb_run.py`; offline unless WANDB_MODE says otherwise."""

import os

import torch
import wandb
from sklearn.datasets import load_digits
from torch import nn

import wstrack

torch.manual_seed(0)
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = (images / 16).float()
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

with wandb.init(project="wstrack-example", mode=os.environ.get("WANDB_MODE", "offline")) as run:
    with wstrack.watch(model, every=10):  # finds the run by itself
        for epoch in range(10):
            for batch in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
                loss.backward()
                optimizer.step()
            run.log({"loss": loss.item()}, step=epoch)  # rows of ours never get in the way of these
    folder = run.dir

change = wstrack.pull(folder).series["rwc"]
print(f"\nchange of each layer over 10 steps, at the start and at the end ({folder}):")
print(change.iloc[[0, -1]].T.to_string(float_format="%.2g"))
