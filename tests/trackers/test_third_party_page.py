"""The tracker of docs/third-party-tracker.md, as printed: installed by its entry point, and held to the contract."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import wstrack
from wstrack.testing import TrackerContract
from wstrack.trackers.registry import trackers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "third-party-tracker.md").read_text()
CODE, SUITE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(ENTRY,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def module(name: str, code: str) -> ModuleType:
    made = ModuleType(name)
    exec(code, vars(made))
    return made


class TestThePage(TrackerContract):
    tracker = module("jsonl", CODE)


class TestOneThatOnlyReads(TrackerContract):
    tracker = module("reader", CODE)
    for name in ("accepts", "attach", "is_active", "open_sink", "push"):
        delattr(tracker, name)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a package into the environment as pip would, with the page's entry point."""

    def package(code: str) -> None:
        site = tmp_path / "site"
        (site / "my_package").mkdir(parents=True)
        (site / "my_package" / "__init__.py").touch()
        (site / "my_package" / "jsonl.py").write_text(code)
        (site / "my_package-1.0.dist-info").mkdir()
        (site / "my_package-1.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: my_package\nVersion: 1\n"
        )
        group, entry = re.findall(r'entry-points\."(.*)"\]\n(.*)', ENTRY)[0]
        (site / "my_package-1.0.dist-info" / "entry_points.txt").write_text(
            f"[{group}]\n{entry.replace(chr(34), '')}\n"
        )
        monkeypatch.syspath_prepend(site)
        trackers.cache_clear()

    yield package
    trackers.cache_clear()
    for name in ("my_package", "my_package.jsonl"):
        sys.modules.pop(name, None)


def test_it_is_whole_in_under_a_hundred_lines() -> None:
    assert sum(bool(line.strip()) for line in CODE.splitlines()) < 100


def test_watched_pulled_pushed_and_attached(
    install: Callable[[str], None], model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    install(CODE)
    with wstrack.watch(model, to=f"jsonl:{tmp_path / 'a'}", every=2, facts={"data": "noise"}) as watcher:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 24)
    logged = wstrack.pull(f"jsonl:{tmp_path / 'a'}")
    assert (logged.origin["source"], logged.facts) == ("jsonl", {"data": "noise"})
    assert logged.series["rwc"].equals(watcher.run().series["rwc"])
    assert wstrack.push(watcher.recording, f"jsonl:{tmp_path / 'b'}") == 12
    (place,) = wstrack.report(logged, k=2).attach()
    assert Path(place).is_file()
    scope: dict[str, object] = {}
    exec(SUITE, scope)  # the test file that the page shows
    assert issubclass(scope["TestJsonLines"], TrackerContract)  # type: ignore[arg-type]


def test_one_that_only_reads_is_refused_where_it_would_have_to_write(
    install: Callable[[str], None], model: nn.Sequential, tmp_path: Path
) -> None:
    install(CODE + "\ndel accepts, attach, is_active, open_sink, push\n")
    says = "'jsonl' only reads: nothing can be logged, pushed or attached to it; name one of: .*tensorboard"
    with pytest.raises(ValueError, match=says):
        wstrack.watch(model, to="jsonl")
    with pytest.raises(ValueError, match=says):
        wstrack.watch(model, to=f"jsonl:{tmp_path / 'a'}")
    watcher = wstrack.watch(model, to="runs/a", every=1)  # it does not stand in the way of the others
    for _ in range(12):
        watcher.step()
    watcher.close()
    with pytest.raises(ValueError, match=says):
        wstrack.push(watcher.recording, f"jsonl:{tmp_path / 'a'}")
    with pytest.raises(ValueError, match=says):
        wstrack.report(watcher.run().with_origin(reference="jsonl:somewhere"), k=1, scale="linear").attach()
    assert not (tmp_path / "a").exists()
