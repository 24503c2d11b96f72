"""Refusing weights that contain NaN or infinite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.onnx_files import libraries, read_model
from SaliencyExplain.models.targets import shown


def check_finite(network: nn.Module, name: str) -> None:
    """Refuses a network with a parameter or buffer that is not finite.

    Tensors of integers are skipped. A buffer of two or more axes may be an attention mask, which
    consists of 0 and -inf.

    Args:
        network: With its weights.
        name: Of the weights, for the message.

    Raises:
        ClassifierError: The first such tensor is named.
    """
    parameters = {key for key, _ in network.named_parameters(remove_duplicate=False)}
    for key, tensor in network.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            continue
        count = _not_finite(tensor.detach())
        if count and (key in parameters or not _is_mask(tensor)):
            raise _refusal(name, key, count, tensor.numel())


def check_onnx_finite(content: bytes, name: str) -> None:
    """Refuses an ONNX file with weights that are not finite.

    Single numbers without an axis are skipped: they are bounds of operators such as ``Clip``.

    Args:
        content: The file's bytes, with all weights in it.
        name: The file's name, for the message.

    Raises:
        ClassifierError: The first such tensor is named; or a tensor of the file is damaged.
    """
    onnx, _ = libraries(name)
    kinds = onnx.TensorProto
    floats = (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16)
    graph = read_model(onnx, content, name).graph
    held = [(one.name, one) for one in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            held += [(node.output[0], one.t) for one in node.attribute if one.name == "value"]
    for key, stored in held:
        if stored.data_type in floats and len(stored.dims):
            tensor = _onnx_tensor(onnx, key, stored, name)
            count = _not_finite(tensor)
            if count and not _is_mask(tensor):
                raise _refusal(name, key, count, tensor.numel())


def _onnx_tensor(onnx: Any, key: str, stored: Any, name: str) -> Tensor:
    try:
        return torch.from_numpy(onnx.numpy_helper.to_array(stored).astype(np.float64))
    except Exception as error:
        # The library raises several kinds of errors for numbers that do not fit the shape.
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} is damaged: the numbers of its tensor {shown(key)} do not fit its shape. "
            "Export or download it again.",
        ) from error


def _not_finite(tensor: Tensor) -> int:
    """How many numbers of a tensor are NaN or infinite; 0 for integers."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    return int(tensor.numel() - torch.isfinite(tensor).sum())


def _is_mask(tensor: Tensor) -> bool:
    return tensor.ndim > 1 and bool(((tensor == 0) | (tensor == -torch.inf)).all())


def _refusal(name: str, key: str, count: int, size: int) -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_NOT_FINITE,
        f"{name} has weights that are not finite: {count} of the {size} numbers in the tensor "
        f"{shown(key)} are NaN or infinite. Use weights of an earlier epoch, from before the "
        "training diverged.",
    )
