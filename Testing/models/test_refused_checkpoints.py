"""Weight files that are refused: the code of the error, and what its message names."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from SaliencyExplain.errors import ErrorCode
from Testing.models.checkpoint_files import (
    Hyper,
    refused,
    saved,
    state,
    under,
    with_pickle,
)

WEIGHTS, UNTRUSTED = ErrorCode.MODEL_WEIGHTS, ErrorCode.MODEL_UNTRUSTED
FORMAT, DAMAGED = ErrorCode.MODEL_FORMAT, ErrorCode.FILE_DAMAGED


class Attack:
    """Runs a program when it is unpickled."""

    def __reduce__(self):
        return os.system, ("true",)


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.ReLU()), stream)
    return stream.getvalue()


def expanded() -> Tensor:
    return torch.zeros(1).expand(10**7, 10**5)


#: What is refused, with its code and what the message has to name.
NOT_READ: dict[str, tuple[Callable[[], bytes], ErrorCode, list[str]]] = {
    "empty": (lambda: b"", DAMAGED, ["empty"]),
    "git-LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        FORMAT,
        ["git lfs pull"],
    ),
    "web page": (lambda: b"\n<!DOCTYPE html><html>Sign in", FORMAT, ["web page"]),
    "safetensors": (
        lambda: (8).to_bytes(8, "little") + b'{"a":{}}' + bytes(8),
        DAMAGED,
        ["safetensors"],
    ),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), FORMAT, ["HDF5"]),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.0.1:" + bytes(50), FORMAT, ["ONNX"]),
    "TensorFlow Lite": (lambda: b"\x1c\x00\x00\x00TFL3" + bytes(50), FORMAT, ["TensorFlow Lite"]),
    "NumPy": (lambda: b"\x93NUMPY\x01\x00" + bytes(50), FORMAT, [".npy"]),
    "gzip": (lambda: b"\x1f\x8b\x08\x00" + bytes(50), FORMAT, ["gzip"]),
    "Keras": (lambda: zip_of("config.json", "model.weights.h5"), FORMAT, ["Keras"]),
    "TorchScript": (script, FORMAT, ["TorchScript"]),
    "bundle": (lambda: zip_of("x/configs/metadata.json"), FORMAT, ["bundle"]),
    "zip of folders": (lambda: zip_of("a/readme.txt"), FORMAT, ["a/readme.txt"]),
    "zeros": (lambda: bytes(10_000), DAMAGED, ["zeros"]),
    "text": (lambda: b"weights of the model", FORMAT, []),
    "cut off": (lambda: saved(state())[:2000], DAMAGED, ["cut off"]),
    "text with a brace": (lambda: b"weights {of the model}", FORMAT, ["unknown"]),
    "whole network": (
        lambda: saved(nn.Sequential(nn.Linear(2, 2))),
        WEIGHTS,
        ["0.weight (2, 2) instead of (4, 1, 3, 3)"],
    ),
    "a program in it": (
        lambda: saved({"state_dict": state(), "hparams": Attack()}),
        UNTRUSTED,
        ["system"],
    ),
    "pickled class": (lambda: pickle.dumps(Hyper(), protocol=2), UNTRUSTED, ["Hyper"]),
    "tensor alone": (lambda: saved(torch.ones(3)), WEIGHTS, ["Tensor"]),
    "list": (lambda: saved([torch.ones(3)]), WEIGHTS, ["list"]),
    "no tensors": (lambda: saved({"epoch": 3, "lr": 0.1}), WEIGHTS, ["epoch", "lr"]),
    "a set of objects": (
        lambda: saved({"0.weight": np.array([{}], dtype=object)}),
        WEIGHTS,
        ["0.weight"],
    ),
    "sparse": (lambda: saved({**state(), "x": torch.eye(3).to_sparse()}), WEIGHTS, ["sparse"]),
    "compressed sparse": (
        lambda: saved({**state(), "x": torch.eye(3).to_sparse_csr()}),
        WEIGHTS,
        ["sparse"],
    ),
    "quantised": (
        lambda: saved(
            {**state(), "x": torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8)}
        ),
        WEIGHTS,
        ["quantised"],
    ),
    "meta": (
        lambda: saved({**state(), "0.bias": torch.empty(4, device="meta")}),
        WEIGHTS,
        ["meta"],
    ),
    "nested": (
        lambda: saved({**state(), "x": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}),
        WEIGHTS,
        ["nested"],
    ),
    "complex": (
        lambda: saved({**state(), "0.bias": torch.ones(4, dtype=torch.complex64)}),
        WEIGHTS,
        ["0.bias", "complex64"],
    ),
    "integers": (
        lambda: saved({**state(), "0.weight": torch.ones(4, 1, 3, 3, dtype=torch.int8)}),
        WEIGHTS,
        ["0.weight", "int8"],
    ),
    "terabytes": (lambda: saved({**state(), "0.bias": expanded()}), WEIGHTS, ["0.bias", "claims"]),
    "a tensor's size": (
        lambda: with_pickle(
            saved({"a": torch.zeros(4)}), lambda data: data.replace(b"K\x04tq", b"J\0\0\0\x10tq")
        ),
        DAMAGED,
        ["claims"],
    ),
    "missing": (
        lambda: saved({k: v for k, v in under("net.").items() if not k.endswith("0.bias")}),
        WEIGHTS,
        ["1 missing (0.bias)", "5 of its 6", "net."],
    ),
    "another head": (
        lambda: saved({**state(), "6.weight": torch.ones(9, 6), "6.bias": torch.ones(9)}),
        WEIGHTS,
        ["6.bias (9,) instead of (3,)"],
    ),
    "more layers": (
        lambda: saved({**under("net."), "net.7.weight": torch.ones(3, 3)}),
        WEIGHTS,
        ["net.7.weight"],
    ),
    "a head beside": (
        lambda: saved({**under("backbone."), "head.weight": torch.ones(3, 3)}),
        WEIGHTS,
        ["head.weight"],
    ),
    "a normalisation beside": (
        lambda: saved({**under("model."), "mean": torch.ones(1)}),
        WEIGHTS,
        ["mean"],
    ),
    "two networks": (
        lambda: saved({**under("student."), **{k: v + 1 for k, v in under("teacher.").items()}}),
        WEIGHTS,
        ["student.", "teacher."],
    ),
    "another network": (
        lambda: saved({"conv.weight": torch.ones(3)}),
        WEIGHTS,
        ["0 of its 6", "conv.weight"],
    ),
}


def zip_of(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return stream.getvalue()


@pytest.mark.parametrize("name", NOT_READ)
def test_what_stands_in_the_way_is_named(name) -> None:
    make, code, named = NOT_READ[name]
    error = refused(make())
    assert error.code is code, error
    for one in named:
        assert one in str(error)


def nested_key(levels: int) -> bytes:
    """A dictionary whose key is a tuple in a tuple in a tuple: to hash it ends the process."""
    return b"\x80\x02}" + b")" + b"\x85" * levels + b"K\x01s."


@pytest.mark.parametrize(
    "content",
    [
        nested_key(10**6),
        b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"),
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little"),
        b"\x80\x02cbuiltins\neval\n(X\x0f\x00\x00\x00__import__('x')tR.",
        b"\x80\x02(I1\nios\nsystem\n.",
        b"\x80\x02" + b"(" * 10**5 + b".",
    ],
)
def test_a_pickle_made_to_end_the_process_is_refused(content) -> None:
    assert refused(content).code in (DAMAGED, WEIGHTS, UNTRUSTED)


def test_weights_that_unpack_to_far_more_are_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", saved({"a": torch.ones(1)}))
        archive.writestr("w/data/0", bytes(50_000_000))
    assert refused(stream.getvalue()).code is ErrorCode.MODEL_REFUSED


def header(content: Any, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (header({}), WEIGHTS),
        (header({"__metadata__": {"format": "pt"}}), WEIGHTS),
        (header({"a": entry([2**62, 4], 0, 0)}), DAMAGED),
        (header({"a": entry([10**6], 0, 4 * 10**6)}, bytes(8)), DAMAGED),
        (header({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)), DAMAGED),
        (header({"a": entry([2], 4, 12)}, bytes(12)), DAMAGED),
        (header({"a": entry([2], 0, 1, "F4")}, bytes(1)), WEIGHTS),
        (header({"a": entry([-1], 0, 4)}, bytes(4)), DAMAGED),
        (header(b'{"a":' + b"[" * 100_000), DAMAGED),
        (header({"a": entry([2], 0, 8)}, bytes(8))[:20], DAMAGED),
        ((2**63).to_bytes(8, "little") + b"{}", DAMAGED),
        (b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', FORMAT),
    ],
)
def test_a_safetensors_file_that_claims_what_it_has_not_is_refused(content, code) -> None:
    assert refused(content).code is code
