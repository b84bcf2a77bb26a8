"""Layers in which few of the experts do most of the learning, and those that differ as experts do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from wstrack.analysis.findings.unequal import unequal
from wstrack.analysis.parts import Parts, parts_of
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run


def changing(levels: NDArray[np.float64], *, samples: int = 40, noise: float = 0.3, numbered: bool = True) -> Parts:
    """The parts of two layers; those of the second change by as much as each other."""
    rng = np.random.default_rng(0)
    names = [f"model.layers.{layer}.mlp.experts.down_proj" for layer in (6, 7)]
    layers: list[Layer] = []
    for name in names:
        labels = [str(place) if numbered else "abcdefgh"[place] for place in range(len(levels))]
        layers += [Layer(name), *(Layer(f"{name}[{label}]", of=name) for label in labels)]
    level = np.concatenate([[1.0], levels, [1.0], np.ones(len(levels))])
    values = 1e-3 * level * 10 ** rng.normal(0, noise, (samples, len(level)))
    manifest = Manifest("experts", tuple(layers), ("rwc",), 10, origin={"parts": "each"})
    found = parts_of([Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": values})], "rwc")
    assert found is not None
    return found


def test_one_expert_that_has_it_all() -> None:
    found = unequal(changing(np.array([1e-3, 1.0, *[1e-3] * 6])))
    assert found is not None
    assert found.text.startswith(
        "Few parts have most of the change in 1 of 2 layers with parts that are made alike: in layer 6 (down_proj) "
        "1 of 8 experts (1) has 99 % of it (Gini coefficient 0.99"
    )
    assert found.layers == ("model.layers.6.mlp.experts.down_proj",)


@pytest.mark.parametrize(
    "levels",
    [np.ones(8), np.geomspace(1, 0.1, 8), np.geomspace(1, 0.03, 32), 1 / np.arange(1, 33)],
    ids=["alike", "tenfold", "thirtyfold", "Zipf"],
)
def test_experts_differ(levels: NDArray[np.float64]) -> None:
    assert unequal(changing(levels)) is None


def test_noise_alone_makes_no_unequal_parts() -> None:
    """With tails so long that the mean of each part is one sample of it."""
    assert unequal(changing(np.ones(8), noise=1.5)) is None


def test_parts_with_names_are_not_made_alike() -> None:
    assert unequal(changing(np.array([1e-3, 1.0, *[1e-3] * 6]), numbered=False)) is None


def test_what_is_dead_is_not_told_again() -> None:
    parts = changing(np.array([1e-3, 1.0, *[1e-3] * 6]))
    dead = [part for part in parts.inside("model.layers.6.mlp.experts.down_proj") if not part.endswith("[1]")]
    assert unequal(parts, told=dead) is None
