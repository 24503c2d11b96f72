"""The specification of an explanation, for commands, requests and studies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation_parts import AFFORDABLE_PASSES
from SaliencyExplain.specification.parameters import check_parameters, parameter
from SaliencyExplain.specification.target import PREDICTED_CLASS, Target

#: Precisions of the computation; each method states which ones it supports.
PRECISIONS = ("float32", "bfloat16")

#: Upper bounds of bytes, seconds and passes, beyond any use.
_LARGEST = 1e15


@dataclass(frozen=True)
class MethodChoice:
    """A method by name, with those of its parameters that are not the default."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What a computation may take; each limit means the same in every command and request.

    Raises:
        InputError: One is outside its range or choices.
    """

    memory: float | None = parameter(
        None,
        "Most memory that batches, kept maps and weights packed for them may take.",
        unit="bytes",
        minimum=1,
        maximum=_LARGEST,
        example=4.0 * 1024**3,
        nothing="half of the free memory",
    )
    precision: str = parameter(
        "float32",
        "Precision of the computation: float32, or bfloat16 for faster, less precise gradients "
        "on hardware that supports it; occlusion and other perturbation methods stay in float32.",
        choices=PRECISIONS,
    )
    batch_size: int | None = parameter(
        None,
        "Images in a forward pass.",
        minimum=1,
        maximum=65536,
        example=8,
        nothing="chosen from the free memory",
    )
    seconds: float | None = parameter(
        None,
        "Time for explaining an image. Methods that refine their map stop after it with the best "
        "map so far, and the results contain their progress; the other methods run to the end "
        "and are named before they start.",
        unit="s",
        minimum=0,
        maximum=_LARGEST,
        example=20.0,
        nothing="no limit",
    )
    passes: float | None = parameter(
        AFFORDABLE_PASSES,
        "Forward passes that evaluating an image's maps may cost. Where that is not enough, less "
        "is evaluated; the minimum is always evaluated.",
        unit="passes",
        minimum=1,
        maximum=_LARGEST,
        nothing="no limit",
    )

    def __post_init__(self) -> None:
        check_parameters("limits", self)

    @property
    def memory_bytes(self) -> float:
        """The limit of memory as a number; infinity for no limit."""
        return math.inf if self.memory is None else self.memory

    def within(self, memory: float | None) -> float | None:
        """The smaller of the limit of memory and another one, each of which may be None."""
        known = [one for one in (self.memory, memory) if one is not None]
        return min(known, default=None)


@dataclass(frozen=True)
class References:
    """What methods may use beside the image.

    A reference is a file, or the key of a volume that an engine holds. Segments that an engine
    holds are masks ``(N, *S)``, uint8, on the image's grid, with N names.
    """

    segmentation: str | None = parameter(
        None,
        "Segmentation to compare the maps with; some methods compute the contribution of each of "
        "its segments.",
        example="tumour.seg.nrrd",
        nothing="none",
    )
    segment_names: tuple[str, ...] = parameter((), "Names of the segments that an engine holds.")
    segment_notes: tuple[str, ...] = parameter(
        (), "Notes on the segments that an engine holds, repeated in its answer."
    )
    backgrounds: tuple[str, ...] = parameter(
        (),
        "Neutral background images, such as of healthy people, for the methods that need them: "
        "an image, or a folder or CSV of cases.",
    )

    def __post_init__(self) -> None:
        check_parameters("references", self)


@dataclass(frozen=True)
class RegionOfInterest:
    """The part of an image that the model looks at, such as a lesion with its surroundings.

    The part goes through the model's preprocessing as an image does. Maps are exact on the grid of
    the whole image, and undefined outside of the part.
    """

    roi: str = parameter(
        "",
        "Part of the image that the model looks at: segmentation (its box), segment:NAME, "
        "lesion:NUMBER (the parts of the segmentation that do not touch, the largest first), "
        "point:R,A,S or box:R,A,S,R,A,S in mm. Left out: the whole image.",
        example="segmentation",
    )
    roi_size_mm: float | None = parameter(
        None,
        "Edge of the region of interest, about its middle.",
        unit="mm",
        minimum=1e-3,
        maximum=1e6,
        example=64.0,
        nothing="as large as the region itself",
    )
    roi_margin_mm: float = parameter(
        0.0,
        "Margin around the region of interest on each side.",
        unit="mm",
        minimum=0,
        maximum=1e6,
    )

    def __post_init__(self) -> None:
        check_parameters("region", self)
        if not self.roi and (self.roi_size_mm is not None or self.roi_margin_mm):
            raise InputError(
                ErrorCode.OPTION_MISSING,
                "A size or margin is given without a region of interest: name the region (roi).",
            )


#: The whole image.
WHOLE_IMAGE = RegionOfInterest()

#: The limits where none is given.
DEFAULT_LIMITS = Limits()

#: Nothing but the image.
NO_REFERENCES = References()


@dataclass(frozen=True)
class ExplainSpec:
    """What is to be computed for an image, independent of the image and its place.

    Plain data, without torch: command-line options, requests to an engine and the settings of a
    study are made from it. :mod:`SaliencyExplain.engine.wire.serialisation` makes JSON of it
    and reads it back.

    Raises:
        InputError: A field is of another type or outside its range.
    """

    methods: tuple[MethodChoice, ...] = parameter((), "The methods, in the order of the maps.")
    target: Target = parameter(
        PREDICTED_CLASS,
        "What to explain: a class by its name or index, predicted, in a study label, or "
        "difference:CLASS|CLASS for what speaks for one class and against another; logit: or "
        "probability: before it sets the unit.",
    )
    seed: int = parameter(
        0, "Random seed: the same seed gives the same result.", minimum=0, maximum=2**63 - 1
    )
    limits: Limits = parameter(DEFAULT_LIMITS, "What the computation may take.")
    references: References = parameter(NO_REFERENCES, "What the methods may use beside the image.")
    region: RegionOfInterest = parameter(
        WHOLE_IMAGE, "The part of the image that the model looks at."
    )

    def __post_init__(self) -> None:
        check_parameters("spec", self)
