"""Checks of the types of arguments, where the type hints alone do not refuse a wrong one."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from SaliencyExplain.errors import wrong_type


def path_of(name: str, given: Any) -> Path:
    """The path that a user gave.

    Args:
        name: Of the argument, for errors.
        given: A text or a path.

    Raises:
        InputError: It is neither.
    """
    if not isinstance(given, (str, PathLike)):
        raise wrong_type(name, "a path", given)
    return Path(given)


def number_of(name: str, given: Any) -> float:
    """The number that a user gave.

    Args:
        name: Of the argument, for errors.
        given: A number, also of numpy or torch.

    Raises:
        InputError: It is not one number.
    """
    numbers = numbers_of(name, given, "a number")
    if len(numbers) != 1:
        raise wrong_type(name, "a number", given)
    return numbers[0]


def numbers_of(name: str, given: Any, wanted: str = "a list of numbers") -> tuple[float, ...]:
    """The numbers that a user gave; a single number is a list of one.

    Args:
        name: Of the argument, for errors.
        given: A number, a list of numbers, or an array or tensor of one axis.
        wanted: What it must be, for errors.

    Raises:
        InputError: It is something else.
    """
    try:
        values = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        raise wrong_type(name, wanted, given) from None
    if values.ndim > 1 or values.dtype.kind not in "iuf":
        raise wrong_type(name, wanted, given)
    return tuple(float(value) for value in values.reshape(-1))


def network_of(given: Any) -> nn.Module:
    """The network that a user gave.

    Raises:
        InputError: It is not a module of torch.
    """
    if not isinstance(given, nn.Module):
        raise wrong_type("network", "a torch.nn.Module", given)
    return given
