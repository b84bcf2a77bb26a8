"""The event-file reader against the protobuf library, TensorBoard's own readers, and damage."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DataType
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_ndarray, make_tensor_proto
from torch.utils.tensorboard import SummaryWriter
from wstrack_integrations.tensorboard.events import parse_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wstrack_integrations.tensorboard.events import EventFile


def framed(payload: bytes) -> bytes:
    head = struct.pack("<Q", len(payload))
    return head + struct.pack("<I", masked_crc32c(head)) + payload + struct.pack("<I", masked_crc32c(payload))


def event_file(events: Sequence[Event]) -> bytes:
    return b"".join(framed(event.SerializeToString()) for event in events)


def scalar(tag: str, number: float, step: int, time: float = 1.0) -> Event:
    return Event(wall_time=time, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=number)]))


def tensor_event(tag: str, tensor: TensorProto, step: int = 1) -> Event:
    return Event(wall_time=1.0, step=step, summary=Summary(value=[Summary.Value(tag=tag, tensor=tensor)]))


def points(content: EventFile) -> dict[str, list[tuple[int, float]]]:
    return {tag: list(zip(p.steps.tolist(), p.numbers.tolist(), strict=True)) for tag, p in content.scalars.items()}


def expected_points(events: Sequence[Event]) -> dict[str, list[tuple[int, float]]]:
    """What the protobuf library and TensorBoard's tensor functions find."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            elif kind == "tensor" and value.tensor.dtype != DataType.DT_STRING:
                array = make_ndarray(value.tensor)
                if array.size == 1:
                    found.setdefault(value.tag, []).append((event.step, float(array.ravel()[0])))
    return found


def accumulated(directory: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    found = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    for tag in accumulator.Tags()["tensors"]:
        found[tag] = [(e.step, make_ndarray(e.tensor_proto).item()) for e in accumulator.Tensors(tag)]
    return found


def only_file(directory: Path) -> bytes:
    (path,) = directory.glob("*tfevents*")
    return path.read_bytes()


@pytest.mark.parametrize("new_style", [False, True])
def test_files_of_torch_agree_with_event_accumulator(tmp_path: Path, new_style: bool) -> None:
    numbers = np.random.default_rng(0).normal(size=(300, 5))
    with SummaryWriter(str(tmp_path)) as writer:
        for step, row in enumerate(numbers):
            for layer, number in enumerate(row):
                writer.add_scalar(f"grad/layer{layer}.weight", number, step, new_style=new_style)
            writer.add_histogram("weights", row, step)
    read = points(parse_events(only_file(tmp_path)))
    assert read == accumulated(tmp_path)
    assert list(read) == [f"grad/layer{layer}.weight" for layer in range(5)]
    assert read["grad/layer3.weight"] == list(enumerate(numbers[:, 3].astype(np.float32).astype(float)))


def test_one_event_with_many_values_agrees_with_event_accumulator(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).normal(size=(200, 7)).astype(np.float32)
    writer = EventFileWriter(str(tmp_path))
    for step, row in enumerate(numbers):
        values = [Summary.Value(tag=f"rwc/{layer}", simple_value=number) for layer, number in enumerate(row)]
        writer.add_event(Event(wall_time=step + 1.0, step=step * 1000, summary=Summary(value=values)))
    writer.close()
    read = points(parse_events(only_file(tmp_path)))
    assert read == accumulated(tmp_path)
    assert read["rwc/6"] == [(step * 1000, float(number)) for step, number in enumerate(numbers[:, 6])]


def test_tbparse_finds_the_same_points(tmp_path: Path) -> None:
    tbparse = pytest.importorskip("tbparse")
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(50):
            for layer in range(4):
                writer.add_scalar(f"rwc/{layer}", step / (layer + 1), step)
    frame = tbparse.SummaryReader(str(tmp_path)).scalars
    theirs = {tag: list(zip(part["step"], part["value"], strict=True)) for tag, part in frame.groupby("tag")}
    assert points(parse_events(only_file(tmp_path))) == theirs


DTYPES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("packed_as_bytes", [False, True])
def test_tensors_of_one_element(dtype: str, shape: tuple[int, ...], packed_as_bytes: bool) -> None:
    array = np.full(shape, 1, dtype) if dtype == "bool" else np.full(shape, 113, dtype)
    tensor = make_tensor_proto(array)
    if packed_as_bytes:
        tensor = TensorProto(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape, tensor_content=array.tobytes())
    assert points(parse_events(event_file([tensor_event("t", tensor, 7)]))) == {"t": [(7, float(array.ravel()[0]))]}


@pytest.mark.parametrize(
    ("dtype", "number"), [("int8", -5), ("int32", -(2**31)), ("int64", -(2**40)), ("float16", -1.5)]
)
def test_negative_numbers_in_tensors(dtype: str, number: float) -> None:
    tensor = make_tensor_proto(np.array(number, dtype))
    assert points(parse_events(event_file([tensor_event("t", tensor)]))) == {"t": [(1, number)]}


def test_bfloat16_tensors() -> None:
    bits = np.array([-2.5], np.float32).view(np.uint32)[0] >> 16
    as_field = TensorProto(dtype=DataType.DT_BFLOAT16, half_val=[int(bits)])
    as_bytes = TensorProto(dtype=DataType.DT_BFLOAT16, tensor_content=int(bits).to_bytes(2, "little"))
    events = [tensor_event("t", as_field, 1), tensor_event("t", as_bytes, 2)]
    assert points(parse_events(event_file(events))) == {"t": [(1, -2.5), (2, -2.5)]}


def test_a_zero_that_was_left_out() -> None:
    tensor = TensorProto(dtype=DataType.DT_FLOAT)
    assert points(parse_events(event_file([tensor_event("t", tensor)]))) == {"t": [(1, 0.0)]}


def test_larger_tensors_histograms_and_strings_are_no_scalars() -> None:
    events = [
        tensor_event("matrix", make_tensor_proto(np.ones((2, 3)))),
        tensor_event("nothing", make_tensor_proto(np.ones((0, 3)))),
        tensor_event("words", make_tensor_proto("as text")),
        Event(step=1, summary=Summary(value=[Summary.Value(tag="h", histo=HistogramProto(num=1.0))])),
        Event(file_version="brain.Event:2", wall_time=3.0),
        scalar("loss", 0.5, 1),
    ]
    content = parse_events(event_file(events))
    assert points(content) == {"loss": [(1, 0.5)]}
    assert content.texts == {"words": [b"as text"]}
    assert content.notes == []


@pytest.mark.parametrize("step", [0, 1, 127, 128, 16_383, 16_384, 2**31, 2**63 - 1, -1, -(2**63)])
def test_steps_of_any_size_and_sign(step: int) -> None:
    events = [scalar("loss", 0.5, step), scalar("loss", 0.25, step)]
    assert points(parse_events(event_file(events))) == {"loss": [(step, 0.5), (step, 0.25)]}


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4028235e38])
def test_special_numbers(number: float) -> None:
    (found,) = parse_events(event_file([scalar("loss", number, 1)])).scalars["loss"].numbers
    assert np.array(found, np.float32).tobytes() == np.array(number, np.float32).tobytes()


def test_a_signalling_nan_is_a_nan_without_a_warning() -> None:
    data = event_file([scalar("loss", 0.5, 1)]).replace(struct.pack("<f", 0.5), struct.pack("<I", 0x7F800001))
    payload = data[12:-4]
    assert np.isnan(parse_events(framed(payload)).scalars["loss"].numbers).all()


def field(key: int, content: bytes) -> bytes:
    length, rest = b"", len(content)
    while rest > 0x7F:
        length += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([key]) + length + bytes([rest]) + content


SIMPLE = b"\x15" + struct.pack("<f", 0.5)
TAG = field(0x0A, b"loss")
METADATA = field(0x4A, field(0x0A, field(0x0A, b"scalars")))
UNKNOWN = b"\xa0\x06\x2a" + b"\xaa\x06\x03abc" + b"\xad\x06\x00\x00\x00\x00" + b"\xa9\x06" + bytes(8)
TENSOR = field(0x42, b"\x08\x01" + b"\x2d" + struct.pack("<f", 0.5))


@pytest.mark.parametrize(
    "value",
    [
        SIMPLE + TAG,
        METADATA + TAG + SIMPLE,
        TAG + METADATA + SIMPLE,
        UNKNOWN + TAG + UNKNOWN + SIMPLE + UNKNOWN,
        TENSOR + METADATA + TAG,
        field(0x0A, b"first") + SIMPLE + TAG,
    ],
)
def test_fields_in_any_order_and_unknown_ones(value: bytes) -> None:
    time, step, summary = b"\x09" + struct.pack("<d", 2.0), b"\x10\x07", field(0x2A, field(0x0A, value))
    for payload in (time + step + summary, summary + step + time, UNKNOWN + step + summary, step + time + summary):
        event = Event.FromString(payload)
        assert (event.step, event.summary.value[0].tag) == (7, "loss")
        assert points(parse_events(framed(payload))) == {"loss": [(7, 0.5)]}


@pytest.mark.parametrize("length", [1, 127, 128, 16_383, 16_384, 70_000])
def test_tags_of_any_length(length: int) -> None:
    tag = "é" + "x" * (length - 1)
    events = [scalar(tag, step / 2, step) for step in range(3)]
    assert points(parse_events(event_file(events))) == {tag: [(0, 0.0), (1, 0.5), (2, 1.0)]}


def test_a_tag_in_summaries_of_several_forms_keeps_the_order_of_the_file() -> None:
    pair = Summary(value=[Summary.Value(tag="other", simple_value=9.0), Summary.Value(tag="loss", simple_value=2.0)])
    events = [
        scalar("loss", 1.0, 5),
        Event(wall_time=1.0, step=5, summary=pair),
        tensor_event("loss", make_tensor_proto(np.int32(3)), 5),
        scalar("loss", 4.0, 5),
    ]
    assert points(parse_events(event_file(events)))["loss"] == [(5, 1.0), (5, 2.0), (5, 3.0), (5, 4.0)]


def test_summaries_of_one_length_with_numbers_at_different_places() -> None:
    def two(first: str, second: str) -> Summary:
        return Summary(value=[Summary.Value(tag=tag, simple_value=0.5) for tag in (first, second)])

    events = [Event(wall_time=1.0, step=s, summary=two(*("a", "bbb") if s % 2 else ("aaa", "b"))) for s in range(1, 5)]
    assert points(parse_events(event_file(events))) == expected_points(events)


real = st.floats(width=32, allow_nan=False)
tensors = st.one_of(
    st.sampled_from([dtype for dtype in DTYPES if dtype not in {"uint32", "uint64"}]).flatmap(  # which theirs refuses
        lambda dtype: st.integers(0, 1 if dtype == "bool" else 120).map(lambda n: make_tensor_proto(np.array(n, dtype)))
    ),
    real.map(lambda number: make_tensor_proto(np.full((2,), number, np.float32))),
    st.text(max_size=5).map(make_tensor_proto),
)
values = st.one_of(
    st.builds(Summary.Value, tag=st.text(max_size=6), simple_value=real),
    st.builds(Summary.Value, tag=st.text(max_size=200), tensor=tensors, node_name=st.text(max_size=3)),
    st.builds(Summary.Value, tag=st.text(max_size=6), histo=st.builds(HistogramProto, num=real)),
)
events_of_any_kind = st.builds(
    Event,
    wall_time=st.floats(0, 2e9),
    step=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
    summary=st.builds(Summary, value=st.lists(values, max_size=4)),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(events_of_any_kind, max_size=5), st.integers(1, 3))
def test_any_events_read_as_the_protobuf_library_reads_them(events: list[Event], times: int) -> None:
    content = parse_events(event_file(events * times))
    assert points(content) == expected_points(events * times)
    assert content.notes == []


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_bytes_make_it_fail(noise: bytes, where: int) -> None:
    whole = event_file([scalar("loss", 0.5, step) for step in range(6)])
    parse_events(noise)
    parse_events(framed(noise))
    parse_events(whole[:where] + noise + whole[where:])


THREE = [scalar("loss", number, step, time=10.0) for step, number in ((1, 0.5), (2, 0.25), (3, 0.125))]
SIZES = [len(framed(event.SerializeToString())) for event in THREE]


def test_the_last_record_cut_short_at_every_byte() -> None:
    whole = event_file(THREE)
    for size in range(sum(SIZES[:2]) + 1, len(whole)):
        content = parse_events(whole[:size])
        assert points(content) == {"loss": [(1, 0.5), (2, 0.25)]}
        (note,) = content.notes
        assert f"at byte {sum(SIZES[:2])}, is cut short" in note
    assert parse_events(whole[: sum(SIZES[:2])]).notes == []


def test_a_flipped_bit_outside_number_step_and_time_costs_its_record_alone() -> None:
    whole = event_file(THREE)
    payload = THREE[1].SerializeToString()
    assert (payload[0], payload[9], payload[11]) == (0x09, 0x10, 0x2A)  # time, step, summary; the number comes last
    unseen = {*range(1, 9), 10, *range(len(payload) - 4, len(payload))}
    for offset in {*range(12 + len(payload))} - {12 + place for place in unseen}:
        for bit in range(8):
            data = bytearray(whole)
            data[SIZES[0] + offset] ^= 1 << bit
            content = parse_events(bytes(data))
            assert points(content) == {"loss": [(1, 0.5), (3, 0.125)]}, (offset, bit)
            notes = [f"at byte {SIZES[0]} is corrupt" in note for note in content.notes]
            # Without the key of step, summary, value or number it may look like an event of another kind.
            assert notes == [True] or (notes == [] and offset - 12 in {9, 11, 13, len(payload) - 5}), (offset, bit)


def test_garbage_between_records_is_skipped_and_named() -> None:
    whole, middle = event_file(THREE), sum(SIZES[:2])
    content = parse_events(whole[:middle] + bytes(5000) + b"noise" * 30 + whole[middle:])
    assert points(content) == {"loss": [(1, 0.5), (2, 0.25), (3, 0.125)]}
    assert content.notes == [f"the record at byte {middle} is corrupt; the next whole one is at byte {middle + 5150}"]


def test_a_record_that_lost_its_end_does_not_swallow_those_behind_it() -> None:
    long = scalar("a/much/longer/tag/than/the/others/have/" * 8, 9.0, 9, time=10.0)
    whole = event_file([THREE[0], long, *THREE[1:]])
    cut = SIZES[0] + 12 + 40
    content = parse_events(whole[:cut] + whole[cut + 100 :])
    assert points(content) == {"loss": [(1, 0.5), (2, 0.25), (3, 0.125)]}
    (note,) = content.notes
    assert f"at byte {SIZES[0]} is corrupt" in note


def test_nothing_readable_behind_the_damage() -> None:
    content = parse_events(event_file(THREE[:1]) + b"\xff" * 100)
    assert points(content) == {"loss": [(1, 0.5)]}
    assert content.notes == [f"the record at byte {SIZES[0]} is corrupt, and no whole one comes after it"]


def test_an_empty_file() -> None:
    content = parse_events(b"")
    assert (content.scalars, content.texts, content.notes) == ({}, {}, [])


def test_the_time_is_that_of_the_first_event() -> None:
    assert (
        parse_events(event_file([scalar("loss", 1.0, 3, time=123.5), scalar("loss", 1.0, 4, time=1.0)])).time == 123.5
    )
