"""One function for many runs: here, on Dask, with processes that die, and within what a server allows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.dying import counted, killed_by_13, killed_once
from wstrack.sweeps.work import Lost, answers

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A real cluster of two worker processes; one that dies is made anew by its nanny."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


def test_a_process_that_dies_takes_no_other_work_with_it() -> None:
    found = dict(answers(killed_by_13, range(10, 20)))
    assert found.pop(13) == Lost()
    assert found == {number: 2 * number for number in range(10, 20) if number != 13}


def test_a_worker_of_dask_that_dies_loses_nothing(client: Any, tmp_path: Path) -> None:
    places = [str(tmp_path / str(number)) for number in range(8)]
    assert dict(answers(killed_once, places, client=client)) == {place: place for place in places}
    assert (tmp_path / "3").exists()


def test_what_kills_worker_after_worker_of_dask_is_given_up_and_nothing_else_is(client: Any) -> None:
    found = dict(answers(killed_by_13, range(10, 20), client=client))
    assert found.pop(13) == Lost()
    assert found == {number: 2 * number for number in range(10, 20) if number != 13}


def test_no_more_are_at_work_than_a_server_allows() -> None:
    class Threads:
        """A stand-in for a cluster of eight workers."""

        def get_executor(self, **_: object) -> Executor:
            return ThreadPoolExecutor(8)

        def nthreads(self) -> dict[str, int]:
            return {"one": 8}

    pairs = [threading.Barrier(2)] * 12
    found = [answer for _, answer in answers(counted, pairs, client=Threads(), at_once=2)]
    assert len(found) == 12
    assert max(int(str(answer)) for answer in found) == 2


def test_an_error_of_the_work_itself_is_no_lost_process() -> None:
    with pytest.raises(TypeError):
        list(answers(killed_by_13, [None]))  # type: ignore[list-item]
