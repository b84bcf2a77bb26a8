from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import wstrack
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run
from wstrack.runs.tables import save_run

LAYERS = (Layer("a.weight", "conv", (4, 3, 3, 3), 108), Layer('odd, "name"\n', "linear", (2, 4), 8))


@pytest.fixture
def run() -> Run:
    manifest = Manifest("one", LAYERS, ("rwc", "norm"), every=10, facts={"model": "Net"})
    values = np.array([[0.1, np.nan], [1 / 3, np.inf], [1e-300, 5.0]])
    return Run.from_values(manifest, [10, 20, 1000], {"rwc": values, "norm": values * 2})


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_what_is_written_reads_back_value_for_value(run: Run, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table{ending}"
    save_run(run, path, metric="norm")
    back = wstrack.pull(path, metrics=["norm"])
    np.testing.assert_array_equal(back.series["norm"].to_numpy(), run.series["norm"].to_numpy())
    assert back.series["norm"].index.tolist() == [10, 20, 1000]
    assert list(back.layers.index) == [layer.name for layer in LAYERS]
    assert (back.completeness.expected, back.completeness.missing) == (6, 1)
    if ending == ".parquet":
        assert back.name == "one"
        assert back.layers["shape"].tolist() == [(4, 3, 3, 3), (2, 4)]
        assert back.layers["kind"].tolist() == ["conv", "linear"]


def test_json_has_everything_and_is_strict(run: Run, tmp_path: Path) -> None:
    save_run(run, tmp_path / "run.json")

    def no(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads((tmp_path / "run.json").read_text(), parse_constant=no)
    assert data["series"]["rwc"]["steps"] == [10, 20, 1000]
    assert data["series"]["rwc"]["values"]["a.weight"] == [0.1, 1 / 3, 1e-300]
    assert data["series"]["rwc"]["values"][LAYERS[1].name] == [None, None, 5.0]
    assert data["layers"][0] == {
        "name": "a.weight", "kind": "conv", "shape": [4, 3, 3, 3], "numel": 108, "depth": 0, "block": ""
    }  # fmt: skip
    assert data["completeness"]["missing"] == 0


def test_the_authors_tables(weightscale: Path) -> None:
    run = wstrack.pull(weightscale / "resnet50-cifar100.csv")
    assert run.series["rwc"].shape == (25, 37)
    assert run.steps.tolist() == list(range(1, 26))
    assert np.isinf(run.series["rwc"].to_numpy()).sum() == 1
    assert run.layers.loc["layer1.0.conv1.weight", "block"] == "layer1.0"


@pytest.mark.parametrize(
    ("columns", "steps"),
    [
        (["epoch-1", "epoch-2", "epoch-10"], [1, 2, 10]),
        (["step_-1", "step_0", "step_5"], [-1, 0, 5]),
        (["1.0", "2.0", "30.0"], [1, 2, 30]),
        (["-2", "-1", "0"], [-2, -1, 0]),
    ],
)
def test_steps_in_the_names_of_columns(tmp_path: Path, columns: list[str], steps: list[int]) -> None:
    (tmp_path / "t.csv").write_text(f"layer,{','.join(columns)}\na,1,2,3\nb,4,5,6\n")
    run = wstrack.pull(tmp_path / "t.csv")
    assert run.steps.tolist() == steps
    assert run.series["rwc"]["a"].tolist() == [1.0, 2.0, 3.0]


def test_a_frame_of_pandas_with_its_layers_as_the_index(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], index=["a.weight", "b.weight"], columns=["step_1", "step_2"])
    frame.to_parquet(tmp_path / "t.parquet")
    assert wstrack.pull(tmp_path / "t.parquet").series["rwc"].loc[2].to_dict() == {"a.weight": 2.0, "b.weight": 4.0}


def test_a_table_is_no_tracker(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("layer,1,2\na,1,2\n")
    with pytest.raises(ValueError, match=r"match='x' \(--match\) is for trackers"):
        wstrack.pull(tmp_path / "t.csv", match="x")


def test_columns_without_numbers_count_from_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("layer,start,end\na,1,2\n\nb,3,\n")
    run = wstrack.pull(tmp_path / "t.csv")
    assert run.steps.tolist() == [1, 2]
    assert run.completeness.missing == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table of layers by steps"),
        ("layer,1,2\n", "not a table of layers by steps"),
        ("layer\na\n", "not a table of layers by steps"),
        ("layer,1,2\na,1,2\nb,1\n", r"row 3 has 2 cells and the header has 3"),
        ("layer,1,2\na,1,2,3\n", r"row 2 has 4 cells and the header has 3"),
        ("layer,1,2\na,1,fast\n", r"row 2, column '2': 'fast' is not a number"),
        ("layer,1,2\na,1,2\na,3,4\n", r"names the layer 'a' twice"),
        ("layer,1,1\na,1,2\n", r"two columns for one step"),
        ("layer,1,2\n,1,2\n", r"row 2 has no layer name"),
        ("one,two\n0.5,1\n0.25,2\n", r"numbers in its first column, 'one'"),
        ("layer,1,99999999999999999999\na,1,2\n", r"a step beyond 64 bits"),
        ("layer,1,2\na,1,\0\n", r"cannot be read as a table|not a number"),
    ],
)
def test_what_is_no_table_is_said_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(wstrack.WstrackError, match=message):
        wstrack.pull(tmp_path / "bad.csv")


@pytest.mark.parametrize(("name", "content"), [("bad.parquet", b"PAR1 nonsense"), ("bad.csv", b"\xff\xfe\x00\x01")])
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(wstrack.WstrackError, match="cannot be read as a table"):
        wstrack.pull(tmp_path / name)


def test_other_endings_and_metrics_are_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv, \.parquet or \.json"):
        save_run(run, tmp_path / "run.xlsx")
    with pytest.raises(ValueError, match=r"metric='rcw' \(--metric\) is not in the run; there are rwc, norm"):
        save_run(run, tmp_path / "run.csv", metric="rcw")
    with pytest.raises(wstrack.WstrackError, match="cannot write"):
        save_run(run, tmp_path / "missing" / "run.csv")
    save_run(run, tmp_path / "norm.parquet", metric="norm")
    with pytest.raises(ValueError, match="holds one metric, 'norm'"):
        wstrack.pull(tmp_path / "norm.parquet", metrics=["rwc"])
