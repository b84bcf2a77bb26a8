"""Two sets of weights: against NumPy, adapters against what peft itself makes of them, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.cli import main
from wstrack.errors import WstrackError

peft = pytest.importorskip("peft", reason="peft is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def llama() -> Any:
    config = transformers.LlamaConfig(
        num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=99,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2() -> Any:
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=99, bos_token_id=0, eos_token_id=0)
    return transformers.GPT2LMHeadModel(config)


def convnext() -> Any:
    config = transformers.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])
    return transformers.ConvNextForImageClassification(config)


ADAPTERS: dict[str, tuple[Callable[[], Any], dict[str, Any], int]] = {
    "ranks and scales of their own": (
        llama,
        {
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"down_proj": 3},
            "alpha_pattern": {"v_proj": 5},
        },
        6,
    ),
    "rank-stabilised": (llama, {"target_modules": ["q_proj"], "use_rslora": True}, 2),
    "DoRA": (llama, {"target_modules": ["q_proj", "up_proj"], "use_dora": True}, 4),
    "an embedding, and a head trained whole": (
        llama,
        {"target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["lm_head"]},
        4,
    ),
    "weights kept the other way round": (gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}, 2),
    "convolutions": (convnext, {"target_modules": ["pwconv1", "downsampling_layer.1"]}, 7),
}


@pytest.fixture
def adapted(tmp_path: Path) -> Callable[..., tuple[Path, Path, Any, Any]]:
    def make(model_of: Callable[[], Any], **config: Any) -> tuple[Path, Path, Any, Any]:
        torch.manual_seed(0)
        model = model_of()
        model.save_pretrained(tmp_path / "base")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        adapter = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=16, **config))
        with torch.no_grad():
            for parameter in adapter.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        adapter.save_pretrained(tmp_path / "adapter")
        return tmp_path / "base", tmp_path / "adapter", before, adapter.merge_and_unload().state_dict()

    return make


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_what_peft_makes_of_it(adapted: Callable[..., Any], kind: str) -> None:
    model_of, config, count = ADAPTERS[kind]
    base, adapter, before, after = adapted(model_of, **config)
    run = wstrack.diff(base, adapter)
    moved = 0
    for layer in run.layers.index:
        old, new = before[layer].double().numpy(), after[layer].double().numpy()
        wanted = np.abs(new - old).sum() / np.abs(old).sum()
        moved += wanted > 0
        assert run.series["rwc"][layer].iloc[0] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert moved == count


def test_another_kind_of_adapter_is_refused(adapted: Callable[..., Any]) -> None:
    base, adapter, *_ = adapted(llama, target_modules=["q_proj"])
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "VERA"}))
    with pytest.raises(WstrackError, match=r"an adapter of the kind VERA.*merge_and_unload"):
        wstrack.diff(base, adapter)


def test_an_adapter_of_another_model_is_refused(adapted: Callable[..., Any], tmp_path: Path) -> None:
    _, adapter, *_ = adapted(llama, target_modules=["q_proj"])
    gpt2().save_pretrained(tmp_path / "other")
    with pytest.raises(WstrackError, match=r"which is not in .*other; give the model that it was made for"):
        wstrack.diff(tmp_path / "other", adapter)


def test_models_and_state_dicts() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[1].weight.mul_(1.5)
    run = wstrack.diff(before, model, metrics=["rwc", "norm"])
    assert run.series["rwc"].iloc[0].tolist() == pytest.approx([0.0, 0.5])
    assert run.metrics == ["rwc", "norm"]
    with pytest.raises(TypeError, match="after=int: pass a path, a run, a model or its state_dict"):
        wstrack.diff(model, 3)  # type: ignore[arg-type]


def test_the_command(adapted: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, adapter, *_ = adapted(llama, target_modules=["q_proj"])
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(base), str(adapter), "-o", str(tmp_path / "d.html"), "-o", str(tmp_path / "d.json")])
    assert ended.value.code == 0
    assert "14 of 16 did not change" in capsys.readouterr().out.replace("\n", " ")
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["findings"][0]["kind"] == "changes"
    page = (tmp_path / "d.html").read_text()
    assert "base to adapter" in page
    assert 'id="clusters"' not in page


def test_a_model_and_itself() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5))
    found = wstrack.report(wstrack.diff(model, model))
    assert found.verdict == "No layer changed: all 2 are the same before and after, bit for bit."
