"""A training loop that logs to MLflow, watched: `python examples/mlflow_run.py`, then `mlflow ui`."""

import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn

import wstrack

torch.manual_seed(0)
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = (images / 16).float()

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

mlflow.set_experiment("digits")
with mlflow.start_run() as run, wstrack.watch(model, every=10):  # finds the active run by itself
    for epoch in range(5):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        mlflow.log_metric("loss", loss.item(), step=epoch)

pulled = wstrack.pull(f"mlflow:{run.info.run_id}")
print(pulled)
print(f"for a report: wstrack report mlflow:{run.info.run_id}")
