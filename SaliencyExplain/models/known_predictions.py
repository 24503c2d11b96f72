"""What a user knows that a model says of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

#: Between a class and its probability.
_OF_CLASS = ":"


@dataclass(frozen=True, eq=False)
class KnownPrediction:
    """What a model is known to say of an image.

    Attributes:
        name: Of the image, for people.
        image: ``(C, *S)`` with its affine.
        probabilities: By index of the class, in [0, 1].
        predicted: Index of the likeliest class; None: it is not known.
        highest: Probability of the likeliest class, whichever it is; None: it is not known.
    """

    name: str
    image: MetaTensor
    probabilities: Mapping[int, float] = field(default_factory=dict)
    predicted: int | None = None
    highest: float | None = None

    def error(self, probabilities: NDArray[np.float64]) -> float:
        """Largest difference of ``(K,)`` probabilities from what is known, in [0, 1].

        Another likeliest class than the known one counts as 1.
        """
        found = [abs(float(probabilities[index]) - p) for index, p in self.probabilities.items()]
        if self.highest is not None:
            found.append(abs(float(probabilities.max()) - self.highest))
        if self.predicted is not None:
            found.append(0.0 if int(probabilities.argmax()) == self.predicted else 1.0)
        return max(found)

    def chance(self, tolerance: float, classes: int) -> float:
        """Probability with which a prediction drawn at random would agree.

        Args:
            tolerance: Largest difference of a probability that counts as equal.
            classes: How many classes there are; each is as likely as the others.
        """
        numbers = len(self.probabilities) + (self.highest is not None)
        of_class = 1 / classes if self.predicted is not None else 1.0
        return float(min(1.0, 2 * tolerance) ** numbers * of_class)


def known_prediction(
    name: str, image: MetaTensor, said: Sequence[str], classes: Sequence[str]
) -> KnownPrediction:
    """What is known of an image, from a user's words.

    Args:
        name: Of the image.
        image: ``(C, *S)``.
        said: ``0.93`` (the probability of the likeliest class), ``glioma`` (the likeliest class)
            or ``glioma:0.93``; one or more.
        classes: Names of the classes.

    Raises:
        InputError: There is nothing, no such class, or a number outside [0, 1].
    """
    probabilities: dict[int, float] = {}
    predicted: int | None = None
    highest: float | None = None
    for words in said:
        if words in classes:
            predicted = list(classes).index(words)
            continue
        of, _, text = words.rpartition(_OF_CLASS)
        probability = _probability(name, text if of or _is_number(text) else words, classes)
        if not of:
            highest = probability
            continue
        if of not in classes:
            raise unknown_name("class", of, classes)
        probabilities[list(classes).index(of)] = probability
    if not said:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            f"{name}: say what the model is known to predict, such as {classes[0]}:0.93.",
        )
    return KnownPrediction(name, image, probabilities, predicted, highest)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _probability(name: str, text: str, classes: Sequence[str]) -> float:
    if not _is_number(text):
        raise unknown_name("class", text, classes)
    if not 0 <= float(text) <= 1:
        raise InputError(
            ErrorCode.VALUE_RANGE, f"{name}: the probability {text} does not lie in [0, 1]."
        )
    return float(text)
