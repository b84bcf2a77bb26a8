"""The steps of checkpoints, by names that trainers and hubs give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wstrack.checkpoints.steps import in_order
from wstrack.checkpoints.stored import Checkpoint
from wstrack.errors import WstrackError


def named(*names: str, **said: int) -> list[Checkpoint]:
    return [Checkpoint(Path("/runs/a") / name, {}, said=said) for name in names]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["checkpoint-1000", "checkpoint-500"], (500, 1000)),  # the HF Trainer
        (["epoch=3-step=400.ckpt", "epoch=10-step=1100.ckpt"], (400, 1100)),  # Lightning
        (["step1000", "step143000", "step512"], (512, 1000, 143000)),  # Pythia's branches
        (["stage1-step140000-tokens588B", "stage1-step150000-tokens630B"], (140000, 150000)),  # OLMo's
        (["global_step100", "global_step50"], (50, 100)),  # DeepSpeed
        (["iter_0000100", "iter_0002000"], (100, 2000)),  # Megatron
        (["iter_2k.pth", "iter_10k.pth"], (2000, 10000)),
        (["checkpoint_1_500.pt", "checkpoint_2_1000.pt", "checkpoint_last.pt"], (500, 1000)),  # fairseq
        (["ckpt-7.safetensors", "ckpt-12.safetensors"], (7, 12)),
        (["step_2/model.safetensors", "step_10/model.safetensors"], (2, 10)),
        (["resnet50-epoch-3.pth", "resnet50-epoch-12.pth"], (3, 12)),
        (["epoch_1.pth", "epoch_2.pth", "best.pth", "latest.pth"], (1, 2)),  # OpenMMLab
        (["model_0001999.pth", "model_0003999.pth", "model_final.pth"], (1999, 3999)),  # detectron2
        (["G_1000.pth", "G_2000.pth"], (1000, 2000)),
        (["anneal.pt", "base.pt"], (0, 1)),
    ],
)
def test_names(names: list[str], steps: tuple[int, ...]) -> None:
    order = in_order(named(*names))
    assert order.steps == steps
    assert order.counted is (steps == (0, 1))


def test_what_a_checkpoint_says_stands_before_its_name() -> None:
    one, two = named("epoch=0.ckpt", global_step=70)[0], named("epoch=1.ckpt", global_step=140)[0]
    order = in_order([two, one])
    assert (order.steps, order.told) == ((70, 140), "what the checkpoints say")


def test_a_copy_of_another_is_left_out_and_said() -> None:
    order = in_order(named("epoch=0-step=10.ckpt", global_step=10) + named("epoch=1-step=20.ckpt", global_step=20)
                     + named("last.ckpt", global_step=20))  # fmt: skip
    assert order.steps == (10, 20)
    assert order.notes == ("last.ckpt is left out: epoch=1-step=20.ckpt is of the same step, 20",)


def test_two_of_one_step_are_refused_by_name() -> None:
    with pytest.raises(WstrackError, match=r"a-step5\.pt and b-step5\.pt are both of step 5"):
        in_order(named("a-step5.pt", "b-step5.pt"))


def test_a_given_order_stands_where_the_steps_do_not_ascend_in_it() -> None:
    assert in_order(named("step_5.pt", "step_9.pt"), as_given=True).steps == (5, 9)
    order = in_order(named("step_9.pt", "step_5.pt"), as_given=True)
    assert (order.steps, order.counted) == ((0, 1), True)
    assert [one.path.name for one in order.checkpoints] == ["step_9.pt", "step_5.pt"]


def test_a_number_in_a_given_list_may_be_of_anything() -> None:
    assert in_order(named("llama-7b", "tuned-13"), as_given=True).counted
