"""Volumes as bytes: to the bit and small there and back, safe with bytes of any origin."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from SaliencyExplain.engine.wire.volume_format import MAGIC, PIECE, decode, encode
from SaliencyExplain.errors import InputError
from SaliencyExplain.voxel_volume import Volume

ROOM = 64 * 1024**2


def bits(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values).tobytes()


def assert_same(volume: Volume, other: Volume) -> None:
    assert other.values.dtype == volume.values.dtype
    assert other.values.shape == volume.values.shape
    assert bits(other.values) == bits(volume.values)
    assert bits(other.affine) == bits(volume.affine)
    assert other.hash == volume.hash


@given(
    shapes.arrays(
        st.sampled_from([np.float32, np.uint8]),
        shapes.array_shapes(min_dims=2, max_dims=4, max_side=7),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_voxels_come_back_to_the_bit(values: np.ndarray):
    volume = Volume(values, np.diag([2.0, -0.3, 1 / 3, 1.0]))
    assert_same(volume, decode(encode(volume), largest=ROOM))


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17])
def test_pieces_meet(size: int):
    values = np.random.default_rng(0).integers(0, 4000, (1, size)).astype(np.float32)
    volume = Volume(values, np.eye(4))
    assert_same(volume, decode(encode(volume), largest=ROOM))


def test_whole_numbers_take_little_room_and_noise_no_more_than_its_own():
    random = np.random.default_rng(0)
    image = np.zeros((100, 100, 50), np.float32)
    image[30:70, 30:70, 10:40] = random.normal(900, 20, (40, 40, 30)).astype(np.int64)
    noise = random.standard_normal((100, 100, 50), dtype=np.float32)
    assert len(encode(Volume(image, np.eye(4)))) < image.nbytes / 20
    assert len(encode(Volume(noise, np.eye(4)))) < noise.nbytes * 1.001
    mask = (image > 0).astype(np.uint8)
    assert len(encode(Volume(mask, np.eye(4)))) < mask.nbytes / 50


VALID = encode(
    Volume(
        np.random.default_rng(1).integers(0, 300, (2, 9, 8, 7)).astype(np.float32),
        np.diag([1.0, 2.0, 3.0, 1.0]),
    )
)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_an_input_error_or_a_volume(data: st.DataObject):
    content = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "cut", "add", "swap"]))
        if not content:
            break
        at = data.draw(st.integers(0, len(content) - 1))
        if kind == "flip":
            content[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 50))]
        elif kind == "add":
            content[at:at] = data.draw(st.binary(max_size=30))
        else:
            content[at:] = content[at:][::-1]
    with contextlib.suppress(InputError):
        assert decode(bytes(content), largest=ROOM).values.nbytes <= ROOM


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_strange_bytes_are_an_input_error(content: bytes):
    with pytest.raises(InputError):
        decode(content, largest=ROOM)
    with pytest.raises(InputError):
        decode(MAGIC + struct.pack("<I", len(content)) + content, largest=ROOM)


def changed(**fields: Any) -> bytes:
    length = struct.unpack("<4sI", VALID[:8])[1]
    header = json.loads(VALID[8 : 8 + length]) | fields
    text = json.dumps(header).encode()
    return struct.pack("<4sI", MAGIC, len(text)) + text + VALID[8 + length :]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "f8"},
        {"type": "O"},
        {"type": ["f4"]},
        {"shape": [2, 9, 8]},
        {"shape": [2, 9, 8, -7]},
        {"shape": [2, 9, 8, 7.0]},
        {"shape": [True, 1008]},
        {"shape": [1008]},
        {"shape": [2, 3, 3, 8, 7]},
        {"shape": [2**40, 2**40, 2**40]},
        {"affine": [0.0] * 16},
        {"affine": [1.0] * 15},
        {"affine": ["x"] * 16},
        {"affine": [1e400] * 16},
        {"pieces": []},
        {"pieces": [[1008, "<u2", [[1, 10**9], [1, 1]]]]},
        {"pieces": [[1008, "<u2", [[0, 1008], [7, 1008]]]]},
        {"pieces": [[1008, "O", [[0, 1008]]]]},
        {"pieces": [[0, "<u1", [[0, 0]]]] * 5},
        {"pieces": 5},
        {"pieces": None},
    ],
)
def test_headers_that_do_not_fit_are_refused(fields: dict[str, Any]):
    with pytest.raises(InputError):
        decode(changed(**fields), largest=ROOM)


def test_nothing_is_unpacked_beyond_what_was_declared():
    bomb = zlib.compress(bytes(400 * 1024**2), 9)
    header = {
        "type": "u1",
        "shape": [10, 100],
        "affine": np.eye(4).ravel().tolist(),
        "pieces": [[1000, "|u1", [[1, len(bomb)]]]],
    }
    text = json.dumps(header).encode()
    content = struct.pack("<4sI", MAGIC, len(text)) + text + bomb
    tracemalloc.start()
    with pytest.raises(InputError, match="damaged"):
        decode(content, largest=ROOM)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024**2


def test_volume_larger_than_allowed_is_refused_before_it_is_unpacked():
    volume = Volume(np.zeros((300, 300, 300), np.uint8), np.eye(4))
    content = encode(volume)
    assert len(content) < 200_000
    tracemalloc.start()
    with pytest.raises(InputError, match="at most 1000000"):
        decode(content, largest=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
