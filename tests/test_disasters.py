"""Some of what happens to machines; docs/damage.md has the figures of a thousand points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")
pytest.importorskip("mlflow", reason="the extra wstrack[mlflow] is not installed")

CODE = """
import random
from tests.disasters import HAPPENINGS, MOUNTED, TRACKERS, Tally, can_mount, point, ready
ready()
tally, mounts = Tally(), can_mount()
for number, happening in enumerate(HAPPENINGS):
    if mounts or happening not in MOUNTED:
        for tracker in TRACKERS:
            point(tracker, happening, random.Random(number), tally)
print("\\n".join(tally.wrong))
assert tally.points >= 9 and tally.readings.total() >= tally.points
"""


@pytest.mark.slow
def test_nothing_is_lost_that_nobody_is_told_of() -> None:
    """In a process of its own, for it forks."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'integrations'}"},
    )
    assert done.stdout.strip() == ""
