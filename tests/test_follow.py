"""`wstrack report --follow`: a real training in another process, and the open page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

import wstrack
from tests.growing import add, record
from tests.reporting.conftest import browser  # noqa: F401  a fixture
from wstrack.cli import following

WAIT = 120_000  # milliseconds: of a machine that does other things too
QUICK = ("--k", "3")
TRAINING = """
import sys, torch, wstrack
torch.manual_seed(0)
model = torch.nn.Sequential(*(torch.nn.Linear(6, 6) for _ in range(6)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with wstrack.watch(model, every=1, to="./exp1") as watcher:
    for count in sys.stdin:
        for _ in range(int(count)):
            optimizer.zero_grad()
            model(torch.randn(32, 6)).square().mean().backward()
            optimizer.step()
        watcher.flush()
        print("trained", flush=True)
"""


class Training:
    """A process that trains as many steps as it is told to, until it is told no more."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def go_on(self, steps: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "trained\n"

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture
def training() -> Iterator[Training]:
    training = Training()
    yield training
    if training.process.poll() is None:
        training.process.kill()
        training.process.wait()


@pytest.fixture
def follower() -> Iterator[subprocess.Popen[str]]:
    """`wstrack report exp1 --follow`, started by the test that asks for it."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        code = "import sys; from wstrack.cli import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "report", "exp1", "--follow", *QUICK, *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start  # type: ignore[misc]
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def written(page: Path, process: subprocess.Popen[str]) -> str:
    """The page, once it is there."""
    while not page.exists():  # the test's own time limit ends it
        assert process.poll() is None, heard(process.stdout)
        time.sleep(0.05)
    return page.read_text()


def heard(stream: IO[str] | None) -> str:
    return stream.read() if stream else ""


def clock(sleep: Callable[[float], None]) -> SimpleNamespace:
    """A `time` for one module: other threads of this process sleep by the real one."""
    return SimpleNamespace(**{name: getattr(time, name) for name in ("monotonic", "time_ns")}, sleep=sleep)


def up_to(step: int) -> str:
    """That the open page is whole, and of a run up to a step."""
    return (
        "document.documentElement.dataset.ready !== undefined && Bokeh.documents[0].roots()"
        ".flatMap((root) => [...root.references()])"
        f".some((model) => model.data?.steps?.[0] && Math.max(...model.data.steps[0]) === {step})"
    )


@pytest.mark.slow
def test_the_open_page_shows_what_is_new_until_the_run_is_over(
    training: Training,
    follower: Callable[..., subprocess.Popen[str]],
    browser: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    training.go_on(12)
    process = follower("-o", "live.html", "-o", "end.json")
    assert "this page follows it" in written(tmp_path / "live.html", process)
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    trouble: list[str] = []
    # That the script beside the page is gone says that the run is over.
    gone = (tmp_path / ".live.html.js").as_uri()
    page.on(
        "console",
        lambda said: (
            trouble.append(said.text) if said.type == "error" and not said.location["url"].startswith(gone) else None
        ),
    )
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto((tmp_path / "live.html").as_uri())
    page.wait_for_function(up_to(12))
    page.locator("#search").fill("3.")
    page.evaluate("scrollTo(0, 500)")
    page.wait_for_function("scrollY === 500")
    training.go_on(8)
    page.wait_for_function(up_to(20))
    page.wait_for_function("scrollY === 500")  # what the reader looks at stays
    assert page.locator("#search").input_value() == "3."
    assert page.locator("#chosen").text_content() == "1 of 6 layers chosen"
    assert not (tmp_path / "end.json").exists()
    training.go_on(3)
    training.end()
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert "23 samples, steps 1 to 23; all 138 values" in out
    assert (tmp_path / "end.json").exists()
    page.wait_for_function("Bokeh.documents.length && !document.querySelector('.kind').textContent.includes('follows')")
    wstrack.report(wstrack.pull("exp1"), k=3).save("alone.html")
    final, alone = ((tmp_path / name).read_text() for name in ("live.html", "alone.html"))
    assert "location.reload" not in final
    assert not list(tmp_path.glob(".*"))
    final, alone = (re.sub(r"\bp\d{4,}", "p", page) for page in (final, alone))  # as Bokeh numbers its models
    assert len(final) == len(alone)
    page.close()
    assert trouble == []


# ---- in this process ------------------------------------------------------------------------------------------------


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, as in a process of one's own: Lightning leaves it to end the process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_ends_it_with_the_last_page_whole(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorder = record(Path("exp1"), 12)
    seen: list[str] = []

    def press(seconds: float) -> None:
        seen.append((tmp_path / "report.html").read_text())
        if len(seen) == 1:
            add(recorder, 9, range(13, 16))
        else:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(following, "time", clock(sleep=press))
    code, out, _ = call("report", "exp1", "--follow", *QUICK)
    assert code == 0
    assert "15 samples" in out
    assert "wrote report.html" in out
    assert [f"all {9 * samples} values" in page for page, samples in zip(seen, (12, 15), strict=True)] == [True, True]
    page = (tmp_path / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert ["location.reload" in each for each in (*seen, page)] == [True, True, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp1", "report.html"]


def test_a_run_whose_end_nobody_can_tell_is_over_after_a_while(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(Path("running"), 12)
    shutil.copytree("running", "exp1")  # as a killed process leaves it: nobody holds its file
    monkeypatch.setattr(following, "PAUSE", 0.0)
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    code, out, _ = call("report", "exp1", "--follow", *QUICK)
    assert code == 0
    assert "wrote report.html" in out


def test_what_is_wrong_is_said_once_and_comes_right(
    call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record(Path("exp1"), 0)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            add(recorder, 9, range(1, 13))
        if len(waits) == 4:
            recorder.close()

    monkeypatch.setattr(following, "time", clock(sleep=wait))
    code, _, err = call("report", "exp1", "--follow", *QUICK)
    assert code == 0
    assert err.count("waiting: no samples of rwc") == 1


def test_a_run_that_is_over_and_holds_too_little_fails(call: Callable[..., tuple[int, str, str]]) -> None:
    record(Path("exp1"), 0).close()
    code, _, err = call("report", "exp1", "--follow", *QUICK)
    assert code == 1
    assert "no samples of rwc" in err
    assert not list(Path().glob("*report*"))


def test_it_needs_a_page(call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call("report", "exp1", "--follow", *QUICK, "-o", "a.json")
    assert code == 2
    assert "--follow writes a page" in err


def test_it_follows_the_runs_that_are_chosen(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for name, samples in (("short", 4), ("long", 12)):
        record(tmp_path / "runs" / name, samples).close()
    code, out, err = call("report", "runs", "--follow", "--where", "samples > 4", "-o", "r.html", "-o", "r.json")
    assert code == 0, err
    assert [run["name"] for run in json.loads(Path("r.json").read_text())["runs"]] == ["long"]
    assert "12 samples" in out
