"""Two runs step by step: against a simulation in float64, and where they part."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.analysis.growth import exponent
from wstrack.cli import main
from wstrack.errors import WstrackError
from wstrack.runs.recording import FOLDER, read_recording

LAYERS = ["0.weight", "2.weight", "4.weight"]


def trained(
    folder: Path,
    *,
    eps: float = 0.0,
    steps: int = 60,
    lr: float = 1.0,
    touch: Callable[[nn.Module, int], None] = lambda model, step: None,
) -> list[dict[str, np.ndarray]]:
    """A small training saved at each step, and its weights; the start is `eps` away from that of the others."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    images, labels = torch.randn(32, 6, dtype=torch.double), torch.randint(0, 3, (32,))
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight += eps * (2 * torch.rand_like(layer.weight) - 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    folder.mkdir()
    course = []
    for step in range(steps + 1):
        torch.save(model.state_dict(), folder / f"step_{step}.pt")
        course.append({name: value.detach().numpy().copy() for name, value in model.named_parameters()})
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        touch(model, step)
        optimizer.step()
    return course


def test_distances_are_those_of_the_simulation(tmp_path: Path) -> None:
    mine, yours = trained(tmp_path / "a"), trained(tmp_path / "b", eps=1e-8)
    run = wstrack.diff(tmp_path / "a", tmp_path / "b")
    assert run.steps.tolist() == list(range(61))
    assert run.completeness.missing == 0
    apart = np.array([[np.abs(b[name] - a[name]).sum() for name in LAYERS] for a, b in zip(mine, yours, strict=True)])
    own = np.array([[np.abs(a[name]).sum() for name in LAYERS] for a in mine])
    np.testing.assert_allclose(run.sums["abs_apart"], apart, rtol=1e-12)
    np.testing.assert_allclose(run.series["apart"], apart / own, rtol=1e-12)
    euclid = [
        [np.linalg.norm(b[name] - a[name]) / np.linalg.norm(a[name]) for name in LAYERS]
        for a, b in zip(mine, yours, strict=True)
    ]
    np.testing.assert_allclose(run.series["apart_l2"], euclid, rtol=1e-12)
    share = [[(a[name] != b[name]).mean() for name in LAYERS] for a, b in zip(mine, yours, strict=True)]
    np.testing.assert_allclose(run.series["differing"], share, rtol=0)
    found, direct = exponent(run.steps, run.sums["abs_apart"].sum(axis=1)), exponent(range(61), apart.sum(axis=1))
    assert found is not None
    assert direct is not None
    assert found.rate == pytest.approx(direct.rate, rel=1e-10)


def test_the_first_layer_and_step_that_differ_are_named(tmp_path: Path) -> None:
    def touch(model: nn.Module, step: int) -> None:
        if step == 20:  # as an operation does whose order of addition is not fixed
            model.get_parameter("2.weight").grad[3, 5] *= 1 + 1e-12

    trained(tmp_path / "a")
    trained(tmp_path / "b", touch=touch)
    report = wstrack.report(wstrack.diff(tmp_path / "a", tmp_path / "b"))
    parted = next(finding for finding in report.findings if finding.kind == "parted")
    assert parted.text == (
        "The two runs are the same, number for number, up to step 20; at step 21 they differ in 2.weight, and later in "
        "all of them."
    )
    assert (parted.layers, parted.steps) == (("2.weight",), (21,))


def test_runs_that_are_equal_are_said_to_be(tmp_path: Path) -> None:
    trained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    run = wstrack.diff(f"checkpoints:{tmp_path / 'a'}", str(tmp_path / "b"))
    assert not run.series["apart"].to_numpy().any()
    kinds = {finding.kind: finding.text for finding in wstrack.report(run).findings}
    said = "The two runs are the same, number for number, at all 61 steps that both have, 0 to 60."
    assert kinds["parted"] == said
    assert not {"growth", "still", "same", "rule", "stopped"} & set(kinds)


def test_chaos_is_told_from_learning(tmp_path: Path) -> None:
    trained(tmp_path / "a", lr=60.0, steps=120)
    trained(tmp_path / "b", lr=60.0, steps=120, eps=1e-14)
    growth = [f for f in wstrack.report(wstrack.diff(tmp_path / "a", tmp_path / "b")).findings if f.kind == "growth"]
    assert growth
    assert growth[0].numbers["rate"] > 0.05
    assert "So do trainings whose course is chaotic." in growth[0].text


def test_steps_that_only_one_run_has_are_named(tmp_path: Path) -> None:
    trained(tmp_path / "a", steps=20)
    trained(tmp_path / "b", steps=30)
    (tmp_path / "a" / "step_7.pt").unlink()
    run = wstrack.diff(tmp_path / "a", tmp_path / "b")
    assert 7 not in run.steps
    assert run.steps.tolist()[-1] == 20
    assert any("11 checkpoints of" in note and "no twin (step 7, 21," in note for note in run.completeness.notes)
    for step in range(21):
        (tmp_path / "a" / f"step_{step}.pt").unlink(missing_ok=True)
    (tmp_path / "a" / "step_500.pt").write_bytes((tmp_path / "b" / "step_0.pt").read_bytes())
    (tmp_path / "a" / "step_600.pt").write_bytes((tmp_path / "b" / "step_0.pt").read_bytes())
    with pytest.raises(WstrackError, match=r"steps 500 to 600\) and .*0 to 30\) have no step in common"):
        wstrack.diff(tmp_path / "a", tmp_path / "b")


def test_it_is_recorded_and_read_back(tmp_path: Path) -> None:
    trained(tmp_path / "a", steps=20)
    trained(tmp_path / "b", steps=20, eps=1e-6)
    kept = wstrack.diff(tmp_path / "a", tmp_path / "b", to=tmp_path / "kept")
    fresh = wstrack.diff(tmp_path / "a", tmp_path / "b")
    for metric in ("apart", "apart_l2", "differing"):
        np.testing.assert_array_equal(kept.series[metric], fresh.series[metric])
    assert read_recording(tmp_path / "kept" / FOLDER).origin["twins"] == fresh.origin["twins"]
    assert not list((tmp_path / "kept" / FOLDER).glob(".measur*"))  # nothing of the way there is left


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "a", steps=2)
    weights = tmp_path / "a" / "step_0.pt"
    with pytest.raises(ValueError, match="before is a series of checkpoints and after is one set of weights"):
        wstrack.diff(tmp_path / "a", weights)
    with pytest.raises(ValueError, match=r"'rwc' is not of two runs; pass metrics= .* of: apart, apart_l2, differing"):
        wstrack.diff(tmp_path / "a", tmp_path / "a", metrics=["rwc"])
    with pytest.raises(ValueError, match="'apart' is of two runs"):
        wstrack.pull(f"checkpoints:{tmp_path / 'a'}", metrics=["apart"])
    for metric in ("fingerprint", "replicas"):
        with pytest.raises(ValueError, match=f"'{metric}' is for what was not saved"):
            wstrack.pull(f"checkpoints:{tmp_path / 'a'}", metrics=[metric])
    with pytest.raises(ValueError, match="'apart' is of two runs; leave it out"):
        wstrack.watch(nn.Linear(2, 2), metrics=("rwc", "apart"))
    torch.save({"other.weight": torch.ones(3, 3)}, tmp_path / "a" / "step_1.pt")
    trained(tmp_path / "b", steps=2)
    with pytest.raises(WstrackError, match="different models"):
        wstrack.diff(tmp_path / "a", tmp_path / "b")


def test_the_command_compares_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "a", steps=5)
    trained(tmp_path / "b", steps=5, eps=1e-6)
    page = tmp_path / "twins.html"
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(page)])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "apart, apart_l2, differing; 3 layers, 6 samples" in said
    assert "The two runs differ from the first step on that both have, 0, in all 3 layers." in " ".join(said.split())
    assert page.stat().st_size > 10_000
