"""What is paused goes on as it was: a library must not leave its user's process another than it found it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from wstrack.collecting import paused


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
