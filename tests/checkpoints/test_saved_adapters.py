"""Adapters saved while training: as a run they give the series of a watch, and what peft makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import wstrack
from wstrack.errors import WstrackError

peft = pytest.importorskip("peft", reason="peft is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft's

STEPS = (2, 4, 6)
Trained = tuple[str, Any]


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Trained]:
    """Trains adapters and saves them every second step; the address of the checkpoints, and the run of the watch."""

    def train(**config: Any) -> Trained:
        torch.manual_seed(0)
        base = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=16,
            )
        )  # fmt: skip
        base.save_pretrained(tmp_path / "base")
        given = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj", "embed_tokens"], **config}
        model = peft.get_peft_model(base, peft.LoraConfig(**given))
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.05)
        metrics = ("rwc",) if config.get("use_dora") else ("lora", "lora_change")
        with wstrack.watch(model, to=tmp_path / "run", every=2, metrics=metrics) as watcher:
            for step in range(1, 1 + STEPS[-1]):
                tokens = torch.randint(0, 48, (2, 8))
                model(input_ids=tokens, labels=tokens).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if step in STEPS:
                    model.save_pretrained(tmp_path / "saved" / f"checkpoint-{step}", save_embedding_layers=False)
        listed = ",".join(str(tmp_path / "saved" / f"checkpoint-{step}") for step in STEPS)
        return f"{tmp_path / 'base'},{listed}", watcher.run()

    return train


def told_to_be_in(folder: Path, model: str) -> None:
    """Have saved adapters say where their model is."""
    for config in folder.glob("checkpoint-*/adapter_config.json"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": model}))


def same(run: Any, watched: Any) -> None:
    for metric in ("lora", "lora_change"):
        live = watched.series[metric].rename(columns=lambda name: name.removeprefix("base_model.model."))
        pd.testing.assert_frame_equal(run.series[metric], live, rtol=1e-6, check_column_type=False)


@pytest.mark.parametrize("scale", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 4}}])
def test_they_give_the_series_of_the_watch(trained: Callable[..., Trained], tmp_path: Path, scale: Any) -> None:
    address, watched = trained(**scale)
    run = wstrack.pull(f"checkpoints:{address}", metrics=["rwc", "lora", "lora_change"])
    same(run, watched)
    assert run.series["rwc"].shape == (3, 16)  # as the model uses its weights: those with an adapter moved
    assert set(run.series["rwc"].columns[(run.series["rwc"] > 0).any()]) == set(run.series["lora"].columns)
    assert run.completeness.missing == 0
    assert run.completeness.expected == 3 * (16 + 5 + 5)


def test_a_folder_of_them_that_says_where_the_model_is(trained: Callable[..., Trained], tmp_path: Path) -> None:
    _, watched = trained()
    told_to_be_in(tmp_path / "saved", str(tmp_path / "base"))
    same(wstrack.pull(f"checkpoints:{tmp_path / 'saved'}", metrics=["lora", "lora_change"]), watched)
    # Nothing else needs it, and then the factors are the layers.
    assert "lora_embedding_A" in wstrack.pull(f"checkpoints:{tmp_path / 'saved'}").series["rwc"].columns[0]


def test_a_folder_of_them_without_the_model(trained: Callable[..., Trained], tmp_path: Path) -> None:
    trained()
    told_to_be_in(tmp_path / "saved", "meta-llama/Llama-3.2-1B")
    with pytest.raises(
        WstrackError, match=r"their model, meta-llama/Llama-3.2-1B, is not here; give it first, as in check"
    ):
        wstrack.pull(f"checkpoints:{tmp_path / 'saved'}", metrics=["lora"])


def test_it_is_recorded(trained: Callable[..., Trained], tmp_path: Path) -> None:
    """Whatever was asked for: it costs a look at the factors."""
    from wstrack.checkpoints.source import CheckpointSource

    address, watched = trained()
    CheckpointSource(address).read(f"checkpoints:{address}", to=tmp_path / "kept")
    run = wstrack.pull(str(tmp_path / "kept"), metrics=["lora", "lora_change"])
    same(run, watched)
    assert run.completeness.missing == 0


def test_two_of_them(trained: Callable[..., Trained], tmp_path: Path) -> None:
    _, watched = trained()
    run = wstrack.diff(tmp_path / "base", tmp_path / "saved" / "checkpoint-6", metrics=["lora"])
    np.testing.assert_allclose(run.series["lora"].to_numpy(), watched.series["lora"].to_numpy()[-1:], rtol=1e-6)


def test_whole_models(trained: Callable[..., Trained], tmp_path: Path) -> None:
    trained()
    with pytest.raises(ValueError, match=r"'lora' is of adapters of peft over their model, and there are none in thes"):
        wstrack.diff(tmp_path / "base", tmp_path / "base", metrics=["lora"])


def test_dora(trained: Callable[..., Trained]) -> None:
    address, _ = trained(use_dora=True, target_modules=["q_proj"])
    with pytest.raises(
        ValueError, match=r"what DoRA adds to a weight is not s B A.*leave 'lora' and 'lora_change' out"
    ):
        wstrack.pull(f"checkpoints:{address}", metrics=["lora"])
    assert wstrack.pull(f"checkpoints:{address}").metrics == ["rwc", "distance"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa', which changes the model itself"),
        ({"use_bdlora": {"nblocks": 2}}, "an adapter with use_bdlora="),
    ],
)
def test_what_the_two_files_do_not_tell(
    trained: Callable[..., Trained], tmp_path: Path, said: dict[str, Any], why: str
) -> None:
    trained()
    path = tmp_path / "saved" / "checkpoint-6" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    with pytest.raises(WstrackError, match=f"{why}.*merge_and_unload"):
        wstrack.diff(tmp_path / "base", tmp_path / "saved" / "checkpoint-6")
