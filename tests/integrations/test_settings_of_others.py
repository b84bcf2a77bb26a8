"""Settings come from the tracker, as people who never heard of `facts=` gave them: listed, chosen by, compared by."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import wstrack
from wstrack.runs.recording import FOLDER
from wstrack.trackers.following import Followed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wandb_server import Server

pytestmark = pytest.mark.slow

RATES = (0.1, 0.01, 0.001)


@pytest.fixture
def watch(model: nn.Sequential, train: Callable[..., None]) -> Callable[..., None]:
    def run(to: object, lr: float = 0.1, **options: Any) -> None:
        with wstrack.watch(model, to=to, every=1, **options):
            train(model, torch.optim.SGD(model.parameters(), lr=lr), 8)

    return run


def check(reference: str, nested: str = "model.name") -> pd.DataFrame:
    """The three runs, by their own settings."""
    table = wstrack.runs_table(reference).sort_values("lr", ascending=False)  # of one second, they come in any order
    assert table["lr"].tolist() == list(RATES)
    assert table[nested].tolist() == ["mlp"] * 3
    chosen = wstrack.pull_many(reference, where=f"lr < 0.05 and {nested} == 'mlp'")
    chosen.sort(key=lambda run: -run.settings["lr"])
    assert [run.settings["lr"] for run in chosen] == [0.01, 0.001]
    assert [run.origin["reference"].removesuffix(f"/{FOLDER}") for run in chosen] == table.index[1:].tolist()
    assert "'0.1'" in str(wstrack.report(wstrack.pull_many(reference), compare="lr", k=2).to_dict()["comparison"])
    newest = wstrack.runs_table(reference, newest=True, limit=1)
    assert len(newest) == 1
    return table


@pytest.mark.parametrize("store", ["mlflow_store", "sqlite_server", "postgres_uri"])
def test_mlflow(watch: Callable[..., None], store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(request.getfixturevalue(store))
    mlflow.set_experiment("sweep")
    for lr in RATES:
        with mlflow.start_run(run_name=f"at {lr}"):
            mlflow.log_params({"lr": lr, "model.name": "mlp", "amp": True, "seed": "007", "api_key": "5ecret"})
            mlflow.set_tag("team", "vision")
            watch(None, lr)
            mlflow.log_metric("val/loss", 1 + lr)
    with mlflow.start_run():
        mlflow.log_param("lr", 5)  # a run that wstrack was not in
    table = check("mlflow:experiment/sweep")
    assert table["name"].tolist() == [f"at {lr}" for lr in RATES]
    assert table["state"].tolist() == ["finished"] * 3
    assert table["samples"].tolist() == [8] * 3
    assert table["amp"].tolist() == [True] * 3
    assert table["api_key"].tolist() == ["***"] * 3
    assert (table["seed"].tolist(), table["team"].tolist()) == (["007"] * 3, ["vision"] * 3)
    assert table["val/loss"].tolist() == [1 + lr for lr in RATES]
    assert not [name for name in table if name.startswith(("rwc/", "mlflow.", "wstrack"))]
    assert table["started"].is_monotonic_increasing
    assert (
        wstrack.runs_table("mlflow:experiment/sweep", where="\"val/loss\" < 1.005 and state = 'finished'").shape[0] == 1
    )


@pytest.mark.usefixtures("_quiet")
def test_wandb_offline(watch: Callable[..., None], tmp_path: Path) -> None:
    import wandb

    from tests.integrations.wandb_written import written

    for lr in RATES:
        with wandb.init(project="p", mode="offline", config={"lr": lr, "model": {"name": "mlp", "width": 8}}) as run:
            watch(None, lr)
        written(run.dir)
    table = check("wandb:wandb")
    assert wstrack.pull(run.dir).settings["lr"] == RATES[-1]  # a path, from the recording in it
    assert table["samples"].tolist() == [8] * 3
    assert table["started"].str.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$").all()
    assert table["model.width"].tolist() == [8] * 3


def test_wandb_over_its_client(watch: Callable[..., None], server: Server) -> None:
    import wandb

    for lr in RATES:
        config = {"lr": lr, "model": {"name": "mlp"}}
        with wandb.init(project="p", config=config, group="one", tags=["a", "b"]) as run:
            watch(None, lr)
            run.log({"val/loss": 1 + lr})
        shutil.rmtree(Path(run.dir) / FOLDER, ignore_errors=True)
    table = check("wandb:team/p")
    assert (table["group"].tolist(), table["tags"].tolist()) == (["one"] * 3, ["a, b"] * 3)
    assert table["val/loss"].tolist() == pytest.approx([1 + lr for lr in RATES])
    assert not [name for name in table if name.startswith(("rwc/", "_", "wstrack"))]


def test_tensorboard_with_hparams(watch: Callable[..., None]) -> None:
    for place, lr in enumerate(RATES):
        with SummaryWriter(f"runs/{place}") as writer:
            writer.add_hparams({"lr": lr, "model.name": "mlp", "amp": True}, {"hparam/loss": 1 + lr})
        watch(f"./runs/{place}", lr)
    check("runs")  # from the recordings, which lie beside
    assert Followed("runs/0").read().settings["lr"] == RATES[0]
    for place in range(len(RATES)):
        shutil.rmtree(Path(f"runs/{place}") / FOLDER)
    table = check("tensorboard:runs")
    assert table["amp"].tolist() == [True] * 3
    assert check("runs").index.str.removeprefix("tensorboard:").tolist() == [f"runs/{place}" for place in range(3)]


def test_tensorboard_of_lightning_and_of_the_hf_trainer(watch: Callable[..., None]) -> None:
    for place, lr in enumerate(RATES):
        folder = Path(f"runs/{place}")
        if place < 2:
            folder.mkdir(parents=True)
            (folder / "hparams.yaml").write_text(f"lr: {lr}\nmodel:\n  name: mlp\n")
        else:
            with SummaryWriter(str(folder)) as writer:  # as transformers.integrations.TensorBoardCallback does
                writer.add_text("args", f'{{"lr": {lr}, "output_dir": "out", "model": {{"name": "mlp"}}}}')
        watch(f"./runs/{place}/wstrack", lr)
        shutil.rmtree(folder / "wstrack" / FOLDER)
    check("tensorboard:runs")


def test_what_lightning_writes_of_python_is_data(watch: Callable[..., None]) -> None:
    """As many of the files that people publish have it: a loss, a function, a namespace beside plain settings."""
    watch("./runs/one")
    Path("runs/one/hparams.yaml").write_text(
        "args: !!python/object:argparse.Namespace\n  lr: 0.1\n  betas: !!python/tuple\n  - 0.9\n  - 0.99\n"
        "loss: !!python/object:forecasts.losses.MAE\n  _modules: !!python/object/apply:collections.OrderedDict\n"
        "  - []\n"
        "distance: !!python/name:__main__.arc ''\n"
        "root: !!python/object/apply:os.mkdir [made]\n"
        "layers:\n- &id001\n  - 512\n- *id001\n"
        "neptune_token: 5ecret\npad_token: <pad>\n"
    )
    assert wstrack.pull("tensorboard:runs/one").settings == {
        "args.lr": 0.1, "args.betas": "[0.9, 0.99]", "loss": "forecasts.losses.MAE", "distance": "__main__.arc",
        "root": "os.mkdir", "layers": "[[512], [512]]", "neptune_token": "***", "pad_token": "<pad>",
    }  # fmt: skip
    assert not Path("made").exists()


def test_a_file_that_is_no_yaml_is_passed_over(watch: Callable[..., None]) -> None:
    watch("./runs/one")
    Path("runs/one/hparams.yaml").write_text("lr: [0.1\n: }")
    assert wstrack.pull("tensorboard:runs/one").settings == {}


def test_recordings_and_facts(watch: Callable[..., None]) -> None:
    for place, lr in enumerate(RATES):
        watch(f"./runs/{place}", lr, facts={"lr": lr, "model.name": "mlp"})
        for file in Path(f"runs/{place}").glob("*tfevents*"):
            file.unlink()
    table = check("runs")
    assert table["samples"].tolist() == [8] * 3
    assert table["state"].tolist() == ["finished"] * 3


def test_facts_stand_over_what_the_tracker_was_told(watch: Callable[..., None]) -> None:
    with SummaryWriter("runs/one") as writer:
        writer.add_hparams({"lr": 5.0, "depth": 3}, {"loss": 1})
    watch("./runs/one", facts={"lr": 0.1})
    assert wstrack.runs_table("runs")[["lr", "depth"]].to_numpy().tolist() == [[0.1, 3]]
    assert wstrack.pull("tensorboard:runs/one").settings == {"lr": 0.1, "depth": 3}
