"""Damaged checkpoints of every kind, and what must hold whatever the damage.

`test_damaged_checkpoints.py` reads some of each; `python -m tests.checkpoints.damaged --inputs 100000` as many as you
like, a process after another, so that one that dies is seen.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import wstrack
from tests.damaged import damage
from wstrack.errors import WstrackError

__all__ = ["KINDS", "batch", "child"]

BATCH = 5000  # files that a process reads
SECONDS, MEMORY = 5.0, 400_000  # for a file, kB for a batch: each is of a few kilobytes
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16}

Tensors = dict[str, torch.Tensor]


def _state(seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    state: Tensors = {
        f"block.{number}.weight": torch.randn(4, 3, generator=generator, dtype=dtype)
        for number, dtype in enumerate([torch.float32, torch.float64, torch.float32])
    }
    return {**state, "block.0.bias": torch.randn(4, generator=generator), "steps": torch.tensor([seed])}


FIRST, SECOND = _state(1), _state(2)


class Contradiction(Exception):  # noqa: N818  it is one
    """What a file says cannot all be so: it must be refused."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        save: saves two checkpoints in a folder; the file of the second that is damaged.
        truth: what a damaged file holds, by a reading other than ours, or `Contradiction`; None = it is not known.
        beside: whether it holds no weights: then these are what they were.
    """

    save: Callable[[Path], Path]
    truth: Callable[[bytes], Tensors | None] = lambda data: None
    beside: bool = False


# ---- the files, and other ways to read them --------------------------------------------------------------------------


def _safetensors(folder: Path) -> Path:
    save_file(FIRST, folder / "step_1.safetensors")
    save_file(SECOND, folder / "step_2.safetensors", {"format": "pt"})
    return folder / "step_2.safetensors"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise Contradiction("a name twice")
    return dict(pairs)


def _by_the_letter(data: bytes) -> Tensors:
    """The format as its page has it: a header, and tensors behind one another without gaps."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_once)
    found: Tensors = {}
    at = 0
    for name, about in sorted(
        ((name, about) for name, about in header.items() if name != "__metadata__"),
        key=lambda item: item[1]["data_offsets"],
    ):
        begin, end = about["data_offsets"]
        numel = int(np.prod([int(size) for size in about["shape"]], dtype=object))
        digits = "".join(char for char in about["dtype"].partition("_")[0] if char.isdigit())
        if begin != at or end - begin != numel * int(digits or 8) // 8:
            raise Contradiction(name)
        at = end
        if about["dtype"] in NUMPY:
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], NUMPY[about["dtype"]])
            found[name] = torch.from_numpy(values.copy()).view(*about["shape"])
    if at != len(data) - 8 - length:
        raise Contradiction("the end")
    return found


def _torch(folder: Path, *, zipped: bool = True) -> Path:
    for step, state in ((1, FIRST), (2, SECOND)):
        saved = {"state_dict": state, "global_step": step, "optimizer": {"lr": 0.1}}
        torch.save(saved, folder / f"step_{step}.ckpt", _use_new_zipfile_serialization=zipped)
    return folder / "step_2.ckpt"


def _by_torch(data: bytes) -> Tensors:
    """Torch, which reads an archive in another way where it does not map it, and holds each record to its size."""
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    except Exception as error:
        raise Contradiction(str(error)) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        return {str(name): value for name, value in loaded["state_dict"].items() if isinstance(value, torch.Tensor)}
    return {}


def _shards(folder: Path) -> Path:
    for step, state in ((1, FIRST), (2, SECOND)):
        home = folder / f"checkpoint-{step}"
        home.mkdir()
        names = list(state)
        where = {name: f"model-0000{1 + (number > 2)}-of-00002.safetensors" for number, name in enumerate(names)}
        for shard in dict.fromkeys(where.values()):
            save_file({name: state[name] for name in names if where[name] == shard}, home / shard)
        index = {"metadata": {"total_size": 256}, "weight_map": where}
        (home / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
        (home / "trainer_state.json").write_text(json.dumps({"epoch": 0.5, "global_step": step, "log_history": []}))
    return folder / "checkpoint-2" / "model.safetensors.index.json"


KINDS = {
    "safetensors": Kind(_safetensors, _by_the_letter),
    "torch": Kind(_torch, _by_torch),
    "torch, before 1.6": Kind(lambda folder: _torch(folder, zipped=False), _by_torch),
    "index of shards": Kind(_shards, beside=True),
    "trainer_state.json": Kind(lambda folder: _shards(folder).parent / "trainer_state.json", beside=True),
}

# ---- what must hold --------------------------------------------------------------------------------------------------


def _wrong(kind: Kind, folder: Path, data: bytes, outcomes: Counter[str]) -> str | None:
    """Read, and say what is not as it must be."""
    begun = time.perf_counter()
    try:
        run = wstrack.pull(f"checkpoints:{folder}")
    except (WstrackError, ValueError) as error:
        outcomes["refused"] += 1
        return f"not one line: {error!r}" if "\n" in str(error) else None
    except Exception as error:  # noqa: BLE001  that is what is looked for
        return f"{type(error).__name__}: {error}"
    if (took := time.perf_counter() - begun) > SECONDS:
        return f"{took:.1f} s"
    outcomes["read"] += 1
    try:
        truth = SECOND if kind.beside else kind.truth(data)
    except Contradiction as error:
        return f"read, though it contradicts itself: {error}"
    # A step that was damaged may say that the second was the first.
    turned = "1" not in run.origin["checkpoints"][0]
    for name in FIRST.keys() & (truth or {}).keys() & set(run.series["rwc"]):
        value, expected = float(run.series["rwc"][name].iloc[-1]), _change(name, truth, turned=turned)
        if expected is None or not np.isfinite(expected) or np.isnan(value) or np.isclose(value, expected, rtol=1e-4):
            continue
        # Where sizes in an archive contradict each other, torch may hand out memory that nothing was read into.
        if kind.truth is not _by_torch or not np.isclose(value, _change(name, SECOND, turned=turned), rtol=1e-4):
            return f"{name} is {value}, not {expected}"
    return None


def _change(name: str, second: Tensors, *, turned: bool) -> float | None:
    """Relative change of a tensor from the first checkpoint to a second, or back; None if its shape is another."""
    pair = [FIRST[name].double(), second[name].double()]
    if pair[0].shape != pair[1].shape:
        return None
    before, after = reversed(pair) if turned else pair
    return ((after - before).abs().sum() / before.abs().sum()).item()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _damaged(whole: bytes, chance: random.Random) -> bytes:
    """The bytes after something has happened to them, half of the time to the first, where headers are."""
    kind, cut = chance.randrange(4), 600
    if kind == 0:  # a number is another: what is read then is well-formed, and may contradict itself
        at = chance.choice([*re.finditer(rb"[0-9]+", whole[:cut])])
        number = "".join(chance.choice("0123456789") for _ in at[0])
        number = str(int(number)).rjust(len(number))  # JSON has no zeros before a number
        return whole[: at.start()] + number.encode() + whole[at.end() :]
    if kind == 1:
        return damage(whole, chance)
    return damage(whole[:cut], chance) + whole[cut:]


def child(name: str, inputs: int, seed: int, kept: Path) -> Counter[str]:
    """Read so many damaged files of a kind; what is wrong is printed, and the last file is `kept`."""
    warnings.simplefilter("ignore")
    kind, chance, outcomes = KINDS[name], random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        file = kind.save(Path(folder))
        whole = file.read_bytes()
        assert _wrong(kind, Path(folder), whole, outcomes) is None
        assert outcomes.pop("read") == 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(inputs):
            data = _damaged(whole, chance)
            kept.write_bytes(data)
            file.write_bytes(data)
            wrong = _wrong(kind, Path(folder), data, outcomes)
            if wrong:
                outcomes["wrong"] += 1
                _say(f"{name}, {seed}, {number}: {wrong[:300]}")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MEMORY:
            outcomes["wrong"] += 1
            _say(f"{name}, {seed}: more memory than {MEMORY:,} kB")
    return outcomes


def batch(name: str, inputs: int, seed: int) -> tuple[Counter[str], str]:
    """The same in a process of its own: the outcomes, and what was said of what is wrong."""
    with tempfile.NamedTemporaryFile() as kept:
        command = [sys.executable, "-m", "tests.checkpoints.damaged", "--kind", name, "--inputs", str(inputs)]
        done = subprocess.run(
            [*command, "--seed", str(seed), "--kept", kept.name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = Path(kept.name).read_bytes().hex()
            return Counter(wrong=1), f"{name}, {seed}: ended with {done.returncode}\n{done.stderr[-2000:]}\n{last}"
    *said, outcomes = done.stdout.splitlines()
    return Counter(json.loads(outcomes)), "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="in all, or of the kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="in this process")
    parser.add_argument("--kept", type=Path, help="where to leave the last file")
    asked = parser.parse_args()
    if asked.kind:
        _say(json.dumps(child(asked.kind, asked.inputs, asked.seed, asked.kept)))
        return
    _say("| file | inputs | read | refused | wrong |\n|---|---|---|---|---|")
    for name in KINDS:
        total, inputs, said = Counter[str](), asked.inputs // len(KINDS), ""
        for number, begin in enumerate(range(0, inputs, BATCH)):
            outcomes, wrong = batch(name, min(BATCH, inputs - begin), asked.seed + number)
            total += outcomes
            said += wrong + "\n" if wrong else ""
        _say(
            f"| {name} | {inputs:,} | {total['read']:,} | {total['refused']:,} | {total['wrong']:,} |\n{said}".rstrip(
                "\n"
            )
        )


if __name__ == "__main__":
    main()
