"""What it costs to measure parts of layers instead of whole ones: the same bytes, in pieces."""

from __future__ import annotations

from collections.abc import Callable

import torch
from overhead_peers import floor
from overhead_timing import interleaved, measured, stepped
from torch import nn

from wstrack.measuring.parts import Cut, Piece, pieces_of
from wstrack.measuring.sharding import LocalShard

SUMS = ("abs_change", "abs_previous")
QKV = ("q", "k", "v")
# Shapes of the weights, and how each is cut.
CASES: dict[str, tuple[list[tuple[int, ...]], Callable[[tuple[int, ...]], Cut]]] = {
    "32 layers of 128 experts (256 x 64)": ([(128, 256, 64)] * 32, lambda shape: Cut(128)),
    "32 layers of 128 experts (32 x 16)": ([(128, 32, 16)] * 32, lambda shape: Cut(128)),
    "q, k, v side by side in rows, as in ViT (24 of 2304 x 768)": ([(2304, 768)] * 24, lambda shape: Cut(3)),
    "q, k, v in columns, as in GPT-2 (24 of 768 x 2304)": ([(768, 2304)] * 24, lambda shape: Cut(3, dim=1)),
    "q, k, v of each head, as in GPT-NeoX (24 of 2304 x 768)": (
        [(2304, 768)] * 24,
        lambda shape: Cut((64, 64, 64), labels=QKV, repeat=12),
    ),
    "32 heads of an output projection, in columns (4 of 4096 x 4096)": (
        [(4096, 4096)] * 4,
        lambda shape: Cut(32, dim=1),
    ),
    "64 heads of 16 columns (16 of 1024 x 1024)": ([(1024, 1024)] * 16, lambda shape: Cut(64, dim=1)),
}


def parts_table(device: str, repeats: int) -> None:
    """Samples of `rwc` in pieces against those of whole layers and the floor; an optimizer step goes before each."""
    fast = "cuda" if device == "cuda" else "cpu"
    counts = (1, 2) if device == "cpu" else (1,)
    print(f"\nParts of layers, `{fast}` meter, `rwc`, float32, on {device}:\n")
    print(
        "| | parts |"
        + "".join(f" {count} thread{'s' * (count > 1)} | of whole layers | of the floor |" for count in counts)
    )
    print("|---|---|" + "---|---|---|" * len(counts))
    for name, (shapes, cut) in CASES.items():
        parameters = [nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
        pieces = {number: _pieces(weight, cut(weight.shape)) for number, weight in enumerate(parameters)}
        before = stepped(torch.optim.SGD, parameters)
        jobs = {
            "floor": floor(parameters),
            "whole": measured(parameters, SUMS, fast),
            "parts": measured(parameters, SUMS, fast, pieces),
        }
        cells = []
        for count in counts:
            taken = interleaved(jobs, count, repeats, before)
            each = taken["parts"]
            cells.append(f"{each * 1e3:.2f} ms | {each / taken['whole']:.2f}x | {each / taken['floor']:.2f}x")
        print(f"| {name} | {sum(map(len, pieces.values())):,} | {' | '.join(cells)} |", flush=True)


def _pieces(weight: nn.Parameter, cut: Cut) -> list[Piece]:
    return [piece for some in pieces_of(cut, weight.shape, LocalShard(weight)).values() for piece in some]
