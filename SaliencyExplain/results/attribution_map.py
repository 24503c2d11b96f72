"""The map of one method for one class of one image, on the image's own grid."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.voxel_volume import Volume


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """A map on the image's own grid, with what it takes to read it.

    The same object in Python, in an engine's results, in the nodes of a scene and before files
    are written. Over HTTP its voxels travel as a volume by their hash.

    Attributes:
        values: ``(*S)``, float32, the shape of the image; positive where the voxels
            speak for the target class.
        affine: 4x4, voxel indices to RAS millimetres; the image's own.
        method: Name of the method.
        method_title: The method's name for people.
        layer: Name of the layer looked at; empty where the method looks at none.
        signed: Whether negative values speak against the class; False: there are none.
        target: Index of the class.
        target_name: Name of the class, or the text of another target.
        parameters: The method's parameters.
        provenance: Classifier, input, seed and versions: what it takes to do it again; under
            ``resolution_mm`` what the map resolves, 0 for a voxel or a region; and
            under ``figures`` what the method found beside the map, under ``notes`` what whoever
            looks at it must be told.
        seconds: Time that the computation took; 0 where it is not known, as in a scene, whose bytes
            do not depend on it.
        share_done: Share of the computation that is in it, in (0, 1]; below 1 it is a partial
            map: published while it grew, or the best one when the time was up.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    method: str
    method_title: str
    layer: str
    signed: bool
    target: int
    target_name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    share_done: float = 1.0

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.values.shape))
        return f"<{type(self).__name__} {self.label} for {self.target_name}, {shape} voxels>"

    def __eq__(self, other: object) -> bool:
        """Whether voxels, affine and all that it takes to read the map are the same."""
        if not isinstance(other, Attribution):
            return NotImplemented
        return all(
            _same(getattr(self, one.name), getattr(other, one.name))
            for one in dataclasses.fields(Attribution)
        )

    __hash__ = object.__hash__

    @property
    def label(self) -> str:
        """``method`` or ``method@layer``: its name in files and tables."""
        return f"{self.method}@{self.layer}" if self.layer else self.method

    @property
    def title(self) -> str:
        """The method's name for people, with its layer."""
        return f"{self.method_title} at {self.layer}" if self.layer else self.method_title

    def target_with_probability(
        self, classes: Sequence[str], probabilities: Sequence[float]
    ) -> str:
        """What is explained, for titles: a class with its probability, another target by itself.

        Args:
            classes: Names of the classes.
            probabilities: One for each class, in [0, 1].
        """
        if self.target_name != classes[self.target]:
            return self.target_name
        return f"{self.target_name} (p = {probabilities[self.target]:.2f})"

    @property
    def description(self) -> str:
        """Method, class and sign in one line, for the header of a file."""
        return f"{self.label} for {self.target_name}; positive speaks for it"

    @functools.cached_property
    def volume(self) -> Volume:
        """The voxels as engines keep them, by their hash."""
        return Volume(self.values, self.affine)

    @property
    def classifier_name(self) -> str:
        """Name of the classifier that it explains."""
        return str(self.provenance.get("classifier", ""))

    @property
    def field_of_view(self) -> FieldOfView | None:
        """Outside of it the map is undefined; None: the network sees the whole image."""
        return FieldOfView.of(self.provenance)

    @property
    def channel(self) -> int:
        """The channel that the map is drawn over: its own, or the first."""
        return int(self.provenance.get(CHANNEL) or 0)

    @property
    def own_segments(self) -> tuple[str, ...]:
        """Hashes of the segments that are the map's regions; empty where it has other ones."""
        return tuple(self.provenance.get(EACH_SEGMENT, ()))

    @property
    def resolution_mm(self) -> float:
        """What the map resolves, mm; its peak is looked for at that scale. 0: a voxel."""
        return float(self.provenance.get(RESOLUTION_MM, 0.0))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
