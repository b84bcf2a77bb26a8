"""The Triton kernels behind cuda.py. Importing this needs Triton, which comes with PyTorch's CUDA builds.

`chunk_sums`, a program a chunk, is launched once per dtype; `layer_sums`, a program a layer, then adds the chunks in
their order. No atomics, so results are the same bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from wstrack.measuring.meters.bits import HASHES
from wstrack.metrics import SUMS

__all__ = ["AT_ONCE", "CHUNK", "COLUMNS", "FIELDS", "chunk_sums", "layer_sums"]

CHUNK = 16_384  # elements
# Of a row of the table: addresses of weight, previous, change, start; number of elements; how many of them lie side by
# side, and how far it is from the begin of these to that of the next; where the first of them stands in the whole
# layer, and how much further the begin of the next row stands, and the next element.
FIELDS = 10
AT_ONCE = 128  # chunks that a program of `layer_sums` adds at a time: the largest layer of a 7B model has 8,000
COLUMNS = triton.next_power_of_2(len(SUMS))  # of a row of sums: zeros up to a power of two
# The column of each sum, by name; a kernel sees globals of this kind alone.
ABS_CHANGE = tl.constexpr(list(SUMS).index("abs_change"))
ABS_PREVIOUS = tl.constexpr(list(SUMS).index("abs_previous"))
SQ_CHANGE = tl.constexpr(list(SUMS).index("sq_change"))
SQ_PREVIOUS = tl.constexpr(list(SUMS).index("sq_previous"))
RATIO = tl.constexpr(list(SUMS).index("ratio"))
NONZERO = tl.constexpr(list(SUMS).index("nonzero"))
ABS_CURRENT = tl.constexpr(list(SUMS).index("abs_current"))
CHANGED = tl.constexpr(list(SUMS).index("changed"))
CHANGED_BF16 = tl.constexpr(list(SUMS).index("changed_bf16"))
DOT = tl.constexpr(list(SUMS).index("dot"))
SQ_LAST_CHANGE = tl.constexpr(list(SUMS).index("sq_last_change"))
ABS_FROM_START = tl.constexpr(list(SUMS).index("abs_from_start"))
ABS_START = tl.constexpr(list(SUMS).index("abs_start"))
BITS_LOW = tl.constexpr(list(SUMS).index("bits_low"))
BITS_HIGH = tl.constexpr(list(SUMS).index("bits_high"))
KEY_0, SHIFT_00, FACTOR_00, SHIFT_01, FACTOR_01, SHIFT_02 = (tl.constexpr(number) for number in HASHES[0])
KEY_1, SHIFT_10, FACTOR_10, SHIFT_11, FACTOR_11, SHIFT_12 = (tl.constexpr(number) for number in HASHES[1])


@triton.jit
def _differ(w, p):
    """1 where they are another number, else 0; NaN is NaN."""
    return tl.where((w != p) & ((w == w) | (p == p)), 1.0, 0.0)


@triton.jit
def _in_bfloat16(value):
    """What bfloat16 holds of float32, by its bits, alike on all devices; NaN stays, which rounding could make 0."""
    bits = value.to(tl.uint32, bitcast=True)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return tl.where(value == value, nearest.to(tl.float32, bitcast=True), value)


@triton.jit
def _hash(value, first, factor, second, other, third):
    value = (value ^ (value >> first)) * factor
    value = (value ^ (value >> second)) * other
    return value ^ (value >> third)


@triton.jit
def _bits(raw):
    if raw.dtype.primitive_bitwidth == 32:
        bits = raw.to(tl.uint32, bitcast=True)
    else:
        bits = raw.to(tl.uint16, bitcast=True).to(tl.uint32)
    return bits


@triton.jit
def _walk(
    weight, previous, change, start, count, width, apart, place, pitch, stride, out,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr, MASKED: tl.constexpr, ROWS: tl.constexpr, CHANGE: tl.constexpr,
    START: tl.constexpr, COUNTS: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    zero = tl.zeros((BLOCK,), dtype=tl.float32)
    abs_change = zero
    abs_previous = zero
    sq_change = zero
    sq_previous = zero
    ratio = zero
    nonzero = zero
    abs_current = zero
    changed = zero
    changed_bf16 = zero
    dot = zero
    sq_last_change = zero
    abs_from_start = zero
    abs_start = zero
    bits_low = tl.zeros((BLOCK,), dtype=tl.uint32)
    bits_high = tl.zeros((BLOCK,), dtype=tl.uint32)
    for block in range(BLOCKS):
        element = block * BLOCK + tl.arange(0, BLOCK)
        at = element
        if ROWS:
            at = (element // width).to(tl.int64) * apart + element % width
        if MASKED:
            raw = tl.load(weight + at, mask=element < count, other=0.0)
            p = tl.load(previous + at, mask=element < count, other=0.0).to(tl.float32)
        else:
            raw = tl.load(weight + at)
            p = tl.load(previous + at).to(tl.float32)
        w = raw.to(tl.float32)
        d = w - p
        size_p = tl.abs(p)
        abs_change += tl.abs(d)
        abs_previous += size_p
        sq_change += d * d
        sq_previous += p * p
        ratio += tl.where(size_p != 0.0, tl.abs(d) / tl.where(size_p != 0.0, size_p, 1.0), 0.0)
        nonzero += tl.where(size_p != 0.0, 1.0, 0.0)
        abs_current += tl.abs(w)
        if COUNTS:
            changed += _differ(w, p)
            changed_bf16 += _differ(_in_bfloat16(w), _in_bfloat16(p))
        if BITS:
            if ROWS:
                standing = (element // width).to(tl.uint32) * pitch + (element % width).to(tl.uint32) * stride + place
            else:
                standing = element.to(tl.uint32) * stride + place
            bits = _bits(raw)
            low = _hash(bits + standing * KEY_0, SHIFT_00, FACTOR_00, SHIFT_01, FACTOR_01, SHIFT_02)
            high = _hash(bits + standing * KEY_1, SHIFT_10, FACTOR_10, SHIFT_11, FACTOR_11, SHIFT_12)
            if MASKED:
                low = tl.where(element < count, low, 0)
                high = tl.where(element < count, high, 0)
            bits_low += low
            bits_high += high
        if CHANGE:
            if MASKED:
                last = tl.load(change + at, mask=element < count, other=0.0)
                tl.store(change + at, d, mask=element < count)
            else:
                last = tl.load(change + at)
                tl.store(change + at, d)
            dot += d * last
            sq_last_change += last * last
        if START:
            if MASKED:
                s = tl.load(start + at, mask=element < count, other=0.0).to(tl.float32)
            else:
                s = tl.load(start + at).to(tl.float32)
            abs_from_start += tl.abs(w - s)
            abs_start += tl.abs(s)
        if MASKED:
            tl.store(previous + at, raw, mask=element < count)
        else:
            tl.store(previous + at, raw)
    # Each lane has added at most 16 numbers in float32; lanes and chunks are added in float64.
    tl.store(out + ABS_CHANGE, tl.sum(abs_change.to(tl.float64)))
    tl.store(out + ABS_PREVIOUS, tl.sum(abs_previous.to(tl.float64)))
    tl.store(out + SQ_CHANGE, tl.sum(sq_change.to(tl.float64)))
    tl.store(out + SQ_PREVIOUS, tl.sum(sq_previous.to(tl.float64)))
    tl.store(out + RATIO, tl.sum(ratio.to(tl.float64)))
    tl.store(out + NONZERO, tl.sum(nonzero.to(tl.float64)))
    tl.store(out + ABS_CURRENT, tl.sum(abs_current.to(tl.float64)))
    if COUNTS:
        tl.store(out + CHANGED, tl.sum(changed.to(tl.float64)))
        tl.store(out + CHANGED_BF16, tl.sum(changed_bf16.to(tl.float64)))
    if BITS:  # lanes add up modulo 2^32 by themselves
        tl.store(out + BITS_LOW, (tl.sum(bits_low.to(tl.int64)) & 0xFFFFFFFF).to(tl.float64))
        tl.store(out + BITS_HIGH, (tl.sum(bits_high.to(tl.int64)) & 0xFFFFFFFF).to(tl.float64))
    if CHANGE:
        tl.store(out + DOT, tl.sum(dot.to(tl.float64)))
        tl.store(out + SQ_LAST_CHANGE, tl.sum(sq_last_change.to(tl.float64)))
    if START:
        tl.store(out + ABS_FROM_START, tl.sum(abs_from_start.to(tl.float64)))
        tl.store(out + ABS_START, tl.sum(abs_start.to(tl.float64)))


@triton.jit(do_not_specialize=["first"])
def chunk_sums(
    table, partial, first,
    DTYPE: tl.constexpr, ALIGNED: tl.constexpr, ROWS: tl.constexpr, CHANGE: tl.constexpr, START: tl.constexpr,
    COUNTS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, FIELDS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Raw sums of chunk `first` + program id; the snapshot moves on."""
    chunk = (first + tl.program_id(0)).to(tl.int64)
    row = table + chunk * FIELDS
    weight = tl.load(row).to(tl.pointer_type(DTYPE))
    previous = tl.load(row + 1).to(tl.pointer_type(DTYPE))
    change = tl.load(row + 2).to(tl.pointer_type(tl.float32))
    start = tl.load(row + 3).to(tl.pointer_type(DTYPE))
    count = tl.load(row + 4)
    width = tl.load(row + 5).to(tl.int32)  # by which a division takes a third of the time
    apart = tl.load(row + 6)
    place = tl.load(row + 7).to(tl.uint32)  # hashes are modulo 2^32
    pitch = tl.load(row + 8).to(tl.uint32)
    stride = tl.load(row + 9).to(tl.uint32)
    if ALIGNED:  # only after the cast from integers does this reach the loads and make them 16 bytes wide
        weight = tl.multiple_of(weight, 16)
        previous = tl.multiple_of(previous, 16)
        change = tl.multiple_of(change, 16)
        start = tl.multiple_of(start, 16)
    out = partial + chunk * COLUMNS
    if count == BLOCK * BLOCKS:  # a mask, even one that is true everywhere, would make the loads narrow
        _walk(
            weight, previous, change, start, count, width, apart, place, pitch, stride, out,
            BLOCK, BLOCKS, False, ROWS, CHANGE, START, COUNTS, BITS,
        )  # fmt: skip
    else:
        _walk(
            weight, previous, change, start, count, width, apart, place, pitch, stride, out,
            BLOCK, BLOCKS, True, ROWS, CHANGE, START, COUNTS, BITS,
        )  # fmt: skip


@triton.jit
def layer_sums(partial, begins, result, COLUMNS: tl.constexpr, AT_ONCE: tl.constexpr):
    """Add up the chunks of the layer of this program, in their order."""
    layer = tl.program_id(0).to(tl.int64)
    end = tl.load(begins + layer + 1)
    column = tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), dtype=tl.float64)
    for row in range(tl.load(begins + layer), end, AT_ONCE):
        rows = row + tl.arange(0, AT_ONCE)
        at = rows[:, None] * COLUMNS + column[None, :]
        total += tl.sum(tl.load(partial + at, mask=rows[:, None] < end, other=0.0), axis=0)
    tl.store(result + layer * COLUMNS + column, total)
