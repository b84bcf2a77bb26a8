"""The compiled kernel: where it is kept, and what happens where it cannot be had."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from wstrack.measuring.meters import build as building
from wstrack.measuring.meters import choose, cpu
from wstrack.measuring.meters.build import CannotBuildError, build, cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

needs_compiler = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "one.cpp"
    path.write_text('extern "C" int one() { return 1; }')
    return path


@needs_compiler
def test_compiled_once_and_again_when_the_source_is_another(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(source)
    assert first.parent == tmp_path / "cache" / "wstrack"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    made = first.stat().st_mtime_ns
    assert build(source) == first
    assert first.stat().st_mtime_ns == made
    source.write_text('extern "C" int one() { return 2; }')
    assert build(source) != first
    monkeypatch.setattr(building, "_cpu", lambda: "another")
    third = build(source)
    assert len({first, third, *first.parent.iterdir()}) == 3
    assert not [path for path in first.parent.iterdir() if path.name.startswith("tmp")]


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = cache_folder()
    folder.chmod(0o777)
    with pytest.raises(CannotBuildError, match="can be written to by others; chmod 700"):
        cache_folder()
    folder.chmod(0o720)
    with pytest.raises(CannotBuildError, match="by others"):
        cache_folder()
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(CannotBuildError, match="not a folder of this user's own"):
        cache_folder()


def test_a_folder_of_someone_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(CannotBuildError, match="this user's own"):
        cache_folder()


def test_a_home_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CannotBuildError, match="cannot be made"):
        cache_folder()


@pytest.mark.parametrize("why", ["no compiler", "a compiler that fails", "a compiler that writes nonsense"])
def test_without_a_kernel_the_portable_meter_measures_and_says_so_once(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "cc"
    if why != "no compiler":
        write = 'for last; do :; done; echo nonsense > "$last"'
        program.write_text(f"#!/bin/sh\n{'echo broken >&2; exit 1' if 'fails' in why else write}\n")
        program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    monkeypatch.delenv("WSTRACK_METER", raising=False)
    cpu._load.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                w = torch.ones(3)
                meter = choose([w], ("abs_change", "abs_previous"))
                assert meter.backends() == {"portable": 1}
                meter.snapshot()
                w.add_(1)
                assert meter.sample().tolist() == [[3.0, 3.0]]
        assert caplog.text.count("measured by the portable meter") == 1
        assert all(record.levelno <= logging.INFO for record in caplog.records)
        with pytest.raises(ValueError, match="meter='cpu' cannot measure these layers"):
            choose([w], ("abs_change",), meter="cpu")
    finally:
        cpu._load.cache_clear()


@needs_compiler
def test_processes_that_start_at_once_all_get_a_whole_kernel(tmp_path: Path) -> None:
    code = (
        "import torch; from wstrack.measuring.meters import choose;"
        "m = choose([torch.ones(3)], ('abs_previous',), meter='cpu');"
        "m.snapshot(); print(m.sample().item())"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in started] == ["3.0"] * 4
    assert len(list((tmp_path / "cache" / "wstrack").iterdir())) == 1


def test_a_thousand_layers_and_more(make_meter: Callable, request: pytest.FixtureRequest) -> None:
    count = 100 if "cuda" in request.node.name else 5000
    layers = [torch.full((index % 40,), 2.0) for index in range(count)]
    meter = make_meter(layers, ("abs_change", "abs_previous"))
    meter.snapshot()
    for layer in layers:
        layer.add_(1)
    found = meter.sample()
    assert found[:, 0].tolist() == [float(index % 40) for index in range(count)]
    assert found[:, 1].tolist() == [2.0 * (index % 40) for index in range(count)]
