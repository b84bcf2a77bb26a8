"""The three built-in trackers, and what others may get wrong, held to the suite that `wstrack.testing` ships."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import wstrack_integrations.mlflow
import wstrack_integrations.tensorboard
import wstrack_integrations.wandb
from wstrack_integrations.wandb import WandbTarget

from wstrack.testing import TrackerContract, functions_missing

if TYPE_CHECKING:
    from .wandb_server import Server

pytestmark = pytest.mark.slow


class TestTensorBoard(TrackerContract):
    tracker = wstrack_integrations.tensorboard
    dtype = np.float32


class TestMlflow(TrackerContract):
    tracker = wstrack_integrations.mlflow

    @pytest.fixture(autouse=True)
    def _store(self, mlflow_store: str) -> None:
        """A store of its own."""

    def begin_run(self, tmp_path: Path) -> Any:
        import mlflow

        return mlflow.start_run()

    def end_run(self, target: Any) -> None:
        import mlflow

        mlflow.end_run()


class TestWandb(TrackerContract):
    """The real client, online, against the stand-in for W&B's server."""

    tracker = wstrack_integrations.wandb
    live = False  # what was logged is with the server when the run has finished

    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        """The stand-in."""

    def begin_run(self, tmp_path: Path) -> Any:
        import wandb

        return WandbTarget(wandb.init(project="p", settings=wandb.Settings(console="off")), commit=True)

    def end_run(self, target: Any) -> None:
        target.run.finish()

    def resume_run(self, target: Any) -> Any:
        import wandb

        run = target.run
        run.finish()
        return WandbTarget(
            wandb.init(project="p", id=run.id, resume="must", settings=wandb.Settings(console="off")), commit=True
        )


def test_a_module_that_lacks_functions_fails_with_their_names() -> None:
    class TestHalf(TrackerContract):
        tracker = ModuleType("half_a_tracker")

    for name in ("recognises", "open_source", "open_sink", "is_active"):
        setattr(TestHalf.tracker, name, lambda *_: None)
    with pytest.raises(AssertionError, match="half_a_tracker lacks accepts, attach, push"):
        TestHalf().test_the_module_has_every_function()


def test_a_module_that_only_reads_is_whole() -> None:
    reader = ModuleType("reader")
    reader.recognises = reader.open_source = print  # type: ignore[attr-defined]
    assert functions_missing(reader) == []
