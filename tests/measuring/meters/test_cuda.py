"""The CUDA meter beyond its numbers, which tests/measuring/meters/test_meters.py checks in Triton's interpreter.

Here its kernels are compiled for GPUs that need not be there, in a process of its own without the interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.measuring.meters.conftest import interpreted
from wstrack.measuring.meters import choose, cuda
from wstrack.measuring.meters.meter import Meter

pytestmark = pytest.mark.slow

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")


@pytest.fixture(scope="module")
def ptx(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    script = Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_full_chunks_are_read_and_written_16_bytes_at_a_time(ptx: dict[str, str], capability: int, dtype: str) -> None:
    plain, extra = (ptx[f"{capability} {dtype} True {more}"] for more in (False, True))
    assert f".target sm_{capability}" in plain
    assert plain.count("ld.global.v4.b32") == 2  # the weight, the snapshot
    assert plain.count("st.global.v4.b32") == 1  # the snapshot
    # With the change before (float32) and the start: the reads of the latter two, and the change again as a write.
    wide = 1 if dtype == "fp32" else 2
    assert extra.count("ld.global.v4.b32") == 3 + wide
    assert extra.count("st.global.v4.b32") == 1 + wide


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_layers_that_are_not_aligned_are_read_element_by_element(ptx: dict[str, str], capability: int) -> None:
    for dtype in ("fp32", "bf16", "fp16"):
        assert ".v4" not in ptx[f"{capability} {dtype} False True"]


@needs_triton
def test_denormals_are_numbers_as_any_other(ptx: dict[str, str]) -> None:
    for name, text in ptx.items():
        assert ".ftz" not in text, name


@needs_triton
def test_no_atomics(ptx: dict[str, str]) -> None:
    for name, text in ptx.items():
        assert "atom." not in text, name
        assert "red.global" not in text, name


def test_without_cuda_it_says_so() -> None:
    if not torch.cuda.is_available():
        assert cuda.unavailable() == "PyTorch sees no CUDA device"
    assert cuda.refuses(torch.ones(3)) == "it is on cpu"


def test_layers_that_begin_anywhere_and_dtypes_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreted(monkeypatch)
    torch.manual_seed(0)
    base = torch.randn(20_000)
    layers = [
        base[1:17_000],
        torch.randn(9).half(),
        base[17_001:17_100],
        torch.randn(3).bfloat16(),
        torch.randn(16_384),
    ]
    meter = Meter(layers, ("abs_change", "abs_previous"), only="cuda")
    meter.snapshot()
    before = [layer.double().abs().sum().item() for layer in layers]
    for layer in layers:
        layer.mul_(2)
    change, previous = meter.sample().T.tolist()
    assert previous == pytest.approx(before, rel=1e-6)
    assert change == pytest.approx(before, rel=1e-6)


def test_kernels_that_are_wrong_or_do_not_run_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreted(monkeypatch)
    from wstrack.measuring.meters import kernels

    assert cuda.disagreement(torch.device("cpu")) is None
    with monkeypatch.context() as patch:
        right = cuda.addresses
        patch.setattr(cuda, "addresses", lambda tensors, chunks: right(tensors, chunks) - 8 * (chunks.offset > 0))
        assert "other numbers" in (cuda.disagreement(torch.device("cpu")) or "")
    with monkeypatch.context() as patch:  # however many chunks a layer has, whose hashes are each modulo 2^32
        patch.setattr(kernels, "CHUNK", 2048)
        assert cuda.disagreement(torch.device("cpu")) is None
    monkeypatch.setattr(cuda, "upload", lambda numbers, device: torch.from_numpy(numbers).short())
    assert "do not run" in (cuda.disagreement(torch.device("cpu")) or "")


def test_inside_the_capture_of_a_graph_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = choose([torch.ones(3)], ("abs_change",))
    meter.snapshot()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="inside the capture of a CUDA graph"):
        meter.sample()
