"""Weight files and configurations made to hang, to end the process or to be read in two ways.

A file that a usual unpickler were given would hang the test.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
import torch

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.configuration import parse_text
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.torch_files import read_torch_file
from SaliencyExplain.models.weights import read_weights

MAGIC = 0x1950A86A20F9469CFC6C
SIZES = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
BEFORE = b"".join(pickle.dumps(one, 2) for one in (MAGIC, 1001, SIZES))
LEGACY = BEFORE + pickle.dumps({"a": 1}, 2)
KEYS = pickle.dumps([], 2)
ORDERED = b"\x80\x02ccollections\nOrderedDict\n"
DOUBLED = b"K\x01\x85q\x00" + b"h\x00\x86q\x00" * 12
FARTHEST = b"\x8a\x08" + struct.pack("<q", 2**61 - 1)

HOSTILE = {
    "hang in the fifth pickle": LEGACY
    + b"\x80\x02}K\x01\x85q\x00"
    + b"h\x00\x86q\x00" * 60
    + b"Ns.",
    "crash in the fifth pickle": LEGACY + b"\x80\x02})" + b"\x85" * 2_000_000 + b"Ns.",
    "no list of keys": LEGACY + pickle.dumps({"a": 1}, 2),
    "tuple as key": BEFORE + b"\x80\x02}" + DOUBLED + b"Ns." + KEYS,
    "tuple as key of an OrderedDict": BEFORE + ORDERED + b")R" + DOUBLED + b"Ns." + KEYS,
    "OrderedDict of a pair": BEFORE + ORDERED + b"](" + DOUBLED + b"N\x86e\x85R." + KEYS,
    "key of a storage": BEFORE + b"\x80\x02(X\x07\x00\x00\x00storageN" + DOUBLED + b"NNNtQ." + KEYS,
    "colliding integers": BEFORE + b"\x80\x02}" + FARTHEST + b"Ns." + KEYS,
    "colliding integers at once": BEFORE + b"\x80\x02}(K\x00N" + FARTHEST + b"Nu." + KEYS,
    "very many tuples": BEFORE + pickle.dumps({(n,): 1 for n in range(2_000)}, 2) + KEYS,
    "very many integers": BEFORE + pickle.dumps(dict.fromkeys(range(60_000)), 2) + KEYS,
    "infinity": BEFORE + pickle.dumps({float("inf"): 1}, 2) + KEYS,
    "colliding numbers of the memo": b"\x80\x02Np" + str(2**61 - 1).encode() + b"\n.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_is_slow_to_hash_is_refused(name) -> None:
    with pytest.raises(ClassifierError) as error:
        read_torch_file(HOSTILE[name], "w.pt")
    assert error.value.code in (ErrorCode.MODEL_REFUSED, ErrorCode.FILE_DAMAGED)
    assert "w.pt" in str(error.value)


def test_attributes_of_a_dictionary_are_not_hashed() -> None:
    attributes = ORDERED + b")R](" + DOUBLED + b"N\x86eb."
    assert read_torch_file(BEFORE + attributes + KEYS, "w.pt") == {}


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def test_a_storage_that_a_legacy_file_leaves_out_is_refused() -> None:
    content = saved({"a": torch.ones(3)}, _use_new_zipfile_serialization=False)
    keys_at = content.rindex(b"\x80\x02]")
    with pytest.raises(ClassifierError) as error:
        read_torch_file(content[:keys_at] + KEYS, "w.pt")
    assert error.value.code is ErrorCode.FILE_DAMAGED


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_writes_is_read(zipped) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    old = torch.optim.Adam(network.parameters()).state_dict()
    old["state"] = {140_234_567_890_123 + number: {} for number in range(3)}
    content = {
        "state_dict": OrderedDict(network.state_dict()),
        "optimizer_states": [optimizer.state_dict(), old],
        "lr": {0.1: 1, None: 2, True: 3, -1: 4},
    }
    read = read_weights(saved(content, _use_new_zipfile_serialization=zipped), "w.ckpt")
    for key, value in network.state_dict().items():
        assert torch.equal(read.groups["state_dict"].tensors[key], value)


def packed(parts: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, part in parts:
            archive.writestr(name, part)
    return stream.getvalue()


def parts_of(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


PLAIN = saved({"a": torch.arange(3.0)})
OTHER = pickle.dumps({"b": 1}, 2)


@pytest.mark.parametrize(
    ("told", "content"),
    [
        ("data.pkl", packed([("archive/DATA.PKL", OTHER), *parts_of(PLAIN)])),
        ("data/0", packed([*parts_of(PLAIN), ("ARCHIVE/data/0", bytes(12))])),
        ("x", packed([*parts_of(PLAIN), ("archive\\x", b"")])),
        ("before it", LEGACY + KEYS + PLAIN),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_torch_may_read_in_another_way_is_refused(told, content) -> None:
    with pytest.raises(ClassifierError) as error:
        read_weights(content, "w.pt")
    assert error.value.code is ErrorCode.MODEL_REFUSED
    assert told.lower() in str(error.value).lower()


def test_other_parts_of_a_zip_are_not_read() -> None:
    content = packed([*parts_of(PLAIN), ("other/DATA.PKL", OTHER), ("archive/x", b"1")])
    assert torch.equal(read_weights(content, "w.pt").groups[""].tensors["a"], torch.arange(3.0))


@pytest.mark.parametrize(
    "text",
    [
        "x: !!bool foo",
        'x: !!int ""',
        'x: !!float ""',
        "x: !!int 1:1:1",
        "x: !!float 1:1.5",
        "x: !!bool [a]",
        "2305843009213693951: 1",
        "a: &a {b: 1}\nx: {<<: [" + "*a," * 200 + "]}",
    ],
)
def test_a_value_of_yaml_that_is_none_is_named(text) -> None:
    with pytest.raises(ClassifierError) as error:
        parse_text(text.encode(), "inference.yaml")
    assert error.value.code is ErrorCode.MODEL_CONFIGURATION
    assert "inference.yaml" in str(error.value)


def test_numbers_of_yaml_are_decimal() -> None:
    long = ":".join(["1"] * 300_000)  # as a number of base 60 it takes half a minute
    text = (
        f"a: [0, -12, +3, 1.5, -.5, 2., 1e-3, 1.5e+3, .inf, -.inf, true, no, null, ~]\nb: {long}\n"
        "c: [1:30, 0x1F, 2020-01-01, !!timestamp foo, !!float 3]"
    )
    content = parse_text(text.encode(), "inference.yaml")
    inf = float("inf")
    values = [0, -12, 3, 1.5, -0.5, 2.0, 0.001, 1500.0, inf, -inf, True, False, None, None]
    assert content["a"] == values
    assert list(map(type, content["a"])) == list(map(type, values))
    assert content["b"] == long
    assert content["c"] == ["1:30", "0x1F", "2020-01-01", "foo", 3.0]
    assert type(content["c"][-1]) is float


@pytest.mark.parametrize("size", ["abc", {"a": 1}, None, [], [[1], [2]], [1, 2]])
def test_a_size_that_is_none_is_named(bundle, edit_json, size) -> None:
    step = {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": size}
    edit_json(
        bundle / "configs/inference.json",
        lambda content: content["preprocessing"]["transforms"].append(step),
    )
    with pytest.raises(ClassifierError) as error:
        load_classifier(bundle)
    assert error.value.code is ErrorCode.MODEL_CONFIGURATION
    assert "ResizeWithPadOrCropd" in str(error.value)
