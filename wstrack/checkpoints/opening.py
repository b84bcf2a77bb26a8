"""Opening a checkpoint: which format a file is of, and which files of a folder are the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wstrack.checkpoints.distributed import open_distributed
from wstrack.checkpoints.safetensors_files import once, open_safetensors
from wstrack.checkpoints.sharded_safetensors import PATTERN, open_shards
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.checkpoints.torch_files import open_torch
from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like

__all__ = ["is_checkpoint", "open_checkpoint", "weight_files"]

_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".pt.tar")
# What lies beside the weights in the folders of the trainers.
_ASIDE = re.compile(
    r"(.*[_-])?(optimizer|optim|optim_states?|scheduler|lr_scheduler|rng|rng_states?(_\d+)?|random_states?(_\d+)?"
    r"|scaler|sampler(_\d+)?|dataloader(_\d+)?|training_args|train_args|trainer_states?|extra_state|loss"
    r"|custom_checkpoint_\d+)(_\d+)*",
    re.IGNORECASE,
)
_SHARD = re.compile(r".+-\d{5}-of-\d{5}")
_INDEX = re.compile(r".+\.(safetensors|bin)\.index(\..+)?\.json")
# The weights of a model whose folder has them in several forms: the first that is there.
_CANONICAL = (
    "model.safetensors", "model.safetensors.index.json", "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json", "adapter_model.safetensors", "adapter_model.bin",
    "pytorch_model.bin", "pytorch_model.bin.index.json", "diffusion_pytorch_model.bin", "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin", "mp_rank_00_model_states.pt",
)  # fmt: skip
# What DeepSpeed writes of a model that it shares out, by ZeRO-3, tensor or pipeline parallelism.
_OF_DEEPSPEED = re.compile(
    r"zero_pp_rank_\d+_mp_rank_\d+_model_states|mp_rank_0*[1-9]\d*_model_states|layer_\d+-model_.+"
)
LONGEST = 255  # bytes of the name of a file
_INSIDE = ("", "pytorch_model_fsdp_0", "model", "weights", "checkpoint")  # where trainers put a distributed checkpoint


def weight_files(folder: Path) -> list[Path]:
    """The files of weights directly in a folder, without shards and what trainers keep beside them."""
    return [
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(_ENDINGS)
        and not file.name.startswith(".")
        and not _ASIDE.fullmatch(file.name.partition(".")[0])
        and not _SHARD.fullmatch(file.name.partition(".")[0])
        and file.is_file()
    ]


def is_checkpoint(path: Path) -> bool:
    """Whether a path is one checkpoint, by the names in it: a file of weights, or a folder that holds one set."""
    if path.is_dir():
        return _in_folder(path) is not None
    return path.name.lower().endswith((*_ENDINGS, ".index.json")) and path.is_file()


def open_checkpoint(path: Path) -> Checkpoint:
    """One set of saved weights: a file, an index of shards, or a folder that a trainer or a hub made.

    Nothing is read but what says which tensors there are; nothing in it is ever run.

    Raises:
        WstrackError: there is none, or it cannot be read.
    """
    if not path.is_dir():
        return _from_file(path)
    found = _in_folder(path)
    if found is None:
        several = sorted(file.name for file in weight_files(path))
        what = (
            f"several sets of weights ({', '.join(several[:4])}); name one" if several else "no weights that are known"
        )
        raise WstrackError(f"{path} holds {what}")
    if found.is_dir():
        opened = open_shards(found) if any(found.glob(PATTERN)) else open_distributed(found)
    else:
        opened = _from_file(found)
    said = {**_said_by_trainer(path), **opened.said}
    adapter = _json(path / "adapter_config.json") if found.name.startswith("adapter_model.") else {}
    return replace(opened, path=path, said=said, config=_json(path / "config.json"), adapter=adapter)


def _in_folder(folder: Path) -> Path | None:
    """What in a folder is its one set of weights, a folder if distributed; None if there is none, or are several."""
    for inside in _INSIDE:
        if (folder / inside / ".metadata").is_file() or any((folder / inside).glob("*.distcp")):
            return folder / inside
    if any(folder.glob(PATTERN)):
        return folder
    try:
        files = weight_files(folder)
        part = next((file for file in files if _OF_DEEPSPEED.fullmatch(file.stem)), None)
        if part is not None:
            return part
        for name in _CANONICAL:
            if (folder / name).is_file():
                return folder / name
        indexes = [file for file in folder.iterdir() if _INDEX.fullmatch(file.name)]
    except OSError:
        return None
    found = indexes or files
    return found[0] if len(found) == 1 else None


def _from_file(file: Path) -> Checkpoint:
    if file.name.endswith(".json"):
        return _sharded(file)
    if _OF_DEEPSPEED.fullmatch(file.stem):
        raise WstrackError(
            f"{file} is a part of a model that DeepSpeed shared out, in a way of its own; of ZeRO, the script that it "
            "leaves beside its folders puts it together: python zero_to_fp32.py . OUT --safe_serialization --tag "
            f"{file.parent.name}"
        )
    if not file.is_file():
        raise WstrackError(f"{file} is no file of weights: it is {'missing' if not file.exists() else 'no plain file'}")
    try:
        with file.open("rb") as opened:
            start = opened.read(512)
    except OSError as error:
        raise WstrackError(f"{file} cannot be read: {error.strerror or error}") from error
    if start.startswith(b"GGUF"):
        raise WstrackError(f"{file} is GGUF, whose weights are quantised; give the checkpoint that it was made from")
    if start.startswith(b"\x89HDF"):
        raise WstrackError(f"{file} is HDF5, which is not read; save the weights as safetensors")
    if start[8:9] == b"{" or file.suffix == ".safetensors":
        return open_safetensors(file)
    said = looks_like(start)
    if said and not start.startswith(b"PK"):
        raise WstrackError(f"{file} is no checkpoint: {said}")
    return open_torch(file)


def _sharded(index: Path) -> Checkpoint:
    """The tensors of the shards that an index names."""
    weights = _json(index).get("weight_map")
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights.values()):
        raise WstrackError(f"{index} is no index of shards: it has no weight_map from tensors to files")
    shards: dict[str, Checkpoint] = {}
    for name in dict.fromkeys(weights.values()):
        # Links are followed: the hub's cache consists of them.
        inside = Path(name).name == name and name not in ("", ".", "..")
        if not inside or not name.isprintable() or len(name.encode()) > LONGEST:
            raise WstrackError(f"{index} names the shard {name[:100]!r}, which is no name of a file in its folder")
        if name.endswith(".json"):
            raise WstrackError(f"{index} names the shard {name!r}, which is no file of weights")
        if not (index.parent / name).is_file():
            raise WstrackError(f"{index.parent / name} is missing, a shard that {index.name} names; fetch it as well")
        shards[name] = _from_file(index.parent / name)
    tensors: dict[str, Stored] = {}
    for tensor, name in weights.items():
        if tensor in shards[name].tensors:
            tensors[tensor] = shards[name].tensors[tensor]
        elif tensor not in shards[name].others:
            raise WstrackError(f"{index} says that {tensor!r} is in {name}, and it is not; fetch both anew")
    kept = sum(len(shard.tensors) for shard in shards.values())
    notes = [note for shard in shards.values() for note in shard.notes]
    if kept > len(tensors):
        notes.append(f"{kept - len(tensors)} tensors in the shards of {index.name} are not in it, and left out")
    tied = {name: of for shard in shards.values() for name, of in shard.tied.items()}
    others = frozenset().union(*(shard.others for shard in shards.values()))
    return Checkpoint(index, tensors, tied=tied, notes=tuple(notes), others=others)


def _said_by_trainer(folder: Path) -> dict[str, int]:
    """The step in the file that Hugging Face's Trainer leaves beside the weights."""
    state = _json(folder / "trainer_state.json")
    step = state.get("global_step")
    return {"global_step": step} if isinstance(step, int) and not isinstance(step, bool) else {}


def _json(file: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if there is none, or none that can be read.

    Raises:
        WstrackError: an index of shards that is none.
    """
    try:
        content = file.read_bytes()
        data = json.loads(content.decode("utf-8"), object_pairs_hook=once)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        if file.name.endswith(".index.json"):
            because = "" if isinstance(error, OSError) else looks_like(content)
            raise WstrackError(f"{file} cannot be read: {because or error}") from error
        return {}
    return data if isinstance(data, dict) else {}
