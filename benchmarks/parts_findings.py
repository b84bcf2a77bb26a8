"""What a report says of the parts of small real trainings: `python benchmarks/parts_findings.py FOLDER`.

It trains those that FOLDER lacks (78, an hour of one core, no network) and prints what docs/parts.md has: of sound
trainings what is said of their parts, and whether the router bears it out; how often a planted fault is named; and how
q, k and v go together, cut right and cut wrong.
"""

from __future__ import annotations

import argparse
import datetime
import math
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from parts_trainings import OPTIMIZERS, Trained, Training, train
from torch import nn

from wstrack.analysis.findings import Finding, collect_of_parts
from wstrack.analysis.findings.layout import farther
from wstrack.analysis.findings.words import number
from wstrack.analysis.parts import Parts, parts_of

DEAD, FAVOURED = {1: (3, -math.inf)}, {1: (0, 6.0)}
FROZEN, FROM = 3, 200  # which expert, and from which step on
WINDOWS = ("interval", "step", "few")
RECORDED = {"interval": "intervals of 8 steps", "step": "single steps", "few": "12 samples"}
PLANTED = {
    ("dead", False): "dead expert", ("frozen", False): "frozen expert", ("frozen", True): "frozen k",
    ("favoured", False): "favoured expert",
}  # fmt: skip
TARGETS = {
    "dead expert": re.compile(r"layers\.1\..*\[3\]"), "frozen expert": re.compile(r"layers\.1\..*\[3\]"),
    "frozen k": re.compile(r"h\.2\..*\[k\]"), "favoured expert": re.compile("$^"),
}  # fmt: skip


def sound() -> Iterator[tuple[str, Training]]:
    """Trainings of which nothing is to be said, or only what is true."""
    for optimizer in OPTIMIZERS:
        for model in ("gpt2", "neox", "encoder", "phi3"):
            slower = 4.0 if (model, optimizer) == ("encoder", "SGD") else 1.0  # else it diverges
            yield f"{model}, {optimizer}", Training(model, optimizer, slower=slower)
            if optimizer not in ("SGD", "AdamW, no decay"):
                yield f"{model}, {optimizer}, warm-up", Training(model, optimizer, seed=1, warm_up=80)
        for model in ("mixtral", "qwen3"):
            for experts in (8, 32):
                for balanced in (True, False):
                    name = f"{model} {experts}{' balanced' * balanced}, {optimizer}"
                    yield name, Training(model, optimizer, experts=experts, balanced=balanced, batch=4)


def freeze_expert(model: nn.Module, step: int) -> None:
    """No gradient for one expert of a layer."""
    for weight in ("gate_up_proj", "down_proj"):
        grad = model.get_parameter(f"model.layers.1.mlp.experts.{weight}").grad
        if grad is not None and step >= FROM:
            grad[FROZEN] = 0


def freeze_key(model: nn.Module, step: int) -> None:
    """No gradient for k of a fused projection."""
    weight = model.get_parameter("transformer.h.2.attn.c_attn.weight")
    if weight.grad is not None and step >= FROM:
        weight.grad[:, weight.shape[0] : 2 * weight.shape[0]] = 0


def planted() -> Iterator[tuple[str, Training]]:
    """Trainings with an expert never chosen, one chosen most, and one, or a k, without gradient from some step on."""
    for optimizer in OPTIMIZERS:
        for model in ("mixtral", "qwen3"):
            yield f"dead: {model}, {optimizer}", Training(model, optimizer, seed=2, balanced=True, favour=DEAD)
            yield (
                f"frozen: {model}, {optimizer}",
                Training(model, optimizer, seed=3, balanced=True, change=freeze_expert),
            )
        yield f"frozen: gpt2, {optimizer}", Training("gpt2", optimizer, seed=4, change=freeze_key)
    for model in ("mixtral", "qwen3"):
        yield f"favoured: {model}, SGD", Training(model, "SGD", seed=5, favour=FAVOURED)


def trained(folder: Path, trainings: Mapping[str, Training]) -> Iterator[tuple[str, Trained]]:
    """Each training by its name; what FOLDER lacks is trained first."""
    for name, training in trainings.items():
        path = folder / f"{name}.pickle"
        if not path.exists():
            path.write_bytes(pickle.dumps(train(training)))
        yield name, pickle.loads(path.read_bytes())


def recorded(one: Trained, cut: str) -> Iterator[tuple[str, Parts]]:
    """The parts of a training as three recordings have them."""
    for window in WINDOWS:
        run = one.runs["step" if window == "step" else "interval", cut]
        if window == "few":
            run = replace(
                run,
                series={name: frame.head(12) for name, frame in run.series.items()},
                sums={name: frame.head(12) for name, frame in run.sums.items()},
            )
        parts = parts_of([run], "rwc")
        assert parts is not None
        yield window, parts


def chosen_since(one: Trained, part: str, step: int) -> float:
    """In which share of the steps after one the router chose an expert."""
    layer, _, label = part.removesuffix("]").partition("[")
    counts = one.chosen[layer.rpartition(".")[0]][step:, int(label)]
    return float((counts > 0).mean()) if len(counts) else 0.0


def idle_parts(findings: list[Finding]) -> dict[str, int]:
    """The parts that are said not to learn, and since which step."""
    found: dict[str, int] = {}
    for finding in findings:
        if finding.kind in ("dead", "frozen"):
            found |= dict(zip(finding.layers, finding.steps or [0] * len(finding.layers), strict=True))
    return found


def main() -> None:
    """Train what is not there yet, and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    print(f"{datetime.date.today()}, torch {torch.__version__}, transformers {version('transformers')}\n")
    tell_sound(folder)
    tell_planted(folder)
    tell_layouts(folder)


def tell_sound(folder: Path) -> None:
    """What is said of trainings in which nothing was planted, and whether the router bears it out."""
    trainings: Counter[str] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    idle: Counter[tuple[str, str]] = Counter()
    since: dict[tuple[str, str], list[float]] = {}
    for _, one in trained(folder, dict(sound())):
        sort = "experts" if one.chosen else "q, k, v"
        trainings[sort] += 1
        for window, parts in recorded(one, "right"):
            findings = collect_of_parts(parts)
            said = idle_parts(findings)
            wrong[sort, window] += len([one for one in findings if one.kind not in ("dead", "frozen")])
            if one.chosen:
                idle[sort, window] += len(said)
                since.setdefault((sort, window), []).extend(
                    chosen_since(one, part, step) for part, step in said.items()
                )
            else:
                wrong[sort, window] += len(said)
    print("| sound trainings | recorded | said that is wrong | parts said to be idle | of these chosen since in "
          "no step | in less than 3 % | more often |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for sort, count in trainings.items():
        for window in WINDOWS:
            shares = since.get((sort, window), [])
            never, seldom = sum(share == 0 for share in shares), sum(0 < share < 0.03 for share in shares)
            often = len(shares) - never - seldom
            said = f"{wrong[sort, window]} | {idle[sort, window]} | {never} | {seldom} | {often}"
            print(f"| {count} with {sort} | {RECORDED[window]} | {said} |")


def tell_planted(folder: Path) -> None:
    """How often what was planted is named, and what else is."""
    tried: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    others: Counter[tuple[str, str]] = Counter()
    steps: dict[str, list[int]] = {}
    for name, one in trained(folder, dict(planted())):
        sort = PLANTED[name.partition(":")[0], "gpt2" in name]
        tried[sort] += 1
        for window, parts in recorded(one, "right"):
            findings = collect_of_parts(parts)
            said = idle_parts(findings)
            there = {part for part in parts.of.index if TARGETS[sort].search(part)}
            if sort == "favoured expert":
                there = {layer for layer in set(parts.of) if ".1." in layer}
                named = {layer for one in findings if one.kind == "unequal" for layer in one.layers}
            else:
                named = set(said)
            found[sort, window] += there <= named
            others[sort, window] += len(named - there)
            steps.setdefault(sort, []).extend(said[part] for part in there & set(said) if window != "few")
    print("\n| planted | trainings | " + " | ".join(f"named, {RECORDED[window]}" for window in WINDOWS[:2])
          + " | said to be since step |\n|---|---|---|---|---|")  # fmt: skip
    for sort, count in tried.items():
        span = f"{min(steps[sort])} to {max(steps[sort])}" if steps[sort] and max(steps[sort]) else "–"
        print(f"| {sort} | {count} | {found[sort, 'interval']} | {found[sort, 'step']} | {span} |")


def tell_layouts(folder: Path) -> None:
    """How many times as far v is from q and k as these are from each other, cut right and cut wrong."""
    ratios: dict[tuple[str, str, str], list[float]] = {}
    for name, one in trained(folder, dict(sound())):
        for cut in ("right", "wrong") if not one.chosen else ():
            for window, parts in recorded(one, cut):
                said = [finding for finding in collect_of_parts(parts) if finding.kind == "layout"]
                family = [layer for layer in parts.table.index if "gate_up" not in layer]
                model = name.partition(",")[0]
                ratios.setdefault((model, cut, window), []).append(farther(parts, family))
                ratios.setdefault((model, cut, f"{window} named"), []).extend([1.0] * len(said))
    print("\n| model | cut | trainings | " + " | ".join(RECORDED[window] for window in WINDOWS)
          + " | named as cut wrong |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for model, cut in dict.fromkeys((model, cut) for model, cut, _ in ratios):
        cells = [ratios[model, cut, window] for window in WINDOWS]
        spans = " | ".join(f"{number(min(cell))} to {number(max(cell))}" for cell in cells)
        counts = " / ".join(str(len(ratios[model, cut, f"{window} named"])) for window in WINDOWS)
        print(f"| {model} | {cut} | {len(cells[0])} | {spans} | {counts} |")


if __name__ == "__main__":
    main()
