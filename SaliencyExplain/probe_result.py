"""What a probe finds, without torch: as the library gives it, on the wire and in the panels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Removal:
    """What the classifier says without a place.

    Attributes:
        name: Such as ``"8 mm"``, ``"8 px"`` where the image has no size, or the segment's name.
        radius_mm: Radius of the ball; None for a segment.
        voxels: Voxels of the network's grid that got another value; 0: there was nothing to
            remove, and nothing changes.
        probabilities: One for each class, in [0, 1].
        scores: One for each class, before the activation.
    """

    name: str
    radius_mm: float | None
    voxels: int
    probabilities: tuple[float, ...]
    scores: tuple[float, ...] = ()

    def shown(self, output: str) -> tuple[float, ...]:
        """The probabilities or the scores, as :attr:`Probe.output` says."""
        return self.scores if output == "score" else self.probabilities


@dataclass(frozen=True)
class Probe:
    """The probabilities of an image, and those without each place.

    Attributes:
        classes: Names of the classes.
        before: Their probabilities for the image as it is, in [0, 1].
        removals: One for each radius, the smallest first, or one for the segment.
        notes: What a user should be told.
        seconds: Time that it took.
        output: What the place changes: ``probability``, or ``score`` where all probabilities lie
            at 0 and 1 and do not change.
        scores: The classes' scores before the activation for the image as it is.
        length_unit: Of radii and places: ``mm``, or ``px`` where the image has no size.
    """

    classes: tuple[str, ...]
    before: tuple[float, ...]
    removals: tuple[Removal, ...]
    notes: tuple[str, ...]
    seconds: float
    output: str = "probability"
    scores: tuple[float, ...] = ()
    length_unit: str = "mm"

    @property
    def shown(self) -> tuple[float, ...]:
        """The probabilities or the scores of the image as it is, as ``output`` says."""
        return self.scores if self.output == "score" else self.before
