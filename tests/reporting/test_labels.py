from __future__ import annotations

import pytest

from wstrack.reporting.labels import labels

LLAMA = [
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{part}.weight" for i in range(12) for part in ("self_attn.q_proj", "mlp.down_proj")),
    "lm_head.weight",
]
LORA = [
    *(
        f"base_model.model.model.layers.{i}.{part}.lora_{side}.default.weight"
        for i in range(10)
        for part in ("self_attn.q_proj", "mlp.down_proj")
        for side in "AB"
    ),
    "base_model.model.lm_head.weight",
]


def test_the_labels_of_a_transformer_keep_the_number_of_the_block() -> None:
    assert labels(LLAMA)[-3:] == ["11.self_attn.q_proj", "11.mlp.down_proj", "lm_head"]
    assert labels(LORA)[-3:] == ["9.mlp.down_proj.lora_A", "9.mlp.down_proj.lora_B", "lm_head"]


@pytest.mark.parametrize(
    "names",
    [
        LLAMA,
        LORA,
        [f"transformer_layer_{i}_self_attention_query_projection_kernel" for i in range(12)],
        [f"{'x' * 5000}{letter}.weight" for letter in "abc"],
        [f"{'x' * 5000}{letter}{'x' * 5000}" for letter in "abc"],
        ["model.head.weight", "head.weight", *(f"model.layers.{i}.self_attention.query.weight" for i in range(9))],
    ],
)
def test_labels_fit_and_no_two_are_alike(names: list[str]) -> None:
    found = labels(names)
    assert len(set(found)) == len(names)
    assert max(map(len, found)) <= 24


def test_short_names_lose_only_what_all_have() -> None:
    names = [*(f"net.features.{i}.weight" for i in (0, 3, 6, 8)), "net.classifier.weight"]
    assert labels(names) == ["features.0", "features.3", "features.6", "features.8", "classifier"]
