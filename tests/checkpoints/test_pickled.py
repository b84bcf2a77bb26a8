"""Reading what a pickle says without doing it."""

from __future__ import annotations

import os
import pickle
import re
import tracemalloc
from collections import OrderedDict
from pathlib import PurePosixPath

import pytest
import torch

from wstrack.checkpoints.pickled import Made, read_pickle

KNOWN = re.compile(r"torch\.Size|collections\.OrderedDict|pathlib(\._local)?\.PurePosixPath|torch\.float32")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_as_they_were(protocol: int) -> None:
    shared = ["x" * 300, "ü", ""]
    plain = {"a": (1, -5, 1 << 70, 2.5, None, True, False), "b": [[], {}, (), (1,), (1, 2), (1, 2, 3)], "c": shared,
             "d": shared, 3: list(range(3000))}  # fmt: skip
    assert read_pickle(pickle.dumps(plain, protocol), KNOWN) == plain


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_classes_stay_names(protocol: int) -> None:
    held = {"size": torch.Size([3, 4]), "path": PurePosixPath("a/b"), "od": OrderedDict(a=1), "dtype": torch.float32}
    said = read_pickle(pickle.dumps(held, protocol), KNOWN)
    assert isinstance(said, dict)
    assert isinstance(said["size"], Made)
    assert said["size"].arguments == ((3, 4),)
    assert PurePosixPath(*said["path"].arguments) == PurePosixPath("a/b")  # Python 3.13 has it in one piece
    assert said["od"].items == {"a": 1}
    assert said["dtype"] == "torch.float32"


HOSTILE = {
    "code": pickle.dumps(os.system),
    "old code": b"cos\nsystem\n(S'true'\ntR.",
    "a class in its own module": b"ctorch.Size\n__class__\n.",
    "nothing": b"",
    "no end": pickle.dumps([1, 2])[:-1],
    "an empty stack": b"\x80\x04.",
    "no mark": b"\x80\x04t.",
    "a short stack": b"\x80\x04K\x01\x86.",
    "a memory that is not there": b"\x80\x04h\x07.",
    "a key of tuples in tuples": b"\x80\x04})" + b"\x85" * 2_000_000 + b"K\x01s.",
    "a call of what is no class": b"\x80\x04K\x01)R.",
    "a state of what is no object": b"\x80\x04K\x01}b.",
    "an item of what is no mapping": b"\x80\x04]K\x01K\x01s.",
    "an append to what is no list": b"\x80\x04}K\x01a.",
    "a long text that is not there": b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"abc.",
    "a long number that is not there": b"\x80\x04\x8b" + (1 << 30).to_bytes(4, "little") + b"\x01.",
    "an object of an extension": b"\x80\x04\x82\x01.",
    "an array": b"\x80\x05\x96" + (1 << 60).to_bytes(8, "little") + b"abc.",
    "no text": b"\x80\x04\x8c\x02\xff\xfe.",
    "no number": b"Iabc\n.",
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_hostile_pickles_are_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_pickle(HOSTILE[what], KNOWN)


def test_a_memory_is_as_large_as_what_is_in_it() -> None:
    tracemalloc.start()
    assert read_pickle(b"\x80\x04K\x01r\xff\xff\xff\xff.", KNOWN) == 1  # Python's own asks for 64 GB at this
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_depth_is_no_danger() -> None:
    held = read_pickle(b"\x80\x04)" + b"\x85" * 200_000 + b".", KNOWN)
    assert isinstance(held, tuple)
