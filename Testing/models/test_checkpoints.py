"""Checkpoints as training scripts write them: which are read, and what is said of them."""

from __future__ import annotations

import argparse
import datetime
import enum
import pathlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from Testing.models.checkpoint_files import (
    Hyper,
    State,
    read,
    saved,
    state,
    under,
    with_pickle,
)
from Testing.models.conftest import small_network


class Settings(dict[str, Any]):
    """Stands in the file for a dictionary of a library that is not installed here."""


class Level(enum.Enum):
    """A choice of a training script's own."""

    LOW = 1


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


def test_a_copy_of_the_same_weights_is_not_another_network() -> None:
    network, _ = read(saved({**under("student."), **under("teacher.")}))
    torch.testing.assert_close(network.state_dict()["6.bias"], state()["6.bias"])
