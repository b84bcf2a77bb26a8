"""Which meter is chosen, by whom, and what `wstrack doctor` says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import wstrack
from wstrack.doctor import doctor
from wstrack.measuring.meters import backends, choose, cpu, cuda
from wstrack.measuring.meters.backends import BACKENDS, backend_for
from wstrack.metrics import SUMS

if TYPE_CHECKING:
    from collections.abc import Callable

RWC = ("abs_change", "abs_previous")
needs_kernel = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))


@needs_kernel
def test_the_fastest_right_one_for_each_layer() -> None:
    assert backend_for(torch.ones(3, 3), RWC) == ("cpu", "")
    assert backend_for(torch.ones(3, 3).t(), RWC)[0] == "cpu"
    assert backend_for(torch.ones(6)[::2], RWC) == ("portable", "cpu: it has gaps in memory")
    assert backend_for(torch.ones(3, dtype=torch.complex64), RWC) == ("portable", "cpu: its dtype is torch.complex64")
    assert backend_for(torch.ones(3, 3), RWC, "portable") == ("portable", "")
    assert backend_for(torch.ones(3, device="meta"), RWC) == ("portable", "")


def test_on_cuda_without_triton_the_portable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = type("Weight", (), {"device": torch.device("cuda", 0), "dtype": torch.float32, "is_contiguous": bool})()
    weight.is_contiguous = lambda: True
    monkeypatch.setattr(backends, "PLAIN", (type(weight),))  # it stands for a plain tensor on CUDA
    monkeypatch.setattr(cuda, "unavailable", lambda: "Triton cannot be imported")
    assert backend_for(weight, RWC) == ("portable", "cuda: Triton cannot be imported")
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    assert backend_for(weight, RWC) == ("cuda", "")


@needs_kernel
def test_the_environment_and_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [torch.ones(3)]
    monkeypatch.setenv("WSTRACK_METER", "portable")
    assert choose(layers, RWC).backends() == {"portable": 1}
    assert choose(layers, RWC, meter="cpu").backends() == {"cpu": 1}
    assert choose(layers, RWC, meter="auto").backends() == {"cpu": 1}
    monkeypatch.setenv("WSTRACK_METER", "")
    assert choose(layers, RWC).backends() == {"cpu": 1}
    mixed = [torch.ones(3), torch.ones(3, dtype=torch.complex64)]
    assert choose(mixed, RWC, meter="cpu").backends() == {"cpu": 1, "portable": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_wrong_name_says_what_there_is(monkeypatch: pytest.MonkeyPatch, model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="meter='gpu' must be one of auto, cuda, cpu, portable"):
        wstrack.watch(model, meter="gpu")
    with pytest.raises(ValueError, match="meter='cuda' cannot measure these layers: PyTorch sees no CUDA device"):
        wstrack.watch(model, meter="cuda")
    with pytest.raises(ValueError, match="snapshot='disk' must be 'device' or 'cpu'"):
        wstrack.watch(model, snapshot="disk")
    monkeypatch.setenv("WSTRACK_METER", "fast")
    with pytest.raises(ValueError, match="WSTRACK_METER=fast must be one of auto"):
        wstrack.watch(model)


@pytest.mark.parametrize("meter", ["portable", "auto"])
def test_the_run_says_how_it_was_measured(model: nn.Sequential, train: Callable, meter: str) -> None:
    with wstrack.watch(model, every=1, meter=meter, snapshot="cpu") as watcher:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
    facts = watcher.run().origin
    assert facts["meter"] == {"portable" if meter == "portable" or cpu.unavailable() else "cpu": 3}
    assert facts["snapshot"] == "cpu"


def test_the_doctor_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSTRACK_METER", raising=False)
    said = doctor()
    assert said["meters"]["cpu"].startswith("portable (" if cpu.unavailable() else "cpu")
    if not torch.cuda.is_available():
        assert said["meters"]["cuda"] == "none: PyTorch sees no CUDA device"
    assert said["versions"]["torch"] == torch.__version__
    assert {"wstrack", "python", "numpy", "triton", "compiler", "cpu", "threads"} <= said["versions"].keys()
    monkeypatch.setattr(cpu, "unavailable", lambda: "no C++ compiler (g++, clang++) is installed")
    assert doctor()["meters"]["cpu"] == "portable (cpu: no C++ compiler (g++, clang++) is installed)"
    monkeypatch.setenv("WSTRACK_METER", "portable")
    assert doctor()["meters"]["cpu"] == "portable (WSTRACK_METER=portable)"
    monkeypatch.setenv("WSTRACK_METER", "fast")
    with pytest.raises(ValueError, match="WSTRACK_METER=fast must be one of"):
        doctor()


def test_the_doctor_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from wstrack.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a model on cpu is measured by: ")
    assert any(line.split() == ["torch", torch.__version__] for line in lines)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_takes_every_sum(name: str) -> None:
    lacking = set(SUMS) - BACKENDS[name].TAKES
    assert not lacking, f"the backend {name!r} lacks {sorted(lacking)}: layers that need them go to the portable one"


def test_a_sum_that_a_backend_lacks_sends_the_layer_to_the_portable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKENDS["cpu"], "TAKES", frozenset({"abs_change"}))
    weight = torch.ones(4)
    assert backend_for(weight, ("abs_change",)) == ("cpu", "")
    assert backend_for(weight, RWC) == ("portable", "cpu: it does not take abs_previous")
    meter = choose([weight], RWC)
    assert meter.backends() == {"portable": 1}
    meter.snapshot()
    weight.add_(1)
    assert meter.sample().tolist() == [[4.0, 4.0]]
