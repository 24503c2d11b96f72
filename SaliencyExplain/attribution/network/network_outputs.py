"""What a network returns, and which part of it holds the class scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from SaliencyExplain.errors import ClassifierError, ErrorCode


def outputs_by_path(result: Any) -> dict[str, Any]:
    """The parts of what a network returns, each under its path.

    Args:
        result: A tensor, or tuples, lists, dictionaries and dataclasses of tensors, nested
            in any way. Nodes of a traced graph may stand for the tensors.

    Returns:
        Path to part, in order. A path is made of indices and keys with dots between them
        (``logits``, ``1``, ``0.heads``); that of a tensor by itself is empty. What is None
        is left out.
    """
    return {".".join(path): value for path, value in _walk(result, ())}


def is_scores(value: Any) -> bool:
    """Whether a part has the shape of class scores: ``(B, K)``, or that with axes of length 1."""
    return (
        isinstance(value, Tensor)
        and value.ndim >= 2
        and value.is_floating_point()
        and all(size == 1 for size in value.shape[2:])
    )


def path_of_scores(result: Any, path: str | None) -> str:
    """The path of the class scores in what a network returned.

    Args:
        result: What the network returned; tensors, no nodes.
        path: The path that was decided; None where it has to be the only part of their shape.

    Raises:
        ClassifierError: There is no such part, or several have the shape of class scores.
    """
    parts = outputs_by_path(result)
    if path is not None:
        if path not in parts:
            raise ClassifierError(
                ErrorCode.MODEL_OUTPUT,
                f"Output '{path}': the network does not return it for this image. Use one of its "
                f"outputs: {described(parts)}.",
            )
        return path
    if len(parts) == 1:
        return next(iter(parts))
    fitting = [name for name, part in parts.items() if is_scores(part)]
    if len(fitting) != 1:
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            f"Output: the network returns several, and {len(fitting) or 'none'} of them have the "
            f"shape of class scores: {described(parts)}. Give the name of one.",
        )
    return fitting[0]


def scores_in(result: Any, path: str | None) -> Any:
    """The part of what a network returned that holds the class scores.

    Raises:
        ClassifierError: As :func:`path_of_scores`.
    """
    if isinstance(result, Tensor) and not path:
        return result
    return outputs_by_path(result)[path_of_scores(result, path)]


def described(parts: Mapping[str, Any]) -> str:
    """The parts with their shapes, in words."""
    return ", ".join(
        f"'{name}' ({'x'.join(map(str, part.shape))})"
        if isinstance(part, Tensor)
        else f"'{name}' ({type(part).__name__})"
        for name, part in parts.items()
    )


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        inner: Any = value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        inner = zip(value._fields, value, strict=True)
    elif isinstance(value, (tuple, list)):
        inner = enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        if value is not None:
            yield path, value
        return
    for name, part in inner:
        yield from _walk(part, (*path, str(name)))
