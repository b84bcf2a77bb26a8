"""How stable the clusters of the WeightScale authors' series are, by k: `python benchmarks/stability.py FOLDER`.

FOLDER holds their series (`<model>-<data>.csv`, a row a layer, a column an epoch). Prints the table of
docs/analysis.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from wstrack.analysis import Procedure, choose, prepare
from wstrack.analysis.resampling import resample

AUTHORS = {"resnet50-cifar10": 4, "resnet50-cifar100": 4, "efficientnet_b4-cifar10": 3, "efficientnet_b4-cifar100": 3}


def main(folder: Path) -> None:
    """Print the table."""
    ks = list(range(2, 9))
    print("| series | procedure | " + " | ".join(f"k = {k}" for k in ks) + " | k chosen (p) |")
    print("|---|---|" + "---|" * (len(ks) + 1))
    for name, authors in AUTHORS.items():
        series = pd.read_csv(folder / f"{name}.csv", index_col=0).T.set_axis(range(1, 26))
        choice = choose(prepare(series).values)
        theirs = resample(prepare(series, preset="weightscale").values, Procedure(), ks, nulls=0).agreement.mean(axis=0)
        ours = [f"{row['agreement']:.2f} ({row['agreement_null']:.2f})" for _, row in choice.table.loc[ks].iterrows()]
        least = choice.table["p"].min()
        print(f"| {name} | wstrack | {' | '.join(ours)} | {choice.k} (p = {least:.2g}); best {choice.best} |")
        marked = [f"**{one:.2f}**" if k == authors else f"{one:.2f}" for k, one in zip(ks, theirs, strict=True)]
        print(f"| | the authors' | {' | '.join(marked)} | {authors}, by eye |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
