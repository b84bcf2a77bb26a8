"""What trainers save is the run that was watched: their own folders, made by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from same import ALL, EVERY, STEPS, agree
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import wstrack

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


# Lightning


def lightning(*, epochs: int = 1, **kept: Any) -> None:
    """A training with Lightning, watched, and saved from step 0 on in `kept`'s way."""
    pl = pytest.importorskip("lightning.pytorch")
    from wstrack_integrations.lightning import WeightChangeCallback

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"lr": 1e-2})
            self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
            self.loss = nn.MSELoss()

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return self.loss(self.net(batch[0]), torch.zeros(4, 3))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    class AtTheStart(pl.Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint("checkpoints/start-step=0.ckpt")

    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(4 * STEPS // epochs, 6)), batch_size=4)
    saving = pl.callbacks.ModelCheckpoint(dirpath="checkpoints", save_top_k=-1, save_last=True, **kept)
    watching = WeightChangeCallback(every=EVERY, metrics=ALL, to="runs/it")
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, callbacks=[watching, AtTheStart(), saving], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(), data)


def test_lightning() -> None:
    lightning(every_n_train_steps=EVERY)
    assert Path("checkpoints/last.ckpt").is_file()
    pulled = agree(wstrack.pull("runs/it"), "checkpoints")
    assert any("last.ckpt is left out" in note for note in pulled.completeness.notes)


def test_lightning_with_the_step_nowhere_but_in_the_file() -> None:
    lightning(epochs=STEPS // EVERY, every_n_epochs=1, filename="{epoch}")
    agree(wstrack.pull("runs/it"), "checkpoints")


# Hugging Face


def gpt2(**config: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 13, "n_positions": 10, "bos_token_id": 0,
             "eos_token_id": 0}  # fmt: skip
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**small, **config))


def llama(**config: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1,
             "intermediate_size": 12, "vocab_size": 13, "max_position_embeddings": 10}  # fmt: skip
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**small, **config))


def bert(**config: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12,
             "vocab_size": 13, "max_position_embeddings": 10}  # fmt: skip
    return transformers.BertForMaskedLM(transformers.BertConfig(**small, **config))


def t5(**config: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"num_layers": 2, "d_model": 8, "num_heads": 2, "d_kv": 4, "d_ff": 12, "vocab_size": 13,
             "decoder_start_token_id": 0}  # fmt: skip
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**small, **config))


def trained(model: Any, *, final: bool = False, shards: bool = False, **options: Any) -> wstrack.Run:
    """A model trained by Hugging Face's Trainer, watched and saved in out/."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from wstrack_integrations.transformers import WeightChangeCallback

    if shards:
        whole = type(model).save_pretrained
        model.save_pretrained = lambda folder, **given: whole(model, folder, **{**given, "max_shard_size": "1KB"})

    class AtTheStart(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            model.save_pretrained("out/checkpoint-0")

    words = torch.randint(13, (4 * STEPS, 7), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": row, "labels": row} for row in words]
    arguments = transformers.TrainingArguments(
        output_dir="out", per_device_train_batch_size=4, max_steps=STEPS, save_steps=EVERY, disable_tqdm=True,
        use_cpu=True, learning_rate=1e-2, report_to="none", **options,
    )  # fmt: skip
    watching = WeightChangeCallback(every=EVERY, metrics=ALL, to="runs/it")
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[watching, AtTheStart()])
    trainer.train()
    if final:
        trainer.save_model()
    return wstrack.pull("runs/it")


@pytest.mark.parametrize("make", [gpt2, llama, bert, t5])
def test_transformers(make: Any) -> None:
    agree(trained(make()), "out")


def test_transformers_in_shards() -> None:
    run = trained(llama(), shards=True)
    assert len(list(Path("out/checkpoint-2").glob("*.safetensors"))) > 2
    agree(run, "out")


def test_transformers_with_the_last_weights_at_the_top() -> None:
    run = trained(gpt2(), final=True)
    assert Path("out/model.safetensors").is_file()
    pulled = agree(run, "out")
    assert any("left out" in note for note in pulled.completeness.notes)


def test_transformers_that_save_the_weights_alone() -> None:
    agree(trained(gpt2(), save_only_model=True), "out")


# peft


@pytest.mark.parametrize("make", [gpt2, llama])
def test_an_adapter(make: Any) -> None:
    peft = pytest.importorskip("peft")
    modules = {gpt2: ["c_attn", "c_fc", "wte"], llama: ["q_proj", "o_proj", "down_proj"]}[make]
    model = peft.get_peft_model(make(), peft.LoraConfig(r=2, target_modules=modules, lora_alpha=4))
    agree(trained(model, save_only_model=True), "out")


# Accelerate


@pytest.fixture
def accelerator() -> Iterator[Any]:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield accelerate.Accelerator(cpu=True)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("safe", [True, False])
def test_accelerate(accelerator: Any, safe: bool) -> None:
    from wstrack_integrations.accelerate import watch

    torch.manual_seed(1)
    model: nn.Module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler: Any = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    accelerator.register_for_checkpointing(scheduler)
    accelerator.save_state("out/step_0", safe_serialization=safe)
    with watch(model, accelerator, every=EVERY, metrics=ALL, to="runs/it"):
        for step in range(1, STEPS + 1):
            accelerator.backward(model(torch.randn(8, 6)).square().mean())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if step % EVERY == 0:
                accelerator.save_state(f"out/step_{step}", safe_serialization=safe)
    assert Path("out/step_2/optimizer.bin").is_file()
    agree(wstrack.pull("runs/it"), "out")
