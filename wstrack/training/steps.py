"""Counts a model's optimizer steps, whatever steps it: one optimizer, several in rounds, or one that wraps another."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

__all__ = ["Steps"]

# torch's hooks are registered once and stay: a watch may end, by garbage collection too, while torch walks its hooks.
# This tuple is replaced whole, so a step that walks it sees it as it was.
_live: tuple[Steps, ...] = ()
_hooks: tuple[object, ...] = ()
_lock = threading.RLock()


STRANGERS = 25  # steps of optimizers without layers, at least, before it is said that none has any


@dataclass
class _Turn:
    """What is known of an optimizer."""

    bits: int = 0  # the layers that it holds, a bit each
    looked_up: int = -1  # when they were
    began: int = -1  # steps that were counted when it last began one


class Steps:
    """Counts steps: a step is a round, which ends when each layer's optimizer has stepped.

    Args:
        parameters: of each layer, what its optimizer holds; some layers may be held as one.
        only: follow this optimizer only; None = every one that holds a layer.
        look_up: called before it is looked up what an optimizer holds, which is done after each `look_up_again()`.
        newcomers: called with those parameters of an optimizer that are no layers.
        unheld: called once, when optimizers of nobody's layers have stepped for a while and no step was counted.
        begins: called before the first optimizer steps in the round with which a sample is due; None = not.
        ended: called when a step has been counted with which a sample is due.
        stepping: called with each optimizer before it steps in that round, those within others too; None = not.

    Attributes:
        count: the steps so far; settable.
        due: the count at which the next sample is taken; settable.
        skipped: how many of those loss scaling has turned into nothing, on the device; None if none can have been.
        seen: the layers of every optimizer that has stepped, a bit each.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        only: Optimizer | None,
        *,
        look_up: Callable[[], None],
        newcomers: Callable[[list[nn.Parameter]], None],
        unheld: Callable[[], None],
        begins: Callable[[], None] | None,
        ended: Callable[[], None],
        stepping: Callable[[Optimizer], None] | None = None,
    ) -> None:
        self.count = 0
        self.due = sys.maxsize
        self.skipped: torch.Tensor | None = None
        self.seen = 0
        self._bits: dict[nn.Parameter, int] = {}
        for index, parameter in enumerate(parameters):
            self._bits[parameter] = self._bits.get(parameter, 0) | 1 << index
        self._all = self._whole = (1 << len(parameters)) - 1  # the layers that end a round
        self._only = only
        # A compiled optimizer step would trace into these, and compile anew with each step that is counted.
        self._look_up, self._newcomers, self._unheld, self._ended = map(
            torch.compiler.disable, (look_up, newcomers, unheld, ended)
        )
        self._begins = None if begins is None else torch.compiler.disable(begins)  # type: ignore[no-untyped-call]
        self._stepping = None if stepping is None else torch.compiler.disable(stepping)  # type: ignore[no-untyped-call]
        self._looked_up = 0
        self._others_stepped = self._began = 0
        self._turns: weakref.WeakKeyDictionary[Optimizer, _Turn] = weakref.WeakKeyDictionary()
        self._last: tuple[Callable[[], Optimizer | None], _Turn] = (lambda: None, _Turn())  # whose turn it was last
        self._round: set[Optimizer] = set()
        self._stepped = 0  # the layers that were stepped in this round
        self._found: torch.Tensor | None = None
        self._outermost: tuple[Optimizer, FrameType] | None = None  # the step that goes on, and its frame
        self._waits: Literal["for the outermost", "for the next"] | None = None  # a sample that is due

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that are known to hold layers."""
        return [one for one, turn in self._turns.items() if turn.bits] or ([self._only] if self._only else [])

    def look_up_again(self) -> None:
        """Look up what each optimizer holds before its next step: parameter groups may have been added."""
        self._looked_up += 1

    def replace(self, index: int, parameter: nn.Parameter | None) -> None:
        """Follow another parameter in the place of a layer's, or none any more."""
        gone = 1 << index
        self._bits = {known: bits & ~gone for known, bits in self._bits.items() if bits != gone}
        if parameter is not None:
            self._bits[parameter] = self._bits.get(parameter, 0) | gone
        self.seen &= ~gone  # nobody is known to step it any more
        self._whole = self._whole & ~gone if self.seen else self._all

    def follow(self) -> None:
        """Begin to count."""
        global _live, _hooks
        self._began = self.count
        with _lock:
            _live = (*_live, self)
            if not _hooks:
                # Hidden from torch.compile as well, one function at a time: hiding one together with all that it calls
                # (`recursive=True`) makes each call dearer than what the function does.
                of_steps = (Steps._before, Steps._after, Steps._turn_of, Steps.one, Steps.end_round)
                for each in (_before_step, _after_step, *of_steps):
                    torch.compiler.disable(each, recursive=False)  # type: ignore[no-untyped-call]
                _hooks = (
                    register_optimizer_step_pre_hook(_before_step),
                    register_optimizer_step_post_hook(_after_step),
                )
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=_forget)

    def unfollow(self) -> None:
        """Count no more, and let go of the optimizers and the weights."""
        global _live
        with _lock:
            _live = tuple(one for one in _live if one is not self)
        self._turns.clear()
        self._round.clear()
        self._bits.clear()
        self._outermost = None

    def one(self) -> None:
        """Count a step, whoever took it."""
        self.count += 1
        if self.count >= self.due:
            self._ended()

    def end_round(self) -> None:
        """Between two steps: take the sample that is due, whoever has not stepped yet."""
        if self.count >= self.due:
            self._finish_round()
            self._take()

    def _finish_round(self) -> None:
        """End a round that has begun, if one has."""
        if not self._round:
            return
        self._round.clear()
        self._stepped = 0
        if self._found is not None:
            skipped = self.skipped
            self.skipped = self._found if skipped is None else skipped + self._found.to(skipped.device)
            self._found = None
        if self.count >= self.due:
            self._sample_is_due()

    def _sample_is_due(self) -> None:
        """Take it, once the weights are those after the step."""
        if self._outermost is not None:
            self._waits = "for the outermost"  # which may move the weights on
        elif self.seen != self._all and self._only is None and self._begins is None:
            self._waits = "for the next"  # who steps the other layers may step more rarely, and now for the first time
        else:
            self._ended()

    def _take(self) -> None:
        """Take the sample that waits, if one does."""
        if self._waits is not None:
            self._waits = None
            self._ended()

    def _turn_of(self, optimizer: Optimizer) -> _Turn:
        """What is known of an optimizer. Steps without a sample spend most of their microsecond here."""
        last, turn = self._last
        if last() is not optimizer:
            known = self._turns.get(optimizer)
            if known is None:
                known = self._turns[optimizer] = _Turn()
            turn = known
            self._last = weakref.ref(optimizer), turn  # at once: optimizers of other models step on other threads
        if turn.looked_up != self._looked_up:
            turn.looked_up, turn.bits = self._looked_up, 0
            self._look_up()
            if self._only is None or optimizer is self._only:
                others = []
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        bits = self._bits.get(parameter, 0)
                        turn.bits |= bits
                        if not bits:
                            others.append(parameter)
                self._newcomers(others)
        return turn

    def _before(self, optimizer: Optimizer) -> None:
        turn = self._turn_of(optimizer)
        if not turn.bits:
            if self.count == self._began and self._only is None and not _is_held_by_another(self, optimizer):
                self._others_stepped += 1
                if self._others_stepped == max(self.due - self.count, STRANGERS):
                    self._unheld()
            return
        if self._outermost is not None:
            if self._outermost[0] is not optimizer and _is_running(self._outermost[1]):
                turn.began = self.count
                self._tell(optimizer)
                return  # inside the step of another, which began before it
            self._outermost = None  # its step raised
        if self._waits is not None and turn.bits & self.seen:  # or else it is its first step, and belongs to the last
            self._take()
        if optimizer in self._round:
            # It comes round again, so the others have had their turn: layers that nobody holds are not waited for.
            self._whole = self.seen
            self._finish_round()
            self._take()
        turn.began = self.count
        self._outermost = optimizer, sys._getframe(2)
        if self._begins is not None and self.count + 1 == self.due and not self._round:
            self._begins()
        self._tell(optimizer)

    def _tell(self, optimizer: Optimizer) -> None:
        """Tell of an optimizer that is about to step, if a sample is due with it, or waits for it."""
        if self._stepping is not None and self.count + 1 >= self.due:
            self._stepping(optimizer)

    def _after(self, optimizer: Optimizer) -> None:
        turn = self._turn_of(optimizer)
        bits = turn.bits
        if self._outermost is not None and self._outermost[0] is optimizer:
            self._outermost = None
        whole_round = bits == self._whole == self.seen and turn.began == self.count and bits and not self._round
        # The usual case in short: one optimizer steps all layers.
        if whole_round and "found_inf" not in optimizer.__dict__:
            self.count += 1
            if self.count >= self.due:
                self._sample_is_due()
            return
        if self._waits == "for the outermost" and self._outermost is None:
            self._waits = None
            self._sample_is_due()
            return
        if not bits or (not self._round and -1 < turn.began < self.count):
            return  # another model's; or a wrapper (SAM, Lookahead) around an optimizer whose step counted already
        all_known = self._whole == self.seen  # who steps which layers, since a round has come to its end
        rarer = all_known and not self._round and not bits & self.seen
        self.seen |= bits
        if all_known:
            self._whole = self.seen
        if rarer:
            return  # one that steps more rarely than the others, for the first time: it belongs to their last step
        if not self._round:
            self.count += 1
        # A fused optimizer is called even if loss scaling found an overflow; the flag says so, on the device. torch's
        # GradScaler sets it there; a missing attribute is slow to ask for.
        found = vars(optimizer).get("found_inf")
        self._found = None if found is None else self._skip_of_round(found)
        self._round.add(optimizer)
        self._stepped |= bits
        if self._stepped & self._whole == self._whole:
            self._finish_round()

    def _skip_of_round(self, found: torch.Tensor) -> torch.Tensor | None:
        """1 on the device if every optimizer of the round so far met an overflow; None if one surely did not."""
        flag = found.detach().reshape(()).float()
        if not self._round:
            return flag.clone()
        return None if self._found is None else self._found.minimum(flag.to(self._found.device))


def _is_held_by_another(steps: Steps, optimizer: Optimizer) -> bool:
    """Whether an optimizer steps layers of another watch: a critic's, say, before the generator's first step."""
    return any(other is not steps and other._turn_of(optimizer).bits for other in _live)


def _is_running(frame: FrameType) -> bool:
    """Whether a call goes on, of which this one is a part."""
    caller = sys._getframe(1).f_back
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is frame


def _forget() -> None:
    """In a forked child: it has none of the threads that deliver."""
    global _live
    _live = ()


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for steps in _live:
        steps._before(optimizer)


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for steps in _live:
        steps._after(optimizer)
