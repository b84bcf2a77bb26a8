"""A training loop of one's own, watched: `python examples/plain_loop.py`, then `wstrack report runs/plain`."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import wstrack

torch.manual_seed(0)
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = (images / 16).float()

model = nn.Sequential(
    nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

with wstrack.watch(model, every=10, metrics=("rwc", "cosine"), to="runs/plain") as watcher:
    for epoch in range(10):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")

change = watcher.run().series["rwc"]
print(f"\nchange of each layer over 10 steps, at the start and at the end ({watcher.recording.parent}):")
print(change.iloc[[0, -1]].T.to_string(float_format="%.2g"))
