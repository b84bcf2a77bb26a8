"""What `lora` costs, and what it shows: the sizes of adapters by rank and scaling; prints Markdown.

Run it with `python benchmarks/adapters.py` (two minutes; needs peft and transformers).
"""

from __future__ import annotations

import copy
import logging
import statistics
import tempfile
import time
import warnings
from typing import Any

import peft
import torch
import transformers

import wstrack
from wstrack.measuring.adapters import adapted_weights
from wstrack.measuring.meters import choose
from wstrack.measuring.meters.products import ProductMeter

RWC = ("abs_change", "abs_previous")
LORA = ("sq_adapters", "sq_adapted")
BOTH = (*LORA, "sq_adapters_change")
STEPS = 300


def llama(hidden: int, blocks: int) -> Any:
    """An untrained one."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=blocks,
        num_attention_heads=8, num_key_value_heads=4,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def cost(rank: int, repeats: int = 9) -> None:
    """Milliseconds of a sample, in one thread, beside that of `rwc` of the factors and of the weights themselves."""
    model = peft.get_peft_model(llama(1024, 8), peft.LoraConfig(r=rank, target_modules="all-linear"))
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = adapted_weights(model, set(factors))
    with torch.no_grad():
        for parameter in factors:
            parameter.add_(torch.randn_like(parameter), alpha=1e-2)
    bases = [parameter for name, parameter in model.named_parameters() if name.endswith("_proj.base_layer.weight")]
    meters: dict[str, Any] = {
        "`rwc` of the factors": choose(factors, RWC),
        "`lora`": ProductMeter([one for _, one in weights], LORA),
        "`lora` and `lora_change`": ProductMeter([one for _, one in weights], BOTH),
        "`rwc` of the weights, were they trained": choose(bases, RWC),
    }
    for meter in meters.values():
        meter.snapshot()
        meter.sample()
    taken: dict[str, list[float]] = {name: [] for name in meters}
    for _ in range(repeats):
        for name, meter in meters.items():
            begin = time.process_time()
            meter.sample()
            taken[name].append(time.process_time() - begin)
    cells = " | ".join(f"{1e3 * statistics.median(seconds):.1f} ms" for seconds in taken.values())
    if rank == 8:
        print(f"\n{len(weights)} weights, {sum(layer.numel for layer, _ in weights) / 1e6:.0f}M:\n")
        print(f"| rank | {' | '.join(taken)} |\n|{'---|' * (len(taken) + 1)}")
    print(f"| {rank} | {cells} |", flush=True)


def train(model: Any, by: int, lr: float) -> float:
    """Teach a model to count, from anywhere, by this number; the loss at the end."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
    for _ in range(STEPS):
        tokens = (torch.randint(0, 256, (16, 1)) + by * torch.arange(16)) % 256
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


def sizes(base: Any, rank: int, **config: Any) -> list[float]:
    """The median `lora` after adapting a model, the median `lora_change` of its last step, and the loss."""
    torch.manual_seed(1)
    given = {"r": rank, "lora_alpha": 16, "target_modules": "all-linear", **config}
    model = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**given))
    metrics = ("lora", "lora_change")
    with wstrack.watch(model, to=tempfile.mkdtemp(), every=STEPS, window="step", metrics=metrics) as watcher:
        loss = train(model, by=3, lr=5e-4)
    run = watcher.run()
    return [*(float(run.series[metric].iloc[-1].median()) for metric in metrics), loss]


def main() -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    for rank in (8, 64, 256):
        cost(rank)
    base = llama(64, 2)
    train(base, by=1, lr=2e-3)
    print("\n| rank | scale | `lora` | `lora_change` of the last step | loss |\n|---|---|---|---|---|")
    for name, config in (("16 / rank", {}), ("16 / sqrt(rank)", {"use_rslora": True})):
        for rank in (4, 16, 64):
            size, change, loss = sizes(base, rank, **config)
            print(f"| {rank} | {name} | {size:.3f} | {change:.1e} | {loss:.2f} |", flush=True)


if __name__ == "__main__":
    main()
