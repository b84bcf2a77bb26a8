"""A report on a W&B run: an artifact with all of it, and media panels."""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wstrack_integrations.wandb.api import client
from wstrack_integrations.wandb.online import parts_of
from wstrack_integrations.wandb.places import is_local
from wstrack_integrations.wandb.reopen import reopened

if TYPE_CHECKING:
    from wstrack.trackers.contract import Attachment

__all__ = ["attach"]

TAG = "wstrack-report"


def attach(address: str, attachment: Attachment) -> str:
    """Put a report on a run as an artifact and as media panels; where to look at it.

    A run that is open in this process takes it in its current row; one that is over is opened again for a last row.

    Raises:
        ValueError: the address is none.
        WstrackError: see `reopened`.
    """
    run = None if is_local(address) else _open_here(parts_of(address))
    with client(address), reopened(address) if run is None else nullcontext(run) as run:
        _log(run, attachment)
        url = run.url
    return f"{url}: its artifact {_artifact_name(run.id)}, and the panels {TAG}"


def _open_here(parts: list[str]) -> Any:
    """The run of this process, if it is that one and takes rows still; another project may have one of that id."""
    run = getattr(sys.modules.get("wandb"), "run", None)
    return run if run is not None and not run.offline and [run.entity, run.project, run.id] == parts else None


def _artifact_name(run_id: str) -> str:
    return f"{TAG}-{re.sub(r'[^A-Za-z0-9_.-]', '-', run_id)}"


def _log(run: Any, attachment: Attachment) -> None:
    import wandb

    table = attachment.table.reset_index()[["layer", "kind", "depth", "cluster"]]
    row: dict[str, Any] = {
        f"{TAG}/page": wandb.Html(attachment.page, inject=False),
        f"{TAG}/layers": wandb.Table(dataframe=table.astype({"cluster": "float64"})),
    }
    artifact = wandb.Artifact(_artifact_name(run.id), type="report")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in attachment.files().items():
            (Path(folder) / name).write_bytes(content)
        artifact.add_dir(folder, skip_cache=True)
        row |= {f"{TAG}/{name}": wandb.Image(f"{folder}/{name}.png") for name in attachment.pictures}
        run.log_artifact(artifact)
        run.log(row, commit=False)  # the user's next row, or the end of the run, takes it along
