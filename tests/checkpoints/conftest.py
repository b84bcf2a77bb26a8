"""Two processes, started once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.distributed.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def two() -> Iterator[Processes]:
    processes = Processes(2)
    yield processes
    processes.stop()
