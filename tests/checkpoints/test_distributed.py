"""Checkpoints of torch.distributed.checkpoint: of one process and of two, sound and damaged."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from same import EVERY, STEPS, Zoo, agree, change
from sharded import placements, saved, saved_as_safetensors
from torch import nn

import wstrack
from wstrack.checkpoints.distributed import open_distributed
from wstrack.checkpoints.opening import open_checkpoint
from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from tests.training.distributed.processes import Processes

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that there is no process group


def save(model: nn.Module, name: str = "model") -> Callable[[int], object]:
    return lambda step: dcp.save({name: model.state_dict(), "step": step}, checkpoint_id=f"saved/{step}", no_dist=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn],
                         ids=str)  # fmt: skip
def test_one_process(dtype: torch.dtype) -> None:
    model = Zoo().to(dtype)
    pulled = agree(change(model, save(model)), "saved")
    assert pulled.completeness.notes[0] == "steps are from what the checkpoints say"


@pytest.mark.parametrize("name", ["app", "state_dict", "my_model"])
def test_the_names_under_which_programs_keep_a_model(name: str) -> None:
    model = Zoo()
    run = change(model, save(model, name))
    own = "my_model." if name == "my_model" else ""
    assert list(wstrack.pull("checkpoints:saved").layers.index) == [own + layer for layer in run.layers.index]


def test_channels_last() -> None:
    model = Zoo().to(memory_format=torch.channels_last)
    agree(change(model, save(model)), "saved")


class Tied(nn.Module):
    """And a copy that is not tied, but is the same at the start; and two that stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(11, 8)
        self.target = nn.Embedding(11, 8)
        self.still = nn.ParameterList([nn.Parameter(torch.zeros(3, 3)) for _ in range(2)])
        self.lm_head = nn.Linear(8, 11, bias=False)
        self.lm_head.weight = self.wte.weight
        with torch.no_grad():
            self.target.weight.copy_(self.wte.weight)


def test_tied_weights_are_one_layer_and_copies_are_not() -> None:
    model = Tied()
    optimizer = torch.optim.SGD([model.wte.weight], lr=0.1)
    save(model)(0)
    for step in (1, 2):
        model.wte.weight.grad = torch.randn(11, 8)
        optimizer.step()
        save(model)(step)
    layers = wstrack.pull("checkpoints:saved").layers
    assert list(layers.index) == ["wte.weight", "target.weight", "still.0", "still.1"]
    assert layers["aliases"]["wte.weight"] == ("lm_head.weight",)


@pytest.mark.slow
@pytest.mark.parametrize("flat", [False, True], ids=["beside an optimizer", "alone"])
@pytest.mark.parametrize("way", ["DDP", "FSDP2", "tensor parallel", "FSDP1, original parameters"])
def test_two_ranks(two: Processes, tmp_path: Path, way: str, flat: bool) -> None:
    placed, _ = two(saved, tmp_path, way=way, flat=flat)
    agree(wstrack.pull(tmp_path / "runs/it"), tmp_path / "saved")
    if way in ("FSDP2", "tensor parallel"):  # or nothing would have been cut
        assert {"FSDP2": "(Shard(dim=0),)", "tensor parallel": "(Shard(dim=1),)"}[way] in placed


@pytest.mark.slow
def test_cuts_along_any_dimension(two: Processes, tmp_path: Path) -> None:
    two(placements, tmp_path)
    whole = torch.arange(35, dtype=torch.float64).view(5, 7)
    opened = open_distributed(tmp_path / "saved/step-2")
    assert {name: tensor.in_stretches for name, tensor in opened.tensors.items()} == {"wide": False, "tall": True}
    for tensor in opened.tensors.values():
        into = torch.empty(9, dtype=torch.float64)
        tensor.read(into, 20)
        np.testing.assert_array_equal(into, (whole + 2).view(-1)[20:29])


@pytest.mark.slow
def test_shards_of_safetensors(two: Processes, tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed.checkpoint.hf_storage")
    weights, _ = two(saved_as_safetensors, tmp_path)
    folder = tmp_path / "saved/step-2"
    opened = open_checkpoint(folder)
    for name, weight in weights.items():
        tensor = opened.tensors[name]
        into = torch.empty(tensor.numel, dtype=tensor.dtype)
        tensor.read(into, 0)
        assert into.view(tensor.shape).tolist() == weight
        assert tensor.in_stretches
    run = wstrack.pull(f"checkpoints:{tmp_path / 'saved'}")
    np.testing.assert_allclose(run.series["rwc"], 0.5)
    assert list(run.layers.index) == list(weights)
    (folder / "shard-00001-model-00001-of-00001.safetensors").unlink()
    with pytest.raises(WstrackError, match=r"its element \(0,.*\) is in no chunk"):
        open_checkpoint(folder)


# What is damaged, refused or hostile.


@pytest.fixture
def sound() -> Path:
    torch.manual_seed(0)
    dcp.save({"model": {"fc.weight": torch.randn(4, 3)}, "step": 3}, checkpoint_id="sound", no_dist=True)
    return Path("sound")


def altered(folder: Path, alter: Callable[[Any], object]) -> None:
    """The metadata as torch reads it, altered."""
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    alter(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def tensor_of(metadata: Any) -> Any:
    return metadata.state_dict_metadata["model.fc.weight"]


def place_of(metadata: Any) -> Any:
    return next(info for index, info in metadata.storage_data.items() if index.fqn == "model.fc.weight")


def refused(folder: Path) -> str:
    with pytest.raises(WstrackError) as error:
        open_distributed(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_sound_one_is_read(sound: Path) -> None:
    opened = open_distributed(sound)
    assert list(opened.tensors) == ["fc.weight"]
    assert opened.said == {"global_step": 3}


def test_metadata_is_never_unpickled(sound: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, ("ran",)

    def plant(metadata: Any) -> None:
        metadata.planner_data["evil"] = Code()

    altered(sound, plant)
    said = refused(sound)
    assert "posix.mkdir" in said
    assert "dcp_to_torch_save" in said
    assert not Path("ran").exists()


ALTERED: dict[str, tuple[Callable[[Any], object], str]] = {
    "outside": (lambda m: setattr(place_of(m), "relative_path", "../sound/__0_0.distcp"), "outside of the folder"),
    "absolute": (lambda m: setattr(place_of(m), "relative_path", "/etc/passwd"), "outside of the folder"),
    "a zero byte": (lambda m: setattr(place_of(m), "relative_path", "a\0b"), "outside of the folder"),
    "missing": (lambda m: setattr(place_of(m), "relative_path", "__1_0.distcp"), "__1_0.distcp.* is missing"),
    "beyond the end": (lambda m: setattr(place_of(m), "length", 1 << 40), "ends at byte"),
    "elsewhere": (lambda m: setattr(place_of(m), "offset", place_of(m).offset + 1), "fc.weight"),
    "negative": (lambda m: setattr(place_of(m), "offset", -1), "no metadata"),
    "no number": (lambda m: setattr(place_of(m), "offset", "1"), "no metadata"),
    "compressed": (lambda m: setattr(place_of(m), "transform_descriptors", ["stream.zstd"]), "stream.zstd"),
    "nowhere": (lambda m: m.storage_data.clear(), "lies nowhere"),
    "another shape": (lambda m: setattr(tensor_of(m).chunks[0], "sizes", torch.Size([3, 4])), r"of shape \(4, 3\)"),
    "a smaller whole": (lambda m: setattr(tensor_of(m), "size", torch.Size([3, 3])), "not within"),
    "a gap": (lambda m: setattr(tensor_of(m), "size", torch.Size([5, 3])), r"\(4, 0\) is in no chunk"),
    "huge": (lambda m: setattr(tensor_of(m), "size", torch.Size([1 << 62, 3])), "no metadata"),
    "huge product": (lambda m: setattr(tensor_of(m), "size", torch.Size([1 << 40, 1 << 40])), "no metadata"),
    "another dtype": (lambda m: setattr(tensor_of(m).properties, "dtype", torch.float64), "float32"),
    "no chunks": (lambda m: setattr(tensor_of(m), "chunks", None), "no chunks"),
    "no mapping": (lambda m: setattr(m, "state_dict_metadata", [1]), "no metadata"),
    "no tensor": (lambda m: m.state_dict_metadata.update({"model.fc.weight": 1}), "no metadata"),
    "deep keys": (lambda m: m.planner_data.update({"model.fc.weight": ("a",) * 10_000}), "no metadata"),
    "two alike": (lambda m: m.planner_data.update({"step": ("model", "fc.weight")}), "twice"),
    "a value as a mapping": (lambda m: m.planner_data.update({"model.fc.weight": ("step", "a"), "step": ("step",)}),
                             "twice|no mapping"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(ALTERED))
def test_metadata_that_is_wrong(sound: Path, what: str) -> None:
    alter, match = ALTERED[what]
    altered(sound, alter)
    said = refused(sound)
    assert re.search(match, said), said


def test_names_are_said_in_one_line(sound: Path) -> None:
    def rename(metadata: Any) -> None:
        metadata.state_dict_metadata["a\nb\x1b[2J"] = metadata.state_dict_metadata.pop("model.fc.weight")

    altered(sound, rename)
    said = refused(sound)
    assert said.isprintable()
    assert "lies nowhere" in said


def test_any_damage_to_the_files_is_refused_or_harmless(sound: Path) -> None:
    (file,) = sound.glob("*.distcp")
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    read = 0
    for at in generator.integers(len(whole), size=400):
        file.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        try:
            tensors = open_distributed(sound).tensors
        except WstrackError:
            continue
        tensors["fc.weight"].read(torch.empty(12), 0)
        read += 1
    assert 0 < read < 400


def test_an_overlap(sound: Path) -> None:
    both = {"fc.weight": torch.randn(4, 3), "other": torch.randn(2, 3)}
    dcp.save(both, checkpoint_id="both", no_dist=True)

    def overlap(metadata: Any) -> None:
        from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

        chunk = ChunkStorageMetadata(torch.Size([1, 0]), torch.Size([2, 3]))
        metadata.state_dict_metadata["fc.weight"].chunks.append(chunk)
        other = MetadataIndex("other", [0, 0])
        metadata.storage_data[MetadataIndex("fc.weight", [1, 0])] = metadata.storage_data[other]

    altered(Path("both"), overlap)
    assert "fc.weight: its element (1, 0) is in several chunks" in refused(Path("both"))


def test_every_flipped_byte_and_every_end_is_refused_or_read_as_it_is(sound: Path) -> None:
    whole = (sound / ".metadata").read_bytes()
    generator = np.random.default_rng(0)
    for at in range(0, len(whole), 3):
        for damaged in (whole[:at], whole[:at] + bytes([generator.integers(256)]) + whole[at + 1 :]):
            (sound / ".metadata").write_bytes(damaged)
            try:
                tensors = open_distributed(sound).tensors
            except WstrackError:
                continue
            for tensor in tensors.values():
                tensor.read(torch.empty(tensor.numel, dtype=tensor.dtype), 0)


def test_a_file_that_was_cut(sound: Path) -> None:
    (file,) = sound.glob("*.distcp")
    file.write_bytes(file.read_bytes()[:-100])
    assert "ends at byte" in refused(sound)
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in refused(sound)


def test_a_saving_that_was_interrupted() -> None:
    model = Zoo()
    for step in (0, EVERY, STEPS):
        save(model)(step)
    Path("saved", str(STEPS), ".metadata").unlink()  # torch writes it last
    with pytest.raises(WstrackError, match=rf"saved/{STEPS}/\.metadata is missing, which torch writes last"):
        wstrack.pull("checkpoints:saved")


def test_blocks_of_a_pipeline_are_in_order() -> None:
    torch.manual_seed(0)
    for step in (0, STEPS):
        weights = {f"layers.{block}.weight": torch.randn(3, 3) for block in (2, 3, 0, 1)}
        dcp.save({"model": weights}, checkpoint_id=f"saved/{step}", no_dist=True)
    assert list(wstrack.pull("checkpoints:saved").layers.index) == [f"layers.{block}.weight" for block in range(4)]
