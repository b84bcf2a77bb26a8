from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wstrack.rules.panel import name_of
from wstrack.training.settings import Settings

GIVEN: dict[str, Any] = {
    "every": 50, "window": "interval", "metrics": ("rwc",), "layers": None, "name": None, "facts": None, "start": None,
    "snapshot": "device", "meter": None, "parts": None, "log_parts": False, "rules": None, "act": None,
}  # fmt: skip


def test_each_setting_has_one_form() -> None:
    ours = Settings.checked(**GIVEN | {"every": np.int64(5), "metrics": ["norm", "rwc", "norm"], "start": np.int32(3)})
    assert (ours.every, type(ours.every), ours.start, type(ours.start)) == (5, int, 3, int)
    assert ours.metrics == ("norm", "rwc")
    assert ours.sums == ("abs_current", "abs_change", "abs_previous")
    assert ours.facts == {}
    assert Settings.checked(**GIVEN | {"metrics": "norm"}).metrics == ("norm",)
    assert not ours.single_step
    assert Settings.checked(**GIVEN | {"window": "step"}).single_step


def test_what_ranks_must_have_alike_says_nothing_of_names_and_facts() -> None:
    one = Settings.checked(**GIVEN | {"name": "a", "facts": {"rank": 0}})
    other = Settings.checked(**GIVEN | {"name": "b", "facts": {"rank": 1}, "snapshot": "cpu"})
    assert one.alike_on_all_ranks() == other.alike_on_all_ranks()
    assert one.alike_on_all_ranks() != Settings.checked(**GIVEN | {"every": 49}).alike_on_all_ranks()
    assert Settings.checked(**GIVEN | {"layers": lambda name, p: True}).alike_on_all_ranks()["layers"] == "a callable"


def test_each_setting_that_ranks_must_have_alike_is_among_them() -> None:
    asked = {"every": 7, "window": "step", "metrics": ("norm", "rwc"), "start": 3, "layers": "fc", "log_parts": True}
    ours = Settings.checked(
        **GIVEN | asked | {"parts": {"a": 2}, "rules": "default", "act": {"stopped": len, "surge": "stop"}}
    )
    said = ours.alike_on_all_ranks()
    assert {name: said.pop(name) for name in asked} == asked | {"metrics": ["norm", "rwc"]}
    assert said.pop("parts") == "{'a': 2}"
    assert said.pop("rules") == [name_of(rule) for rule in ours.rules]
    assert said.pop("act") == {"stopped": "a function", "surge": "stop"}
    assert not said
    assert Settings.checked(**GIVEN).alike_on_all_ranks()["parts"] is None
    assert Settings.checked(**GIVEN | {"parts": lambda name, weight: 2}).alike_on_all_ranks()["parts"] == "a callable"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"every": 0}, ValueError, "every=0 must be a whole number of steps, at least 1"),
        ({"every": 2.5}, ValueError, "every=2.5 must be a whole number"),
        ({"every": True}, ValueError, "every=True"),
        ({"start": -1}, ValueError, "start=-1 must be a whole number of steps, at least 0"),
        ({"start": "3"}, ValueError, "start='3'"),
        ({"window": "day"}, ValueError, "window='day' must be 'interval' or 'step'"),
        ({"metrics": "rcw"}, ValueError, "unknown metric 'rcw'; there are rwc"),
        ({"metrics": ()}, ValueError, "metrics is empty"),
        ({"name": " "}, ValueError, "name is empty"),
        ({"name": 3}, TypeError, "name must be a string, not int"),
        ({"facts": {"data": ["a"]}}, TypeError, "facts: 'data': .'a'. is no name with a text, a number or a bool"),
        ({"facts": {1: "a"}}, TypeError, "facts: 1: 'a' is no name"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Settings.checked(**GIVEN | wrong)
