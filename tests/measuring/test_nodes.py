"""Strength and fluctuation against a graph that is built node by node, link by link."""

from __future__ import annotations

import warnings
from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.measuring.meters.margins import MarginMeter

if TYPE_CHECKING:
    from pathlib import Path

NODES = ("nodes", "strengths", "sq_deviations")


class Graph:
    """Nodes by name, and what the weights of their links add up to."""

    def __init__(self) -> None:
        self.strength: dict[Any, float] = defaultdict(float)

    def link(self, source: Any, target: Any, weight: float) -> None:
        self.strength[source] += weight
        self.strength[target] += weight

    def add(self, node: Any, weight: float) -> None:
        self.strength[node] += weight

    def of(self, layer: str) -> tuple[float, float]:
        values = [value for node, value in self.strength.items() if node[0] == layer]
        return float(np.mean(values)), float(np.std(values))


def conv(graph: Graph, source: str, target: str, module: nn.Conv2d, size: tuple[int, int]) -> None:
    """Links of a convolution: each channel of the output is one node, each place in the map that it reads too."""
    weight = module.weight.detach().double().numpy()
    (high, wide), (pad_y, pad_x), (step_y, step_x), (apart_y, apart_x) = (
        size, module.padding, module.stride, module.dilation,
    )  # fmt: skip
    outputs = module(torch.zeros(1, weight.shape[1], high, wide)).shape[2:]
    for co, ci, n, m in product(*map(range, weight.shape)):
        graph.strength[target, co] += weight[co, ci, n, m]
        for oy, ox in product(*map(range, outputs)):
            y, x = oy * step_y - pad_y + n * apart_y, ox * step_x - pad_x + m * apart_x
            if 0 <= y < high and 0 <= x < wide:
                graph.strength[source, ci, y, x] += weight[co, ci, n, m]


def linear(graph: Graph, source: str, target: str, module: nn.Linear) -> None:
    weight = module.weight.detach().double().numpy()
    for row, column in product(*map(range, weight.shape)):
        graph.link((source, column), (target, row), weight[row, column])
    for row, bias in enumerate([] if module.bias is None else module.bias.detach().double().tolist()):
        graph.add((target, row), bias)


def measured(model: nn.Module, batch: torch.Tensor) -> dict[str, tuple[float, float]]:
    meter = MarginMeter(model, NODES)
    model(batch)
    names = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    table = meter.columns(meter.whole(meter.sample().numpy()), names)
    meter.release()
    found = {name: (row[1] / row[0], np.sqrt(row[2] / row[0])) for name, row in zip(names, table, strict=True)}
    return {name: value for name, value in found.items() if not np.isnan(value[0])}


def agree(found: dict[str, tuple[float, float]], wanted: dict[str, tuple[float, float]]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_perceptron(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    graph = Graph()
    for source, target, place in (("in", "0.weight", 0), ("0.weight", "2.weight", 2), ("2.weight", "4.weight", 4)):
        linear(graph, source, target, model[place])
    for row in range(3):
        graph.add(("4.weight", row), 1.0)
    agree(
        measured(model, torch.zeros(1, 5, dtype=dtype)),
        {f"{place}.weight": graph.of(f"{place}.weight") for place in (0, 2, 4)},
    )


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 0, 1), (1, 2, 2), (2, 1, 1), (3, 0, 1)])
def test_convolutions_that_end_in_a_linear_layer(stride: int, padding: int, dilation: int) -> None:
    torch.manual_seed(1)
    second = nn.Conv2d(3, 4, (3, 2), stride=stride, padding=padding, dilation=dilation)
    size = tuple(second(torch.zeros(1, 3, 9, 8)).shape[2:])
    last = nn.Linear(4 * size[0] * size[1], 2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), second, nn.Flatten(), last)
    graph = Graph()
    conv(graph, "second reads", "0.weight", model[0], (9, 8))
    rows = {node[1]: value for node, value in graph.strength.items() if node[0] == "0.weight"}
    graph.strength.clear()
    conv(graph, "0.weight", "2.weight", second, (9, 8))
    for channel, y, x in product(range(3), range(9), range(8)):
        graph.add(("0.weight", channel, y, x), rows[channel] + float(model[0].bias[channel].detach()))
    received = {node[1]: graph.strength.pop(node) for node in list(graph.strength) if node[0] == "2.weight"}
    weight = last.weight.detach().double().numpy()
    for channel, y, x in product(range(4), range(size[0]), range(size[1])):
        column = (channel * size[0] + y) * size[1] + x
        graph.add(
            ("2.weight", channel, y, x),
            received[channel] + float(second.bias[channel].detach()) + weight[:, column].sum(),
        )
    for row in range(2):
        graph.add(("4.weight", row), weight[row].sum() + float(last.bias[row].detach()) + 1)
    agree(
        measured(model, torch.zeros(1, 1, 9, 8)),
        {f"{place}.weight": graph.of(f"{place}.weight") for place in (0, 2, 4)},
    )


class Block(nn.Module):
    """An attention with four projections, as Llama names them, and a gated perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width))
        self.gate_proj, self.up_proj = nn.Linear(width, 9), nn.Linear(width, 9)
        self.down_proj = nn.Linear(9, width)


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(11, 6)
        self.layers = nn.ModuleList(Block(6) for _ in range(2))
        self.lm_head = nn.Linear(6, 11, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.embed_tokens(tokens))


def test_blocks_of_attention() -> None:
    torch.manual_seed(2)
    model = Llama().double()
    graph = Graph()
    for token, channel in product(range(11), range(6)):
        graph.add(("stream", channel), float(model.embed_tokens.weight[token, channel].detach()))
    for number, block in enumerate(model.layers):
        for name in "qkv":
            linear(graph, "stream", f"layers.{number}.{name}_proj.weight", getattr(block, f"{name}_proj"))
        linear(graph, f"layers.{number}.v_proj.weight", "stream", block.o_proj)
        for name in ("gate", "up"):
            linear(graph, "stream", f"hidden {number}", getattr(block, f"{name}_proj"))
        linear(graph, f"hidden {number}", "stream", block.down_proj)
    linear(graph, "stream", "lm_head.weight", model.lm_head)
    for token in range(11):
        graph.add(("lm_head.weight", token), 1.0)
    wanted = {"embed_tokens.weight": graph.of("stream"), "lm_head.weight": graph.of("lm_head.weight")}
    for number in range(2):
        wanted |= {(name := f"layers.{number}.{letter}_proj.weight"): graph.of(name) for letter in "qkv"}
        wanted |= {f"layers.{number}.{name}_proj.weight": graph.of("stream") for name in ("o", "down")}
        wanted |= {f"layers.{number}.{name}_proj.weight": graph.of(f"hidden {number}") for name in ("gate", "up")}
    agree(measured(model, torch.zeros(1, 3, dtype=torch.int64)), wanted)


def test_torchs_own_transformer() -> None:
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8), 2).double()
    graph = Graph()
    for number, block in enumerate(model.layers):
        whole, biases = block.self_attn.in_proj_weight.detach().numpy(), block.self_attn.in_proj_bias.detach().numpy()
        for row, column in product(range(18), range(6)):
            graph.add(("stream", column), whole[row, column])
            if row >= 12:
                graph.add((f"v {number}", row - 12), whole[row, column])
        for row in range(6):
            graph.add((f"v {number}", row), biases[12 + row])
        linear(graph, f"v {number}", "stream", block.self_attn.out_proj)
        linear(graph, "stream", f"hidden {number}", block.linear1)
        linear(graph, f"hidden {number}", "stream", block.linear2)
    wanted = {}
    for number in range(2):
        at = f"layers.{number}."
        wanted |= {
            f"{at}self_attn.in_proj_weight": graph.of(f"v {number}"),
            f"{at}linear1.weight": graph.of(f"hidden {number}"),
        }
        wanted |= {f"{at}{name}.weight": graph.of("stream") for name in ("self_attn.out_proj", "linear2")}
    agree(measured(model, torch.zeros(3, 1, 6, dtype=torch.float64)), wanted)


def test_of_models_that_are_built_otherwise_nothing_is_claimed() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.down, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3)

    for model in (
        Skipping(), nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 2, 1)), nn.LSTM(3, 4),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)), nn.Bilinear(3, 4, 5),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)), nn.Linear(8, 2)),
        # As transformers has a ResNet: a numbered module around each convolution, within a stage.
        nn.Sequential(nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 3)), nn.Sequential(nn.Conv2d(8, 8, 3)))),
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"), nn.Conv2d(3, 2, 1)),
        nn.MultiheadAttention(6, 2, kdim=4, vdim=5), nn.Transformer(6, 2, 1, 1, 8),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is not known; leave them out"):
            MarginMeter(model, NODES)


def test_nothing_is_left_on_the_model_or_in_torch(tmp_path: Path) -> None:
    hooks = nn.modules.module._global_forward_pre_hooks
    before = len(hooks)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    watcher = wstrack.watch(model, to=str(tmp_path / "it"), metrics=("rwc", "strength"), every=1)
    assert len(hooks) == before + 1
    assert not any(module._forward_pre_hooks for module in model.modules())
    model(torch.zeros(1, 1, 4, 4))
    assert len(hooks) == before
    watcher.close()
    other = wstrack.watch(model, to=str(tmp_path / "other"), metrics=("rwc", "strength"), every=1)
    other.close()
    assert len(hooks) == before


def test_live_and_from_checkpoints_alike(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    metrics = ("rwc", "strength", "fluctuation", "balance")
    (tmp_path / "saved").mkdir()
    torch.save(model.state_dict(), tmp_path / "saved" / "step_0.pt")
    with wstrack.watch(model, to=str(tmp_path / "live"), every=1, metrics=metrics) as watcher:
        for step in range(1, 4):
            model(torch.randn(8, 4, dtype=torch.float64)).square().mean().backward()
            optimizer.step()
            torch.save(model.state_dict(), tmp_path / "saved" / f"step_{step}.pt")
    live = watcher.run()
    saved = wstrack.pull(f"checkpoints:{tmp_path / 'saved'}", metrics=metrics)
    for metric in metrics:
        np.testing.assert_allclose(saved.series[metric], live.series[metric], rtol=1e-12, err_msg=metric)
    first, second = (model[place].weight.detach().numpy() for place in (0, 2))
    wanted = np.linalg.norm(second.T @ second - first @ first.T) / np.sqrt(6)
    assert live.series["balance"].loc[3, "0.weight"] == pytest.approx(wanted, rel=1e-12)
    assert np.isnan(live.series["balance"]["2.weight"]).all()


def test_a_lost_weight_harms_its_own_nodes_only(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    with wstrack.watch(model, to=str(tmp_path / "it"), every=1, metrics=("rwc", "fluctuation")) as watcher:
        watcher.step()
    row = watcher.run().series["fluctuation"].iloc[0]
    assert row.isna().tolist() == [True, True, False, False]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'balance' is of two linear layers"):
        wstrack.watch(nn.Sequential(nn.Linear(3, 2)), to=str(tmp_path / "it"), metrics=("rwc", "balance"))
    for step in range(2):
        torch.save({"a.weight": torch.ones(2, 3), "b.weight": torch.ones(4, 5)}, tmp_path / f"step_{step}.pt")
    with pytest.raises(ValueError, match="how those of these checkpoints do is not known"):
        wstrack.pull(f"checkpoints:{tmp_path}", metrics=["strength"])
