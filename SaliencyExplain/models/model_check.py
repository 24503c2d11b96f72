"""Whether a model's predictions are the known ones, and if not, with which settings they are."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from monai.data import MetaTensor
from torch import Tensor

from SaliencyExplain.attribution.network.score_network import Activation
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.check_record import CheckRecord
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.known_predictions import KnownPrediction
from SaliencyExplain.models.preprocessing import build_preprocessing
from SaliencyExplain.models.preprocessing_words import ORDERS, PreprocessingWords
from SaliencyExplain.progress import Progress, silent

#: Largest difference of a probability that counts as equal.
TOLERANCE = 0.01
#: Most fits by chance among all attempts with which a fit is believed.
MOST_BY_CHANCE = 0.05
#: Most settings that are changed together.
_TOGETHER = 3
#: Forward passes after which no more combinations are tried.
_MOST_PASSES = 2_000
_ORIENTATIONS = {
    2: ("PL", "LP", "PR", "RP", "AL", "LA", "AR", "RA", "none"),
    3: ("RAS", "LPS", "LAS", "RPS", "RPI", "LPI", "SPL", "SAR", "IPL", "none"),
}
_INTENSITIES = (
    *("none", "scale", "scale:-1,1", "zscore", "zscore-nonzero", "percentile"),
    *("window:0,255", "window:0,255,-1,1", "window:0,255,-1024,1024", "window:-1000,400"),
    *("window:-1024,1024", "clip:-1000,1000+zscore", "window:0,255+fixed:0.5/0.5"),
)
_COLOUR_INTENSITIES = ("imagenet",)
#: How the size is reached, and by which interpolation.
_SIZINGS: tuple[dict[str, Any], ...] = (
    {"fit": "resize"},
    {"fit": "resize", "antialias": True},
    {"fit": "resize", "interpolation": "cubic", "antialias": True},
    {"fit": "resize", "interpolation": "area"},
    {"fit": "resize", "interpolation": "nearest"},
    {"fit": "resize", "align_corners": True},
    {"fit": "crop"},
    {"fit": "shortest", "antialias": True},
    {"fit": "pad-square", "antialias": True},
    {"fit": "crop-square", "antialias": True},
)


@dataclass(frozen=True)
class Attempt:
    """A combination of settings that was tried.

    Attributes:
        changes: What differs from the model's own settings, by name; empty: nothing does.
        activation: What turned the scores into probabilities.
        error: Largest difference from what is known, over all images, in [0, 1].
        words: The preprocessing; None: the model's own.
        channels: Order of the channels as indices; None: the model's own.
    """

    changes: Mapping[str, str]
    activation: Activation
    error: float
    words: PreprocessingWords | None = None
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ModelCheck:
    """A comparison of a model's predictions with known ones.

    Attributes:
        attempts: All combinations that were tried, by their error; of equal ones the one with
            the fewest changes first.
        own: The model as it is.
        images: How many images were compared.
        tolerance: Largest difference that counts as equal.
        identity: Of the model.
        chance: Probability with which predictions drawn at random would agree with all that is
            known.
    """

    attempts: tuple[Attempt, ...]
    own: Attempt
    images: int
    tolerance: float
    identity: str
    chance: float

    @property
    def agrees(self) -> bool:
        """Whether the model as it is predicts what is known."""
        return self.own.error <= self.tolerance

    @property
    def fitting(self) -> tuple[Attempt, ...]:
        """The combinations that predict what is known, with as few changes as any of them."""
        found = [one for one in self.attempts if one.error <= self.tolerance]
        fewest = min((len(one.changes) for one in found), default=0)
        return tuple(one for one in found if len(one.changes) == fewest)

    @property
    def expected_by_chance(self) -> float:
        """How many of the attempts would fit if each were a prediction drawn at random."""
        return len(self.attempts) * self.chance

    @property
    def found(self) -> Attempt | None:
        """The one combination that fits and is unlikely to fit by chance; None: there is none."""
        fitting = self.fitting
        unlikely = self.expected_by_chance <= MOST_BY_CHANCE
        return fitting[0] if len(fitting) == 1 and unlikely else None

    @property
    def record(self) -> CheckRecord:
        """What is to be kept beside a model that agrees."""
        return CheckRecord(self.identity, self.images, self.own.error)


def check_predictions(
    classifier: Classifier,
    known: Sequence[KnownPrediction],
    *,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> ModelCheck:
    """Compares a model's predictions with known ones; where they differ, tries other settings.

    Orientation, order of the channels, intensity, size and the order of these steps are tried one
    at a time, then two and three together until one fits; the activation is tried with each. Of a
    model whose preprocessing is not known in words, the axes and channels of the network's input
    and the activation are tried.

    Args:
        classifier: The model.
        known: At least one image.
        tolerance: Largest difference of a probability that counts as equal.
        progress: Told of forward passes done and to do; may raise Cancelled.

    Raises:
        InputError: An image does not fit the model, or none is given.
        ClassifierError: The model is a segmentation network.
    """
    if not known:
        raise InputError(ErrorCode.OPTION_MISSING, "Give at least one image to check with.")
    if classifier.windows is not None:
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            f"{classifier.name} is a segmentation network: it is not checked by the probabilities "
            "of an image.",
        )
    search = _Search(classifier, known, progress)
    own = search.scores_of(None, None, required=True)
    attempts = search.attempts({}, None, None, own)
    mine = min(
        (one for one in attempts if one.activation == classifier.network.activation),
        key=lambda one: len(one.changes),
    )
    if mine.error > tolerance:
        attempts += search.others(tolerance, attempts)
    ordered = sorted(attempts, key=lambda one: (round(one.error, 6), len(one.changes)))
    chance = math.prod(one.chance(tolerance, len(classifier.classes)) for one in known)
    return ModelCheck(tuple(ordered), mine, len(known), tolerance, classifier.identity, chance)


class _Search:
    """Predictions of a model under other settings."""

    def __init__(
        self, classifier: Classifier, known: Sequence[KnownPrediction], progress: Progress
    ) -> None:
        self._classifier, self._known, self._progress = classifier, known, progress
        self._axes = range(classifier.spatial_dims)
        self._passes = 0
        self._seen: set[bytes] = set()

    def others(self, tolerance: float, tried: Sequence[Attempt]) -> list[Attempt]:
        """Combinations with one change, with two, with three, until one fits."""
        found: list[Attempt] = []
        if any(one.error <= tolerance for one in tried):
            return found
        for changes in range(1, _TOGETHER + 1):
            for combination in self._combinations(changes):
                if self._passes >= _MOST_PASSES:
                    return found
                found += self._tried(combination)
            if any(one.error <= tolerance for one in found):
                return found
        return found

    def _tried(self, combination: Sequence[tuple[str, Any]]) -> list[Attempt]:
        chosen = dict(combination)
        order = chosen.pop("channel order", None)
        moves = chosen.pop("axes of the input", None)
        words: PreprocessingWords | None = None
        if chosen:
            assert self._classifier.words is not None
            changed: dict[str, Any] = {}
            for value in chosen.values():
                changed |= value
            try:
                words = dataclasses.replace(self._classifier.words, **changed)
            except InputError:
                return []
        scores = self.scores_of(words, order, moves=moves)
        if scores is None:
            return []
        # Axes as in the file are those of an orientation that was tried before; of images that are
        # all stored alike it does the same.
        values = scores.numpy().tobytes()
        if words is not None and words.orientation == "none" and values in self._seen:
            return []
        self._seen.add(values)
        told = {name: _told(name, value, self._classifier) for name, value in combination}
        return self.attempts(told, words, order, scores)

    def attempts(
        self,
        changes: Mapping[str, str],
        words: PreprocessingWords | None,
        channels: tuple[int, ...] | None,
        scores: Tensor | None,
    ) -> list[Attempt]:
        """The attempts with each activation for scores ``(N, K)`` of the known images."""
        if scores is None:
            return []
        network, own = self._classifier.network, self._classifier.network.activation
        found = []
        choices = [own] if network.one_logit else [own, *get_args(Activation)]
        for activation in dict.fromkeys(choices):
            probabilities = _activated(scores, activation)
            if probabilities.min() < 0 or probabilities.max() > 1:
                continue
            error = max(
                one.error(row) for one, row in zip(self._known, probabilities.numpy(), strict=True)
            )
            different = {} if activation == own else {"activation": activation}
            found.append(Attempt({**changes, **different}, activation, error, words, channels))
        return found

    def scores_of(
        self,
        words: PreprocessingWords | None,
        order: tuple[int, ...] | None,
        *,
        moves: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
        required: bool = False,
    ) -> Tensor | None:
        """Scores ``(N, K)`` in float64; None where these settings cannot take the images."""
        try:
            classifier = self._with(words)
            rows = []
            for one in self._known:
                prepared = classifier.prepare(one.image)
                rows.append(classifier.scores(_moved(prepared, order, moves)).double().cpu())
                self._passes += 1
                self._progress(min(self._passes, self._expected - 1), self._expected)
            return torch.stack(rows)
        except (InputError, ClassifierError):
            if required:
                raise
            return None

    @property
    def _expected(self) -> int:
        """Forward passes that all changes, one at a time, take; more as soon as that is less."""
        single = sum(1 for _ in self._combinations(1)) + 1
        return max(single * len(self._known), self._passes + 1)

    def _with(self, words: PreprocessingWords | None) -> Classifier:
        classifier = self._classifier
        if words is None:
            return classifier
        dims = classifier.spatial_dims
        steps = words.steps(dims, len(classifier.channels))
        content = {"preprocessing": {"_target_": "Compose", "transforms": steps}}
        built = build_preprocessing(Configuration(content, trust=False), dims)
        return dataclasses.replace(classifier, preprocessing=built)

    def _combinations(self, changes: int) -> Iterator[tuple[tuple[str, Any], ...]]:
        """Settings that are changed together, each with another value."""
        choices = self._choices()
        for names in itertools.combinations(choices, changes):
            for values in itertools.product(*(choices[name] for name in names)):
                yield tuple(zip(names, values, strict=True))

    def _choices(self) -> dict[str, list[Any]]:
        """For each setting the values other than its own."""
        classifier, words = self._classifier, self._classifier.words
        count = len(classifier.channels)
        choices: dict[str, list[Any]] = {}
        if words is not None:
            dims = classifier.spatial_dims
            choices["orientation"] = [
                {"orientation": one} for one in _ORIENTATIONS[dims] if one != words.orientation
            ]
            scalings = _INTENSITIES + (_COLOUR_INTENSITIES if count == 3 else ())
            choices["intensity"] = [
                {"intensity": one} for one in scalings if one != (words.intensity or "none")
            ]
            if words.size:
                defaults = {
                    "fit": None, "interpolation": "linear", "antialias": False,
                    "align_corners": False, "shortest": None,
                }  # fmt: skip
                own = {name: getattr(words, name) for name in defaults}
                own["fit"] = words.reached
                choices["size"] = [full for one in _SIZINGS if (full := {**defaults, **one}) != own]
            choices["order of steps"] = [{"order": one} for one in ORDERS if one != words.order]
        else:
            turns = itertools.permutations(self._axes)
            flips = [
                some
                for length in range(len(self._axes) + 1)
                for some in itertools.combinations(self._axes, length)
            ]
            moves = list(itertools.product(turns, flips))
            choices["axes of the input"] = [
                move for move in moves if move != (tuple(self._axes), ())
            ]
        if 1 < count <= 4:
            orders = list(itertools.permutations(range(count)))
            choices["channel order"] = orders[1:]
        return choices


def _activated(scores: Tensor, activation: Activation) -> Tensor:
    if activation == "softmax":
        return scores.softmax(dim=1)
    return scores.sigmoid() if activation == "sigmoid" else scores


def _moved(
    prepared: MetaTensor,
    order: tuple[int, ...] | None,
    moves: tuple[tuple[int, ...], tuple[int, ...]] | None,
) -> Tensor:
    """The input with its channels in another order, and its axes exchanged and reversed."""
    values = prepared.as_tensor()
    if order is not None:
        values = values[list(order)]
    if moves is not None:
        turn, flip = moves
        values = values.permute(0, *(axis + 1 for axis in turn))
        values = values.flip([axis + 1 for axis in flip]) if flip else values
    return values.contiguous()


def _told(name: str, value: Any, classifier: Classifier) -> str:
    """A changed setting in words."""
    if name == "channel order":
        return ", ".join(classifier.channels[index] for index in value)
    if name == "axes of the input":
        turn, flip = value
        reversed_axes = f", reversed {', '.join(map(str, flip))}" if flip else ""
        return f"{', '.join(map(str, turn))}{reversed_axes}"
    words = [
        str(one) if not isinstance(one, bool) else key.replace("_", " ")
        for key, one in value.items()
        if one not in (None, False, "linear")
    ]
    return ", ".join(words)
