"""Under DistributedDataParallel a trainer's callback runs in each rank, and makes one run."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.distributed.processes import Processes
from tests.training.distributed.trainers import WAYS, trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def launched() -> Iterator[Processes]:
    """Two processes of their own: trainers leave their settings in a process."""
    processes = Processes(2)
    yield processes
    processes.stop()


@pytest.mark.parametrize("way", WAYS)
def test_two_ranks_make_one_run(launched: Processes, tmp_path: Path, way: str) -> None:
    if importlib.util.find_spec(way) is None:
        pytest.skip(f"the extra wstrack[{way}] is not installed")
    first, second = launched(trained, tmp_path, way=way)
    watcher, seen, recordings, steps, logged = first
    assert "measured by rank 0" not in watcher
    assert "measured by rank 0" in second[0]
    assert len(recordings) == 1
    assert recordings[0].endswith("wstrack")  # in the trainer's own folder
    assert steps == [2, 4, 6, 8]
    np.testing.assert_array_equal(seen, second[1])  # or they did not train together
    np.testing.assert_allclose(logged, seen, rtol=1e-6)
