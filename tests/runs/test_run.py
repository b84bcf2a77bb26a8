from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from wstrack.runs.manifest import Layer, Manifest, block_of
from wstrack.runs.run import Completeness, Run

LAYERS = (Layer("a.0.weight", "conv", (4, 3, 3, 3), 108), Layer("b.weight", "linear", (2, 4), 8, ("c.weight",)))
MANIFEST = Manifest("one", LAYERS, ("rwc", "norm"), every=10, window="step", facts={"model": "Net"})


def run(steps: list[int], first: float = 0.0, **more: object) -> Run:
    values = first + np.arange(2.0 * len(steps)).reshape(-1, 2)
    return Run.from_values(MANIFEST, steps, {"rwc": values, "norm": values + 100}, **more)  # type: ignore[arg-type]


def test_a_run_stays_as_it_was_read() -> None:
    found = run([10])
    with pytest.raises(FrozenInstanceError):
        found.completeness = Completeness(1, 1)  # type: ignore[misc]
    more = found.with_notes("cut off").with_origin(reference="a/b")
    assert (more.completeness.notes, more.origin["reference"]) == (("cut off",), "a/b")
    assert (found.completeness.notes, found.origin.get("reference")) == ((), None)


def test_facts_of_the_first_version_are_told_apart() -> None:
    """Its manifests had the user's facts and wstrack's own in one, and refused the user these names."""
    data = {**json.loads(MANIFEST.to_json()), "wstrack": 1, "facts": {"model": "Net", "seed": 1, "versions": {}}}
    del data["origin"]
    old = Manifest.from_json(json.dumps(data))
    assert old.facts == {"seed": 1}
    assert old.origin == {"model": "Net", "versions": {}}


def test_a_manifest_comes_back_whole() -> None:
    odd = Manifest("a 'b' \u202e\n", (Layer('x"<script>', "other", (), 0),), ("rwc",), 1, facts={"k": [1, None]})
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Manifest.from_json(odd.to_json()) == odd


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', MANIFEST.to_json()[:-5]])
def test_what_is_no_manifest_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="not a wstrack manifest"):
        Manifest.from_json(text)


def test_a_run_has_the_layers_in_model_order_and_the_facts() -> None:
    found = run([10, 20], intervals=[10, 10])
    assert list(found.series["norm"].columns) == ["a.0.weight", "b.weight"]
    assert found.series["norm"].index.dtype == np.int64
    assert found.layers.loc["b.weight"].to_dict() == {
        "kind": "linear", "shape": (2, 4), "numel": 8, "depth": 1, "block": "", "aliases": ("c.weight",), "of": ""
    }  # fmt: skip
    assert found.facts == {"model": "Net"}
    assert found.origin == {"name": "one", "every": 10, "window": "step"}
    assert str(found.completeness) == "all 8 values"
    assert found.intervals.to_dict() == {10: 10, 20: 10}


def test_a_step_logged_twice_keeps_the_later_and_says_so() -> None:
    found = run([10, 20, 10], intervals=[10, 10, 5])
    assert found.series["rwc"].to_numpy().tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert found.intervals.tolist() == [5, 10]
    assert "4 values were logged at a step that was logged again later" in found.completeness.notes[0]


def test_parts_join_over_steps_and_layers() -> None:
    first = run([10, 20, 30])
    other = Manifest("one", (LAYERS[1], Layer("new.weight")), ("rwc",), every=10)
    second = Run.from_values(other, [30, 40], {"rwc": np.array([[50.0, 51.0], [60.0, 61.0]])})
    found = Run.joined([first, second])
    frame = found.series["rwc"]
    assert list(frame.columns) == ["a.0.weight", "b.weight", "new.weight"]
    assert frame.index.tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(frame.loc[30], [4.0, 50.0, 51.0])  # the later of each value, not of each row
    np.testing.assert_array_equal(frame.loc[40], [np.nan, 60.0, 61.0])
    assert (found.completeness.expected, found.completeness.received) == (15, 15)
    assert found.layers["depth"].tolist() == [0, 1, 2]
    assert found.series["norm"].index.tolist() == [10, 20, 30]


def test_completeness_in_words() -> None:
    assert str(Completeness(1200, 1000)) == "1,000 of 1,200 values (200 missing)"


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("0.weight", ""),
        ("conv1.weight", ""),
        ("weight", ""),
        ("layer4.1.downsample.0.weight", "layer4.1"),
        ("classifier.6.weight", "classifier"),
        ("model.layers.3.mlp.experts.7.w1.weight", "model.layers.3"),
        ("encoder.embed.tokens.weight", "encoder"),
    ],
)
def test_blocks(layer: str, block: str) -> None:
    assert block_of(layer) == block


def test_a_layer_of_another_size_before_has_no_size_then() -> None:
    """A head that was replaced: what was summed over ten weights is not divided by thirty."""
    parts = []
    for first, numel in ((1, 10), (3, 30)):
        manifest = Manifest("grown", (Layer("body", numel=5), Layer("head", numel=numel)), ("rwc",), every=1)
        sums = {"abs_current": np.full((2, 2), 7.0), "abs_change": np.full((2, 2), 0.5)}
        parts.append(Run.from_values(manifest, [first, first + 1], {"rwc": np.ones((2, 2))}, sums=sums))
    run = Run.joined(parts)
    assert run.layers["numel"].to_dict() == {"body": 5, "head": 30}
    assert run.sums["abs_current"]["body"].tolist() == [7.0] * 4
    assert run.sums["abs_current"]["head"].isna().tolist() == [True, True, False, False]
    assert run.sums["abs_change"].notna().all().all()
    assert "head had another size before it was watched again" in run.completeness.notes
