"""On what an explanation is computed, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.spec import DEFAULT_LIMITS, Limits


@dataclass(frozen=True)
class Compute:
    """On what something is computed, and within which limits.

    Attributes:
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``.
        limits: What the computation may take.
    """

    device: str = "auto"
    limits: Limits = DEFAULT_LIMITS


#: A GPU where there is one, without limits, in float32.
AUTOMATIC = Compute()


def choose_device(name: str) -> torch.device:
    """The device of that name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda:N``.

    Raises:
        InputError: There is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise InputError(ErrorCode.DEVICE, f"Device '{name}' is unknown: use auto, cpu or cuda:N.")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        have = f"it has {count} GPU(s)" if count else "torch finds no GPU on it"
        raise InputError(
            ErrorCode.DEVICE, f"Device '{name}' is not on this machine: {have}. Use auto or cpu."
        )
    return torch.device(kind, int(index or 0))
