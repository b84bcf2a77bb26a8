"""Small real trainings of networks with experts and fused projections, and what their parts changed by.

For `parts_findings.py`: models from configurations, and NumPy in float64 that takes the raw sums of a recording.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wstrack.measuring.parts import Cut, part_name
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

CONTEXT, WIDTH, LAYERS, HEADS, WORDS = 32, 48, 4, 6, 128
QKV = ("q", "k", "v")
BLOCKS = Cut(3, labels=QKV)
INTERLEAVED = Cut(3, labels=QKV, repeat=HEADS)

Array = NDArray[np.float64]
Cuts = Mapping[str, Cut]
Change = Callable[[nn.Module, int], None]
"""What is done to a model after a step's gradients are there; the number of the step begins with 0."""


@dataclass(frozen=True)
class Trained:
    """What was recorded of a training.

    Attributes:
        runs: by window ("interval", "step") and cut ("right", "wrong"), as a recording has it.
        chosen: by a layer's experts, how many tokens came to each at each step: (steps, experts).
    """

    runs: Mapping[tuple[str, str], Run]
    chosen: Mapping[str, Array]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        model: a name of `MODELS`, and `experts` of how many experts.
        optimizer: a name of `OPTIMIZERS`.
        warm_up: steps over which the learning rate rises, after which it falls as a cosine to 0; 0 = it is constant.
        balanced: whether the loss asks for experts that are chosen alike.
        change: what is done to the model at each step.
        slower: how many times the learning rate is lower than the optimizer's.
        favour: by number of the layer, an expert and what is added to its logit in the router; -inf = never chosen.
    """

    model: str
    optimizer: str
    seed: int = 0
    steps: int = 400
    every: int = 8
    batch: int = 8
    experts: int = 8
    warm_up: int = 0
    balanced: bool = False
    change: Change | None = None
    slower: float = 1.0
    favour: Mapping[int, tuple[int, float]] = field(default_factory=dict)


class Encoder(nn.Module):
    """`nn.TransformerEncoder` over bytes, whose attention has q, k and v in one `in_proj_weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(WORDS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(block, LAYERS, enable_nested_tensor=False)
        for layer in self.encoder.layers:  # which the constructor made as copies of one
            for parameter in layer.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next byte, of shape (batch, context, bytes)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        scores: Tensor = self.head(self.encoder(x, mask=mask, is_causal=True))
        return scores


def build(training: Training) -> nn.Module:
    """The model of a training, with weights drawn from its seed."""
    import transformers

    usual: dict[str, Any] = {
        "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "max_position_embeddings": CONTEXT,
    }  # fmt: skip
    routed = {**usual, "num_key_value_heads": 2, "num_experts_per_tok": 2, "num_hidden_layers": 3,
              "output_router_logits": training.balanced}  # fmt: skip
    torch.manual_seed(training.seed)
    if training.model == "encoder":
        return Encoder()
    if training.model == "gpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=WORDS, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
    elif training.model == "neox":
        config = transformers.GPTNeoXConfig(**usual, intermediate_size=4 * WIDTH, bos_token_id=0, eos_token_id=0)
    elif training.model == "phi3":
        config = transformers.Phi3Config(
            **usual, num_key_value_heads=2, intermediate_size=4 * WIDTH, pad_token_id=0, bos_token_id=0, eos_token_id=0
        )
    elif training.model == "mixtral":
        config = transformers.MixtralConfig(
            **routed, intermediate_size=2 * WIDTH, num_local_experts=training.experts, router_aux_loss_coef=0.02
        )
    else:
        config = transformers.Qwen3MoeConfig(
            **routed, moe_intermediate_size=WIDTH, num_experts=training.experts, head_dim=WIDTH // HEADS,
            norm_topk_prob=True, router_aux_loss_coef=0.02,
        )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    assert isinstance(model, nn.Module)
    for layer, (expert, more) in training.favour.items():
        _favour(model.get_submodule(f"model.layers.{layer}.mlp.gate"), expert, more)
    return model


def _favour(router: nn.Module, expert: int, more: float) -> None:
    """Adds to a router's logit for an expert."""

    def favoured(module: Any, inputs: tuple[Tensor], outputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        logits = outputs[0].clone()
        logits[:, expert] += more
        top, chosen = torch.topk(torch.softmax(logits.float(), -1), module.top_k, dim=-1)
        return logits, (top / top.sum(-1, keepdim=True)).to(outputs[1].dtype), chosen

    router.register_forward_hook(favoured)


def cuts_of(training: Training) -> dict[str, Cuts]:
    """How weights are cut, by regular expression: "right" as the model has its parts, "wrong" as another has them."""
    head = WIDTH // HEADS
    q, k, v = HEADS * head, 2 * head, 2 * head
    halves = {"gate_up_proj": Cut(2, labels=("gate", "up"))}
    by_model: dict[str, dict[str, Cuts]] = {
        "encoder": {"right": {"in_proj_weight": BLOCKS}, "wrong": {"in_proj_weight": INTERLEAVED}},
        "gpt2": {
            "right": {r"c_attn\.weight": replace(BLOCKS, dim=1)},
            "wrong": {r"c_attn\.weight": replace(INTERLEAVED, dim=1)},
        },
        "neox": {"right": {"query_key_value": INTERLEAVED}, "wrong": {"query_key_value": BLOCKS}},
        "phi3": {
            "right": {"qkv_proj": Cut((q, k, v), labels=QKV), **halves},
            "wrong": {"qkv_proj": Cut((q // 2, head, head), labels=QKV, repeat=2), **halves},
        },
    }
    return by_model.get(training.model, {"right": {r"experts\.(gate_up|down)_proj": Cut(training.experts)}})


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.2),
    "SGD, momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.03, momentum=0.9, weight_decay=5e-4),
    "AdamW, no decay": lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0),
    "AdamW, decay 0.1": lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.1),
}


def pieces(training: Training) -> Iterator[Tensor]:
    """Batches of random pieces of a module of the standard library."""
    text = torch.tensor([ord(one) % WORDS for one in inspect.getsource(argparse)])
    while True:
        yield text[torch.randint(len(text) - CONTEXT, (training.batch, 1)) + torch.arange(CONTEXT)]


def train(training: Training) -> Trained:
    """Train, and record."""
    model = build(training)
    optimizer = OPTIMIZERS[training.optimizer](model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(training))
    chosen = _chosen(model)
    cutters = {name: _Cutter(model, cuts) for name, cuts in cuts_of(training).items()}
    before = {name: cutter.now() for name, cutter in cutters.items()}
    sums = {(window, name): _Sums() for window in ("interval", "step") for name in cutters}
    for step, tokens in zip(range(training.steps), pieces(training), strict=False):
        optimizer.zero_grad()
        torch.autograd.backward(_loss(model, tokens))
        if training.change is not None:
            training.change(model, step)
        sampled = (step + 1) % training.every == 0
        just = {name: cutter.now() for name, cutter in cutters.items()} if sampled else {}
        optimizer.step()
        schedule.step()
        for name, cutter in cutters.items() if sampled else ():
            now = cutter.now()
            sums["step", name].add(now, just[name])
            sums["interval", name].add(now, before[name])
            before[name] = now
    steps = range(training.every, training.steps + 1, training.every)
    runs = {(window, name): _run(window, cutters[name].layers, steps, one) for (window, name), one in sums.items()}
    return Trained(runs, {layer: np.array(counts) for layer, counts in chosen.items()})


def _chosen(model: nn.Module) -> dict[str, list[Array]]:
    """By experts, how many tokens come to each, step by step; it grows as the model trains."""
    found: dict[str, list[Array]] = {}

    def count(name: str) -> Callable[..., None]:
        def counted(module: Any, inputs: Any, outputs: tuple[Tensor, Tensor, Tensor]) -> None:
            chosen = outputs[2].flatten().bincount(minlength=module.num_experts)
            found.setdefault(name, []).append(chosen.double().numpy())

        return counted

    for name, module in model.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(count(name.replace("gate", "experts")))
    return found


def _loss(model: nn.Module, tokens: Tensor) -> Tensor:
    if isinstance(model, Encoder):
        return nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss: Tensor = model(input_ids=tokens, labels=tokens).loss
    return loss


def _schedule(training: Training) -> Callable[[int], float]:
    warm, steps = training.warm_up, training.steps
    if not warm:
        return lambda step: 1 / training.slower
    return lambda step: (step + 1) / warm if step < warm else 0.5 + 0.5 * np.cos(np.pi * (step - warm) / (steps - warm))


class _Cutter:
    """The layers of a model with their parts, and the weights of each."""

    def __init__(self, model: nn.Module, cuts: Cuts) -> None:
        self.layers: list[Layer] = []
        self._of: list[tuple[Tensor, NDArray[np.int64] | None, int]] = []
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                continue
            self._add(Layer(name, "linear", tuple(parameter.shape), parameter.numel()), parameter, None, 0)
            cut = next((cut for pattern, cut in cuts.items() if re.search(pattern, name)), None)
            if cut is not None:
                for label, rows in _rows(cut, parameter.shape[cut.dim]).items():
                    size = parameter.numel() // parameter.shape[cut.dim] * len(rows)
                    part = Layer(part_name(name, label), "linear", (), size, of=name)
                    self._add(part, parameter, rows, cut.dim)

    def _add(self, layer: Layer, parameter: Tensor, rows: Any, dim: int) -> None:
        self.layers.append(layer)
        self._of.append((parameter, rows, dim))

    def now(self) -> list[Array]:
        """The weights of each, in float64."""
        found, whole, last = [], np.empty(0), None
        for parameter, rows, dim in self._of:
            if parameter is not last:
                whole, last = parameter.detach().double().numpy().copy(), parameter
            found.append(whole if rows is None else whole.take(rows, axis=dim))
        return found


def _rows(cut: Cut, size: int) -> dict[str, NDArray[np.int64]]:
    """By label, which places along the dimension are of it."""
    runs = cut.runs(size)
    labels = np.repeat([label for label, _ in runs], [length for _, length in runs])
    return {label: np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())}


class _Sums:
    """The raw sums of a sample, row by row."""

    def __init__(self) -> None:
        self.change: list[list[float]] = []
        self.previous: list[list[float]] = []

    def add(self, now: list[Array], before: list[Array]) -> None:
        self.change.append([float(np.abs(w - p).sum()) for w, p in zip(now, before, strict=True)])
        self.previous.append([float(np.abs(p).sum()) for p in before])


def _run(window: str, layers: list[Layer], steps: range, sums: _Sums) -> Run:
    span = steps.step if window == "interval" else 1
    change, previous = np.array(sums.change), np.array(sums.previous)
    manifest = Manifest(window, tuple(layers), ("rwc",), steps.step, window, origin={"parts": "each"})
    return Run.from_values(
        manifest, steps, {"rwc": change / previous}, intervals=[span] * len(steps),
        sums={"abs_change": change, "abs_previous": previous},
    )  # fmt: skip
