"""Fused projections that are cut right, and those whose parts are mixtures."""

from __future__ import annotations

import numpy as np
import pytest

from wstrack.analysis.findings import Finding, collect_of_parts
from wstrack.analysis.findings.layout import farther, layout
from wstrack.analysis.parts import Parts, parts_of
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run


def projected(
    *, layers: int = 4, heads: int = 6, samples: int = 40, interleaved: bool, cut_as_blocks: bool, seed: int = 0,
    labels: tuple[str, ...] = ("q", "k", "v"),
) -> Parts:  # fmt: skip
    """The parts of fused weights whose q and k of a head go up and down together, and v by itself."""
    rng = np.random.default_rng(seed)
    size = 8  # rows a head
    names = [f"h.{layer}.attn.qkv.weight" for layer in range(layers)]
    rows = np.repeat(np.arange(3 * heads), size)
    kind, head = (rows % 3, rows // 3) if interleaved else (rows // heads, rows % heads)
    part = (np.arange(len(rows)) // (heads * size)) if cut_as_blocks else (np.arange(len(rows)) // size % 3)
    columns, known = [], []
    for name in names:
        scores, values = rng.normal(0, 0.3, (2, samples, heads))
        course = np.stack([scores, scores, values], axis=2) + rng.normal(0, 0.05, (samples, heads, 3))
        change = 10 ** (-3 + course[:, head, kind] + rng.normal(0, 0.1, (samples, len(rows))))
        known += [Layer(name), *(Layer(f"{name}[{label}]", of=name) for label in labels)]
        columns += [change.mean(axis=1), *(change[:, part == place].mean(axis=1) for place in range(3))]
    manifest = Manifest("fused", tuple(known), ("rwc",), 10, origin={"parts": "each"})
    run = Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": np.array(columns).T})
    found = parts_of([run], "rwc")
    assert found is not None
    return found


def of_layout(parts: Parts) -> list[Finding]:
    return [finding for finding in collect_of_parts(parts) if finding.kind == "layout"]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_cut_that_is_not_the_layout_is_named(interleaved: bool, seed: int) -> None:
    (found,) = of_layout(projected(interleaved=interleaved, cut_as_blocks=interleaved, seed=seed))
    first, second = found.text.splitlines()
    assert first.startswith("In 4 layers, q, k and v may be cut where they do not end")
    assert "h.*.attn.qkv.weight" in first
    assert "repeat=heads" in second
    assert found.layers == tuple(f"h.{layer}.attn.qkv.weight" for layer in range(4))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_cut_that_is_the_layout_is_not(interleaved: bool, seed: int) -> None:
    assert of_layout(projected(interleaved=interleaved, cut_as_blocks=not interleaved, seed=seed)) == []


def test_how_far_v_is_from_q_and_k() -> None:
    parts = projected(interleaved=False, cut_as_blocks=True)
    expected = []
    for layer in parts.table.index:
        q, k, v = (np.log(parts.series[f"{layer}[{label}]"].to_numpy()) for label in "qkv")
        qk, qv, kv = (np.median(np.abs(one - other)) for one, other in ((q, k), (q, v), (k, v)))
        expected.append(np.log(np.sqrt(qv * kv) / qk))
    assert farther(parts, list(parts.table.index)) == pytest.approx(np.exp(np.mean(expected)))


@pytest.mark.parametrize("labels", [("0", "1", "2"), ("a", "b", "c")])
def test_only_q_k_and_v_are_held_against_each_other(labels: tuple[str, ...]) -> None:
    assert layout(projected(interleaved=True, cut_as_blocks=True, labels=labels)) is None


def test_too_few_layers_or_samples_show_nothing() -> None:
    assert layout(projected(interleaved=True, cut_as_blocks=True, layers=2)) is None
    assert layout(projected(interleaved=True, cut_as_blocks=True, samples=11)) is None


def test_layers_with_an_idle_part_are_left_out() -> None:
    parts = projected(interleaved=True, cut_as_blocks=True, layers=3)
    assert layout(parts) is not None
    assert layout(parts, told=["h.1.attn.qkv.weight[k]"]) is None
