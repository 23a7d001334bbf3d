"""The weights in an ONNX file, read without the package onnx.

An ONNX file is a protobuf message; of it this reads the initializers of the graph, by the field numbers of onnx.proto
(onnx 1.x, IR version 3 and later), and no more. onnxruntime runs such files but hands out no weights, and the package
onnx is not part of the base install.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from serkit.errors import SerkitError

_GRAPH, _INITIALIZER = 7, 5  # of ModelProto, of GraphProto
_DIMS, _DATA_TYPE, _FLOATS, _INTS, _NAME, _RAW = 1, 2, 4, 5, 8, 9  # of TensorProto
_FLOAT = 1
_KINDS = {_FLOAT: "<f4", 2: "u1", 3: "i1", 6: "<i4"}  # TensorProto.DataType
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types


def initializers(content: bytes, name: str = "ONNX file") -> dict[str, np.ndarray]:
    """The initializers of the outer graph by name: float32, int8, uint8 and int32.

    Those of other types and of inner graphs are left out.

    Args:
        content: the whole file. name: what to call it in an error.

    Raises:
        SerkitError: it is not an ONNX file, or ends too early.
    """
    try:
        found = {}
        for graph in _messages(memoryview(content), _GRAPH):
            for tensor in _messages(graph, _INITIALIZER):
                read = _tensor(tensor)
                if read is not None:
                    found[read[0]] = read[1]
        return found
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise SerkitError(f"{name} is not an ONNX file, or is damaged ({error})") from None


def _tensor(message: memoryview) -> tuple[str, np.ndarray] | None:
    shape: list[int] = []
    name, kind, values = "", 0, b""
    whole: list[int] = []
    for field, value in _fields(message):
        if field == _DIMS:
            shape += [value] if isinstance(value, int) else list(_varints(value))
        elif field == _DATA_TYPE and isinstance(value, int):
            kind = value
        elif field == _INTS:
            whole += [value] if isinstance(value, int) else list(_varints(value))
        elif isinstance(value, int):
            continue
        elif field == _NAME:
            name = bytes(value).decode()
        elif field in (_RAW, _FLOATS):
            values += bytes(value)
    if kind not in _KINDS:
        return None
    dtype = np.dtype(_KINDS[kind])
    if whole and kind != _FLOAT:  # negative ones have all 64 bits
        values += np.array(whole, dtype="<u8").astype(dtype).tobytes()
    if len(values) != dtype.itemsize * math.prod(shape):
        raise ValueError(f"'{name}' has {len(values)} bytes for a shape of {shape}")
    return name, np.frombuffer(values, dtype=dtype).reshape(shape)


def _messages(message: memoryview, field: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(message) if number == field and not isinstance(value, int))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message in order: number, and its whole number or its bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(message, at)
            yield field, number
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("it ends too early")
        yield field, message[at : at + size]
        at += size


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        number, at = _varint(packed, at)
        yield number


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number, least significant group first, and where the next thing begins."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
