"""What TensorBoard's users say a run was made with: hparams, the arguments that the HF Trainer writes, hparams.yaml."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from wstrack.runs.listed import Setting, flat
from wstrack_integrations.tensorboard.files import holds
from wstrack_integrations.tensorboard.records import records

if TYPE_CHECKING:
    from pathlib import Path

    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

__all__ = ["settings_at"]

HEAD = 2**20  # bytes of an event file: what a run was made with is written first
_SESSION = "_hparams_/session_start_info"
_ARGUMENTS = ("args/text_summary", "model_config/text_summary")  # of the HF Trainer


def settings_at(place: Path) -> dict[str, Setting]:
    """The settings of a run whose event files are in a folder; no series is read.

    They lie in the run's own files, in those of a folder above (our files may be in `wstrack` within the run's), and in
    a folder right below, where `SummaryWriter.add_hparams` puts a run of its own; in `hparams.yaml` of Lightning's.
    """
    folder = place.parent if place.is_file() else place
    above = folder.parent if folder.name == "wstrack" else folder
    found: dict[str, Setting] = {}
    for here in dict.fromkeys((above, folder)):
        found |= _in_yaml(here / "hparams.yaml")
        below = (path for path in sorted(here.glob("*/*tfevents*")) if not _is_a_run(path.parent))
        for path in (*sorted(here.glob("*tfevents*")), *below):
            found |= _in_events(path)
    return found


def _is_a_run(folder: Path) -> bool:
    """Whether a folder is of another run, whose settings are its own."""
    return (folder / "wstrack").exists() or holds(folder, "wstrack/manifest")


def _in_events(path: Path) -> dict[str, Setting]:
    with suppress(OSError):
        with path.open("rb") as file:
            data = file.read(HEAD)
        if _SESSION.encode() in data or any(tag.encode() in data for tag in _ARGUMENTS):
            return _parsed(data)
    return {}


def _parsed(data: bytes) -> dict[str, Setting]:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found: dict[str, Setting] = {}
    for start, end in records(data, []):
        with suppress(DecodeError, ValueError):
            for value in Event.FromString(data[start:end]).summary.value:
                if value.tag == _SESSION:
                    found |= _of_session(HParamsPluginData.FromString(value.metadata.plugin_data.content))
                elif value.tag in _ARGUMENTS and value.tensor.string_val:
                    said = json.loads(value.tensor.string_val[0])
                    within = "" if value.tag == _ARGUMENTS[0] else "model."
                    found |= flat(said, within) if isinstance(said, dict) else {}
    return found


def _of_session(said: HParamsPluginData) -> dict[str, Setting]:
    kinds = {name: value.WhichOneof("kind") for name, value in said.session_start_info.hparams.items()}
    values = said.session_start_info.hparams
    return flat({name: getattr(values[name], kind) for name, kind in kinds.items() if kind and kind != "list_value"})


def _in_yaml(path: Path) -> dict[str, Setting]:
    """Lightning's `hparams.yaml`, read as data alone."""
    if not path.is_file():
        return {}
    import yaml

    with suppress(OSError, yaml.YAMLError, UnicodeDecodeError):
        said = yaml.load(path.read_text(encoding="utf-8"), _loader())  # noqa: S506  one of safe ones
        return flat(said) if isinstance(said, dict) else {}
    return {}


@cache
def _loader() -> Any:
    """A safe loader that knows what Lightning writes of Python's objects, and makes none of them.

    A loss or a function is its name, as text; a namespace, a dictionary or a tuple is what it holds.
    """
    import yaml

    def of_python(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
        kind, _, name = tag.partition(":")
        holds = kind in ("tuple", "dict") or name.endswith(("Namespace", "Dict", "AttributeDict", "DictConfig"))
        return _data(loader, node) if holds or not name else name

    def of_others(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
        return _data(loader, node)

    def _data(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_scalar(node)

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # which has no types
        """A class of its own, for what is added to one holds wherever it is used."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", of_python)
    Loader.add_multi_constructor("!", of_others)
    return Loader
