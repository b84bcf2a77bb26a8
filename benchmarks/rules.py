"""How often the default rules are wrong about sound trainings, and how soon they see planted faults; prints Markdown.

Run it with `python benchmarks/rules.py` (12 minutes on two cores), with `--quick` for a tenth of it. What
came of each training is kept, a line each, in the file that `--keep` names, and not trained again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rules_trainings import FAIR, FAULTS, KINDS, Training, train
from scipy.stats import beta

from wstrack.rules import default
from wstrack.rules.panel import Panel

EACH = 30  # trainings of a kind, and of a fault
SOUND, FAULTY = 2000, 2500  # seeds from here on; rules were made with those under 2000
LONG, LONG_KINDS = 3000, ("MLP, AdamW", "MLP, SGD, label noise", "CNN, SGD", "MLP, resumed")  # steps; EACH // 6 of each

Result = dict[str, Any]


def main() -> None:
    """Train, judge, and print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the trainings")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--keep", type=Path, default=None, help="file of results, to go on from; default: none")
    parser.add_argument("--seed", type=int, default=0, help="added to all seeds; -2000 has those that rules saw")
    options = parser.parse_args()
    trainings = list(planned(EACH // 10 if options.quick else EACH, options.seed))
    results = judged(trainings, options.workers, options.keep)
    print(f"{datetime.date.today():%Y-%m-%d}, torch {torch.__version__}, {platform.machine()}, seeds from "
          f"{SOUND + options.seed} (sound) and {FAULTY + options.seed} (faults)\n")  # fmt: skip
    print_sound([result for result in results if not result["fault"]])
    print_faults([result for result in results if result["fault"]])


def planned(each: int, seed: int) -> Iterator[Training]:
    """All trainings, sound ones first."""
    for number in range(each):
        yield from (Training(kind, SOUND + seed + number) for kind in KINDS)
    for number in range(each):
        for fault, kinds in FAULTS.items():
            yield Training(kinds[number % len(kinds)], FAULTY + seed + number, fault)
    for number in range(each // 6):
        yield from (Training(kind, SOUND + seed + number, steps=LONG) for kind in LONG_KINDS)


def judged(trainings: list[Training], workers: int, keep: Path | None) -> list[Result]:
    """What the rules said of each training, in order."""
    known: dict[Training, Result] = {}
    if keep is not None and keep.exists():
        for line in keep.read_text().splitlines():
            result = json.loads(line)
            known[Training(result["kind"], result["seed"], result["fault"], result["steps"])] = result
    todo = [training for training in trainings if training not in known]
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        for training, result in pool.imap_unordered(judge, todo):
            known[training] = result
            if keep is not None:
                with keep.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    return [known[training] for training in trainings]


def judge(training: Training) -> tuple[Training, Result]:
    """Train one, and ask the default rules about it."""
    trained = train(training)
    panel = Panel(default())
    alerts = [
        (place - trained.begin, alert.rule, alert.layer)
        for place, seen in enumerate(trained.seen) for alert in panel.judge(seen)
    ]  # fmt: skip
    return training, {**asdict(training), "alerts": alerts, "least": trained.least, "samples": len(trained.seen)}


def interval(hits: int, of: int) -> str:
    """The 95 % interval of a share (Clopper and Pearson)."""
    low = beta.ppf(0.025, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, of - hits) if hits < of else 1.0
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def print_sound(results: list[Result]) -> None:
    """One line a kind, and one for all."""
    print("| sound trainings | runs | alarmed | 95 % interval | said by |\n|---|---|---|---|---|")
    long = f"of {LONG:,} steps, four kinds"
    for kind in (*KINDS, "together", long):
        some = [result for result in results if (result["steps"] == LONG) == (kind == long)]
        its = [result for result in some if kind in ("together", long, result["kind"])]
        sound = [result for result in its if result["least"] >= FAIR]
        by = Counter(rule for result in sound for rule in {rule for _, rule, _ in result["alerts"]})
        alarmed = sum(bool(result["alerts"]) for result in sound)
        left_out = f", {len(its) - len(sound)} not sound" if len(its) > len(sound) else ""
        print(f"| {kind} | {len(sound)}{left_out} | {alarmed} | {interval(alarmed, len(sound))} | {counted(by)} |")
    print()


def print_faults(results: list[Result]) -> None:
    """One line a fault."""
    print("| fault | runs | found | 95 % interval | samples until then: median, 90 % | said first by | alarms before |")
    print("|---|---|---|---|---|---|---|")
    for fault in FAULTS:
        its = [result["alerts"] for result in results if result["fault"] == fault]
        after = [[alert for alert in alerts if alert[0] >= 0] for alerts in its]
        first = [alerts[0] for alerts in after if alerts]
        before = sum(any(place < 0 for place, _, _ in alerts) for alerts in its)
        delays = [place + 1 for place, _, _ in first]
        middle, most = np.quantile(delays, [0.5, 0.9], method="higher") if delays else (np.nan, np.nan)
        by = counted(Counter(rule for _, rule, _ in first))
        print(f"| {fault} | {len(its)} | {len(first)} | {interval(len(first), len(its))} | {middle:g}, {most:g} | {by} "
              f"| {before} |")  # fmt: skip


def counted(what: Counter[str]) -> str:
    """Names with their counts, the most frequent first."""
    return ", ".join(f"{name} {times}" for name, times in what.most_common()) or "none"


if __name__ == "__main__":
    main()
