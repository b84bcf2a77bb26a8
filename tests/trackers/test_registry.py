from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import wstrack
from wstrack.trackers.naming import LONGEST_KEY, layer_keys
from wstrack.trackers.registry import name_in, open_sinks, tracker, trackers

if TYPE_CHECKING:
    from collections.abc import Callable


def watched(folder: Path, model: nn.Module, train: Callable[..., None], steps: int = 4) -> None:
    with wstrack.watch(model, to=folder, every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), steps)


@given(st.lists(st.text(min_size=1, max_size=400), unique=True, max_size=20))
def test_keys_are_distinct_and_what_every_tracker_takes(layers: list[str]) -> None:
    import posixpath
    import re

    keys = layer_keys(layers)
    assert len(keys) == len(layers) == len(set(keys))
    for key in (f"rwc_elementwise/{key}" for key in keys):
        assert len(key) <= LONGEST_KEY
        assert re.fullmatch(r"[/\w\- :]*", key)
        assert posixpath.normpath(key) == key


def test_ordinary_names_stay_readable() -> None:
    assert layer_keys(["layer1.0.conv1.weight", "h.0.attn.c_attn.weight"]) == [
        "layer1/0/conv1/weight", "h/0/attn/c_attn/weight"
    ]  # fmt: skip


def test_the_built_in_trackers_are_entry_points() -> None:
    assert set(trackers()) == {entry.name for entry in entry_points(group="wstrack.trackers")}
    assert "tensorboard" in trackers()


def test_importing_a_tracker_does_not_import_its_library() -> None:
    code = (
        "import sys; from wstrack.trackers import tracker, trackers; [tracker(name) for name in trackers()];"
        "assert not {'torch', 'tensorboard', 'wandb', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("runs/exp1", "exp1"),
        (Path("runs/exp2/"), "exp2"),
        ("tensorboard:exp3", "exp3"),
        ("tensorboard", None),
        (3, None),
    ],
)
def test_a_folder_names_the_run(to: object, name: str | None) -> None:
    assert name_in(to) == name


def test_beside_a_users_own_writer(model: nn.Sequential, train: Callable[..., None], tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path / "exp")
    watched(writer, model, train)  # type: ignore[arg-type]
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert len(list((tmp_path / "exp").glob("events*"))) == 1
    for reference in (tmp_path / "exp", f"tensorboard:{tmp_path / 'exp'}"):
        assert wstrack.pull(reference).steps.tolist() == [2, 4]
    assert wstrack.pull(tmp_path / "exp", match="^(?P<layer>loss)$").layers.index.tolist() == ["loss"]


def test_a_third_partys_tracker_is_found_by_its_entry_point(
    model: nn.Sequential, train: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wstrack.trackers]\nother = other_tracker\n")
    (tmp_path / "site" / "other_tracker.py").write_text(
        "LOG = []\n"
        "def is_active(): return True\n"
        "def accepts(target): return False\n"
        "def recognises(path): return False\n"
        "class Sink:\n"
        "    name, recording_directory, reference, recording_label = 'other', None, None, ''\n"
        "    def bind(self, directory, *_): self.home = directory\n"
        "    def write(self, samples): LOG.extend(samples)\n"
        "    def close(self): pass\n"
        "def open_sink(target, manifest): return Sink()\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    trackers.cache_clear()
    try:
        assert set(trackers()) >= {"other", "tensorboard"}
        watched(None, model, train)  # type: ignore[arg-type]
        import other_tracker  # type: ignore[import-not-found]

        assert [sample.step for sample in other_tracker.LOG] == [2, 4]
    finally:
        trackers.cache_clear()


def test_a_sink_opened_before_one_that_fails_is_closed_again(tmp_path: Path) -> None:
    class Sink:
        name, recording_directory, recording_label, reference, closed = "mine", None, "", None, False

        def bind(self, directory: Path, *_: object) -> None: ...

        def write(self, samples: object) -> None: ...

        def close(self) -> None:
            self.closed = True

    from wstrack.runs.manifest import Layer, Manifest

    sink = Sink()
    with pytest.raises(ValueError, match="is no tracker"):
        open_sinks([sink, "nonsense"], Manifest("x", (Layer("a"),), ("rwc",), 1))
    assert sink.closed


def test_unknown_tracker() -> None:
    with pytest.raises(ValueError, match=r"unknown tracker 'nonsense'; installed: .*tensorboard"):
        tracker("nonsense")


class Odd(nn.Module):
    """Layers with every kind of name that a module can have."""

    def __init__(self) -> None:
        super().__init__()
        names = [
            "plain",
            "w[0]",
            "w(0)",
            "a b",
            "a/b",
            "//",
            "é",
            "<script>alert(1)</script>",
            "\n",
            "\u202e",
            "x" * 300,
            "%s",
        ]
        self.deep = nn.Sequential(nn.Sequential(nn.Linear(6, 6, bias=False)))
        self.odd = nn.ParameterDict({name: nn.Parameter(torch.randn(6, 6)) for name in names})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deep(x)
        for weight in self.odd.values():
            x = x + torch.tanh(x @ weight)
        return x


def test_recorded_logged_and_pulled_agree_value_for_value_whatever_the_names(
    train: Callable[..., None], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    torch.manual_seed(0)
    model = Odd()
    with wstrack.watch(model, to=tmp_path / "odd", every=2, metrics=("rwc", "norm", "cosine")) as watcher:
        train(model, torch.optim.Adam(model.parameters(), lr=1e-2), 12)
    recorded, pulled = watcher.run(), wstrack.pull(f"tensorboard:{tmp_path / 'odd'}")
    names = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    events = EventAccumulator(str(tmp_path / "odd"), size_guidance={"scalars": 0}).Reload()
    for metric in ("rwc", "norm", "cosine"):
        ours, theirs = recorded.series[metric], pulled.series[metric]
        assert list(ours.columns) == list(theirs.columns) == names
        assert ours.index.tolist() == theirs.index.tolist() == [2, 4, 6, 8, 10, 12]
        float32 = ours.astype("float32").astype("float64")
        pd.testing.assert_frame_equal(float32, theirs)
        for name, key in zip(names, layer_keys(names), strict=True):
            logged = events.Scalars(f"{metric}/{key}")
            assert [event.step for event in logged] == ours.index.tolist()
            np.testing.assert_array_equal([event.value for event in logged], float32[name].to_numpy())
    pd.testing.assert_frame_equal(recorded.layers, pulled.layers)
    pd.testing.assert_series_equal(recorded.intervals, pulled.intervals)
