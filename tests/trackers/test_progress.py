from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from wstrack.trackers import progress as module
from wstrack.trackers.progress import progress


def test_what_takes_long_says_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 2.5, 3.0, 5.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with caplog.at_level(logging.INFO, "wstrack"):
        assert list(progress(range(4), "rows", 4_000)) == [0, 1, 2, 3]
    assert caplog.messages == ["rows: 2 of 4,000", "rows: 4 of 4,000"]
