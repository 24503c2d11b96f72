"""Weight files that tests of checkpoints write, and how they are read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from SaliencyExplain.errors import ClassifierError
from SaliencyExplain.models.weights import load_into, read_weights
from Testing.models.conftest import small_network

State = dict[str, Tensor]


def state() -> State:
    """The weights that all checkpoints of these tests hold."""
    torch.manual_seed(1)
    network = small_network(2)
    return {key: torch.randn_like(value) for key, value in network.state_dict().items()}


def under(prefix: str, values: State | None = None) -> State:
    return {prefix + key: value for key, value in (values or state()).items()}


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def read(content: bytes) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with these weights, and what is said of them."""
    network = small_network(2)
    notes = load_into(network, read_weights(content, "w.ckpt"), "w.ckpt")
    return network, notes


def refused(content: bytes) -> ClassifierError:
    with pytest.raises(ClassifierError) as caught:
        read(content)
    assert "w.ckpt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return caught.value


class Hyper:
    """A class of a training script's own."""

    def __init__(self) -> None:
        self.rate = np.float64(0.1)


def with_pickle(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The same weight file with another pickle."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as out,
    ):
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith("data.pkl"):
                changed = change(data)
                assert changed != data
                data = changed
            out.writestr(info.filename, data)
    return stream.getvalue()
