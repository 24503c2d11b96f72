"""Networks in bfloat16 or float16, computed in float32.

bfloat16 has eight binary digits, so that a score of 5 changes in steps of 0.03. This is as large
as the effect of an occlusion window, and the map is mostly rounding. The weights are exact in
float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HALVES = (torch.bfloat16, torch.float16)

_CASTS = (Tensor.bfloat16, Tensor.half)


class Float32(TorchFunctionMode):
    """Keeps computations in float32, even if they request half precision or autocast."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _CASTS:
            return args[0].float()
        given = [_raised(one) for one in args]
        named = {name: _raised(one) for name, one in (kwargs or {}).items()}
        for kind in {one.device.type for one in given if isinstance(one, Tensor)}:
            if torch.is_autocast_enabled(kind):
                with torch.autocast(kind, enabled=False):
                    return func(*given, **named)
        return func(*given, **named)


class SeenHalves(TorchFunctionMode):
    """Detects whether any operation returns a tensor of half precision.

    Attributes:
        dtype: The last one that was seen.
    """

    dtype: torch.dtype | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.dtype in HALVES:
            self.dtype = found.dtype
        return found


def half_weights(network: nn.Module) -> torch.dtype | None:
    """The half precision of a network's weights; None: it has no such weights."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.dtype in HALVES:
            return tensor.dtype
    return None


def in_float32(network: nn.Module) -> nn.Module | None:
    """A copy of a network with its weights in float32; None: it cannot be copied."""
    try:
        return copy.deepcopy(network).float()
    # What deepcopy and float() raise for compiled, exported and quantised networks.
    except (RuntimeError, TypeError, AttributeError, NotImplementedError):
        return None


def _raised(value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in HALVES else value


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Lets a network compute in a precision, ``float32`` or ``bfloat16``; its weights stay."""
    lower = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower, cache_enabled=False)
