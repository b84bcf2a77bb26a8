"""A run on a server that is over, taken up again to add to it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError
from wstrack_integrations.wandb.api import client
from wstrack_integrations.wandb.online import parts_of
from wstrack_integrations.wandb.places import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["reopened"]

OF_A_RUN = (
    "run_name", "run_group", "run_tags", "run_notes", "run_job_type", "run_id", "sweep_id", "sweep_param_path",
    "resume_from", "fork_from",
)  # fmt: skip
"""Settings that WANDB_NAME, WANDB_TAGS, WANDB_SWEEP_ID, ... give to each run that begins."""


@contextmanager
def reopened(address: str) -> Iterator[Any]:
    """The run at `entity/project/run`, open for adding to it; it ends in the state in which it was found.

    It is written from a temporary folder, and nothing of this machine (its packages, its code, its hardware) takes the
    place of what is known of the machine that trained.

    Raises:
        ValueError: the address is none.
        WstrackError: the address is a folder on this machine; there is no such run, it is going on, or W&B refuses.
    """
    if is_local(address):
        raise WstrackError(
            f"wandb:{address} is on this machine, and wandb's files cannot be added to; if the run is offline, send it "
            "with `wandb sync`, then name it as wandb:entity/project/run"
        )
    entity, project, run_id = parts_of(address)
    with client(address) as api, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        import wandb

        state = api.run(f"{entity}/{project}/{run_id}").state
        if state == "running":
            raise WstrackError(
                f"W&B run {address} is going on, and rows from elsewhere could make it lose some; try again when it "
                "has finished (of a run that was killed, W&B knows after some minutes)"
            )
        settings = wandb.Settings(
            mode="online",
            program="",
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        with _without_settings(wandb.setup().settings):
            run = wandb.init(
                entity=entity,
                project=project,
                id=run_id,
                resume="must",
                reinit="create_new",
                dir=folder,
                settings=settings,
            )
        try:
            yield run
        finally:
            run.finish(exit_code=0 if state == "finished" else 1)


@contextmanager
def _without_settings(settings: Any) -> Iterator[None]:
    """Without what the environment says of runs that begin here: this one has a name, tags and a group of its own."""
    kept = {name: getattr(settings, name) for name in OF_A_RUN if hasattr(settings, name)}
    for name in kept:
        setattr(settings, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(settings, name, value)
