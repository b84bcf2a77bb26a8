"""Train a model on a data set, once a seed, and record each layer's relative weight change from epoch to epoch.

python train.py --model resnet18 --data fashion-mnist --data-dir FOLDER --seeds 5 --epochs 20 --out runs
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from data import Data, load
from models import build
from torch import nn

import wstrack

METRICS = ("rwc", "rwc_elementwise", "norm")


def main() -> None:
    """Train every seed that is not there yet."""
    args = arguments()
    try:
        data = load(args.data, args.data_dir, limit=args.limit, test_limit=args.test_limit, size=args.size)
    except (ImportError, ValueError) as error:
        raise SystemExit(str(error)) from error
    name = args.model.replace(":", "-") if ":" in args.model else f"{args.model}-w{args.width}"
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        folder = args.out / f"{name}-{args.data}-{args.optimizer}-seed{seed}"
        if (folder / "result.json").exists():
            print(f"{folder} is there already")
            continue
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
        started = time.perf_counter()
        accuracy, loss = train(args, data, seed, folder)
        options = {name: value for name, value in vars(args).items() if name not in ("data_dir", "out", "seeds")}
        facts = {**options, "seed": seed, "train": len(data.train_labels), "test": len(data.test_labels)}
        result = {**facts, "accuracy": accuracy, "loss": loss, "seconds": round(time.perf_counter() - started, 1)}
        (folder / "result.json").write_text(json.dumps(result))


def train(args: argparse.Namespace, data: Data, seed: int, folder: Path) -> tuple[list[float], list[float]]:
    """One run: the accuracy on the test images (0 to 1) and the mean training loss, after each epoch."""
    torch.manual_seed(seed)
    device = torch.device(args.device)
    model = build(args.model, channels=data.train_images.shape[1], classes=data.classes, width=args.width).to(device)
    if args.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    steps = -(-len(labels) // args.batch)
    accuracies, losses = [], []
    # Epoch to epoch, as the paper has it.
    with wstrack.watch(model, every=steps, metrics=METRICS, to=folder, name=folder.name):
        for epoch in range(args.epochs):
            model.train()
            total = 0.0
            for batch in torch.split(torch.randperm(len(labels)).to(device), args.batch):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
                torch.autograd.backward(loss)
                optimizer.step()
                total += loss.item() * len(batch)
            losses.append(total / len(labels))
            accuracies.append(accuracy(model, data, device))
            print(f"{folder.name} epoch {epoch + 1}: loss {losses[-1]:.4f}, accuracy {accuracies[-1]:.4f}", flush=True)
    return accuracies, losses


@torch.no_grad()
def accuracy(model: nn.Module, data: Data, device: torch.device) -> float:
    """The share of the test images that the model gets right."""
    model.eval()
    found = torch.cat([model(images.to(device)).argmax(1).cpu() for images in torch.split(data.test_images, 500)])
    return float((found == data.test_labels).double().mean())


def arguments() -> argparse.Namespace:
    """What to train, on what, how long; by default as the papers trained, at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="resnet18, vgg11, alexnet, torchvision:NAME or timm:NAME")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage; 64 is the published width")
    parser.add_argument("--data", default="fashion-mnist", help="mnist, fashion-mnist, cifar10, cifar100, svhn")
    parser.add_argument("--data-dir", type=Path, help="a folder of IDX or JSON files, or torchvision's root")
    parser.add_argument("--limit", type=int, help="training images to keep, the same ones each time")
    parser.add_argument("--test-limit", type=int, help="test images to keep")
    parser.add_argument("--size", type=int, default=32, help="side of the images")
    parser.add_argument("--seeds", type=int, default=5, help="how many runs")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="sgd has a momentum of 0.9")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="gets a folder for each run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
