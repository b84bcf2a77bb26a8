from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run


def made(names: list[str], samples: int = 8, metric: str = "rwc") -> Run:
    values = np.geomspace(1e-4, 1e-1, len(names)) * np.linspace(2, 1, samples)[:, None]
    manifest = Manifest("a run", tuple(Layer(name) for name in names), (metric,), every=10)
    return Run.from_values(manifest, np.arange(1, samples + 1) * 10, {metric: values})


@pytest.fixture
def axes() -> object:
    return Figure().subplots()


def test_a_line_a_layer_from_purple_to_orange(axes: mpl.axes.Axes) -> None:
    run = made(["a.weight", "b.weight", "c.weight"])
    assert run.plot(ax=axes) is axes
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "rwc")
    for line, name in zip(axes.lines, run.series["rwc"], strict=True):
        assert line.get_xdata().tolist() == run.series["rwc"].index.tolist()
        assert line.get_ydata().tolist() == run.series["rwc"][name].tolist()
    first, _, last = (line.get_color() for line in axes.lines)
    assert first[2] > first[1]
    assert last[1] > last[2]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a.weight", "b.weight", "c.weight"]


def test_chosen_layers_keep_their_colours() -> None:
    run = made([f"{i}.weight" for i in range(12)])
    every = run.plot(ax=Figure().subplots()).lines
    for layers, places in (("1.weight", [1]), (["1.weight", "3"], [1, 3]), (r"^1\d\.", [10, 11])):
        some = run.plot(layers=layers, ax=Figure().subplots()).lines
        assert [tuple(line.get_color()) for line in some] == [tuple(every[place].get_color()) for place in places]


def test_gaps_infinities_signs_and_many_layers(axes: mpl.axes.Axes) -> None:
    run = made([f"block.{i}.weight" for i in range(300)], metric="cosine")
    run.series["cosine"].iloc[2, 3], run.series["cosine"].iloc[4, 5] = np.nan, np.inf
    run.plot(ax=axes)
    assert axes.get_yscale() == "linear"
    assert np.isfinite(axes.get_ylim()).all()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["block.0.weight", "block.299.weight"]


def test_names_of_every_sort_are_drawn_as_text(axes: mpl.axes.Axes) -> None:
    names = [r"$\alpha$", "_hidden", "x" * 5000, "two\nlines", "\u202eturned"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of pyparsing, by an older matplotlib
        made(names).plot(ax=axes)
        axes.figure.savefig("plot.png")
    legend = axes.get_legend()
    assert legend is not None
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == [r"$\alpha$", "_hidden", f"…{'x' * 39}", "two lines", r"\u202eturned"]


def test_a_figure_of_its_own_where_none_is_given() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    drawn = made(["a", "b"], samples=1).plot()
    assert drawn.figure is pyplot.gcf()
    pyplot.close(drawn.figure)


def test_what_is_not_there_is_named(axes: mpl.axes.Axes) -> None:
    run = made(["a.weight", "b.weight"])
    with pytest.raises(ValueError, match=r"metric='norm' is not in the run 'a run'; pass metric= one of: rwc"):
        run.plot("norm", ax=axes)
    with pytest.raises(ValueError, match=r"layers='z' is none of the run's; pass names or .*: a\.weight, b\.weight"):
        run.plot(layers="z", ax=axes)
    with pytest.raises(ValueError, match=r"layers='\(' holds no name of a layer and no regular expression"):
        run.plot(layers="(", ax=axes)
