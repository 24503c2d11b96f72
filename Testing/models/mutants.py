"""Damaged and hostile forms of weight files and bundles, each made from a seed."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

#: Values that a program may not have thought of where it expects another.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**40, 1e308, -1e-308, 0.5),
    *("", "x", "0", "image", "$1", "@network_def", "%x", "\x1b[31m", "\u202ex", "a\nb", "é" * 40),
    *([], [0], [[[]]], {}, {"a": 1}, {"_target_": "torch.nn.ReLU"}, {"_target_": 3}),
    *("torch.nn.Linear", "DenseNet121", "os.system", "Compose", "Flipd", ["x"] * 50, [10**9] * 3),
)


def of_bytes(content: bytes, seed: int) -> bytes:
    """A file with some of its bytes changed, cut off, doubled or moved."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(7):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at:]
            case 2:
                del data[at : at + chance.randrange(1, 64)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 64))
            case 4:
                data[at : at + 8] = b"\xff" * 8
            case 5:
                other = chance.randrange(len(data)) if data else 0
                data[at : at + 32] = data[other : other + 32]
            case _:
                data[at : at + 4] = chance.choice((2**31 - 1, 0, 2**16)).to_bytes(4, "little")
    return bytes(data)


def of_pickle(content: bytes, seed: int) -> bytes:
    """A weight file whose pickle is changed and whose zip is whole."""
    chance = random.Random(seed)
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as out,
    ):
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith("data.pkl") and chance.random() < 0.9:
                data = of_bytes(data, seed)
            elif chance.random() < 0.1:
                data = of_bytes(data, seed + 1) if chance.random() < 0.5 else b""
            out.writestr(info.filename, data)
    return stream.getvalue()


def of_state(state: dict[str, torch.Tensor], seed: int) -> bytes:
    """A weight file with tensors and values that do not fit the network."""
    chance = random.Random(seed)
    changed: dict[Any, Any] = dict(state)
    for _ in range(chance.choice((1, 1, 3))):
        key = chance.choice(list(changed))
        value = changed.pop(key)
        kind = chance.randrange(14)
        plain = isinstance(value, torch.Tensor) and value.layout is torch.strided
        plain = plain and value.device.type == "cpu" and value.numel() < 10**6
        tensor = value if plain else torch.ones(2)
        made: tuple[Callable[[], Any], ...] = (
            lambda t=tensor: t.to(torch.complex64),
            lambda t=tensor: t.to(torch.int8),
            lambda t=tensor: t.to_sparse(),
            lambda t=tensor: torch.empty(t.shape, device="meta"),
            lambda: torch.zeros(1).expand(10**6, 10**6),
            lambda t=tensor: t[None],
            lambda t=tensor: t.flatten()[:0],
            lambda t=tensor: t.double(),
            lambda t=tensor: t * float("nan"),
            lambda t=tensor: t.numpy(),
            lambda t=tensor: t.tolist(),
            lambda: chance.choice(VALUES),
            lambda: {"x": torch.ones(1)},
            lambda t=tensor: t.to(torch.bool),
        )
        changed[chance.choice((key, key, 3, (1, 2), f"{key}.x", f"module.{key}", ""))] = made[
            kind
        ]()
    wrapped = chance.choice((changed, {"state_dict": changed}, [changed], {"a": {"b": changed}}))
    stream = io.BytesIO()
    try:
        torch.save(wrapped, stream, _use_new_zipfile_serialization=chance.random() < 0.7)
    except (RuntimeError, TypeError, pickle.PicklingError):
        torch.save(state, stream)
    return stream.getvalue()


def of_document(document: Any, seed: int) -> Any:
    """A JSON document with some of its values, keys and lists changed."""
    chance = random.Random(seed)
    changed = json.loads(json.dumps(document))
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, place = changed, None
        while isinstance(at, (dict, list)) and at and (place is None or chance.random() < 0.75):
            holder = at
            place = chance.choice(list(at)) if isinstance(at, dict) else chance.randrange(len(at))
            at = at[place]
        if place is None:
            break
        match chance.randrange(5):
            case 0:
                del holder[place]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(("_target_", "_disabled_", "_mode_", "x", "pretrained"))] = (
                    copy.deepcopy(chance.choice(VALUES))
                )
            case 2 if isinstance(holder, list):
                holder *= chance.choice((0, 2, 50))
            case _:
                holder[place] = copy.deepcopy(chance.choice(VALUES))
    return changed


def of_bundle(bundle: Path, out: Path, seed: int) -> Path:
    """A bundle, as a folder or a zip, with something wrong with it."""
    chance = random.Random(seed)
    files = {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in bundle.rglob("*")
        if path.is_file()
    }
    config = chance.choice(("configs/inference.json", "configs/metadata.json"))
    match chance.randrange(6):
        case 0:
            files[config] = of_bytes(files[config], seed)
        case 1:
            name = "models/model.pt"
            files[name] = chance.choice((of_bytes, of_pickle))(files[name], seed)
        case 2:
            del files[chance.choice(list(files))]
        case _:
            files[config] = json.dumps(of_document(json.loads(files[config]), seed)).encode()
    if chance.random() < 0.3:
        zipped = out.with_suffix(".zip")
        with zipfile.ZipFile(zipped, "w") as archive:
            for name, content in files.items():
                hostile = f"{chance.choice(('../', '/', 'a/../../', 'C:/', ''))}{name}"
                archive.writestr(hostile if chance.random() < 0.05 else name, content)
        if chance.random() < 0.3:
            zipped.write_bytes(of_bytes(zipped.read_bytes(), seed))
        return zipped
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return out
