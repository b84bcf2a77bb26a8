"""What TensorBoard shows beside numbers, as values of a summary."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorboard.compat.proto.summary_pb2 import Summary

__all__ = ["image", "text"]


def text(tag: str, plugin: str, content: bytes) -> Summary.Value:
    """A string under a tag; its plugin says who shows it: nobody, for one that TensorBoard does not know."""
    return _strings(tag, plugin, [content], ())


def image(tag: str, png: bytes) -> Summary.Value:
    """A picture under a tag, for TensorBoard's tab Images."""
    width, height = struct.unpack_from(">II", png, 16)  # in its first chunk, after the signature
    return _strings(tag, "images", [str(width).encode(), str(height).encode(), png], (3,))


def _strings(tag: str, plugin: str, content: Sequence[bytes], shape: Sequence[int]) -> Summary.Value:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

    blob = plugin == "images"
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin),
        data_class=summary_pb2.DATA_CLASS_BLOB_SEQUENCE if blob else summary_pb2.DATA_CLASS_TENSOR,
    )
    sizes = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape])
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=content, tensor_shape=sizes)
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
