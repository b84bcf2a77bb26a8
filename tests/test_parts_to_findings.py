"""From `watch(parts=...)` to what the report says: a dead expert, a frozen one, a fused weight that is cut wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import wstrack
from wstrack.analysis.findings.words import Finding
from wstrack.measuring.parts import Cut

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
TEXT = torch.tensor(list((Path(__file__).parents[1] / "CHANGELOG.md").read_bytes())) % 64


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(**SMALL, num_hidden_layers=3, num_key_value_heads=2, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)  # type: ignore[no-any-return]


def neox() -> nn.Module:
    config = transformers.GPTNeoXConfig(**SMALL, num_hidden_layers=4, max_position_embeddings=32)
    return transformers.GPTNeoXForCausalLM(config)  # type: ignore[no-any-return]


def found(
    model: nn.Module, parts: object, folder: Path, between: Callable[[int], None] = lambda step: None
) -> dict[str, Finding]:
    """The findings on a training, by kind; `between` comes between the gradients and the step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with wstrack.watch(model, to=folder, every=5, parts=parts) as watcher:
        for step in range(200):
            begins = torch.randint(len(TEXT) - 24, (8,))
            tokens = torch.stack([TEXT[begin : begin + 24] for begin in begins])
            model(input_ids=tokens, labels=tokens).loss.backward()
            between(step)
            optimizer.step()
            optimizer.zero_grad()
    report = wstrack.report(watcher.run())
    report.save(folder / "report.html")
    assert "Parts of layers" in (folder / "report.html").read_text()
    return {finding.kind: finding for finding in report.findings}


def test_a_dead_and_a_frozen_expert(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mixtral()
    layers = model.model.layers  # type: ignore[union-attr]
    router = layers[2].mlp.gate

    def masked(module: nn.Module, inputs: object, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        scores = output[0].detach().clone()
        scores[:, 3] = -torch.inf
        chosen = scores.topk(output[2].shape[-1]).indices
        weights = output[0].softmax(-1).gather(1, chosen)
        return output[0], weights / weights.sum(-1, keepdim=True), chosen

    router.register_forward_hook(masked)

    def freeze(step: int) -> None:
        for weight in (layers[0].mlp.experts.gate_up_proj, layers[0].mlp.experts.down_proj) if step >= 60 else ():
            weight.grad[1] = 0

    findings = found(model, "experts", tmp_path, freeze)
    assert "Expert 3 of layer 2" in findings["dead"].text
    assert "Expert 1 of layer 0" in findings["frozen"].text
    assert {"dead", "frozen"} == {kind for kind in findings if kind in ("dead", "frozen", "unequal", "layout")}


@pytest.mark.parametrize("right", [True, False])
def test_a_fused_weight_that_is_cut_in_blocks_though_it_goes_by_heads(tmp_path: Path, right: bool) -> None:
    torch.manual_seed(0)
    wrong = Cut((32, 32, 32), labels=("q", "k", "v"))
    findings = found(neox(), "qkv" if right else {"query_key_value": wrong}, tmp_path)
    assert ("layout" in findings) == (not right)
