"""Which tensors of checkpoints are layers, what each is called, its kind and its place in the model: by names alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from wstrack.checkpoints.steps import natural
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.errors import WstrackError
from wstrack.measuring.kinds import kind_of_name
from wstrack.runs.manifest import Layer
from wstrack.runs.names import unwrapped

__all__ = ["Series", "layers_in", "unwrapped_names"]

LEAST_IN_COMMON = 0.5  # of the layers of the smaller of two checkpoints; with fewer they are of different models

# What models keep among their weights and never train, as far as its name says it.
_BUFFERS = re.compile(
    r"(^|\.)(attn|attention|self_attn)\.(masked_)?bias|.*(attn_mask|causal_mask|relative_coords_table|position_ids"
    r"|freqs_cis|(cos|sin)_cached|inv_freq|position_index)"
)
_HEAD = re.compile(
    r"(lm_?head|head|heads|classifier|score|embed_out|output_layer|qa_outputs|cls|pooler|fc|fc_out|proj_out|logits"
    r"|conv_?(norm_)?out)"
)
_STEM = re.compile(r"(stem.*|conv\d*|conv_?(in|stem|layers)|feature_(extractor|projection)|features?|patch.*)")
_FIRST = re.compile(r"(.*embed.*|wte|wpe|shared|.*token.*)")
# Where the order of the model is not known: the ways that a model, a block and an attention are usually walked through.
_RANKS = {
    part: rank
    for rank, part in enumerate(
        part
        for way in (
            "cls_token class_embedding shared wte embed_tokens word_embeddings wpe position_embeddings",
            "token_type_embeddings encoder attn self_attn self_attention attention SelfAttention multi_head_attention",
            "mamba mixer self in_proj conv1d x_proj dt_proj qkv query_key_value",
            "q_proj q query query_proj q_lin to_q wq Wq q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj",
            "k_proj k key key_proj k_lin to_k wk Wk v_proj v value value_proj v_lin to_v wv Wv",
            "wi wi_0 wi_1 o_proj o out_lin to_out wo out_proj crossattention encoder_attn EncDecAttention",
            "intermediate mlp router gate experts gate_up_proj gate_proj up_proj down_proj dense_h_to_4h output",
            "decoder",
        )
        for part in way.split()
    )
}
_NUMBERS = re.compile(r"\d+")
# A file of peft leaves out the name of the adapter, which is "default" unless it was given another.
_OF_PEFT = re.compile(r"(base_model\.model\..+\.(?:lora|hada|lokr|b?oft|ia3|hra|vera|vblora)_\w+)(\.weight)?")


@dataclass(frozen=True)
class Series:
    """The layers of checkpoints, in model order, and where each is in every one of them.

    Attributes:
        layers: as a manifest has them; of a layer that changed its shape, the last.
        tensors: for each layer, what each checkpoint holds of it; None where it is not.
        notes: tensors that come, go or change shape.
    """

    layers: tuple[Layer, ...]
    tensors: tuple[tuple[Stored | None, ...], ...]
    notes: tuple[str, ...]


def layers_in(checkpoints: Sequence[Checkpoint]) -> Series:
    """The layers of a series of checkpoints: tensors of floating point with two or more dimensions, as in the paper.

    Named as `wstrack.watch` names them: without the prefixes of wrappers, a tied weight once. Kinds are told from names
    and shapes (and from `vocab_size` of the model's config); so is the order, where the file does not keep it.

    Raises:
        WstrackError: the checkpoints have no layer, or are of different models.
    """
    found = [_weights(one) for one in checkpoints]
    for one, weights in zip(checkpoints, found, strict=True):
        if not weights:
            raise WstrackError(f"{one.path} holds no layer: no tensor of floating point with two or more dimensions")
        others = found[0]
        common = {name for name, tensor in weights.items() if name in others and others[name].shape == tensor.shape}
        if len(common) < LEAST_IN_COMMON * min(len(weights), len(others)):
            raise WstrackError(
                f"{checkpoints[0].path} and {one.path} are of different models: of {len(others):,} and "
                f"{len(weights):,} layers {len(common):,} have the same name and shape"
            )
    copies = _copies(found)
    names = dict.fromkeys(name for weights in found for name in weights if name not in copies)
    ordered = all(one.ordered for one in checkpoints)
    kinds = {name: _kind(name, next(w[name] for w in found if name in w), checkpoints[0]) for name in names}
    if not ordered:
        names = dict.fromkeys(sorted(names, key=lambda name: _place(name, kinds[name])))
    deep = Counter(_NUMBERS.sub("", name) for name in names if kinds[name] == "depthwise")
    first = next((name for name in names if kinds[name] in ("conv", "depthwise")), "")
    if kinds.get(first) == "depthwise" and deep[_NUMBERS.sub("", first)] == 1 and not re.search(r"dw|depth", first):
        kinds[first] = "conv"  # of pictures, or of sound, with one channel
    tied: dict[str, list[str]] = {}
    for one in checkpoints:
        for name, kept in (_aliases(one) | copies).items():
            if name not in tied.setdefault(kept, []):
                tied[kept].append(name)
    layers, tensors, notes = [], [], []
    for name in names:
        held = tuple(weights.get(name) for weights in found)
        last = next(tensor for tensor in reversed(held) if tensor is not None)
        aliases = tuple(alias for alias in tied.get(name, ()) if alias not in names)
        layers.append(Layer(name, kinds[name], last.shape, last.numel, aliases))
        tensors.append(held)
        notes += _came_or_went(name, held, checkpoints)
    dtypes = dict.fromkeys(str(tensor.saved_as).removeprefix("torch.") for held in tensors for tensor in held if tensor)
    mixed = [
        name
        for name, held in zip(names, tensors, strict=True)
        if len({tensor.saved_as for tensor in held if tensor}) > 1
    ]
    if mixed:
        notes.append(
            f"{len(mixed):,} layers are saved in several dtypes ({', '.join(dtypes)}): rounding counts as change"
        )
    return Series(tuple(layers), tuple(tensors), tuple(notes))


def _weights(checkpoint: Checkpoint) -> dict[str, Stored]:
    """The tensors that are layers, by the names of `watch`; those that are the same memory once."""
    wrapped = all(name.startswith("module.") for name in checkpoint.tensors)
    weights: dict[str, Stored] = {}
    seen: set[object] = set()
    for raw, tensor in checkpoint.tensors.items():
        name = _unwrapped(raw, wrapped)
        floating = tensor.dtype.is_floating_point or tensor.dtype.is_complex
        if not floating or len(tensor.shape) < 2 or _BUFFERS.fullmatch(name) or not tensor.numel:
            continue
        if tensor.identity is not None and tensor.identity in seen:
            continue
        seen.add(tensor.identity)
        weights.setdefault(name, tensor)
    return weights


def unwrapped_names(checkpoint: Checkpoint) -> dict[str, Stored]:
    """All its tensors, by the names that `watch` would give them."""
    wrapped = all(name.startswith("module.") for name in checkpoint.tensors)
    return {_unwrapped(raw, wrapped): tensor for raw, tensor in checkpoint.tensors.items()}


def _aliases(checkpoint: Checkpoint) -> dict[str, str]:
    """The other names of tied weights, and the name that each is kept under."""
    wrapped = all(name.startswith("module.") for name in checkpoint.tensors)
    kept: dict[object, str] = {}
    aliases = {_unwrapped(name, wrapped): _unwrapped(of, wrapped) for name, of in checkpoint.tied.items()}
    for raw, tensor in checkpoint.tensors.items():
        name = _unwrapped(raw, wrapped)
        if tensor.identity is not None and kept.setdefault(tensor.identity, name) != name:
            aliases[name] = kept[tensor.identity]
    return aliases


def _copies(found: Sequence[dict[str, Stored]]) -> dict[str, str]:
    """Tied weights that were saved twice, and the name that each is kept under.

    They hold the same in every checkpoint, though it changes: copies of another kind, such as a target network or an
    average, differ somewhere, and of what is frozen nobody can tell.
    """
    first: dict[object, str] = {}
    copies = {}
    for name in found[0]:
        held = [weights[name] for weights in found if name in weights]
        contents = [(tensor.shape, tensor.dtype, tensor.content) for tensor in held if tensor.content is not None]
        if len(contents) == len(found) and len(set(contents)) > 1 and first.setdefault((*contents,), name) != name:
            copies[name] = first[(*contents,)]
    return copies


@lru_cache(maxsize=2**18)
def _unwrapped(name: str, wrapped: bool) -> str:
    """A name without the prefixes of wrappers; `module` may also be a module's own name, within."""
    name = name.removeprefix("module.") if wrapped else name
    name = ".".join(part for part in name.split(".") if part == "module" or unwrapped(part))
    adapter = _OF_PEFT.fullmatch(name)
    return f"{adapter[1]}.default{adapter[2] or ''}" if adapter else name


def _kind(name: str, tensor: Stored, checkpoint: Checkpoint) -> str:
    vocabulary = checkpoint.config.get("vocab_size")
    return kind_of_name(name, tensor.shape, vocabulary=vocabulary if isinstance(vocabulary, int) else None)


def _place(name: str, kind: str) -> list[tuple[int, int, list[tuple[int, str]]]]:
    """A key that sorts names from the input to the output."""
    *modules, own = name.split(".")
    numbered = False  # within a block nothing is the model's first or last
    key = []
    for part in modules:
        numbered = numbered or part.isdigit()
        role = 3
        if not numbered and _HEAD.fullmatch(part):
            role = 4
        elif not numbered and _STEM.fullmatch(part):
            role = 1
        elif not numbered and (_FIRST.fullmatch(part) or (kind == "embedding" and part == modules[-1])):
            role = 2
        key.append((role, _RANKS.get(part, len(_RANKS)), natural(part)))
    role = 2 if not modules and kind == "embedding" else 3
    return [*key, (role, _RANKS.get(own, len(_RANKS)), natural(own))]


def _came_or_went(name: str, held: Sequence[Stored | None], checkpoints: Sequence[Checkpoint]) -> list[str]:
    """What to say of a layer that is not in all checkpoints, or not of one shape."""
    lacking = [one.path.name for one, tensor in zip(checkpoints, held, strict=True) if tensor is None]
    notes = []
    if lacking:
        notes.append(f"{name} is not in {len(lacking)} of {len(held)} checkpoints ({_some(lacking)})")
    shapes = dict.fromkeys(tensor.shape for tensor in held if tensor is not None)
    if len(shapes) > 1:
        changes = " to ".join("x".join(map(str, shape)) for shape in shapes)
        notes.append(f"{name} changes its shape from {changes}; its change is measured anew from there")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
