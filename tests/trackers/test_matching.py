from __future__ import annotations

import pytest

from wstrack.errors import WstrackError
from wstrack.trackers.matching import assigned, compiled, layer_of, wanted


@pytest.mark.parametrize(
    ("match", "key", "found"),
    [
        (r"grad/(?P<layer>.+)", "grad/a.b", ("grad", "a.b")),
        (r"(?P<layer>.+)/norm$", "a.b/norm", ("norm", "a.b")),
        (r"(?P<metric>\w+)@(?P<layer>.+)", "rms@fc", ("rms", "fc")),
        (r"x/(?P<layer>\w+)/y", "x/fc/y", ("x/y", "fc")),
        (r"^(?P<layer>loss)$", "loss", ("value", "loss")),
        (r"grad/(?P<layer>.+)", "loss", None),
        (r"grad/(?P<layer>.*)", "grad/", None),
    ],
)
def test_the_metric_and_the_layer_of_a_key(match: str, key: str, found: tuple[str, str] | None) -> None:
    assert layer_of(compiled(match), key) == found


@pytest.mark.parametrize(
    ("match", "message"), [("(", "is no regular expression"), ("loss", r"pass match= \(--match\) with one")]
)
def test_a_match_that_is_none_is_said(match: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compiled(match)


def test_metrics_are_picked_in_the_runs_order() -> None:
    assert wanted(None, iter(["b", "a"])) == ["b", "a"]
    assert wanted(["a", "b"], iter(["b", "a", "c"])) == ["b", "a"]
    with pytest.raises(ValueError, match=r"metrics=\['x'\] \(--metric\) are not in the run; it has b, a"):
        wanted(["x"], iter(["b", "a"]))


def test_each_layer_of_each_metric_has_one_key() -> None:
    keys = ["grad/b", "grad/a", "loss", "upd/a"]
    found = assigned(compiled("(?P<metric>grad|upd)/(?P<layer>.+)"), keys)
    assert found == {"grad": {"b": "grad/b", "a": "grad/a"}, "upd": {"a": "upd/a"}}
    assert list(found["grad"]) == ["b", "a"]  # the tracker's order
    with pytest.raises(ValueError, match=r"takes both 'value/a' and 'value/b/a' for metric 'value' of layer 'a'"):
        assigned(compiled("(?P<metric>value)?.*/(?P<layer>a)$"), ["value/a", "value/b/a"])
    with pytest.raises(WstrackError, match=r"fits none of the 4 scalars: 'grad/a', 'grad/b', 'loss', 'upd/a'"):
        assigned(compiled("none/(?P<layer>.+)"), keys, "scalars")
