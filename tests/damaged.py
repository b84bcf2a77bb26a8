"""Damaged files of every kind that is read here, and what must hold whatever the damage.

`tests/test_damaged.py` reads some of each; `python -m tests.damaged --inputs 1000000` as many as you like, and prints
the table that stands in docs/damage.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import wstrack
from tests.integrations.wandb_framing import framed
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.runs.run import Run
from wstrack.runs.tables import save_run
from wstrack.trackers.contract import Sample

LAYERS = tuple(Layer(f"block.{number}.weight", "linear", (3, 2), 6) for number in range(4))
MANIFEST = Manifest("damaged", LAYERS, ("rwc",), every=5, facts={"seed": 1})
STEPS = range(5, 155, 5)
FRAME = pd.DataFrame(
    np.random.default_rng(0).random((len(STEPS), len(LAYERS))).astype(np.float32).astype(np.float64),
    index=pd.Index(list(STEPS), name="step"),
    columns=[layer.name for layer in LAYERS],
)
SECONDS, MEMORY = 1.0 / 100_000, 10  # a byte of a file, at most
NOTHING = 3_000_000  # bytes that reading takes whatever the file, for what is imported and built at first


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: for the table.
        whole: makes a whole file in a folder; its bytes are damaged.
        read: reads it; None where there is no run in it.
        checked: whether it carries checksums, so that each value that is read must be the one that was written.
        counted: whether it also says how much there should be: what is missing then must be told of. By its keys alone
            nobody can tell that a file which ends right behind a record once went on.
    """

    name: str
    whole: Callable[[Path], Path]
    read: Callable[[Path], Run | None]
    checked: bool = True
    counted: bool = True


@dataclass
class Tally:
    """What came of reading a kind's damaged files."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds for 100 kB
    largest: float = 0.0  # memory by size
    wrong: list[str] = field(default_factory=list)


def _sums(values: np.ndarray) -> np.ndarray:
    """Raw sums of which `rwc` is `values`, (samples, layers, sums)."""
    return np.stack([values, np.ones_like(values)], axis=2)


def _recording(folder: Path, *, closed: bool) -> Path:
    recorder = Recorder(folder / FOLDER, MANIFEST, ("abs_change", "abs_previous"))
    for step, row in FRAME.iterrows():
        recorder.append([int(str(step))], [5], [float(str(step))], _sums(row.to_numpy()[None]))
    if closed:
        recorder.close()
        return folder / FOLDER / "0001.arrow"
    assert recorder._file is not None
    recorder._file.close()  # as a kill leaves it
    return folder / FOLDER / "0001.arrows"


def _events(folder: Path) -> Path:
    from wstrack_integrations.tensorboard import open_sink

    sink = open_sink(folder / "run", MANIFEST)
    sink.write([Sample(int(str(step)), 5, float(str(step)), {"rwc": row.to_numpy()}) for step, row in FRAME.iterrows()])
    sink.close()
    (file,) = (folder / "run").iterdir()
    return file


def _rows_of_wandb(folder: Path) -> Path:
    """As wandb's client frames it, by its own protobuf."""
    from wandb.proto.wandb_internal_pb2 import Record

    records = [Record()]
    update = records[0].config.update.add()
    about = {"manifest": MANIFEST.to_json(), "sessions": [{"samples": len(STEPS), "values": FRAME.size}]}
    update.key, update.value_json = "wstrack", json.dumps(about)
    for number, (step, row) in enumerate(FRAME.iterrows()):
        record = Record()
        record.history.step.num = number
        values = {f"rwc/{name.replace('.', '/')}": value for name, value in row.items()}
        for key, value in {"wstrack/step": int(str(step)), "wstrack/interval": 5, **values}.items():
            item = record.history.item.add()
            item.nested_key.append(key)
            item.value_json = json.dumps(value)
        records.append(record)
    records.append(Record())
    records[-1].exit.exit_code = 0
    path = folder / "run-damaged.wandb"
    path.write_bytes(framed([record.SerializeToString() for record in records]))
    return path


def _table(folder: Path, ending: str, *, transposed: bool = False) -> Path:
    path = folder / f"table{ending}"
    if transposed:
        FRAME.to_csv(path)
    else:
        save_run(Run.from_values(MANIFEST, list(STEPS), {"rwc": FRAME.to_numpy()}), path)
    return path


def _manifest(folder: Path) -> Path:
    path = folder / "manifest.json"
    path.write_text(MANIFEST.to_json())
    return path


def _read_manifest(path: Path) -> None:
    Manifest.from_json(path.read_bytes().decode(errors="replace"))


def _read_wandb(path: Path) -> Run:
    os.utime(path, (0, 0))  # or a reader would wait for what may still be written
    return wstrack.pull(f"wandb:{path}")


KINDS = [
    Kind("recording, open", lambda folder: _recording(folder, closed=False), lambda path: read_recording(path.parent)),
    Kind("recording, closed", lambda folder: _recording(folder, closed=True), lambda path: read_recording(path.parent)),
    Kind("event file", _events, lambda path: wstrack.pull(f"tensorboard:{path.parent}")),
    Kind(
        "event file, by keys",
        _events,
        lambda path: wstrack.pull(f"tensorboard:{path.parent}", match=r"(?P<metric>rwc)/(?P<layer>.+)"),
        counted=False,
    ),
    Kind("`.wandb` file", _rows_of_wandb, _read_wandb),
    Kind("CSV, a row a layer", lambda folder: _table(folder, ".csv"), wstrack.pull, checked=False),
    Kind("CSV, a row a step", lambda folder: _table(folder, ".csv", transposed=True), wstrack.pull, checked=False),
    Kind("Parquet", lambda folder: _table(folder, ".parquet"), wstrack.pull, checked=False),
    Kind("manifest", _manifest, _read_manifest, checked=False),
]


# ---- damage ---------------------------------------------------------------------------------------------------------


def damage(data: bytes, chance: random.Random) -> bytes:
    """The bytes after something has happened to them: what disks, copies, editors and fuzzers do."""
    content = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        if not content:
            break
        at = chance.randrange(len(content))
        length = min(chance.choice([1, 2, 4, 8, 64, 512, 4096]), len(content) - at)
        kind = chance.randrange(10)
        if kind <= 2:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 3:
            del content[at:]
        elif kind == 4:
            del content[at : at + length]
        elif kind == 5:
            content[at : at + length] = bytes(length)
        elif kind == 6:
            content[at : at + length] = chance.randbytes(length)
        elif kind == 7:
            content[at:at] = content[at : at + length]
        elif kind == 8:
            content[at : at + length] = chance.choice([b"\xff", b"\x7f", b"[", b"9", b"\n"]) * length
        else:
            other = chance.randrange(len(content))
            piece = content[other : other + length]
            content[at : at + len(piece)] = piece
    return bytes(content)


# ---- what must hold -------------------------------------------------------------------------------------------------


def check(kind: Kind, path: Path, tally: Tally, *, memory: bool) -> None:
    """Read one file, and add to the tally what came of it."""
    size = path.stat().st_size
    if memory:
        pa.default_memory_pool().release_unused()
        tracemalloc.start()
    begun = time.perf_counter()
    try:
        run = kind.read(path)
    except (WstrackError, ValueError) as error:
        run, outcome = None, f"refused ({type(error).__name__})"
    except Exception as error:  # noqa: BLE001  that is what is looked for
        run, outcome = None, "another error"
        tally.wrong.append(f"{kind.name}: {type(error).__name__}: {error}")
    else:
        outcome = "read"
    took = time.perf_counter() - begun
    if memory:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        tally.largest = max(tally.largest, peak / max(size, 1))
        if peak > NOTHING + MEMORY * size:
            tally.wrong.append(f"{kind.name}: {peak:,} bytes for a file of {size:,}")
    else:
        tally.slowest = max(tally.slowest, took / max(size, 100_000) * 100_000)
        if took > 0.5 + SECONDS * size:
            tally.wrong.append(f"{kind.name}: {took:.2f} s for a file of {size:,} bytes")
    if run is not None and kind.checked:
        outcome = _held_against_the_truth(run, kind, tally)
    tally.inputs += 1
    tally.outcomes[outcome] += 1


def _held_against_the_truth(run: Run, kind: Kind, tally: Tally) -> str:
    series = run.series["rwc"].rename(columns=lambda name: str(name).replace("/", "."))
    known = series.reindex(index=FRAME.index, columns=FRAME.columns)
    there = known.notna()
    strange = series.notna().to_numpy().sum() - there.to_numpy().sum()
    if strange or not np.array_equal(known.to_numpy()[there], FRAME.to_numpy()[there]):
        tally.wrong.append(f"{kind.name}: another value than was written")
        return "wrong"
    if there.to_numpy().all():
        return "whole"
    if kind.counted and not run.completeness.missing and not run.completeness.notes:
        tally.wrong.append(f"{kind.name}: {int((~there).to_numpy().sum())} values are missing, and nothing says so")
    return "in part"


def campaign(kind: Kind, inputs: int, seed: int, *, memory_every: int = 50) -> Tally:
    """Read so many damaged files of a kind."""
    tally, chance = Tally(), random.Random(seed)
    home = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        path = kind.whole(home)
        whole = path.read_bytes()
        check(kind, path, tally, memory=False)  # what is imported at first costs nothing
        if tally.outcomes.total() != 1 or (kind.checked and not tally.outcomes["whole"]):
            raise AssertionError(f"{kind.name}: the whole file is not read whole: {tally}")
        tally = Tally()
        for number in range(inputs):
            path.write_bytes(damage(whole, chance))
            check(kind, path, tally, memory=number % memory_every == 0)
    finally:
        shutil.rmtree(home)
    return tally


def rows(tallies: dict[str, Tally]) -> Iterator[str]:
    """The table, as Markdown."""
    yield "| file | inputs | whole all the same | in part | refused | slowest, 100 kB | wrong |"
    yield "|---|---|---|---|---|---|---|"
    for name, tally in tallies.items():
        refused = sum(count for outcome, count in tally.outcomes.items() if outcome.startswith("refused"))
        whole = tally.outcomes["whole"] + tally.outcomes["read"]
        part = tally.outcomes["in part"]
        yield (
            f"| {name} | {tally.inputs:,} | {whole:,} | {part:,} | {refused:,} | {tally.slowest:.2f} s "
            f"| {len(tally.wrong)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=9000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    tallies = {kind.name: campaign(kind, asked.inputs // len(KINDS), asked.seed) for kind in KINDS}
    wrong = [line for tally in tallies.values() for line in tally.wrong[:20]]
    sys.stdout.write("\n".join([*rows(tallies), *wrong, ""]))


if __name__ == "__main__":
    main()
