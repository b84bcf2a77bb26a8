from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.cluster import DBSCAN
from torch import nn

import wstrack
from wstrack.reporting.report import Report
from wstrack.runs.run import Run


class Network(nn.Module):
    """Twelve layers in three groups, a tied one, norms and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.block[0].weight  # type: ignore[assignment]


@pytest.fixture
def report(make_run: Callable[..., Run]) -> Report:
    return wstrack.report(make_run(), k=3)


def names_of(groups: list[dict[str, Any]], model: nn.Module) -> list[list[str]]:
    known = {parameter: name for name, parameter in model.named_parameters()}
    return [[known[parameter] for parameter in group["params"]] for group in groups]


def test_a_group_for_each_cluster_and_one_for_the_rest(report: Report) -> None:
    model = Network()
    groups = report.parameter_groups(model)
    assert [group["name"] for group in groups] == ["cluster 1", "cluster 2", "cluster 3", "others"]
    named = names_of(groups, model)
    for place, group in enumerate(groups[:3]):
        assert group["layers"] == named[place] == [f"block.{4 * place + i}.weight" for i in range(4)]
    assert named[3] == [*(f"block.{i}.bias" for i in range(12)), "norm.weight", "norm.bias"]
    assert sorted(itertools.chain(*named)) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_takes_them_and_keeps_them(report: Report, optimizer: type[torch.optim.Optimizer]) -> None:
    model = Network()
    first, *rest = report.parameter_groups(model)
    made = optimizer([{**first, "lr": 0.0}, *rest], lr=0.1)  # type: ignore[call-arg]
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step()
    still = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert set(still) == {*first["layers"], "head.weight"}
    assert [group["name"] for group in made.state_dict()["param_groups"]] == [
        "cluster 1", "cluster 2", "cluster 3", "others"
    ]  # fmt: skip


def test_wrapped_frozen_and_tied_parameters(report: Report) -> None:
    model = Network()
    model.block[1].weight.requires_grad_(False)
    wrapped = nn.DataParallel(model)
    groups = report.parameter_groups(wrapped)
    assert groups[0]["layers"] == ["block.0.weight", "block.2.weight", "block.3.weight"]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters())) - 1
    torch.optim.SGD(groups, lr=0.1)


def test_a_tied_weight_is_known_by_any_of_its_names(make_run: Callable[..., Run]) -> None:
    layers = ["head.weight", *(f"block.{i}.weight" for i in range(1, 12))]
    first, *_ = wstrack.report(make_run(layers), k=3).parameter_groups(Network())
    assert first["layers"] == ["head.weight", "block.1.weight", "block.2.weight", "block.3.weight"]


def test_noise_is_among_the_others(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.series["rwc"].iloc[:, 11] *= 1e6
    groups = wstrack.report(run, cluster=DBSCAN(eps=2.0, min_samples=2)).parameter_groups(Network())
    assert "block.11.weight" in groups[-1]["layers"]


def test_another_model_is_refused_with_the_way_out(report: Report) -> None:
    with pytest.raises(
        ValueError, match=r"model=Sequential has none of the report's layers \(block\.0\.weight, \.\.\."
    ):
        report.parameter_groups(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"model=3 has no named_parameters\(\); pass the torch module"):
        report.parameter_groups(3)
