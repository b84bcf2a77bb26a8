"""Step (a): every sum of the CUDA meter against NumPy in float64, whatever the dtype, the size and the place."""

from __future__ import annotations

import torch

from gpu.layers import Case, cases
from gpu.machine import Machine
from gpu.told import Told
from gpu.truth import differences, fingerprint, on_host, sums_of, wide
from wstrack.measuring.meters import cuda, kernels, offload
from wstrack.measuring.meters.bits import hashes
from wstrack.measuring.meters.memory import Snapshot, dense, lies_as
from wstrack.measuring.meters.meter import Meter
from wstrack.metrics import SUMS, memories_needed

__all__ = ["held", "values"]

BLOCK = 1 << 24  # elements that are hashed at a time

NUMBERS = tuple(name for name in SUMS if not name.startswith("bits"))
BITS = ("bits_low", "bits_high")
FUSED = (torch.float32, torch.bfloat16, torch.float16)  # by the kernel; all others by plain torch on the device
OTHERS = tuple(
    getattr(torch, name) for name in ("float64", "float8_e4m3fn", "float8_e5m2", "complex64") if hasattr(torch, name)
)
# What a compiler leaves out of a kernel that does not need it: both ways are another kernel.
SETS = {"all sums": tuple(SUMS), "rwc alone": ("abs_change", "abs_previous"), "rwc and distance": (
    "abs_change", "abs_previous", "abs_from_start", "abs_start"
)}  # fmt: skip


def values(told: Told, machine: Machine) -> None:
    """Print a row for each dtype and way of keeping the snapshot."""
    told.say("Every sum against NumPy in float64 (counts and fingerprints exactly, all others to 1e-6):")
    rows = []

    def row(name: str, job: object) -> None:
        rows.append([name, told.tried(f"values, {name}", job)])  # type: ignore[arg-type]

    row("is the CUDA meter used here", lambda: _is_used(told, machine))
    for dtype in (*FUSED, *OTHERS):
        kind = str(dtype).removeprefix("torch.")
        named = SETS if dtype in FUSED else {"all sums": NUMBERS if dtype.is_complex else tuple(SUMS)}
        for which, sums in named.items():
            row(f"{kind}, {which}", lambda dtype=dtype, sums=sums: _of_dtype(told, machine, dtype, sums))
    for dtype in FUSED:
        kind = str(dtype).removeprefix("torch.")
        row(f"{kind}, NaN, inf, -0, denormals", lambda dtype=dtype: _lost(told, machine, dtype))
        row(f"{kind}, snapshot='cpu'", lambda dtype=dtype: _of_dtype(told, machine, dtype, NUMBERS, far=True))
        row(f"{kind}, snapshot='cpu', small batches", lambda dtype=dtype: _batches(told, machine, dtype))
    row("dtypes mixed, in any order", lambda: _mixed(told, machine))
    row("the same bits twice", lambda: _twice(told, machine))
    row("more than 2^31 elements", lambda: _huge(told, machine))
    told.table(["weights", "sums"], rows)


def _make(machine: Machine, dtype: torch.dtype, seed: int = 0) -> object:
    noise = torch.Generator().manual_seed(seed)

    def make(*shape: int) -> torch.Tensor:
        made = torch.randn(shape, generator=noise, dtype=torch.float64)
        if dtype.is_complex:
            made = torch.complex(made, torch.randn(shape, generator=noise, dtype=torch.float64))
        return made.to(dtype).to(machine.device)

    return make


def _few(chosen: list[Case]) -> list[Case]:
    """Some of them: an interpreter is slow."""
    return chosen[1::5]


def _moved(tensors: list[torch.Tensor], noise: torch.Generator) -> None:
    """Change each weight by some percent, where it lies."""
    for tensor in tensors:
        now = wide(tensor)
        factor = 1 + 0.1 * torch.randn(now.shape, generator=noise, dtype=torch.float64)
        tensor.copy_((now * factor).to(tensor.dtype))


def held(chosen: list[Case], sums: tuple[str, ...], *, samples: int, far: bool = False) -> list[str]:
    """What is wrong in a few samples of these layers, between which all weights move."""
    weights = [case.weight for case in chosen]
    pieces = {number: case.pieces for number, case in enumerate(chosen) if case.pieces}
    meter = Meter(
        weights, sums, pieces=pieces, standings=[case.standing for case in chosen], only="cuda", on_host=far
    )  # fmt: skip
    meter.snapshot()
    starts = before = [wide(weight) for weight in weights]
    lasts = [torch.zeros_like(one) for one in before]
    noise = torch.Generator().manual_seed(1)
    lines: list[str] = []
    for sample in range(1, samples + 1):
        _moved(weights, noise)
        taken = meter.sample().cpu().tolist()
        now = [wide(weight) for weight in weights]
        rows = iter(taken)
        for case, *states in zip(chosen, now, before, lasts, starts, strict=True):
            for piece in case.pieces or (None,):
                views = states if piece is None else [piece.of(state) for state in states]
                want = sums_of(*views)
                if BITS[0] in sums:
                    host = on_host(case.weight)
                    both = (host, case.standing) if piece is None else (piece.of(host), piece.of(case.standing))
                    want |= fingerprint(*both)
                which = f"{case.name}{'' if piece is None else f' {piece}'}, sample {sample}"
                lines += [f"{which}: {line}" for line in differences(dict(zip(sums, next(rows), strict=True)), want)]
        assert next(rows, None) is None, "more rows than layers"
        lasts, before = [w - p for w, p in zip(now, before, strict=True)], now
    return lines


def _is_used(told: Told, machine: Machine) -> str:
    why = cuda.unavailable() or cuda.disagreement(machine.device)
    layers = [torch.ones(40, 8, device=machine.device, dtype=dtype) for dtype in FUSED]
    used = Meter(layers, NUMBERS).backends()
    lines = [why] if why else []
    return told.are_wrong("the CUDA meter", lines + ([] if used == {"cuda": len(FUSED)} else [f"not used: {used}"]))


def _of_dtype(
    told: Told, machine: Machine, dtype: torch.dtype, sums: tuple[str, ...], *, far: bool = False
) -> str:  # fmt: skip
    chosen = cases(_make(machine, dtype), dry=machine.dry or dtype not in FUSED)
    if far:
        chosen = [case for case in chosen if not case.pieces and dense(case.weight) and case.weight.numel()]
    if machine.dry and not (dtype == torch.float32 and len(sums) == len(SUMS)):
        chosen = _few(chosen)
    lines = held(chosen, sums, samples=2 if "change" in memories_needed(sums) else 1, far=far)
    return told.are_wrong(f"{dtype}{', on the host' * far}", lines)


def _mixed(told: Told, machine: Machine) -> str:
    kinds = [torch.bfloat16, torch.float32, torch.float64, torch.float16, torch.float32, torch.bfloat16]
    chosen = [
        case
        for number, kind in enumerate(kinds)
        for case in cases(_make(machine, kind, number), dry=True)[number + 4 : number + 7]
    ]
    chosen = _few(chosen) if machine.dry else chosen
    return told.are_wrong("mixed dtypes", held(chosen, tuple(SUMS), samples=2))


def _lost(told: Told, machine: Machine, dtype: torch.dtype) -> str:
    """What is no number, or hardly one, stays in its layer."""
    tiny = 2.0 ** (-20 if dtype == torch.float16 else -130)
    if machine.dry and dtype == torch.bfloat16:
        tiny = 2.0**-120  # Triton's interpreter drops denormals of bfloat16
    begin = {
        "NaN": [1.0] * 40, "inf": [1.0] * 40, "-inf": [1.0] * 40, "-0": [0.0] * 40, "zeros": [0.0] * 40,
        "denormals": [tiny] * 40, "ones": [1.0] * 40, "largest": [torch.finfo(dtype).max] + [1.0] * 39,
    }  # fmt: skip
    end = {name: list(numbers) for name, numbers in begin.items()}
    end["NaN"][1], end["inf"][39], end["-inf"][7], end["zeros"][39] = torch.nan, torch.inf, -torch.inf, 3.0
    end["-0"], end["denormals"] = [-0.0] * 40, [2 * tiny] * 40
    weights = [torch.tensor(numbers, dtype=dtype, device=machine.device) for numbers in begin.values()]
    # Squares of the largest numbers of 32 and 16 bits do not fit into float32, in which lanes add.
    sums = tuple(name for name in SUMS if not name.startswith("sq_"))
    meter = Meter(weights, sums, only="cuda")
    meter.snapshot()
    starts = before = [wide(weight) for weight in weights]
    lasts = [torch.zeros_like(one) for one in before]
    lines = []
    for sample in (1, 2):  # in the second, what is lost was so before
        for weight, numbers in zip(weights, end.values(), strict=True):
            weight.copy_(torch.tensor(numbers, dtype=dtype))
        taken = meter.sample().cpu().tolist()
        now = [wide(weight) for weight in weights]
        for name, row, weight, *states in zip(begin, taken, weights, now, before, lasts, starts, strict=True):
            want = sums_of(*states) | fingerprint(on_host(weight))
            lines += [
                f"{name}, sample {sample}: {line}" for line in differences(dict(zip(sums, row, strict=True)), want)
            ]
        lasts, before = [w - p for w, p in zip(now, before, strict=True)], now
    return told.are_wrong(f"{dtype}, lost weights", lines)


def _batches(told: Told, machine: Machine, dtype: torch.dtype) -> str:
    """Through many batches, two at a time, with weights that move on as soon as the sample has been asked for."""
    chosen = cases(_make(machine, dtype, 3), dry=True)
    chosen = [case for case in chosen if not case.pieces and lies_as(case.weight, case.standing) and dense(case.weight)]
    weights = [case.weight for case in (_few(chosen) if machine.dry else chosen)]
    kept = [Snapshot() for _ in weights]
    for one, weight in zip(kept, weights, strict=True):
        one.look(weight)
        one.remember(weight, NUMBERS, on_host=True)
    pairs = [pair for one, weight in zip(kept, weights, strict=True) if (pair := one.pair(weight)) is not None]
    assert len(pairs) == len(weights)
    sample = offload.plan(cuda, pairs, NUMBERS, batch=1 << 14)
    starts = [weight.clone() for weight in weights]
    course = [starts]
    taken = []
    for step in range(3):
        for weight in weights:
            weight.mul_(1.25 + step)
        course.append([weight.clone() for weight in weights])
        taken.append(sample())
    for weight in weights:
        weight.zero_()  # at once: the last batches may still be on their way
    machine.synchronize()
    lines = []
    lasts = [torch.zeros_like(wide(weight)) for weight in starts]
    for step, rows in enumerate(taken):
        for number, row in enumerate(rows.tolist()):
            w, p, start = (wide(each[number]) for each in (course[step + 1], course[step], starts))
            found = dict(zip(NUMBERS, row, strict=True))
            lines += [f"layer {number}, sample {step + 1}: {line}" for line in
                      differences(found, sums_of(w, p, lasts[number], start))]  # fmt: skip
            lasts[number] = w - p
    same = all(torch.equal(one.previous, weight.cpu()) for one, weight in zip(kept, course[-1], strict=True)
               if one.previous is not None)  # fmt: skip
    return told.are_wrong(f"{dtype}, small batches", lines + ([] if same else ["a snapshot is not what it should be"]))


def _twice(told: Told, machine: Machine) -> str:
    taken = []
    for _ in range(2):
        weights = [case.weight for case in cases(_make(machine, torch.float32), dry=True)[8:14]]
        meter = Meter(weights, tuple(SUMS), only="cuda")
        meter.snapshot()
        for weight in weights:
            weight.mul_(1.001)
        taken.append(meter.sample().cpu())
    return told.are_wrong("twice", [] if torch.equal(*taken) else ["the sums have other bits the second time"])


def _huge(told: Told, machine: Machine) -> str:
    """Beyond what 32 bits can count: the sums of ones, of which a few change at places that matter, are known."""
    free = machine.free()
    count = (2**32 if free > 40e9 else 2**31) + kernels.CHUNK + 7
    if machine.dry:
        count = 2 * kernels.CHUNK + 7
    elif free < 5 * count:
        return told.leave_out(
            "more than 2^31 elements", f"{free / 1e9:.0f} GB are free, {5 * count / 1e9:.0f} are needed"
        )
    weight = torch.ones(count, dtype=torch.bfloat16, device=machine.device)
    sums = ("abs_change", "abs_previous", "changed", "nonzero", *BITS)
    meter = Meter([weight], sums, only="cuda")
    meter.snapshot()
    places = sorted(
        {0, kernels.CHUNK, count // 2, count - 1} | {place for place in (2**31 - 1, 2**31, 2**32) if place < count}
    )
    for place in places:
        weight[place] = 3.0
    found = dict(zip(sums, meter.sample()[0].cpu().tolist(), strict=True))
    want = {"abs_change": 2.0 * len(places), "abs_previous": count, "changed": len(places), "nonzero": count}
    totals = [0, 0]
    for begin in range(0, count, BLOCK):  # in plain torch on the device: integers are integers there too
        piece = weight[begin : begin + BLOCK]
        standing = torch.empty(count, device="meta")[begin : begin + BLOCK]
        totals = [(total + int(each.sum().item())) % 2**32 for total, each in
                  zip(totals, hashes(piece, standing), strict=True)]  # fmt: skip
    return told.are_wrong(f"{count} elements", differences(found, {**want, **dict(zip(BITS, totals, strict=True))}))
