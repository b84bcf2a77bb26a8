"""What is paused goes on as it was: a library must not leave its user's process another than it found it."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from wstrack.collecting import importing, paused


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = gc.isenabled()
    yield
    (gc.enable if before else gc.disable)()


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("collects", [True, False])
def test_as_it_was_afterwards_whatever_happens(collects: bool) -> None:
    (gc.enable if collects else gc.disable)()
    with paused():
        assert not gc.isenabled()
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() is collects
    with pytest.raises(KeyError), paused():
        raise KeyError
    assert gc.isenabled() is collects


@pytest.mark.parametrize("imports", [True, False])
def test_what_is_imported_is_old_at_once_and_nothing_else(imports: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    with importing():
        new: list[object] = [[]]
        if imports:
            monkeypatch.setitem(sys.modules, "wstrack_imported_just_now", ModuleType("wstrack_imported_just_now"))
    assert any(one is new for one in gc.get_objects(generation=2)) is imports
    assert gc.get_freeze_count() == 0


def test_what_somebody_froze_stays_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with importing():
            monkeypatch.setitem(sys.modules, "wstrack_imported_just_now", ModuleType("wstrack_imported_just_now"))
        assert gc.get_freeze_count() >= frozen > 0
    finally:
        gc.unfreeze()


def test_a_command_leaves_what_it_made_to_the_end_of_its_process() -> None:
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); "
        "from wstrack.cli import main; main(['--version'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "True"
