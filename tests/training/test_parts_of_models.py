"""Parts of real models, watched while they train, against NumPy in float64 on clones of their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.measuring.parts import Cut
from wstrack.runs.run import Run

transformers = pytest.importorskip("transformers", minversion="5", reason="the models are those of Transformers 5")

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def language(config: Any) -> nn.Module:
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    return model


def mixtral() -> nn.Module:
    return language(
        transformers.MixtralConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, num_local_experts=4)
    )


def qwen3_moe() -> nn.Module:
    more = {"moe_intermediate_size": 24, "num_key_value_heads": 2, "num_experts_per_tok": 2, "head_dim": 8}
    return language(transformers.Qwen3MoeConfig(**SMALL, **more, intermediate_size=48, num_experts=6))


def gpt2() -> nn.Module:
    return language(transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32))


def neox() -> nn.Module:
    return language(transformers.GPTNeoXConfig(**SMALL, intermediate_size=48, max_position_embeddings=32))


def llama() -> nn.Module:
    return language(transformers.LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2))


def vit() -> nn.Module:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model: nn.Module = transformers.ViTForImageClassification(
        transformers.ViTConfig(**size, image_size=16, patch_size=8)
    )
    return model


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2)


def loss(model: nn.Module) -> torch.Tensor:
    if isinstance(model, nn.TransformerEncoder):
        return model(torch.randn(2, 6, 32)).square().mean()
    if hasattr(model, "vit"):
        return model(pixel_values=torch.randn(2, 3, 16, 16), labels=torch.randint(2, (2,))).loss
    tokens = torch.randint(64, (2, 12))
    return model(input_ids=tokens, labels=tokens).loss


def train(model: nn.Module, folder: Path, steps: int = 3, **more: Any) -> tuple[Run, list[dict[str, np.ndarray]]]:
    """A run with a sample a step, and the weights before it and after each."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def now() -> dict[str, np.ndarray]:
        return {name: weight.detach().double().numpy().copy() for name, weight in model.named_parameters()}

    seen = [now()]
    with wstrack.watch(model, to=folder, every=1, metrics=("rwc", "norm", "lr"), **more) as watcher:
        for _ in range(steps):
            loss(model).backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(now())
    return watcher.run(), seen


Slices = dict[str, Callable[[np.ndarray], np.ndarray]]


def experts(count: int) -> Slices:
    return {str(number): lambda w, n=number: w[n] for number in range(count)}  # type: ignore[misc]


def thirds(axis: int) -> Slices:
    return {label: lambda w, n=n: np.split(w, 3, axis)[n] for n, label in enumerate("qkv")}  # type: ignore[misc]


def blocks(count: int, axis: int = 0) -> Slices:
    return {str(n): lambda w, n=n: np.split(w, count, axis)[n] for n in range(count)}  # type: ignore[misc]


# A model, what is asked for, and by what ends the name of a layer that is cut: its parts, sliced with NumPy.
MODELS: dict[str, tuple[Callable[[], nn.Module], Any, dict[str, Slices]]] = {
    "mixtral": (mixtral, "experts", {"experts.gate_up_proj": experts(4), "experts.down_proj": experts(4)}),
    "qwen3 moe": (qwen3_moe, ["experts"], {"experts.gate_up_proj": experts(6), "experts.down_proj": experts(6)}),
    "gpt2": (gpt2, "qkv", {"attn.c_attn.weight": thirds(1)}),
    "neox": (
        neox,
        "qkv",
        {
            "query_key_value.weight": {  # four heads, each with its q, k and v
                label: lambda w, n=n: w.reshape(4, 3, 8, 32)[:, n]  # type: ignore[misc]
                for n, label in enumerate("qkv")
            }
        },
    ),
    "llama": (
        llama,
        "heads",
        {
            "q_proj.weight": blocks(4), "k_proj.weight": blocks(2), "v_proj.weight": blocks(2),
            "o_proj.weight": blocks(4, axis=1),
        },
    ),
    "vit": (
        vit,
        "heads",
        {
            **{f"attention.{each}_proj.weight": blocks(4) for each in "qkv"},
            "attention.o_proj.weight": blocks(4, axis=1),
        },
    ),
    "encoder": (encoder, ["qkv"], {"in_proj_weight": thirds(0)}),
    "by sizes": (gpt2, {r"mlp\.c_fc": (100, 28)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_parts_of_a_model_against_numpy(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, parts, wanted = MODELS[name]
    if name == "by sizes":
        parts = {r"mlp\.c_fc": Cut((100, 28), dim=1)}
        wanted = {"mlp.c_fc.weight": {"0": lambda w: w[:, :100], "1": lambda w: w[:, 100:]}}
    run, seen = train(make(), tmp_path, parts=parts)
    layers, rwc, norm = run.layers, run.series["rwc"], run.series["norm"]
    cut = [layer for layer in layers.index[layers["of"] == ""] if layer.endswith(tuple(wanted))]
    assert len(cut) == 2 * len(wanted)
    assert set(layers["of"]) == {"", *cut}
    for layer in cut:
        slices = next(slices for end, slices in wanted.items() if layer.endswith(end))
        assert list(layers.index[layers["of"] == layer]) == [f"{layer}[{label}]" for label in slices]
        at = layers.index.get_loc(layer)
        assert list(layers["of"].iloc[at : at + len(slices) + 2])[1:-1] == [layer] * len(slices)
        for label, part in {"": lambda w: w, **{f"[{label}]": one for label, one in slices.items()}}.items():
            before, after = seen[0][layer], seen[1][layer]
            assert layers.loc[layer + label, "numel"] == part(before).size
            assert np.prod(layers.loc[layer + label, "shape"]) == part(before).size
            for step in (1, 2, 3):
                before, after = part(seen[step - 1][layer]), part(seen[step][layer])
                change = np.abs(after - before).sum() / np.abs(before).sum()
                assert rwc.loc[step, layer + label] == pytest.approx(change, rel=1e-6)
                assert norm.loc[step, layer + label] == pytest.approx(np.abs(after).mean(), rel=1e-6)
        assert (run.series["lr"][[f"{layer}[{label}]" for label in slices]] == 1e-2).all(axis=None)
    assert not run.completeness.missing
    assert run.origin["parts"] == "each"


def test_sums_of_parts_are_the_sums_of_their_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, _ = train(mixtral(), tmp_path, parts=["experts", "heads"])
    of = run.layers["of"]
    for frame in (run.sums["abs_change"], run.sums["abs_previous"], run.sums["abs_current"]):
        for layer in set(of) - {""}:
            np.testing.assert_allclose(frame[of.index[of == layer]].sum(axis=1), frame[layer], rtol=1e-15)


def test_the_whole_layers_are_those_of_a_run_without_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mixtral()
    torch.manual_seed(1)
    plain, _ = train(mixtral(), tmp_path / "plain")
    torch.manual_seed(1)
    cut, _ = train(mixtral(), tmp_path / "cut", parts="experts")
    assert sum(weight.ndim >= 2 for weight in model.parameters()) == len(plain.layers)
    whole = cut.layers.index[cut.layers["of"] == ""]
    assert list(whole) == list(plain.layers.index)
    np.testing.assert_allclose(cut.series["rwc"][whole], plain.series["rwc"], rtol=1e-6)
    assert "parts" not in plain.origin


class _Fused(nn.Module):
    """An attention whose q, k and v come from one weight, in blocks or head by head, or from three."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        if how == "apart":
            self.q, self.k, self.v = (nn.Linear(32, 32, bias=False) for _ in range(3))
        else:
            self.qkv = nn.Linear(32, 96, bias=False)
        self.out = nn.Linear(32, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "apart":
            q, k, v = (each(x).view(*x.shape[:2], 4, 8) for each in (self.q, self.k, self.v))
        elif self.how == "blocks":
            q, k, v = self.qkv(x).view(*x.shape[:2], 3, 4, 8).unbind(2)
        else:
            q, k, v = self.qkv(x).view(*x.shape[:2], 4, 3, 8).unbind(3)
        attended = nn.functional.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v)))
        out: torch.Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


@pytest.mark.parametrize("how", ["blocks", "interleaved"])
def test_the_parts_of_a_fused_weight_are_the_layers_of_its_twin(how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    apart, fused = _Fused("apart").double(), _Fused(how).double()
    weights = [apart.q.weight, apart.k.weight, apart.v.weight]
    with torch.no_grad():
        fused.out.weight.copy_(apart.out.weight)
        together = torch.stack([weight.view(4, 8, 32) for weight in weights], 0 if how == "blocks" else 1)
        fused.qkv.weight.copy_(together.reshape(96, 32))
    cut = Cut((32, 32, 32), labels=("q", "k", "v"))
    if how == "interleaved":
        cut = Cut((8, 8, 8), labels=("q", "k", "v"), repeat=4)
    runs = []
    for model, parts in ((apart, None), (fused, {"qkv": cut})):
        torch.manual_seed(2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with wstrack.watch(model, to=tmp_path / str(len(runs)), every=1, metrics=("rwc", "changed"), parts=parts) as w:
            for _ in range(4):
                model(torch.randn(3, 5, 32, dtype=torch.double)).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        runs.append(w.run())
    twin, ours = (run.series["rwc"] for run in runs)
    for label in "qkv":
        np.testing.assert_allclose(ours[f"qkv.weight[{label}]"], twin[f"{label}.weight"], rtol=1e-12)


def test_trackers_get_a_summary_and_the_recording_each_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, _ = train(mixtral(), tmp_path, parts="experts")
    shown = wstrack.pull(f"tensorboard:{tmp_path}")
    layer = "model.layers.0.mlp.experts.down_proj"
    names = [name for name in shown.layers.index if name.startswith(layer)]
    assert names == [layer, *(f"{layer}[{one}]" for one in ("least", "median", "largest", "zero"))]
    assert shown.origin["parts"] == "summarised"
    parts = run.series["rwc"][[f"{layer}[{number}]" for number in range(4)]]
    for name, wanted in zip(names[1:], (parts.min(axis=1), parts.median(axis=1), parts.max(axis=1)), strict=False):
        np.testing.assert_allclose(shown.series["rwc"][name], wanted, rtol=1e-6)
    np.testing.assert_array_equal(shown.series["rwc"][names[4]], (parts == 0).mean(axis=1))
    assert not shown.completeness.missing
    assert any("each part of a layer is in the recording only" in note for note in shown.completeness.notes)


def test_shares_of_parts_have_a_chart_of_their_own_beside_the_changes(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    torch.manual_seed(0)
    train(mixtral(), tmp_path, parts="experts")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: "".join(chart.multiline.tag) for chart in layout.category[0].chart}
    assert "down_proj/least" in charts["model.layers.0"]
    assert "/zero" not in charts["model.layers.0"]
    assert "down_proj/zero" in charts["model.layers.0 share of parts that are 0"]


def test_trackers_get_each_part_where_it_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, _ = train(mixtral(), tmp_path, parts="experts", log_parts=True)
    shown = wstrack.pull(f"tensorboard:{tmp_path}")
    assert list(shown.layers.index) == list(run.layers.index)
    np.testing.assert_allclose(shown.series["rwc"], run.series["rwc"], rtol=1e-6)


def test_a_pushed_run_is_summarised_as_a_watched_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    train(mixtral(), tmp_path / "here", parts="experts")
    wstrack.push(tmp_path / "here", f"tensorboard:{tmp_path / 'there'}")
    pushed = wstrack.pull(f"tensorboard:{tmp_path / 'there'}")
    assert "model.layers.0.mlp.experts.down_proj[zero]" in pushed.layers.index
    assert "model.layers.0.mlp.experts.down_proj[0]" not in pushed.layers.index
    assert not pushed.completeness.missing


def test_where_experts_are_stacked_one_line_says_what_parts_would_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wstrack.watch(mixtral(), to=tmp_path).close()
    said = [record.levelname for record in caplog.records if 'parts="experts"' in record.message]
    assert said == ["WARNING"]  # what is shown without any setting


def test_what_cuts_nothing_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="parts"):
        wstrack.watch(llama(), to=tmp_path / "run", parts="experts")
    assert not (tmp_path / "run").exists()
