"""A device that computes on the CPU and insists on being another one.

Its tensors hold numbers, but torch and the code under test are told that they lie on the
device ``meta``. As on a GPU, an operation on tensors of two devices fails, and numbers come
back by ``.cpu()`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

DEVICE = torch.device("meta")

#: Copies from one device to another.
_MOVING = ("_to_copy", "copy_", "clone")


class Away(Tensor):
    """A tensor of the device; ``inner`` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Away:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=False,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Away({self.inner!r})"

    def numpy(self, *, force: bool = False) -> Any:
        """Fails as for a GPU's tensor."""
        raise TypeError("can't convert a device's tensor to numpy; use .cpu()")

    def tolist(self) -> Any:
        """Numbers, as of a GPU's tensor."""
        return self.inner.tolist()

    def __array__(self, *_: Any, **__: Any) -> Any:
        """Likewise."""
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def device() -> Iterator[None]:
    """Lets tensors be made on the device and moved to it."""
    with _Numbers(), _Operations():
        yield


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """Sends numbers of Python, which torch would drop for a device that holds none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            return sent(func(*args, **{**kwargs, "device": "cpu"}))
        if func is Tensor.new_tensor and isinstance(args[0], Away):
            return sent(args[0].inner.new_tensor(*args[1:], **kwargs))
        if func is Tensor.__getitem__ and isinstance(args[1], list):
            return args[0].index_select(0, sent(torch.tensor(args[1])))
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    away = [t for t in tensors if isinstance(t, Away)]
    name = func.overloadpacket.__name__
    asked = kwargs.get("device")
    if asked is not None:
        asked = torch.device(asked)
        kwargs = {**kwargs, "device": torch.device("cpu")}
        kwargs.pop("pin_memory", None)
    if away and len(away) < len(tensors) and name not in _MOVING:
        # A number with its own device may meet any other, and the CPU may say where to look.
        others = [t for t in tensors if not isinstance(t, Away) and t.ndim]
        if others and not name.startswith("index"):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    inner_args, inner_kwargs = tree_map_only(Away, lambda t: t.inner, (args, kwargs))
    out = func(*inner_args, **inner_kwargs)
    stays = asked.type == DEVICE.type if asked is not None else bool(away)
    if name == "copy_":
        stays = isinstance(args[0], Away)
    if not stays:
        return out
    flat, spec = tree_flatten(out)
    wrapped = tree_unflatten([Away(t) if isinstance(t, Tensor) else t for t in flat], spec)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if away else wrapped


def sent(values: Tensor) -> Tensor:
    """A tensor on the device; one that is there already stays as it is."""
    values = values.detach()
    return values if isinstance(values, Away) else Away(values)


def send(network: nn.Module) -> nn.Module:
    """Moves a network's weights to the device."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                wants = parameter.requires_grad
                module._parameters[name] = nn.Parameter(sent(parameter), requires_grad=wants)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = sent(buffer)
    return network
