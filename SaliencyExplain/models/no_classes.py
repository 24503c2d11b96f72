"""Detection of outputs that are not scores of classes, by their values for synthetic images."""

from __future__ import annotations

import torch
from torch import Tensor

#: Greatest relative difference between sums, and between differences of logits, that are equal.
_ROUNDING = 1e-5
#: Least change from image to image of outputs that are not the same for each.
_MOVES = 1e-3
#: Probabilities from this to 1 minus this have logits that float32 holds to four digits.
_INSIDE = 1e-3


def in_doubt(values: Tensor) -> bool:
    """Whether more images are needed to determine the kind of the outputs.

    Args:
        values: Outputs ``(images, K)`` in float64, of two or more classes.
    """
    one_sign = bool((values >= 0).all() or (values <= 0).all())
    probabilities = bool((values <= 1 + 1e-6).all() and (values >= 0).all())
    hard = bool(((values == 0) | (values == 1)).all())
    logarithms = bool((values <= 0).all()) and _sums_to(values.exp(), 1)
    same = bool((values == values[:1]).all())
    return hard or same or (one_sign and not (probabilities or logarithms))


def no_classes(values: Tensor, kind: str, last: set[str]) -> str:
    """Why the outputs are not scores of classes, as a sentence; empty if they may be.

    Args:
        values: Outputs ``(images, K)`` in float64, of two or more classes.
        kind: What kind of numbers they are
            (:data:`SaliencyExplain.models.output_meaning.Kind`).
        last: Names of the last operations of the network that do more than arrange values;
            empty where they are not known, or let no gradient through.
    """
    images = f"for each of {len(values)} synthetic images"
    if len(values) > 1 and not last and bool(((values == 0) | (values == 1)).all()):
        return (
            f"The network's outputs are 0 or 1 {images} and have no gradient: they are decisions "
            "and not scores of classes. Change the network to return the scores before the "
            "decision."
        )
    if last & {"Cumprod", "Cumsum", "Cummax", "Cummin", "Logcumsumexp"}:
        return (
            "The network's outputs are not scores of classes: it ends in a cumulative operation "
            f"({', '.join(sorted(last))}), as ordinal regression and survival curves do, so that "
            "each of them contains the next."
        )
    if kind == "probabilities" and _shifted_probabilities(values):
        return (
            "The network's outputs are not scores of classes: they are cumulative probabilities "
            f"of one quantity (the differences between their logits are the same {images}), as in "
            "ordinal regression."
        )
    if kind != "logits":
        return ""
    if _shifted(values):
        return (
            "The network's outputs are not scores of classes: their differences are the same "
            f"{images}, as those of the thresholds of an ordinal regression."
        )
    moves = bool((values - values[:1]).abs().max() > _MOVES)
    if moves and bool((values >= 0).all()):
        if _sums_to((-values).exp(), 1):
            return (
                "The network's outputs are negative log-likelihoods (-log p), of which the "
                "smallest is that of the likeliest class. Change the network to return log p, or "
                "the logits."
            )
        total = float(values[0].sum())
        if _sums_to(values, total):
            return (
                f"The network's outputs are never negative and sum to {total:.4g} {images}: they "
                f"are probabilities times {total:.4g} and not logits. Change the network to "
                f"return them divided by {total:.4g}, with the activation none, or its logits."
            )
    if bool((values <= 0).all()) and last and last <= {"LogSigmoid", "Log"}:
        return (
            "The network's outputs are logarithms of probabilities that do not sum to 1 (it ends "
            "in a log-sigmoid or logarithm), not logits. Change the network to return its "
            "logits, with the activation sigmoid."
        )
    return ""


def falling(values: Tensor) -> bool:
    """Whether three or more outputs never rise from one to the next, whatever the image.

    Args:
        values: Outputs ``(images, K)``.
    """
    steps = values.diff(dim=1)
    return bool(values.shape[1] > 2 and (steps <= 0).all() and (steps < 0).any())


def _sums_to(values: Tensor, total: float) -> bool:
    """Whether the values of each image have this sum."""
    return bool(((values.sum(dim=1) - total).abs() <= _ROUNDING * abs(total)).all())


def _shifted(values: Tensor, rounding: float = _ROUNDING) -> bool:
    """Whether the differences between the outputs are the same for each image, they are not."""
    spread = float((values - values[:1]).abs().max())
    shape = (values - values[:, :1]) - (values[:1] - values[:1, :1])
    return spread > _MOVES and float(shape.abs().max()) < rounding * spread


def _shifted_probabilities(values: Tensor) -> bool:
    """The same of the logits of probabilities."""
    inside = ((values > _INSIDE) & (values < 1 - _INSIDE)).all(dim=1)
    return bool(inside.sum() > 1) and _shifted(torch.logit(values[inside]), 1e-2)
