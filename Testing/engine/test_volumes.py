"""Volumes that an engine holds: as they were put, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.errors import InputError
from SaliencyExplain.voxel_volume import Volume


def test_volumes_come_back_to_the_bit(engine: Engine):
    random = np.random.default_rng(0)
    affine = np.diag([0.5, -2.0, 3.25, 1.0]) + np.outer([1, 1, 1, 0], [0.1, 0, 0, 7.0])
    odd = np.array([[0.0, -0.0, np.inf], [np.nan, 1e-40, -3.0]], dtype=np.float32)
    for values in (
        random.standard_normal((2, 30, 20, 10), dtype=np.float32),
        random.integers(0, 3, (40, 30, 20), dtype=np.uint8),
        random.integers(-900, 3000, (30, 20, 10)).astype(np.float32),
        odd,
        np.asfortranarray(random.standard_normal((9, 8, 7), dtype=np.float32)),
    ):
        volume = Volume(values, affine)
        key = engine.put(volume)
        assert key == volume.hash == engine.put(volume)
        back = engine.get(key)
        assert back.values.dtype == values.dtype
        assert back.values.shape == values.shape
        assert back.values.tobytes() == np.ascontiguousarray(values).tobytes()
        assert back.affine.tobytes() == affine.tobytes()


def test_volume_is_kept_as_it_was_put(engine: Engine):
    values = np.ones((3, 4, 5), dtype=np.float32)
    key = engine.put(Volume(values, np.eye(4)))
    values[:] = 2
    assert (engine.get(key).values == 1).all()


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        (Volume(np.zeros((3, 3, 3)), np.eye(4)), "float64"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.zeros((4, 4))), "inverse"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.full((4, 4), np.nan)), "finite"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.eye(3)), "4x4"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.tri(4)), "last row"),
        (Volume(np.zeros(3, np.float32), np.eye(4)), "axes"),
        (Volume(np.zeros((3, 0, 3), np.float32), np.eye(4)), "axes"),
    ],
)
def test_volumes_that_make_no_sense_are_refused(engine: Engine, volume: Volume, told: str):
    with pytest.raises(InputError, match=told) as raised:
        engine.put(volume)
    assert "\n" not in str(raised.value)
