"""Tensors of every make in files of torch: those with values are measured, the others left out, none invented."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import wstrack
from tests.checkpoints.refusing import refusal
from wstrack.checkpoints.opening import open_checkpoint
from wstrack.checkpoints.walk import works

SQUARE = torch.arange(1.0, 65).view(8, 8)
COMPLEX = torch.complex(SQUARE, SQUARE.flip(0))

MEASURED = {
    "as it is": SQUARE,
    "transposed": SQUARE.t(),
    "in channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "every second column": SQUARE[:, ::2],
    "a window": SQUARE[2:5, 1:7],
    "overlapping": torch.arange(10.0).as_strided((3, 3), (1, 2)),
    "complex": COMPLEX,
    "conjugated": COMPLEX.conj(),
    "negated": COMPLEX.conj().imag,
    "a parameter": torch.nn.Parameter(SQUARE),
    "half": SQUARE.half(),
    "bfloat16": SQUARE.bfloat16(),
}
LEFT_OUT = {
    "expanded": torch.ones(1, 4).expand(3, 4),
    "expanded to more than there is memory": torch.ones(1, 1).expand(2**31, 2**30),
    "without elements": torch.ones(0, 4),
    "without dimensions": torch.tensor(1.0),
    "sparse": SQUARE.to_sparse(),
    "compressed": SQUARE.to_sparse_csr(),
    "quantised": torch.quantize_per_tensor(SQUARE, 0.1, 0, torch.qint8),
    "without values": torch.ones(2, 2, device="meta"),
    "whole numbers": torch.ones(3, 3, dtype=torch.int64),
    "truths": torch.ones(3, 3, dtype=torch.bool),
}


def _read(file: Path, name: str) -> torch.Tensor:
    stored = open_checkpoint(file).tensors[name]
    values = torch.empty(stored.numel, dtype=stored.dtype)
    stored.read(values, 0)
    return values.view(stored.shape)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", MEASURED)
def test_its_values_are_those_that_were_saved(tmp_path: Path, kind: str, zipped: bool) -> None:
    tensor = MEASURED[kind]
    double = 2 * tensor.detach()
    torch.save({"w": tensor, "same": tensor}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    torch.save({"w": double, "same": double}, tmp_path / "b.pt")
    assert torch.equal(_read(tmp_path / "a.pt", "w"), tensor)
    row = wstrack.pull(f"checkpoints:{tmp_path / 'a.pt'},{tmp_path / 'b.pt'}").series["rwc"].iloc[0]
    assert row.to_dict() == {"w": pytest.approx(1, rel=1e-6)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_has_no_values_to_compare_is_left_out(tmp_path: Path, kind: str, zipped: bool) -> None:
    for step in (1, 2):
        saved = {"w": LEFT_OUT[kind], "whole": SQUARE * step}
        torch.save(saved, tmp_path / f"step_{step}.pt", _use_new_zipfile_serialization=zipped)
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0].to_dict() == {"whole": 1.0}
    torch.save({"w": LEFT_OUT[kind]}, tmp_path / "step_2.pt", _use_new_zipfile_serialization=zipped)
    assert "holds no" in refusal(tmp_path)


def test_tensors_in_one_storage_are_told_apart(tmp_path: Path) -> None:
    for step in (1, 2):
        whole = torch.arange(1.0, 33) * step
        saved = {
            "a": whole[:16].view(4, 4),
            "b": whole[16:].view(4, 4),
            "tied": whole[:16].view(4, 4),
            "c": whole[8:24].view(4, 4),
        }
        torch.save(saved, tmp_path / f"step_{step}.pt")
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    assert run.series["rwc"].iloc[0].to_dict() == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert torch.equal(_read(tmp_path / "step_2.pt", "c"), torch.arange(9.0, 25).view(4, 4) * 2)


def test_values_in_the_byte_order_of_another_machine(tmp_path: Path) -> None:
    for step in (1, 2):
        file = tmp_path / f"step_{step}.pt"
        torch.save({"w": SQUARE * step, "b": SQUARE[:, 1:5] * step}, file)
        with zipfile.ZipFile(file) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in records.items():
                turned = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
                archive.writestr(name, b"big" if name.endswith("byteorder") else turned if "/data/" in name else data)
    assert torch.equal(_read(file, "w"), SQUARE * 2)
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0].tolist() == [1, 1]


def test_mappings_that_hold_themselves(tmp_path: Path) -> None:
    many: dict[str, object] = {"w": SQUARE}
    for _ in range(50):  # 2 ** 50 ways to the one tensor
        many = {"a": many, "b": many}
    for step in (1, 2):
        saved: dict[str, object] = {"w": SQUARE, "many": many}
        saved["itself"] = {"again": saved}
        torch.save(saved, tmp_path / f"step_{step}.pt")
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].shape == (1, 1)


@pytest.mark.parametrize("saved", [[SQUARE, SQUARE], {"state_dict": [SQUARE]}, SQUARE, {}, None, "weights", {"a": 1}])
def test_what_has_no_tensors_by_name(tmp_path: Path, saved: object) -> None:
    for step in (1, 2):
        torch.save(saved, tmp_path / f"step_{step}.pt")
    assert "holds no weights: no tensors by name" in refusal(tmp_path)


def test_names_nested_or_long_beyond_reason(tmp_path: Path) -> None:
    deep: dict[str, object] = {"w": SQUARE}
    for _ in range(100):
        deep = {"a": deep}
    for saved, said in (
        (deep, "nested more than 64 deep"),
        ({"x" * 20_000: SQUARE}, "a name in it has 20,000 characters"),
    ):
        for step in (1, 2):
            torch.save(saved, tmp_path / f"step_{step}.pt")
        assert said in refusal(tmp_path)


# ---- very many, and very large ---------------------------------------------------------------------------------------


def test_many_small_tensors_are_packed_in_time_that_grows_with_them(tmp_path: Path) -> None:
    """By counting, not by the clock: with 100,000 tensors what looks at each pair of them never ends."""
    save_file({f"layers.{number}.weight": torch.ones(2, 2) for number in range(3000)}, tmp_path / "a.safetensors")
    tensors = list(open_checkpoint(tmp_path / "a.safetensors").tensors.values())
    looked = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal looked
        looked += 1

    sys.setprofile(count)
    try:
        packed = works([[tensor, tensor] for tensor in tensors])
    finally:
        sys.setprofile(None)
    assert sum(len(work.layers) for work in packed) == 3000
    assert len(packed) == 1
    assert looked < 200 * len(tensors)


MANY = 25_000  # a hundred thousand take four times as long


@pytest.mark.slow
def test_very_many_tensors(tmp_path: Path) -> None:
    for step in (1, 2):
        state = {f"layers.{number}.weight": torch.full((2, 2), float(step)) for number in range(MANY)}
        save_file(state, tmp_path / f"step_{step}.safetensors")
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    assert run.series["rwc"].shape == (1, MANY)
    assert (run.series["rwc"] == 1).all(axis=None)


LARGE = 1 << 28
PEAK = """
import resource, sys, wstrack
wstrack.pull(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run = wstrack.pull(sys.argv[2])
assert run.series["distance"].iloc[0].tolist() == [0.0], run.series
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


def _holes(file: Path, size: int) -> None:
    """A file with one tensor that is nothing but holes."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4096, 1024], "data_offsets": [0, size]}}).encode()
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        opened.truncate(8 + len(header) + size)


@pytest.mark.slow
def test_a_large_tensor_takes_little_memory(tmp_path: Path) -> None:
    for step in (1, 2):
        _holes(tmp_path / "small" / f"step_{step}.safetensors", 1 << 22)
        _holes(tmp_path / "large" / f"step_{step}.safetensors", LARGE)
    given = [f"checkpoints:{tmp_path / size}" for size in ("small", "large")]
    done = subprocess.run([sys.executable, "-c", PEAK, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < LARGE // 4


def test_a_tensor_larger_than_memory_is_opened(tmp_path: Path) -> None:
    _holes(tmp_path / "run" / "a.safetensors", 1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tensor,) = open_checkpoint(tmp_path / "run" / "a.safetensors").tensors.values()
    last = torch.ones(4)
    tensor.read(last, tensor.numel - 4)
    assert last.tolist() == [0, 0, 0, 0]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < LARGE
