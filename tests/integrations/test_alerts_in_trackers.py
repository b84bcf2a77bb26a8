"""What rules say reaches people in each tracker, and comes back with the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import wstrack
from tests.integrations.wandb_written import written
from wstrack.rules import Alert, Observed
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wandb_server import Server

pytestmark = pytest.mark.slow

HOSTILE = "is *so* <script>alert(1)</script> [x](y) `z` # 1_2 \udcff " + "long " * 2000


def planned(seen: Observed) -> list[Alert]:
    """Two layers of one sample, then one of another."""
    places = {2: (0, 1), 4: (2,)}.get(seen.step, ())
    return [seen.alert("planned", place, 1, f"is as planned at {seen.step}") for place in places]


def hostile(seen: Observed) -> list[Alert]:
    return [seen.alert("hostile/<b>: é", None, 1, HOSTILE)] if seen.step == 3 else []


@pytest.fixture
def watch(model: nn.Sequential, train: Callable[..., None]) -> Callable[[object], None]:
    def run(to: object) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with wstrack.watch(model, to=to, every=1, rules=[planned, hostile]) as watcher:
            for _ in range(5):
                train(model, optimizer, 1)
                watcher._measured.flush(60)

    hostile.__name__ = "hostile/<b>: é"
    return run


MARKS = (
    (2, "alert: planned: 0.weight is as planned at 2"),
    (2, "alert: planned: 2.weight is as planned at 2"),
    (3, "alert: hostile/<b>: é: is *so* <script>"),
    (4, "alert: planned: 4.weight is as planned at 4"),
)


def check(reference: object) -> None:
    run = wstrack.pull(str(reference))
    assert [step for step, _ in run.marks] == [step for step, _ in MARKS]
    assert all(name.startswith(said) for (_, name), (_, said) in zip(run.marks, MARKS, strict=True))
    assert run.completeness.missing == 0
    assert run.steps.tolist() == [1, 2, 3, 4, 5]


def test_tensorboard_shows_them_as_text_that_is_text(watch: Callable[[object], None]) -> None:
    from tensorboard.plugins.text.text_plugin import text_array_to_html  # as its tab Text shows it

    watch("./alerted")
    check("alerted")
    events = EventAccumulator("alerted").Reload()
    said = {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors("wstrack/alerts")}
    assert list(said) == [2, 3, 4]
    assert said[2].splitlines() == [
        "- **planned**: 0.weight is as planned at 2", "- **planned**: 2.weight is as planned at 2",
    ]  # fmt: skip
    page = text_array_to_html(np.array(said[3]), enable_markdown=True)
    assert "is *so* &lt;script&gt;alert(1)&lt;/script&gt; [x](y) `z` # 1_2" in page
    shutil.rmtree(Path("alerted") / FOLDER)
    assert wstrack.pull("alerted").completeness.missing == 0  # alerts are no samples


@pytest.mark.parametrize("store", ["mlflow_store", "sqlite_server"])
def test_mlflow_has_a_tag_a_rule_and_a_file_a_step(
    watch: Callable[[object], None], store: str, request: pytest.FixtureRequest
) -> None:
    import mlflow

    mlflow.set_tracking_uri(request.getfixturevalue(store))
    mlflow.set_experiment("alerts")
    with mlflow.start_run() as active:
        watch(None)
    check(f"mlflow:{active.info.run_id}")
    client = mlflow.MlflowClient()
    tags = client.get_run(active.info.run_id).data.tags
    assert tags["wstrack.alert.planned"] == "step 4: 4.weight is as planned at 4"
    assert tags["wstrack.alert.hostile__b__ é"].startswith("step 3: is *so* <script>")
    files = {Path(file.path).name for file in client.list_artifacts(active.info.run_id, "wstrack/alerts")}
    assert files == {"step-2.txt", "step-3.txt", "step-4.txt"}
    said = mlflow.artifacts.load_text(f"{active.info.artifact_uri}/wstrack/alerts/step-2.txt")
    assert said.splitlines() == [
        "step 2: 0.weight is as planned at 2 (rule 'planned')", "step 2: 2.weight is as planned at 2 (rule 'planned')",
    ]  # fmt: skip


@pytest.mark.usefixtures("_quiet")
def test_wandb_sends_alerts_of_its_own(watch: Callable[[object], None]) -> None:
    import wandb

    with wandb.init(project="p", mode="offline") as run:
        watch(None)
    check(run.dir)
    alerts = [record.alert for record in written(run.dir) if record.HasField("alert")]
    assert [(alert.title, alert.text[:50], alert.level) for alert in alerts] == [
        ("wstrack: planned", "step 2: 0.weight is as planned at 2\nstep 2: 2.weight is as planned at 2"[:50], "WARN"),
        ("wstrack: hostile/<b>: é", f"step 3: {HOSTILE}"[:50], "WARN"),
        ("wstrack: planned", "step 4: 4.weight is as planned at 4", "WARN"),
    ]


def test_the_wandb_client_sends_them(watch: Callable[[object], None], server: Server) -> None:
    import wandb

    with wandb.init(project="p") as run:
        watch(None)
    check(f"wandb:team/p/{run.id}")
    assert [title for title, _ in server.alerts] == ["wstrack: planned", "wstrack: hostile/<b>: é", "wstrack: planned"]
