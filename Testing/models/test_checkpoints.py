"""Checkpoints as training scripts write them: which load, and what is said of the others."""

from __future__ import annotations

import argparse
import datetime
import enum
import io
import json
import os
import pathlib
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.weights import load_into, read_weights
from SaliencyExplain.models.wrapping import wrap
from Testing.models.conftest import CLASSES, small_network

State = dict[str, Tensor]
WEIGHTS, UNTRUSTED = ErrorCode.MODEL_WEIGHTS, ErrorCode.MODEL_UNTRUSTED
FORMAT, DAMAGED = ErrorCode.MODEL_FORMAT, ErrorCode.FILE_DAMAGED


class Settings(dict[str, Any]):
    """Stands in the file for a dictionary of a library that is not installed here."""


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


class Level(enum.Enum):
    """A choice of a training script's own."""

    LOW = 1


class Attack:
    """Runs a program when it is unpickled."""

    def __reduce__(self):
        return os.system, ("true",)


def whole() -> nn.Module:
    """A network with these weights, and with buffers that a state dict leaves out."""
    network = small_network(2)
    network.load_state_dict(state())
    network[0].register_buffer("table", torch.ones(3), persistent=False)
    return network


def marked() -> State:
    """Weights whose tensors have attributes, as optimizers and ``nn.Buffer`` leave them."""
    values: State = {k: nn.Parameter(v) for k, v in state().items()}
    for value in values.values():
        value.no_decay = True
    values["0.bias"] = nn.Buffer(state()["0.bias"])
    return values


#: What training scripts save, with what the notes have to name.
READ: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "plain": (state, []),
    "parameters": (lambda: {k: nn.Parameter(v) for k, v in state().items()}, []),
    "data parallel": (lambda: under("module."), ["module."]),
    "compiled": (lambda: {"model": under("_orig_mod.module.")}, ["_orig_mod.module."]),
    "averaged": (
        lambda: {**under("module."), "n_averaged": torch.tensor(9)},
        ["module.", "n_averaged"],
    ),
    "weighted loss": (
        lambda: {"state_dict": {**under("model."), "criterion.pos_weight": torch.tensor([3.2])}},
        ["model.", "criterion.pos_weight"],
    ),
    "weights of classes": (
        lambda: {"state_dict": {**under("net."), "loss_fn.weight": torch.ones(3)}},
        ["net.", "loss_fn.weight"],
    ),
    "loss beside bare names": (
        lambda: {**state(), "criterion.weight": torch.ones(3)},
        ["criterion.weight"],
    ),
    "metric": (
        lambda: {"state_dict": {**under("net."), "val_confmat.confmat": torch.ones(3, 3)}},
        ["net.", "val_confmat.confmat"],
    ),
    "tables": (
        lambda: {**state(), "layers.0.attn.relative_position_index": torch.ones(4, 4).long()},
        ["relative_position_index"],
    ),
    "Lightning": (
        lambda: {
            "epoch": 3,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": under("model."),
            "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.9)}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
            "hyper_parameters": {"args": argparse.Namespace(lr=0.1), "best": np.float64(1)},
        },
        ["model."],
    ),
    "best accuracy": (
        lambda: {"epoch": 9, "state_dict": under("module."), "best_acc1": torch.tensor(71.3)},
        ["module."],
    ),
    "unusual prefix": (lambda: under("encoder.trunk.backbone."), ["encoder.trunk.backbone."]),
    "optimizer": (
        lambda: {
            "model": state(),
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        },
        [],
    ),
    "moving average": (
        lambda: {"state_dict": state(), "state_dict_ema": {k: v + 1 for k, v in state().items()}},
        ["state_dict_ema"],
    ),
    "numpy scalars": (
        lambda: {
            "state_dict": state(),
            "best": np.float64(0.9),
            "auc": np.float32(0.9),
            "epoch": np.int64(3),
            "done": np.bool_(True),
        },
        [],
    ),
    "numpy array": (lambda: {"state_dict": state(), "curve": np.arange(5.0)}, []),
    "namespace": (
        lambda: {"state_dict": state(), "args": argparse.Namespace(lr=0.1, out=Path("/x"))},
        [],
    ),
    "other values": (
        lambda: {
            "state_dict": OrderedDict(state()),
            "hyper_parameters": {"sizes": [1, (2, 3)], "root": pathlib.PurePosixPath("/x")},
            "counts": defaultdict(list, a=[1]),
            "device": torch.device("cpu"),
            "size": torch.Size([1, 2]),
        },
        [],
    ),
    "classes of its own": (
        lambda: {
            "state_dict": state(),
            "hparams": Hyper(),
            "levels": {Level.LOW: 1, (1, "a"): 2},
            "kinds": {Hyper: {"best": torch.tensor(0.9)}},
            "seen": {1, 2},
            "when": datetime.datetime.now(),
            "dtype": np.dtype("float32"),
            "draws": np.random.RandomState(0),
        },
        [],
    ),
    "weights in a dictionary of its own": (lambda: Settings(net=Settings(state())), []),
    "average of the weights": (
        lambda: {**under("model."), **under("ema_model.", {k: v + 1 for k, v in state().items()})},
        ["model.", "ema_model.", "--strip-prefix"],
    ),
    "weights beside weights": (
        lambda: {"state_dict": state(), **{k: v + 1 for k, v in state().items()}},
        ["not used"],
    ),
    "another key": (lambda: {"best": {"weights_of_it": state()}}, ["best.weights_of_it"]),
    "a whole network": (whole, ["whole network", "Sequential", "none of its code was run"]),
    "a whole network in a dictionary": (
        lambda: {"epoch": 3, "model": nn.DataParallel(whole())},
        ["torch.nn.parallel.data_parallel.DataParallel", "module."],
    ),
    "attributes on tensors": (marked, []),
    "other type": (lambda: {k: v.double() for k, v in state().items()}, []),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_training_scripts_are_read(name, zipped) -> None:
    make, named = READ[name]
    network, notes = read(saved(make(), _use_new_zipfile_serialization=zipped))
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, state()[key])
    assert len(notes) == len(set(notes))
    for one in named:
        assert one in " ".join(notes)
    assert bool(notes) == bool(named)


def test_a_dictionary_of_a_library_that_is_not_here_stands_for_itself() -> None:
    content = saved({"state_dict": state(), "hyper_parameters": Settings(a=1)})
    ours = f"{Settings.__module__}\n{Settings.__name__}\n".encode()
    theirs = b"pytorch_lightning.utilities.parsing\nAttributeDict\n"
    network, _ = read(with_pickle(content, lambda data: data.replace(ours, theirs)))
    torch.testing.assert_close(network.state_dict()["0.bias"], state()["0.bias"])


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


def test_a_copy_of_the_same_weights_is_not_another_network() -> None:
    network, _ = read(saved({**under("student."), **under("teacher.")}))
    torch.testing.assert_close(network.state_dict()["6.bias"], state()["6.bias"])


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


def test_a_bundle_keeps_what_was_said_of_its_weights(tmp_path) -> None:
    torch.save(
        {"state_dict": {**under("model."), "criterion.weight": torch.ones(3)}}, tmp_path / "w"
    )
    network = {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 3,
        "block_config": [1],
        "init_features": 4,
        "growth_rate": 2,
    }
    from monai.networks.nets import DenseNet

    torch.save(
        {
            "state_dict": {
                **under("model.", DenseNet(**network).state_dict()),
                "best": torch.ones(()),
            }
        },
        tmp_path / "w.ckpt",
    )
    bundle = wrap(
        "monai.networks.nets.DenseNet",
        tmp_path / "w.ckpt",
        CLASSES,
        tmp_path / "b",
        network_args=network,
        size=[32, 32],
    )
    said = " ".join(str(one) for one in load_classifier(bundle).settings if one.name == "weights")
    assert "model." in said
    assert "best" in said
    # The bundle's own weights are plain, so that nothing has to be said of them.
    assert not [note for note in load_classifier(bundle).notes if "weights" in note]
    content = json.loads((bundle / "configs/metadata.json").read_text())
    assert "w.ckpt" in json.dumps(content)


def small_densenet() -> tuple[nn.Module, dict[str, Any]]:
    from monai.networks.nets import DenseNet

    torch.manual_seed(2)
    arguments = {"init_features": 4, "growth_rate": 2, "block_config": [1]}
    network = DenseNet(spatial_dims=2, in_channels=1, out_channels=3, **arguments).eval()
    return network, arguments


def predicts_as(network: nn.Module, bundle: Path) -> bool:
    """Whether a bundle's network gives what the plain PyTorch network gives."""
    noise = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            load_classifier(bundle).network(noise), network(noise), atol=1e-6, rtol=0
        )
    return True


def wrapped(out: Path, weights: Any, **options: Any) -> Path:
    _, arguments = small_densenet()
    return wrap(
        "monai.networks.nets.DenseNet", weights, CLASSES, out, network_args=arguments,
        spatial_dims=2, size=[32, 32], **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt", "pth.tar", "safetensors"])
def test_a_file_of_each_kind_predicts_as_the_network_does(tmp_path, suffix) -> None:
    network, _ = small_densenet()
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(network.state_dict(), path)
    else:
        torch.save({"state_dict": under("model.", network.state_dict()), "epoch": 3}, path)
    assert predicts_as(network, wrapped(tmp_path / "bundle", path))


def test_weights_in_several_files_are_one_state_dict(tmp_path) -> None:
    network, _ = small_densenet()
    named = list(under("model.", network.state_dict()).items())
    parts = [tmp_path / f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for part, values in zip(parts, (named[::2], named[1::2]), strict=True):
        safetensors.torch.save_file(dict(values), part)
    assert predicts_as(network, wrapped(tmp_path / "bundle", parts))
    with pytest.raises(InputError) as error:
        wrapped(tmp_path / "twice", [parts[0], parts[0]])
    assert error.value.code is ErrorCode.NAME_DUPLICATE


def test_a_key_and_a_prefix_choose_the_weights(tmp_path) -> None:
    network, _ = small_densenet()
    values = network.state_dict()
    other = {key: value + 1 for key, value in values.items()}
    path = tmp_path / "w.pt"
    torch.save(
        {
            "model": other,
            "ema": {**under("a.", values), **under("b.", other), "head.weight": torch.ones(9)},
        },
        path,
    )
    assert not same(network, wrapped(tmp_path / "first", path))
    with pytest.raises(ClassifierError, match=r"ema\.a.*ema\.b.*--state-key") as ambiguous:
        wrapped(tmp_path / "second", path, state_key="ema")
    assert ambiguous.value.code is WEIGHTS
    chosen = wrapped(tmp_path / "third", path, state_key="ema", strip_prefix="a.")
    assert predicts_as(network, chosen)
    said = " ".join(str(one) for one in load_classifier(chosen).settings if one.name == "weights")
    assert "b, head" in said
    assert predicts_as(
        network, wrapped(tmp_path / "dotless", path, state_key="ema", strip_prefix="a")
    )
    for options, named in (
        ({"state_key": "emma"}, "ema"),
        ({"state_key": "ema", "strip_prefix": "c."}, "a."),
    ):
        with pytest.raises(InputError) as unknown:
            wrapped(tmp_path / "fourth", path, **options)
        assert unknown.value.code is ErrorCode.NAME_UNKNOWN
        assert named in str(unknown.value)
    assert not (tmp_path / "fourth").exists()


def same(network: nn.Module, bundle: Path) -> bool:
    noise = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        return torch.allclose(load_classifier(bundle).network(noise), network(noise), atol=1e-6)


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
