"""Where two recorded trainings first differ, by their fingerprints: by the package and the command."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.cli import main
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recording import FOLDER
from wstrack.runs.run import Run
from wstrack.runs.told_apart import told_apart

if TYPE_CHECKING:
    from pathlib import Path


def recorded(folder: Path, *, touched: int | None = None, metrics: tuple[str, ...] = ("rwc", "fingerprint")) -> Run:
    """A training of 12 steps, sampled every second; before one of them the last bit of a weight flips."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(16, 4)
    with wstrack.watch(model, to=str(folder), every=2, metrics=metrics) as watcher:
        for step in range(1, 13):
            if step == touched:
                with torch.no_grad():
                    model[2].weight.view(torch.int32)[3, 1] ^= 1
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    return watcher.run()


def test_a_bit_that_flips_is_found_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "a")
    recorded(tmp_path / "b", touched=7)
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "d.html")])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The two runs are the same, bit for bit, up to step 6; at step 8 they differ in " in said
    assert "differs; 3 layers, 6 samples, steps 2 to 12; all 18 values" in said
    run = wstrack.diff(tmp_path / "a", str(tmp_path / "b" / FOLDER))
    assert not run.series["differs"].loc[:6].to_numpy().any()
    assert run.series["differs"].loc[8:, "2.weight"].all()


def test_trainings_that_are_alike_are_said_to_be(tmp_path: Path) -> None:
    run = wstrack.diff(recorded(tmp_path / "a"), recorded(tmp_path / "b"))
    texts = [finding.text for finding in wstrack.report(run).findings if finding.kind == "parted"]
    assert texts == ["The two runs are the same, bit for bit, at all 6 steps that both have, 2 to 12."]


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    ours, without = recorded(tmp_path / "a"), recorded(tmp_path / "b", metrics=("rwc",))
    with pytest.raises(WstrackError, match=r"'b' holds no fingerprints; .*metrics=\('rwc', 'fingerprint'\)"):
        wstrack.diff(ours, without)
    with pytest.raises(ValueError, match="of two recordings there is 'differs' alone"):
        wstrack.diff(ours, ours, metrics=["apart"])
    with pytest.raises(ValueError, match="is kept in the recording, and nothing to look at; add one that is"):
        wstrack.watch(nn.Linear(2, 2), metrics="fingerprint")


def test_a_tracker_gets_no_series_of_it(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorded(tmp_path / "a")
    events = EventAccumulator(str(tmp_path / "a")).Reload()
    tags = events.Tags()["scalars"] + events.Tags()["tensors"]
    assert any(tag.startswith("rwc/") for tag in tags)
    assert not any("fingerprint" in tag for tag in tags)
    again = wstrack.pull(f"tensorboard:{tmp_path / 'a'}")
    assert again.metrics == ["rwc"] or "fingerprint" in again.series  # from the events, or the recording beside them
    assert again.completeness.missing == 0


def of(name: str, steps: list[int], values: dict[str, list[float]]) -> Run:
    manifest = Manifest(name, tuple(Layer(layer) for layer in values), ("fingerprint",), every=1)
    return Run.from_values(manifest, steps, {"fingerprint": np.array(list(values.values())).T})


def test_only_what_both_have_is_told_apart() -> None:
    nan = math.nan
    one = of("one", [1, 2, 3], {"a": [1, 2, 3], "b": [1, nan, 3], "c": [1, 2, 3]})
    other = of("other", [2, 3, 4, 5], {"b": [2, 3, 4, 5], "a": [2, 4, 4, nan]})
    run = told_apart(one, other, metrics=("differs",))
    assert run.series["differs"].columns.tolist() == ["a", "b"]
    np.testing.assert_array_equal(run.series["differs"].to_numpy(), [[0, nan], [1, 0]])
    assert run.steps.tolist() == [2, 3]
    assert (run.completeness.expected, run.completeness.received) == (4, 3)
    assert run.completeness.notes == (
        "1 samples of one have no twin",
        "2 samples of other have no twin",
        "1 layers of one are not in the other run",
    )
    assert run.origin == {"name": "one and other", "twins": ["one", "other"]}
    assert run.intervals.empty
    assert run.sums["differs"].equals(run.series["differs"])


def test_which_of_both_is_not_shared_is_said() -> None:
    with pytest.raises(WstrackError, match="have no step in common"):
        told_apart(of("one", [1], {"a": [1]}), of("other", [2], {"a": [1]}))
    with pytest.raises(WstrackError, match="have no layer in common"):
        told_apart(of("one", [1], {"a": [1]}), of("other", [1], {"b": [1]}))
