"""The click: what does this place contribute?

A probe removes what is at a place and says how every class's probability moves.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.attribution.incremental.cached_inference import CachedImage, Change
from SaliencyExplain.attribution.passes.watched_output import text as probability_text
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.confinement import lifted
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode, InputError, unknown_name
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.image_points import voxel_of_point
from SaliencyExplain.explanation.prediction import probabilities_of
from SaliencyExplain.explanation.prepared_case import PreparedCase, cpu_note, prepare
from SaliencyExplain.geometry import indices_of, spacing_of
from SaliencyExplain.images.grid_masks import ball, filled_voxels
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.probe_result import Probe, Removal
from SaliencyExplain.progress import Progress, silent

#: Changes of a probability below this are shown as 0, to three decimals.
_SHOWN = 5e-4

#: Distance from 0 or 1 within which a probability is shown as such.
_AT_ENDS = 1e-3

#: Difference of the scores, in their largest size, that rounding explains.
_ROUNDING = 1e-6

#: Millimetres; beyond any image, and its square is still a number.
_LARGEST_RADIUS = 1e6


@dataclass(frozen=True)
class _Place:
    """What is to be removed: a mask in a box of the network's grid."""

    name: str
    radius_mm: float | None
    corner: tuple[int, ...]
    mask: NDArray[np.bool_]


class Prober:
    """Removes places of a prepared case and predicts again, from cached activations.

    Construction costs some three forward passes where the network can be traced (tracing,
    the activations of the image, a check), else none. After that a click at any place and with
    any radius reuses the activations. Weights that changed meanwhile are noticed
    and everything is computed anew. The network is left as it was; one caller at a time.

    Args:
        case: The image and the classifier.
        fill: What stands in the removed place, one of :data:`FILLS`; see :func:`infill_of`.
        value: The constant for ``fill="value"``, in the units of the prepared input.
        blur_mm: Standard deviation of the Gaussian filter for ``fill="blur"``; 0: automatic.
        channel: Name of the one channel that is replaced; None: all of them.

    Attributes:
        length_unit: Of radii and places: ``mm``, or ``px`` where the image has no size.

    Raises:
        InputError: The fill or channel does not fit.
        DeviceMemoryError: The CPU's memory does not hold the activations.
    """

    def __init__(
        self,
        case: PreparedCase,
        *,
        fill: str = "mean",
        value: float = 0.0,
        blur_mm: float = 0.0,
        channel: str | None = None,
    ) -> None:
        self._case = case
        self._moved_notes: tuple[str, ...] = ()
        self._fill = functools.partial(infill_of, fill=fill, value=value, blur_mm=blur_mm)
        self._channel = None if channel is None else _number_of(channel, case.classifier)
        self._warm: CachedImage | None = None
        self._image = case.image_in_network_axes
        self.length_unit = case.length_unit
        self._cache()

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """``(K,)`` in [0, 1], of the image as it is."""
        return np.asarray(self._case.prediction.probabilities)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should be told of the image: resampled, guessed, fallen back."""
        return (*self._case.notes, *self._moved_notes)

    @property
    def cached_bytes(self) -> int:
        """Bytes that the image's maps and packed weights take; 0: clicks run whole passes."""
        return self._warm.cached_bytes if self._warm else 0

    def at(
        self, point_ras: ArrayLike, radii_mm: Sequence[float], progress: Progress = silent
    ) -> Probe:
        """Removes balls around a point.

        A ball is the voxels of the network's grid whose centres lie within the radius, and at
        least the voxel at the point; what lies beyond the grid is cut off.

        Args:
            point_ras: Right, anterior, superior in mm.
            radii_mm: One or more radii.
            progress: Told of changed images done and to do; may raise Cancelled.

        Raises:
            InputError: The point lies outside of the image or of what the network sees of
                it, or a radius is no positive number.
            Cancelled: Out of ``progress``.
        """
        started = time.perf_counter()
        radii, unit = sorted({float(radius) for radius in radii_mm}), self.length_unit
        if not radii or not all(0 < radius <= _LARGEST_RADIUS for radius in radii):
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"The radii {list(radii_mm)} {unit} cannot be used: give numbers above 0, "
                f"at most {_LARGEST_RADIUS:g}.",
            )
        self._ready()
        centre = self._centre(np.asarray(point_ras, dtype=np.float64))
        shape = tuple(self._case.input.shape[1:])
        notes = []
        half = min(spacing_of(self._affine, len(centre))) / 2
        small = [f"{radius:g}" for radius in radii if radius < half]
        if small:
            notes.append(
                f"a radius of {' or '.join(small)} {unit} is less than half a voxel of the "
                f"network's grid ({2 * half:g} {unit}): the voxel at the point was removed"
            )
        places = [
            _Place(f"{radius:g} {unit}", radius, *ball(centre, radius, self._affine, shape))
            for radius in radii
        ]
        return self._probe(places, notes, started, progress)

    def segment(self, mask: ArrayLike, name: str, progress: Progress = silent) -> Probe:
        """Removes a whole segment.

        Args:
            mask: ``(*S)`` on the image's own grid, true inside. A voxel of the network's grid
                is removed where at least half of it is inside.
            name: The segment's name, for the answer.
            progress: As in :meth:`at`.

        Raises:
            InputError: The mask is not on the image's grid, is empty, or lies outside of what
                the network sees of the image.
            Cancelled: Out of ``progress``.
        """
        started = time.perf_counter()
        marked = np.asarray(mask, dtype=bool)
        if marked.shape != tuple(self._case.image.shape[1:]):
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"The segment '{name}' has {marked.shape} voxels and the image "
                f"{tuple(self._case.image.shape[1:])}: give it on the image's own grid.",
            )
        if not marked.any():
            raise InputError(
                ErrorCode.SEGMENTATION_EMPTY,
                f"The segment '{name}' is empty: there is nothing to remove.",
            )
        if self._case.box is not None:
            # The network's grid may have padding about the region, which is no part of the image.
            marked = marked & self._case.field_of_view.seen(marked.shape)
            if not marked.any():
                raise InputError(
                    ErrorCode.PLACE_OUTSIDE,
                    f"The segment '{name}' lies outside of the region of interest.",
                )
        self._ready()
        corner, place, by_half = filled_voxels(
            marked.reshape(self._image.shape[1:]),
            self._image.affine.numpy().astype(np.float64),
            self._affine,
            tuple(self._case.input.shape[1:]),
        )
        if not place.any():
            raise InputError(
                ErrorCode.PLACE_OUTSIDE,
                f"The segment '{name}' lies outside of what the network sees of the image.",
            )
        notes = []
        if not by_half:
            notes.append(
                f"'{name}' fills no voxel of the network's grid by half: the voxel that holds "
                "most of it was removed"
            )
        return self._probe([_Place(name, None, corner, place)], notes, started, progress)

    def release(self) -> None:
        """Gives the memory of the maps back; the next click computes them anew."""
        self._warm = None

    def _cache(self) -> CachedImage:
        """Computes all that holds for any click."""
        self._warm = None  # its memory is free before the next is taken
        case = self._case
        self._affine = case.input.affine.numpy().astype(np.float64)
        task = case.task()
        self._input = task.input
        self._filling = self._fill(self._input, spacing=task.spacing, seed=task.seed)
        with case.classifier.confined():
            warm = CachedImage(case.classifier.network, self._input, task.memory_bytes)
        self._warm = warm
        return warm

    def _ready(self) -> CachedImage:
        if self._warm is not None and self._warm.holds:
            return self._warm
        return self._prepared_anew(self._case.compute)

    def _prepared_anew(self, compute: Compute) -> CachedImage:
        """The cache after a new prediction: the weights or the device may be others than before."""
        self._warm = None
        case = self._case
        self._case = prepare(
            case.image,
            case.classifier,
            case.target_name,
            compute,
            case.references,
            of_interest=case.of_interest,
        )
        return self._cache()

    def _centre(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """The point in voxels of the network's grid."""
        shape = self._case.input.shape[1:]
        centre = voxel_of_point(point, self._image, self._affine, shape, self.length_unit)
        if self._case.box is not None:
            of = tuple(self._image.shape[1:])
            nearest = np.rint(indices_of(point, self._image.affine.numpy()))[: len(of)]
            index = tuple(int(one) for one in np.clip(nearest, 0, np.array(of) - 1))
            seen = self._case.field_of_view.seen(tuple(self._case.image.shape[1:]))
            if not seen.reshape(of)[index]:
                raise InputError(
                    ErrorCode.PLACE_OUTSIDE,
                    f"The point {point.tolist()} lies outside of the region of interest.",
                )
        return centre

    def _probe(
        self, places: Sequence[_Place], notes: Sequence[str], started: float, progress: Progress
    ) -> Probe:
        changes: list[Change] = []
        rows: dict[tuple[tuple[int, ...], tuple[int, ...], bytes], int] = {}
        found: list[tuple[int, int]] = []
        for place in places:
            count, change = self._change(place)
            same = (place.corner, place.mask.shape, place.mask.tobytes())
            if count and same not in rows:
                changes.append(change)
                rows[same] = len(changes)
            found.append((count, rows.get(same, 0)))
        without = self._without(changes, progress)
        probabilities = np.concatenate(
            [self.probabilities[None], probabilities_of(self._case.classifier.network, without)]
        )
        scores = np.concatenate(
            [np.asarray(self._case.prediction.scores)[None], without.double().cpu().numpy()]
        )
        removals = tuple(
            Removal(
                place.name,
                place.radius_mm,
                int(count),
                probabilities=tuple(probabilities[row].tolist()),
                scores=tuple(scores[row].tolist()),
            )
            for place, (count, row) in zip(places, found, strict=True)
        )
        fixed = _are_fixed(probabilities, scores)
        # A region is asked for its mean logit.
        output = "score" if fixed or self._case.region is not None else "probability"
        if fixed:
            notes = [*notes, self._fixed_note(scores[0], removals)]
        return Probe(
            classes=self._case.classifier.classes,
            before=tuple(probabilities[0].tolist()),
            scores=tuple(scores[0].tolist()),
            removals=removals,
            notes=tuple(notes),
            seconds=time.perf_counter() - started,
            output=output,
            length_unit=self.length_unit,
        )

    def _fixed_note(self, scores: NDArray[np.float64], removals: Sequence[Removal]) -> str:
        """Says what the place does to the likeliest class's score."""
        likeliest = int(self.probabilities.argmax())
        changes = ", ".join(
            f"{one.scores[likeliest]:.4g} without {one.name}" for one in removals if one.voxels
        )
        return (
            f"all probabilities lie at 0 and 1 ({self._case.classifier.classes[likeliest]}: "
            f"{probability_text(self.probabilities[likeliest])}) and hardly move, so that the "
            f"scores before the activation are told (output=score): "
            f"{scores[likeliest]:.4g} as it is, {changes}"
        )

    def _change(self, place: _Place) -> tuple[int, Change]:
        """How many voxels get another value, and the box with them replaced."""
        before = self._input[0][inside(place.corner, place.mask.shape)]
        removed = torch.from_numpy(place.mask).to(before.device)
        after = torch.where(removed, self._filling.place(place.corner, removed), before)
        if self._channel is not None:
            kept = before.clone()
            kept[self._channel] = after[self._channel]
            after = kept
        return int((after != before).any(dim=0).sum()), Change(place.corner, after)

    def _without(self, changes: Sequence[Change], progress: Progress) -> Tensor:
        """Scores ``(len(changes), K)`` of the changed images."""
        if not changes:
            return torch.zeros(0, len(self._case.classifier.classes))
        try:
            return self._scored(self._ready(), changes, progress)
        except DeviceMemoryError as error:
            self._case.on_cpu(error)
            self._moved_notes = (cpu_note(error),)
            moved = [Change(change.corner, change.content.cpu()) for change in changes]
            compute = dataclasses.replace(self._case.compute, device="cpu")
            return self._scored(self._prepared_anew(compute), moved, progress)

    def _scored(self, warm: CachedImage, changes: Sequence[Change], progress: Progress) -> Tensor:
        tell = lifted(progress)
        with self._case.classifier.confined():
            return warm.scores(changes, tell)


def _are_fixed(probabilities: NDArray[np.float64], scores: NDArray[np.float64]) -> bool:
    """Whether the scores move and the probabilities, all at 0 or 1, do not as far as is shown.

    Args:
        probabilities: ``(B, K)``, the first of the image as it is.
        scores: ``(B, K)``.
    """
    at_ends = np.minimum(probabilities, 1 - probabilities).max() < _AT_ENDS
    moved = np.abs(scores - scores[0]).max()
    return bool(
        at_ends
        and np.abs(probabilities - probabilities[0]).max() < _SHOWN
        and moved > _ROUNDING * np.abs(scores).max()
    )


def _number_of(channel: str, classifier: Classifier) -> int:
    if channel not in classifier.channels:
        raise unknown_name("channel", channel, classifier.channels)
    return classifier.channels.index(channel)
