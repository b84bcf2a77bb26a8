"""Headers and indexes that contradict themselves are refused, whatever the library makes of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import wstrack
from tests.checkpoints.refusing import STATE, pair, refusal

W = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
V = {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 32]}


def _header(header: object, data: int = 32, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        _header({"w": {**W, "data_offsets": [0, 64]}, "v": V}),
        _header({"w": W, "v": {**V, "data_offsets": [16, 4096]}}),
        _header({"w": W, "v": {**V, "data_offsets": [8, 24]}}),
        _header({"w": W, "v": W}),
        _header({"w": W, "v": {**V, "data_offsets": [24, 40]}}, 40),
        _header({"w": {**W, "data_offsets": [16, 0]}, "v": V}),
        _header({"w": W, "v": {**V, "data_offsets": [16, 2**63]}}),
        _header({"w": W, "v": {**V, "data_offsets": [2**64, 2**64 + 16]}}),
        _header({"w": W, "v": {**V, "data_offsets": [-16, 0]}}),
        _header({"w": W, "v": {**V, "shape": [2**63, 2]}}),
        _header({"w": W, "v": {**V, "shape": [2**32, 2**32]}}),
        _header({"w": W, "v": {**V, "shape": [2**62, 2**62, 0]}}),
        _header({"w": W, "v": {**V, "shape": [-2, -2]}}),
        _header({"w": W, "v": {**V, "shape": [2, 3]}}),
        _header({"w": W, "v": {**V, "dtype": "F33"}}),
        _header({"w": W, "v": {**V, "dtype": None}}),
        _header({"w": W, "v": None}),
        _header({"w": W, "v": {}}),
        _header([W, V]),
        _header(b'{"w": {"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}, "v": {"dtype":"F32","shape":[2,2],'
                b'"data_offsets":[16,32]}, "v": {"dtype":"F32","shape":[4,1],"data_offsets":[16,32]}}'),
        _header(b'{"w": {"dtype":"F32","shape":[2,2],"shape":[1,4],"data_offsets":[0,16]}}', 16),
        _header(b'{"__metadata__":{"a":"1","a":"2"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', 16),
        _header(b'{"w": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        _header(b'{"w": ' + b'{"a":' * 200_000 + b"0" + b"}" * 200_000 + b"}"),
        _header(b'{"\xff\xfe": {"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', 16),
        _header({"w": W, "v": V}, length=2**63),
        _header({"w": W, "v": V}, length=2**64 - 1),
        _header({"w": W, "v": V}, length=2**40),
        _header({"w": W, "v": V}, length=0),
        _header({"w": W, "v": V}, length=20),
        _header({"w": W, "v": V}, 33),
        _header({"w": W, "v": V}, 31),
    ],
)  # fmt: skip
def test_a_header_that_contradicts_itself(tmp_path: Path, content: bytes) -> None:
    sound = _header({"w": W, "v": V})
    for step in (1, 2):
        (tmp_path / f"step_{step}.safetensors").write_bytes(sound)
    assert len(wstrack.pull(f"checkpoints:{tmp_path}").layers) == 2
    (tmp_path / "step_2.safetensors").write_bytes(content)
    assert f"{tmp_path / 'step_2.safetensors'} cannot be read as safetensors: " in refusal(tmp_path)


# ---- shards ----------------------------------------------------------------------------------------------------------


def _sharded(folder: Path, ending: str = ".safetensors") -> Path:
    """Two checkpoints of two shards with the same header, so that tensors lie at the same places in both."""
    for step in (1, 2):
        home = folder / f"checkpoint-{step}"
        home.mkdir(parents=True)
        where = {name: f"m-0000{number}-of-00002{ending}" for number, name in enumerate(("a.w", "b.w", "c.n"), 1)}
        where["c.n"] = where["a.w"]
        shards = (
            {"a.w": torch.full((2, 2), 1.0 * step), "c.n": torch.tensor([step])},
            {"b.w": torch.full((2, 2), 3.0**step)},
        )
        for shard, file in zip(shards, sorted(set(where.values())), strict=True):
            torch.save(shard, home / file) if ending == ".bin" else save_file(shard, home / file)
        index = home / ("pytorch_model.bin.index.json" if ending == ".bin" else "model.safetensors.index.json")
        index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_tensors_at_the_same_place_of_two_shards_are_two(tmp_path: Path, ending: str) -> None:
    _sharded(tmp_path, ending)
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    assert run.series["rwc"].iloc[0].to_dict() == {"a.w": 1.0, "b.w": 2.0}


def test_a_missing_shard(tmp_path: Path) -> None:
    index = _sharded(tmp_path)
    (index.parent / "m-00002-of-00002.safetensors").unlink()
    assert "m-00002-of-00002.safetensors is missing, a shard that model.safetensors.index.json names" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    "name",
    ["../m-00001-of-00002.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "nul\0.safetensors",
     "new\nline.safetensors", "model.safetensors.index.json", "half\ud800.safetensors",
     "[" * 5000, "ü" * 200, 7, None, ["m"], {}],
)  # fmt: skip
def test_a_shard_elsewhere(tmp_path: Path, name: object) -> None:
    index = _sharded(tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"]["b.w"] = name
    index.write_text(json.dumps(content))
    said = refusal(tmp_path)
    assert str(index) in said
    assert "which is no" in said or "is no index of shards" in said


def test_links_are_followed_as_the_cache_of_the_hub_has_them(tmp_path: Path) -> None:
    index = _sharded(tmp_path / "run")
    (tmp_path / "blobs").mkdir()
    for file in list(index.parent.glob("*.safetensors")):
        file.rename(tmp_path / "blobs" / file.name)
        file.symlink_to(tmp_path / "blobs" / file.name)
    assert wstrack.pull(f"checkpoints:{tmp_path / 'run'}").series["rwc"].iloc[0].to_dict() == {"a.w": 1.0, "b.w": 2.0}
    (tmp_path / "blobs" / file.name).unlink()
    assert "is missing, a shard that" in refusal(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content["weight_map"].update({"d.w": "m-00001-of-00002.safetensors"}), "'d.w' is in m-00001"),
        (lambda content: content["weight_map"].update({"a.w": "m-00002-of-00002.safetensors"}), "'a.w' is in m-00002"),
        (lambda content: content.pop("weight_map"), "it has no weight_map"),
        (lambda content: content.update(weight_map=[]), "it has no weight_map"),
        (lambda content: content.update(weight_map={}), "holds no layer"),
    ],
)
def test_an_index_that_is_not_of_its_shards(tmp_path: Path, change: Callable, said: str) -> None:
    index = _sharded(tmp_path)
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b'{"weight_map": {', "cannot be read"),
        (
            b'{"weight_map": {"a.w": "m-00001-of-00002.safetensors", "a.w": "m-00002-of-00002.safetensors"}}',
            "'a.w' twice",
        ),
        (b"[" * 200_000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"weight_map": ' + b"9" * 10_000 + b"}", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"[]", "it has no weight_map"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    index = _sharded(tmp_path)
    index.write_bytes(content)
    refused = refusal(tmp_path)
    assert str(index) in refused
    assert said in refused


# ---- archives of torch -----------------------------------------------------------------------------------------------


def _zipped_anew(file: Path, change: Callable[[str, bytes], bytes] = lambda name, data: data, **how: int) -> None:
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", **how) as archive:
        for name, data in records.items():
            archive.writestr(name, change(name, data))


def test_an_archive_zipped_anew_without_compression_is_read(tmp_path: Path) -> None:
    file = pair(tmp_path, ".pt")
    _zipped_anew(file)
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0].tolist() == [1, 1]


def test_a_compressed_archive(tmp_path: Path) -> None:
    file = pair(tmp_path, ".pt")
    _zipped_anew(file, compression=zipfile.ZIP_DEFLATED)
    assert "the archive is compressed" in refusal(tmp_path)


@pytest.mark.parametrize("size", [4, 44, 52, 4800])
def test_a_record_of_another_size_than_the_pickle_says(tmp_path: Path, size: int) -> None:
    file = pair(tmp_path, ".pt")
    _zipped_anew(file, lambda name, data: (data * 100)[:size] if name.endswith("data/0") else data)
    assert "cannot be read as a checkpoint of torch" in refusal(tmp_path)


def test_two_records_of_one_name(tmp_path: Path) -> None:
    file = pair(tmp_path, ".pt")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("step_2/DATA/0", bytes(48))
    assert "two records of the archive have the same name" in refusal(tmp_path)


def test_a_pickle_that_is_not_what_was_written(tmp_path: Path) -> None:
    file = pair(tmp_path, ".pt")
    data = file.read_bytes()
    assert data.count(b"a.weight") == 1
    file.write_bytes(data.replace(b"a.weight", b"a.weighs"))
    assert "Bad CRC-32" in refusal(tmp_path)


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    set_crc32 = getattr(torch.serialization, "set_crc32_options", None)
    if set_crc32 is None:
        pytest.skip("torch before 2.6 always takes them")
    file = pair(tmp_path, ".pt")
    set_crc32(False)
    try:
        torch.save({name: tensor * 3 for name, tensor in STATE.items()}, file)
    finally:
        set_crc32(True)
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0].tolist() == [2, 2]


def test_a_file_of_before_torch_1_6_with_more_than_it_says(tmp_path: Path) -> None:
    for step in (1, 2):
        torch.save(STATE, tmp_path / f"step_{step}.pt", _use_new_zipfile_serialization=False)
    assert wstrack.pull(f"checkpoints:{tmp_path}").series["rwc"].iloc[0].tolist() == [0, 0]
    data = (tmp_path / "step_2.pt").read_bytes()
    (tmp_path / "step_2.pt").write_bytes(data + bytes(16))
    assert "its tensors end at byte" in refusal(tmp_path)
