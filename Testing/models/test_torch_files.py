"""What ``torch.save`` and ``pickle`` wrote is read as torch reads it, and nothing of it runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.weights import read_weights

TYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.uint16),
]


def tensors() -> dict[str, Tensor]:
    """Tensors of each type, and views of one storage."""
    torch.manual_seed(0)
    whole = torch.randn(4, 5, 6)
    return {
        **{str(kind): (torch.randn(3, 2) * 9).abs().to(kind) for kind in TYPES},
        "number": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "whole": whole,
        "part": whole[1:, ::2],
        "turned": whole.permute(2, 0, 1),
        "repeated": torch.tensor([[1.0], [2.0]]).expand(2, 1000),
        "parameter": nn.Parameter(whole[0].clone()),
        "image": MetaTensor(whole, meta={"name": "x"}),
    }


def written(way: str, content: Any) -> bytes:
    stream = io.BytesIO()
    if way == "legacy":
        torch.save(content, stream, _use_new_zipfile_serialization=False)
    elif way.startswith("pickle"):
        pickle.dump(content, stream, protocol=int(way[-1]))
    else:
        torch.save(content, stream, pickle_protocol=int(way[-1]))
    return stream.getvalue()


@pytest.mark.parametrize("way", ["zip 2", "zip 4", "zip 5", "legacy", "pickle 2", "pickle 4"])
def test_every_tensor_is_what_torch_reads(way) -> None:
    given = tensors()
    if way == "legacy" or way.startswith("pickle"):
        del given["torch.float8_e4m3fn"], given["torch.uint16"]
    content = written(way, given)
    expected = (
        pickle.loads(content)
        if way.startswith("pickle")
        else torch.load(io.BytesIO(content), weights_only=False)
    )
    read = read_weights(content, "w.pt").groups[""].tensors
    assert list(read) == list(expected)
    for key, value in expected.items():
        plain = value.as_tensor() if isinstance(value, MetaTensor) else value.detach()
        assert read[key].dtype is plain.dtype, key
        assert type(read[key]) is Tensor
        raw = [
            one.contiguous().view(torch.uint8) if one.ndim else one for one in (read[key], plain)
        ]
        assert torch.equal(*raw), key


def test_numbers_of_a_machine_with_another_order_of_bytes_are_turned() -> None:
    content = written("zip 2", {"a": torch.tensor([1.0, -2.5])})
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as out,
    ):
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith("byteorder"):
                data = b"big"
            elif info.filename.endswith("data/0"):
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            out.writestr(info.filename, data)
    read = read_weights(stream.getvalue(), "w.pt").groups[""].tensors
    assert torch.equal(read["a"], torch.tensor([1.0, -2.5]))


class Trained:
    """An object of a training script that is no network and holds one."""

    def __init__(self) -> None:
        self.network = nn.Linear(3, 2)

    def state_dict(self) -> dict[str, Tensor]:
        return self.network.state_dict()


def test_an_object_is_read_only_with_trust_which_runs_its_code() -> None:
    trained = Trained()
    content = written("zip 2", trained)
    with pytest.raises(ClassifierError) as error:
        read_weights(content, "w.pt")
    assert error.value.code is ErrorCode.MODEL_UNTRUSTED
    assert "Trained" in str(error.value)
    read = read_weights(content, "w.pt", trust=True).groups[""].tensors
    assert torch.equal(read["weight"], trained.network.weight)


def test_trust_does_not_run_what_weights_never_need(tmp_path) -> None:
    mark = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(mark)!r}, 'w')",)

    content = written("zip 2", {"state_dict": {"a": torch.ones(2)}, "x": Attack()})
    with pytest.raises(ClassifierError) as error:
        read_weights(content, "w.pt", trust=True)
    assert error.value.code is ErrorCode.MODEL_UNTRUSTED
    assert "exec" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (2, (3,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(offset, size, stride) -> None:
    storage = torch.arange(4.0).untyped_storage()

    class Beyond:
        def __reduce__(self):
            typed = torch.storage.TypedStorage(
                wrap_storage=storage, dtype=torch.float32, _internal=True
            )
            return torch._utils._rebuild_tensor_v2, (typed, offset, size, stride, False, {})

    with pytest.raises(ClassifierError) as error:
        read_weights(written("zip 2", {"a": Beyond()}), "w.pt")
    assert error.value.code in (ErrorCode.FILE_DAMAGED, ErrorCode.MODEL_REFUSED)
