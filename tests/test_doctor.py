"""What `wstrack doctor` says of this machine."""

from __future__ import annotations

import platform

import pytest
import torch

import wstrack
from wstrack.cli import main
from wstrack.doctor import doctor
from wstrack.measuring.meters import cpu


def test_it_names_the_meter_that_a_model_gets_here() -> None:
    found = doctor()
    kept = cpu.unavailable()
    assert found["meters"]["cpu"] == ("cpu" if kept is None else f"portable (cpu: {kept})")
    if not torch.cuda.is_available():
        assert found["meters"]["cuda"] == "none: PyTorch sees no CUDA device"
    assert found["versions"]["wstrack"] == wstrack.__version__
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__


def test_what_the_environment_asks_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSTRACK_METER", "portable")
    assert doctor()["meters"]["cpu"] == "portable (WSTRACK_METER=portable)"
    monkeypatch.setenv("WSTRACK_METER", "abacus")
    with pytest.raises(ValueError, match="WSTRACK_METER=abacus must be one of auto, cuda, cpu, portable"):
        doctor()


def test_a_compiler_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor()["versions"]["compiler"] == "CXX=no-such-compiler is not a program"


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "a model on cpu is measured by: " in out
    assert f"torch      {torch.__version__}" in out
