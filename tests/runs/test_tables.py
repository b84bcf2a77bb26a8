from __future__ import annotations

import codecs
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
    assert "left out" not in "".join(back.completeness.notes)
    if ending == ".parquet":
        assert back.name == "one"
        assert back.facts == {"model": "Net"}
        assert back.origin["every"] == 10
        assert (back.origin["source"], back.origin["reference"]) == ("table", str(path))
        assert back.layers["shape"].tolist() == [(4, 3, 3, 3), (2, 4)]
        assert back.layers["kind"].tolist() == ["conv", "linear"]


def test_only_what_needs_quotes_has_them(run: Run, tmp_path: Path) -> None:
    save_run(replace(run, series={"rwc": run.series["rwc"][["a.weight"]]}), tmp_path / "t.csv", metric="rwc")
    assert '"' not in (tmp_path / "t.csv").read_text()


def test_a_run_says_what_it_holds(run: Run) -> None:
    assert repr(run) == "<Run 'one': rwc, norm; 2 layers x 3 samples; all 12 values>"


def test_json_has_everything_and_is_strict(run: Run, tmp_path: Path) -> None:
    save_run(run, tmp_path / "run.json")

    def no(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads((tmp_path / "run.json").read_text(), parse_constant=no)
    assert data["series"]["rwc"]["steps"] == [10, 20, 1000]
    assert data["series"]["rwc"]["values"]["a.weight"] == [0.1, 1 / 3, 1e-300]
    assert data["series"]["rwc"]["values"][LAYERS[1].name] == [None, None, 5.0]
    assert data["layers"][0] == {
        "name": "a.weight", "kind": "conv", "shape": [4, 3, 3, 3], "numel": 108, "depth": 0, "block": "", "of": ""
    }  # fmt: skip
    assert data["completeness"] == {"expected": 12, "received": 12, "missing": 0, "notes": []}
    assert set(data) == {"name", "facts", "origin", "completeness", "layers", "series"}
    assert (data["name"], data["facts"], data["origin"]) == (run.name, run.facts, run.origin)


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
    frame.rename_axis("layer").iloc[:, ::-1].to_parquet(tmp_path / "named.parquet")
    assert wstrack.pull(tmp_path / "named.parquet").layers.index.tolist() == ["a.weight", "b.weight"]
    assert wstrack.pull(tmp_path / "t.parquet").series["rwc"].loc[2].to_dict() == {"a.weight": 2.0, "b.weight": 4.0}


def test_a_table_is_no_tracker(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("layer,1,2\na,1,2\n")
    with pytest.raises(ValueError, match=r"match= \(--match\) is for trackers"):
        wstrack.pull(tmp_path / "t.csv", match="(?P<layer>x)")


def test_columns_without_numbers_count_from_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("layer,start,end\na,1,2\n\nb,3,\n")
    run = wstrack.pull(tmp_path / "t.csv")
    assert run.steps.tolist() == [1, 2]
    assert run.completeness.missing == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
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


@pytest.mark.parametrize(
    ("name", "content"), [("bad.parquet", b"PAR1 nonsense"), ("bad.csv", b"a,1\n\x00,1"), ("bad.csv", b"caf\xe9,1")]
)
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


# ---- what others write -----------------------------------------------------------------------------------------------

STEPS, CONV, FC = [100, 200, 300], [0.3, 0.2, 0.1], [0.5, 0.4, 0.3]
FRAME = pd.DataFrame({"conv1": CONV, "fc": FC}, index=pd.Index(STEPS, name="step"))
LONG = [(step, name, FRAME.loc[step, name]) for step in STEPS for name in FRAME]


@pytest.mark.parametrize(
    "text",
    [
        FRAME.to_csv(),
        FRAME.rename_axis(None).to_csv(),
        FRAME.reset_index().to_csv(),
        FRAME.reset_index()[["fc", "step", "conv1"]].to_csv(index=False),
        FRAME.T.to_csv(),
        FRAME.T.to_csv(sep=";", decimal=","),
        FRAME.T.to_csv(sep="\t"),
        "sep=;\n" + FRAME.T.to_csv(sep=";"),
        FRAME.T.to_csv().replace("\n", ",\n") + ",,,,\n",  # as Excel ends lines and files
        FRAME.T.to_csv(lineterminator="\r\n"),
        FRAME.T.to_csv().replace("\n", "\n\n"),
        FRAME.T.rename(columns=lambda step: f"epoch_{step}").to_csv(),
        FRAME.T.rename(columns=lambda step: f"X{step}").to_csv(),  # R's check.names
        FRAME.T.rename(columns=lambda step: f"{step / 100:g}e2").to_csv(),
        FRAME.T.rename(columns=lambda step: f"{step}.0").to_csv(),
        '"100" "200" "300"\n'.replace(" ", "\t") + "conv1\t0.3\t0.2\t0.1\nfc\t0.5\t0.4\t0.3\n",  # R's write.table
        FRAME.T.assign(numel=[864, 10]).to_csv(),
        pd.DataFrame(LONG, columns=["step", "tag", "value"]).to_csv(),  # tbparse
        pd.DataFrame(LONG, columns=["step", "key", "value"])
        .assign(timestamp=1, run_id="r")
        .to_csv(index=False),  # MLflow
        FRAME.add_prefix("rwc/").assign(epoch=[0, 1, 2]).reset_index().to_csv(index=False),
        FRAME.add_prefix("r1 - rwc/").rename_axis("Step").to_csv(),
        FRAME.add_prefix("lr: 0.1 - seed 1 - rwc/").rename_axis("Step").to_csv(),
        FRAME.add_prefix("rwc/").rename_axis("_step").assign(_runtime=[1, 2, 3], _timestamp=[4, 5, 6]).to_csv(),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_what_people_have_is_read_as_what_it_is(tmp_path: Path, text: str, encoding: str) -> None:
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""  # Python's utf-16 writes one of its own
    (tmp_path / "t.csv").write_bytes(mark + text.encode(encoding))
    series = wstrack.pull(tmp_path / "t.csv").series["rwc"]
    assert series.index.tolist() == STEPS
    assert series["conv1"].tolist() == CONV
    assert series["fc"].tolist() == FC
    assert len(series.columns) == 2


def test_a_panel_of_wandb_has_the_least_and_largest_beside(tmp_path: Path) -> None:
    """github.com/wandb/wandb/issues/5349"""
    (tmp_path / "t.csv").write_text(
        '"Step","r1 - rwc/fc","r1 - rwc/fc__MIN","r1 - rwc/fc__MAX"\n"10","0.1","0.0","0.2"\n"20","0.2","0.1","0.3"\n'
    )
    run = wstrack.pull(tmp_path / "t.csv")
    assert run.series["rwc"]["fc"].to_dict() == {10: 0.1, 20: 0.2}
    assert run.series["rwc"].shape == (2, 1)
    assert "r1 - rwc/fc__MIN" in run.completeness.notes[0]


def test_a_panel_of_wandb_over_a_key_of_the_users(tmp_path: Path) -> None:
    """What the x-axis shows stands first, whatever it is called."""
    header = '"ray/tune/info/num_steps_sampled","r1 - rwc/fc","r1 - rwc/fc__MIN","r1 - rwc/fc__MAX"'
    (tmp_path / "panel.csv").write_text(f'{header}\n"100","0.1","0.0","0.2"\n"256","0.2","0.1","0.3"\n')
    assert wstrack.pull(tmp_path / "panel.csv").series["rwc"]["fc"].to_dict() == {100: 0.1, 256: 0.2}


def test_lightnings_table_of_metrics(tmp_path: Path) -> None:
    """Rows of training and of validation alternate, and fill in each other's blanks."""
    text = "epoch,grad_norm/conv1,grad_norm/fc,step,train_loss,val_loss\n"
    text += "0,0.7,0.1,49,1.5,\n0,,,49,,1.2\n1,0.5,0.2,99,1.1,\n"
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(wstrack.WstrackError, match=r"of several kinds: 'grad_norm/conv1'.*pass match="):
        wstrack.pull(tmp_path / "metrics.csv")
    run = wstrack.pull(tmp_path / "metrics.csv", match="(?P<metric>grad_norm)/(?P<layer>.+)")
    assert run.series["grad_norm"].to_dict() == {"conv1": {49: 0.7, 99: 0.5}, "fc": {49: 0.1, 99: 0.2}}
    assert run.origin["match"]
    (tmp_path / "metrics.csv").write_text("epoch,grad_norm/conv1,grad_norm/fc,step\n0,0.7,0.1,49\n1,0.5,0.2,99\n")
    assert wstrack.pull(tmp_path / "metrics.csv").series["grad_norm"].index.tolist() == [49, 99]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer,0.1,0.25,0.5\na,1,2,3\n", r"columns are no steps .*'0.1'"),
        ("layer,2024-01-31,2024-02-01\na,1,2\n", r"columns are no steps .*'2024-01-31'"),
        ("layer,100,200,total\na,1,2,3\n", r"columns are no steps .*'total'"),
        ("layer,step_1,epoch_2\na,1,2\n", r"columns are no steps"),
        ('layer,1,2\na,"0,5",1\n', r"'0,5' is not a number; a decimal comma\?"),
        ("layer;1;2\na;0,5;0.5x\n", r"'0.5x' is not a number"),
        ("layer,1,2\na,1_000,1\n", r"'1_000' is not a number"),
        ("step,a\n1,0.5\nlast,0.25\n", r"row 3, column 'step': 'last' is no step"),
        ("step,a\n0.5,0.5\n", r"'0.5' is no step, which is a whole number"),
        ("step,epoch,time\n1,1,1\n", r"no column of numbers"),
        ("Step,r1 - rwc/fc,r2 - rwc/fc\n1,1,2\n", r"series of 2 runs \('r1', 'r2'\)"),
        ("a,b\n1,0.5\n2,0.25\n", r"numbers in its first column, 'a'.* call the column step"),
        ("<!DOCTYPE html><html>", r"it is a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", r"pointer of Git LFS"),
    ],
)
def test_what_could_be_taken_for_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(wstrack.WstrackError, match=message):
        wstrack.pull(tmp_path / "t.csv")


def test_thousands_and_numbers_in_scientific_notation(tmp_path: Path) -> None:
    for header, steps in (
        ('"500","1,000","2,250"', [500, 1000, 2250]),
        ("50000,1e+05,150000", [50000, 100000, 150000]),
    ):
        (tmp_path / "t.csv").write_text(f"layer,{header}\na,1,2,3\n")
        assert wstrack.pull(tmp_path / "t.csv").series["rwc"]["a"].to_dict() == dict(zip(steps, (1, 2, 3), strict=True))


def test_a_download_of_tensorboard_has_steps_and_not_seconds(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Wall time,Step,Value\n1547130262,100,0.79\n1547130264,200,0.69\n")
    assert wstrack.pull(tmp_path / "t.csv").series["rwc"]["Value"].to_dict() == {100: 0.79, 200: 0.69}


@pytest.mark.parametrize(
    "about", [b"[1]", b'{"layers": [{"kind": 1}]}', b'{"facts": []}', b'{"layers": 3}', b'"x"', b"{"]
)
def test_parquet_of_others(tmp_path: Path, about: bytes) -> None:
    """Nullable types, odd metadata, and what pandas knows of an index or does not."""
    frame = pd.DataFrame({"layer": ["a", "b"], "1": [1.0, None], "2": [1.0, 2.0]}).convert_dtypes()
    path = tmp_path / "t.parquet"
    for metadata in ({b"wstrack.about": about}, {b"pandas": about}, {b"pandas": b"{}"}, {}):
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(metadata), path)
        run = wstrack.pull(path)
        assert run.completeness.missing == 1
        assert run.series["rwc"].loc[2].to_dict() == {"a": 1.0, "b": 2.0}
    for named in (FRAME, FRAME.rename_axis(None)):
        named.to_parquet(path)
        assert wstrack.pull(path).series["rwc"].loc[200].to_dict() == {"conv1": 0.2, "fc": 0.4}


def test_a_name_that_ends_a_line_elsewhere_survives(tmp_path: Path, run: Run) -> None:
    series = run.series["rwc"].set_axis(["a\rb", *run.series["rwc"].columns[1:]], axis=1)
    save_run(replace(run, series={"rwc": series}), tmp_path / "t.csv")
    assert wstrack.pull(tmp_path / "t.csv").layers.index[0] == "a\rb"


def test_what_is_logged_of_a_whole_model_is_no_layer(tmp_path: Path) -> None:
    """Keras' CSVLogger, and what else has the losses of epochs."""
    (tmp_path / "t.csv").write_text("epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1.5,0.4,1.6\n1,0.6,1.2,0.5,1.3\n")
    with pytest.raises(wstrack.WstrackError, match="of several kinds: 'accuracy', 'loss'"):
        wstrack.pull(tmp_path / "t.csv")


def test_a_history_of_wandb_is_by_our_own_step(tmp_path: Path) -> None:
    """`run.history().to_csv()`, in which samples ride in rows of the user's."""
    text = ",_step,loss,rwc/fc,wstrack/step,wstrack/interval\n0,0,1.0,,,\n1,1,0.9,0.5,100,50\n2,2,0.8,0.25,150,50\n"
    (tmp_path / "t.csv").write_text(text)
    run = wstrack.pull(tmp_path / "t.csv", match="^(?P<metric>rwc)/(?P<layer>.+)")
    assert run.series["rwc"]["fc"].to_dict() == {100: 0.5, 150: 0.25}


def test_a_sample_of_nothing_but_nan_stays(tmp_path: Path) -> None:
    FRAME.where(FRAME.index.to_series().ne(200), np.nan, axis=0).to_csv(tmp_path / "t.csv")
    run = wstrack.pull(tmp_path / "t.csv")
    assert run.steps.tolist() == STEPS
    assert run.completeness.missing == 2
