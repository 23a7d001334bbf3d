"""Weights of an ONNX file: as the package onnx reads them; a damaged file is one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serkit.errors import SerkitError
from serkit.onnx_weights import initializers


def varint(number: int) -> bytes:
    """Base 128, least significant group first."""
    groups = bytearray()
    while True:
        groups.append((number & 0x7F) | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(groups)


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, values: np.ndarray, kind: int = 1, *, packed: bool = False, raw: bool = True) -> bytes:
    """A TensorProto, its shape as one field or as several."""
    shape = b"".join(varint(n) for n in values.shape)
    dims = field(1, shape) if packed else b"".join(field(1, n) for n in values.shape)
    return dims + field(2, kind) + field(9 if raw else 4, values.tobytes()) + field(8, name.encode())


def model(*tensors: bytes) -> bytes:
    """A ModelProto with other fields around its graph, of every wire type."""
    graph = field(2, b"a graph") + b"".join(field(5, one) for one in tensors)
    fixed = varint(200 << 3 | 1) + bytes(8) + varint(201 << 3 | 5) + bytes(4)
    return field(1, 8) + field(2, b"maker") + fixed + field(7, graph) + field(8, b"")


def test_floats_are_read_in_their_shape_and_other_types_left_out() -> None:
    a, b = np.arange(300, dtype=np.float32).reshape(3, 100), np.array(2.5, np.float32)
    whole = np.arange(4, dtype=np.int64)
    content = model(tensor("a", a), tensor("whole", whole, 7), tensor("b", b, raw=False), tensor("ä", a, packed=True))
    found = initializers(content)
    assert list(found) == ["a", "b", "ä"]
    np.testing.assert_array_equal(found["a"], a)
    np.testing.assert_array_equal(found["ä"], a)
    np.testing.assert_array_equal(found["b"], b)


def test_they_are_those_that_the_package_onnx_reads() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    rng = np.random.default_rng(1)
    arrays = {f"w{k}": rng.standard_normal((k, 3)).astype(np.float32) for k in range(1, 4)}
    tensors = [onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()]
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializer=tensors))
    found = initializers(made.SerializeToString())
    assert list(found) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)


def test_whole_numbers_are_read_raw_and_one_by_one() -> None:
    small, whole = np.array([-3, 0, 127], np.int8), np.array([7, -(2**31)], np.int32)
    each = b"".join(field(5, int(n) % 2**64) for n in small)
    packed = field(5, b"".join(varint(int(n) % 2**64) for n in whole))
    found = initializers(
        model(
            tensor("raw", small, 3),
            field(1, 3) + field(2, 3) + each + field(8, b"each"),
            field(1, 2) + field(2, 6) + packed + field(8, b"packed"),
            tensor("bytes", small.astype(np.uint8), 2),
        )
    )
    np.testing.assert_array_equal(found["raw"], small)
    np.testing.assert_array_equal(found["each"], small)
    np.testing.assert_array_equal(found["packed"], whole)
    assert found["bytes"].dtype == np.uint8


def test_a_damaged_file_is_one_line() -> None:
    content = model(tensor("a", np.ones((2, 3), np.float32)))
    short = tensor("a", np.ones((2, 3), np.float32)).replace(field(1, 3), field(1, 4))
    for damaged in (content[: len(content) // 2], b"RIFF and so on", model(short)):
        with pytest.raises(SerkitError, match=r"weights\.onnx is not an ONNX file, or is damaged"):
            initializers(damaged, "weights.onnx")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_it_ends_with_an_answer_or_a_line(content: bytes) -> None:
    try:
        found = initializers(content)
    except SerkitError:
        return
    assert isinstance(found, dict)
