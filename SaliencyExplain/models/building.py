"""What building a network out of an untrusted configuration may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from SaliencyExplain.attribution.passes.batches import free_memory
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.memory_limit import memory_limited

#: Layers and blocks of a network. The largest of timm have some 3,000.
_MOST_MODULES = 20_000
#: Share of the free memory that a network and its first image may take.
_SHARE = 0.9
#: Whether layers are counted here; other threads build networks of their own.
_building: ContextVar[bool] = ContextVar("building", default=False)


@contextmanager
def building_limited(name: str) -> Iterator[None]:
    """Limits the memory and the number of layers of what is built in the block.

    A configuration of a few lines can ask for a million blocks, or for a layer of terabytes.

    Args:
        name: Of the model, for the message.

    Raises:
        ClassifierError: Out of the block, where more layers are made.
    """
    made = 0

    def count(_module: nn.Module, _name: str, _part: Any) -> None:
        nonlocal made
        made += _building.get()
        if made > _MOST_MODULES:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{name} is refused: its network has more than {_MOST_MODULES} layers.",
            )

    token = _building.set(True)
    hook = register_module_module_registration_hook(count)
    try:
        with memory_limited(_SHARE * free_memory(torch.device("cpu"))):
            yield
    finally:
        hook.remove()
        _building.reset(token)
