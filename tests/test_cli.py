from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import nn

import wstrack
from wstrack.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def table(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = ["layer," + ",".join(f"step_{step}" for step in range(10, 210, 10))]
    for index in range(9):
        level = 10.0 ** -(index // 3 + 1)
        rows.append(f"blocks.{index}.weight," + ",".join(f"{level * x:.6g}" for x in random.lognormal(0, 0.1, 20)))
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_report_from_a_table_in_every_form(call: Callable, table: Path, tmp_path: Path) -> None:
    code, out, _ = call("report", str(table), "--methods", "-o", "r.html", "-o", "r.json", "-o", "r.csv")
    assert code == 0
    assert "9 layers, 20 samples, steps 10 to 200; all 180 values" in out
    data = json.loads((tmp_path / "r.json").read_text())
    assert set(data) >= {"runs", "layers", "clusters", "reduction", "stability", "findings", "settings"}
    assert [len(cluster["layers"]) for cluster in data["clusters"]] == [3, 3, 3]
    assert {"kmeans", "ward", "hdbscan"} <= {row["method"] for row in data["methods"]}
    assert "<html" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "r.csv").read_text().startswith("layer,")


def test_a_report_says_what_it_found_before_what_it_wrote(call: Callable, table: Path) -> None:
    _, out, _ = call("report", str(table), "-o", "r.json")
    said = ["all 180 values", "\n3 clusters of layers, stable", "\n  - ", "\nwrote r.json\n"]
    assert sorted(said, key=out.index) == said


@pytest.mark.parametrize(("outputs", "opened"), [((), "report.html"), (("-o", "r.md", "-o", "r.html"), "r.html")])
def test_the_page_that_was_written_is_opened(
    call: Callable, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: tuple[str, ...], opened: str
) -> None:
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    code, out, _ = call("report", str(table), "--open", *outputs)
    assert code == 0
    assert addresses == [(tmp_path / opened).as_uri()]
    assert f"opened {opened}" in out


def test_a_page_that_nobody_asked_for_is_opened_from_a_temporary_file(
    call: Callable, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    assert call("report", str(table), "--open", "-o", "r.json", "--title", "Digits")[0] == 0
    assert len(addresses) == 1
    assert "<title>Digits · wstrack</title>" in Path(addresses[0].removeprefix("file://")).read_text()
    assert not list(tmp_path.glob("*.html"))


def test_a_report_goes_to_report_html_if_nothing_is_said(call: Callable, table: Path, tmp_path: Path) -> None:
    assert call("report", str(table))[0] == 0
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "k", "on", "least"),
    [
        ("resnet50-cifar100", 4, "plane", 1.0),
        ("efficientnet_b4-cifar100", 3, "plane", 1.0),
        ("resnet50-cifar10", 4, "plane", 0.93),
        ("resnet50-cifar10", 4, "curves", 1.0),
        ("efficientnet_b4-cifar10", 3, "plane", 0.82),
    ],
)
def test_the_published_clusters(
    call: Callable, weightscale: Path, tmp_path: Path, name: str, k: int, on: str, least: float
) -> None:
    table = str(weightscale / f"{name}.csv")
    code, _, err = call("report", table, "--preset", "weightscale", "--k", str(k), "--cluster-on", on, "-o", "out.json")
    assert code == 0, err
    found = json.loads((tmp_path / "out.json").read_text())["clusters"]
    ours = {layer: cluster["id"] for cluster in found for layer in cluster["layers"]}
    published = json.loads((weightscale / f"{name}.published-clusters.json").read_text())["clusters"]
    theirs = {layer: index for index, layers in enumerate(published) for layer in layers}
    assert set(ours) == set(theirs)
    index = adjusted_rand_score([theirs[layer] for layer in ours], list(ours.values()))
    assert round(index, 2) >= least


def test_pull_writes_what_it_read_and_says_how_whole_it_is(
    call: Callable, model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    with wstrack.watch(model, to="./runs/exp1", every=2, metrics=("rwc", "norm")):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 6)
    code, out, _ = call("pull", "tensorboard:runs/exp1", "-o", "a.csv", "-o", "a.json", "-o", "a.parquet")
    assert code == 0
    assert "tensorboard:runs/exp1: rwc, norm; 3 layers, 3 samples, steps 2 to 6; all 18 values" in out
    frame = wstrack.pull("tensorboard:runs/exp1").series["rwc"]
    for name in ("a.csv", "a.parquet"):
        np.testing.assert_array_equal(wstrack.pull(name).series["rwc"].to_numpy(), frame.to_numpy())
    assert set(json.loads(Path("a.json").read_text())["series"]) == {"rwc", "norm"}
    _, out, _ = call("pull", "exp1", "--tracker", "tensorboard", "--project", "runs", "--metric", "norm")
    assert "tensorboard:runs/exp1: norm;" in out


def test_runs_lists_each_run(
    call: Callable, model: nn.Sequential, train: Callable[..., None], table: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        with wstrack.watch(model, to=f"./runs/{name}", every=1):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    code, out, _ = call("runs", "runs", str(table), "--check")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "3 samples, steps 1 to 3; all" in out
    assert call("runs", "runs")[1].splitlines() == ["runs/a", "runs/b"]
    code, out, _ = call("runs", "tensorboard:runs", "--check")
    assert [line.split(": ")[0] for line in out.splitlines()] == ["tensorboard:runs/a", "tensorboard:runs/b"]


def test_a_run_that_cannot_be_read_is_left_out_of_a_report_and_named(
    call: Callable, model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        with wstrack.watch(model, to=f"./runs/{name}", every=1):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    for path in (tmp_path / "runs").rglob("events*"):
        path.unlink()
    (tmp_path / "runs/b/wstrack-recording/0001.arrow").write_bytes(b"")
    code, _, err = call("report", "runs", "-o", "r.json")
    assert code == 0
    assert "left out: runs/b" in err
    assert [run["name"] for run in json.loads(Path("r.json").read_text())["runs"]] == ["a", "c"]
    for name in ("a", "c"):
        (tmp_path / f"runs/{name}/wstrack-recording/0001.arrow").write_bytes(b"")
    code, _, err = call("report", "runs", "-o", "r.json")
    assert code == 1
    assert "none of the 3 runs could be read" in err


def test_one_run_that_cannot_be_read_does_not_hide_the_others(
    call: Callable, model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        with wstrack.watch(model, to=f"./runs/{name}", every=1):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    (tmp_path / "runs/b/wstrack-recording/0001.arrow").write_bytes(b"")
    code, out, err = call("runs", "runs", "--check")
    assert code == 0  # TensorBoard's files have the run
    assert len(out.splitlines()) == 3
    assert "the recording cannot be read" in err
    for path in (tmp_path / "runs/b").glob("events*"):
        path.unlink()
    code, out, err = call("runs", "runs", "--check")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "0001.arrow" in err


def test_a_run_without_samples_is_listed_and_not_reported(call: Callable, model: nn.Sequential) -> None:
    wstrack.watch(model, to="./runs/empty").close()
    assert "0 samples, no steps" in call("runs", "runs", "--check")[1]
    code, _, err = call("report", "runs/empty")
    assert code == 1
    assert "no samples of rwc in empty" in err


def test_a_report_on_several_runs(call: Callable, model: nn.Sequential, train: Callable[..., None]) -> None:
    for name in ("a", "b"):
        with wstrack.watch(model, to=f"./runs/{name}", every=1):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 6)
    assert call("report", "runs/*", "-o", "r.json")[0] == 0
    assert [run["name"] for run in json.loads(Path("r.json").read_text())["runs"]] == ["a", "b"]


def bad_tables(folder: Path) -> dict[str, str]:
    texts = {
        "text": "layer,1,2,3\na,1,2,3\nb,1,x,3\nc,1,2,3\n",
        "ragged": "layer,1,2,3\na,1,2,3\nb,1,2\nc,1,2,3\n",
        "twice": "layer,1,2,3\na,1,2,3\na,1,2,3\nc,1,2,3\n",
        "nan": "layer,1,2,3\na,,,\nb,nan,nan,nan\nc,,,\n",
        "one-layer": "layer,1,2,3\na,1,2,3\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return texts


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["report", "TABLE", "--metric", "rcw"], 2, "rcw"),
        (["report", "TABLE", "--cluster", "kmean"], 2, "kmean"),
        (["report", "TABLE", "--reduce", "pcaa"], 2, "pcaa"),
        (["report", "TABLE", "--k", "10"], 2, "--k"),
        (["report", "TABLE", "--aggregate", "block"], 2, "--aggregate"),
        (["report", "TABLE", "--k", "0"], 2, "--k"),
        (["report", "TABLE", "--k", "many"], 2, "--k many: a whole number, or auto"),
        (["report", "TABLE", "--preset", "mine"], 2, "weightscale"),
        (["report", "TABLE", "-o", "r.pdf"], 2, "the ending must be one of .html, .json, .csv"),
        (["report", "TABLE", "-o", "missing/r.html"], 1, "cannot write missing/r.html"),
        (["report", "TABLE", "-o", "folder.html"], 1, "cannot write folder.html"),
        (["report", "nowhere"], 1, "there is no such file or folder"),
        (["report", "empty"], 1, "holds no run"),
        (["report", "tensorboard:empty"], 1, "empty"),
        (["report", "wandbb:a/b/c"], 2, "unknown tracker 'wandbb'"),
        (["report", "x", "--tracker", "wandbb"], 2, "unknown tracker 'wandbb'"),
        (["report", "x", "--project", "p"], 2, "--project needs --tracker"),
        (["report", "text.csv"], 1, "row 3, column '2': 'x' is not a number"),
        (["report", "ragged.csv"], 1, "row 3 has 3 cells"),
        (["report", "twice.csv"], 1, "names the layer 'a' twice"),
        (["report", "nan.csv"], 1, "finite"),
        (["report", "one-layer.csv"], 1, "layer"),
        (["report"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_bad_input_is_one_clear_line_and_the_right_code_and_leaves_nothing(
    call: Callable, table: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    bad_tables(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    found, _, err = call(*[str(table) if one == "TABLE" else one for one in arguments])
    assert found == code, err
    assert message in err
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if not line.startswith(("Usage:", "Try '", "  note:")) and line.strip()]
    assert len(said) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "kmean"], "unknown clustering 'kmean'"),
        (["--reduce", "pcaa"], "unknown reduction 'pcaa'"),
        (["--k", "0"], "k=0 is no number of clusters"),
        (["--k", "3", "--cluster", "hdbscan"], "finds its own number of clusters"),
        (["--preset", "mine"], "unknown preset 'mine'"),
        (["--preset", "weightscale", "--scale", "log10"], "contradicts preset='weightscale'"),
        (["--group", "block.("], "nor a regular expression"),
        (["--aggregate", "block.("], "nor a regular expression"),
    ],
)
def test_options_are_checked_before_any_run_is_asked_for(call: Callable, arguments: list[str], message: str) -> None:
    code, _, err = call("report", "there-is-no-such-run", *arguments)
    assert (code, message in err) == (2, True), err


def test_debug_shows_the_traceback(call: Callable) -> None:
    with pytest.raises(wstrack.WstrackError):
        main(["--debug", "report", "nowhere"])


def test_version_and_help(call: Callable) -> None:
    assert call("--version")[1].split()[-1] == wstrack.__version__
    for command in ("demo", "pull", "report", "runs"):
        assert command in call("--help")[1]
        assert call(command, "--help")[0] == 0


def test_the_command_is_installed() -> None:
    done = subprocess.run([Path(sys.executable).parent / "wstrack", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert wstrack.__version__ in done.stdout
