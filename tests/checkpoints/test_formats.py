"""What was watched while it trained, and what was saved of it meanwhile, are the same run: in each format of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from same import STEPS, Zoo, agree, change
from torch import nn

import wstrack
from wstrack.errors import WstrackError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def saved_by_torch(model: nn.Module, **options: Any) -> Callable[[int], object]:
    return lambda step: torch.save(model.state_dict(), f"step_{step}.pt", **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_state_dict_of_torch(dtype: torch.dtype) -> None:
    model = Zoo().to(dtype)
    agree(change(model, saved_by_torch(model)), ".")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_safetensors(dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    model = Zoo().to(dtype)
    agree(change(model, lambda step: save_file(model.state_dict(), f"step_{step}.safetensors")), ".", ordered=False)


def test_torch_before_its_format_was_a_zip() -> None:
    model = Zoo()
    agree(change(model, saved_by_torch(model, _use_new_zipfile_serialization=False)), ".")


def test_channels_last() -> None:
    model = Zoo().to(memory_format=torch.channels_last)
    agree(change(model, saved_by_torch(model)), ".")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(11, 8)
        self.fc = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 11, bias=False)
        self.lm_head.weight = self.wte.weight


def test_tied_weights_are_one_layer() -> None:
    model = Tied()
    pulled = agree(change(model, saved_by_torch(model)), ".")
    assert pulled.layers.loc["wte.weight", "aliases"] == ("lm_head.weight",)


def test_the_prefix_of_data_parallel() -> None:
    model = Zoo()
    agree(change(model, saved_by_torch(nn.DataParallel(model))), ".")


def test_the_prefix_of_compile() -> None:
    model = Zoo()
    agree(change(model, saved_by_torch(torch.compile(model))), ".")


def test_a_dictionary_with_what_else_a_program_keeps() -> None:
    model = Zoo()
    optimizer = torch.optim.Adam(model.parameters())
    noise = {name: torch.randn_like(weight) for name, weight in model.state_dict().items()}

    def save(step: int) -> None:
        kept = {"net": model.state_dict(), "optim": optimizer.state_dict(), "ema": noise, "iteration": 10 * step}
        torch.save(kept, f"{chr(ord('a') + step)}.pt")

    run = change(model, save)
    pulled = wstrack.pull("checkpoints:.")
    assert pulled.steps.tolist() == [10 * step for step in run.steps]
    assert list(pulled.layers.index) == list(run.layers.index)


def test_deepspeed_keeps_the_weights_in_the_first_file() -> None:
    model = Zoo()

    def save(step: int) -> None:
        folder = Path(f"out/global_step{step}")
        folder.mkdir(parents=True)
        torch.save({"module": model.state_dict(), "global_steps": step}, folder / "mp_rank_00_model_states.pt")
        optimizer = {"optimizer_state_dict": {"fp32": torch.ones(9)}}
        torch.save(optimizer, folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
        Path("out/latest").write_text(f"global_step{step}")
        Path("out/zero_to_fp32.py").touch()

    agree(change(model, save), "out")


def test_the_shards_of_zero_3_are_refused_with_the_way_out() -> None:
    for step in (0, STEPS):
        folder = Path(f"out/global_step{step}")
        folder.mkdir(parents=True)
        for rank in (0, 1):
            shapes = [{"fc.weight": torch.Size([4, 4])}]
            kept = {"module": {"fc.weight": torch.empty(0)}, "param_shapes": shapes, "global_steps": step}
            torch.save(kept, folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
            torch.save({}, folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    with pytest.raises(WstrackError, match=r"zero_to_fp32\.py"):
        wstrack.pull("checkpoints:out")


def test_the_parts_of_a_model_that_deepspeed_split_are_refused_with_the_way_out() -> None:
    for step in (0, STEPS):
        folder = Path(f"out/global_step{step}")
        folder.mkdir(parents=True)
        for rank in (0, 1):
            torch.save({"module": {"fc.weight": torch.ones(4, 4)}}, folder / f"mp_rank_{rank:02}_model_states.pt")
    with pytest.raises(WstrackError, match="mp_rank_01"):
        wstrack.pull("checkpoints:out")


def test_rates_are_not_in_weights() -> None:
    model = Zoo()
    change(model, saved_by_torch(model))
    with pytest.raises(
        ValueError, match="metrics: 'lr' is the optimizer's, and checkpoints are read for their weights"
    ):
        wstrack.pull("checkpoints:.", metrics=["rwc", "lr"])


def test_numbers_of_numpy_beside_the_weights(tmp_path: Path) -> None:
    for step in (1, 2):
        saved = {
            "model_state_dict": {"a.weight": torch.full((3, 4), float(step))},
            "best_loss": np.float64(0.25),
            "history": {"loss": np.linspace(0, 1, 5), "epochs": np.arange(3)},
        }
        torch.save(saved, tmp_path / f"step_{step}.pt")
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0].tolist() == [1.0]
