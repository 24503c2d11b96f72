"""Comparing a model's predictions with known ones in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from SaliencyExplain.api.model_arguments import model_of
from SaliencyExplain.api.progress_bar import ProgressLike, shown
from SaliencyExplain.errors import wrong_type
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.inputs import input_of, is_path
from SaliencyExplain.models.known_predictions import known_prediction
from SaliencyExplain.models.model_check import TOLERANCE, ModelCheck, check_predictions


def check_model(
    model: Classifier | str | PathLike[str],
    known: Sequence[tuple[Any, float | str | Mapping[str, float]]],
    *,
    tolerance: float = TOLERANCE,
    progress: ProgressLike = None,
) -> ModelCheck:
    """Compares a model's predictions with known ones, and finds the settings that fit them.

    Args:
        model: As in :func:`explain`.
        known: For each image what the model is known to say of it: the probability of the likeliest
            class, the name of the likeliest class, or probabilities by class.
        tolerance: Largest difference of a probability that counts as equal, in [0, 1].
        progress: As in :func:`explain`.

    Returns:
        ``agrees``, and, where it does not, ``attempts``: the settings that were tried, those that
        fit first. Nothing is written.

    Raises:
        InputError: An image does not fit the model, or what is known makes no sense.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> found = se.check_model("demo:phantom-2d-honest", [(phantom.image, "glioma-like")])
        >>> found.agrees, found.images
        (True, 1)
    """
    opened = model_of(model)
    expected = []
    for number, (given, said) in enumerate(known, start=1):
        name = Path(given).name if is_path(given) else f"image {number}"
        expected.append(
            known_prediction(name, input_of(opened, given), _words(said), opened.classes)
        )
    with shown(progress, "checking") as report:
        return check_predictions(opened, expected, tolerance=tolerance, progress=report)


def _words(said: Any) -> list[str]:
    if isinstance(said, Mapping):
        return [f"{name}:{probability}" for name, probability in said.items()]
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        raise wrong_type("known", "a probability, a class or probabilities by class", said)
    return [str(said)]
