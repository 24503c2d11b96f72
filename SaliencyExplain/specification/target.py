"""The target of a map: one number of the model's output, chosen before a method starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name, wrong_type
from SaliencyExplain.quantities import LENGTHS, number_of

#: The class of the highest probability.
PREDICTED = "predicted"
#: The case's own label; in a study.
LABEL = "label"
#: A class by its name or index.
CLASS = "class"
#: The score of one class minus the score of another.
DIFFERENCE = "difference"
#: An output of the model by its name or index, such as a regression's.
OUTPUT = "output"
#: The mean of a segmentation's class over its predicted region, or over a given segment.
REGION = "region"
#: A segmentation's class at a point, in RAS millimetres.
POINT = "point"

KINDS = (PREDICTED, LABEL, CLASS, DIFFERENCE, OUTPUT, REGION, POINT)

#: The default of each method.
AUTOMATIC = "automatic"
PROBABILITY = "probability"
LOGIT = "logit"

UNITS = (AUTOMATIC, PROBABILITY, LOGIT)

#: Separates the two classes of a difference.
_AGAINST = "|"
#: Separates a point and its class.
_OF_POINT = "@"
#: Most characters of a name.
_LONGEST_NAME = 4096
#: Largest distance of a point from the origin, in mm.
_FARTHEST_MM = 1e6


@dataclass(frozen=True)
class Target:
    """What a map explains.

    As one text (:meth:`parse`, ``str()``): ``predicted``, ``label``, a class's name or index,
    ``class:NAME`` (for a class that is named like another target), ``difference:NAME|NAME``,
    ``output:NAME``, ``region:CLASS``, ``region:CLASS@SEGMENT``, ``point:R,A,S``,
    ``point:R,A,S@CLASS``; each may have ``logit:`` or ``probability:`` before it.

    Attributes:
        kind: One of :data:`KINDS`.
        name: Name or index of the class or output; of a region the class, with ``@`` and a segment
            where it is not the predicted one; of a point the class, or empty.
        against: Of a difference the class that is subtracted.
        point_ras: Of a point its place in RAS mm, three numbers.
        unit: One of :data:`UNITS`.

    Raises:
        InputError: A part is missing, does not belong to the kind, or is outside its range.
    """

    kind: str = PREDICTED
    name: str = ""
    against: str = ""
    point_ras: tuple[float, ...] = ()
    unit: str = AUTOMATIC

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of target", self.kind, KINDS)
        if self.unit not in UNITS:
            raise unknown_name("unit of a target", self.unit, UNITS)
        for name in (self.name, self.against):
            if len(name) > _LONGEST_NAME:
                raise InputError(
                    ErrorCode.VALUE_RANGE,
                    f"The target has a name of {len(name)} characters; at most {_LONGEST_NAME} "
                    "are allowed.",
                )
        for part, wanted in (
            ("name", self.kind in (CLASS, DIFFERENCE, OUTPUT, REGION) or self.is_named_point),
            ("against", self.kind == DIFFERENCE),
            ("point_ras", self.kind == POINT),
        ):
            if bool(getattr(self, part)) != wanted:
                raise InputError(
                    ErrorCode.VALUE_FORM,
                    f"A target of the kind {self.kind} {'needs' if wanted else 'has no'} {part}.",
                )
        if self.kind == POINT and not _is_point(self.point_ras):
            raise InputError(
                ErrorCode.VALUE_RANGE,
                "A target's point is three numbers in RAS mm, each at most "
                f"{_FARTHEST_MM:,.0f} mm from the origin.",
            )

    @property
    def is_named_point(self) -> bool:
        """Whether it is a point with a class."""
        return self.kind == POINT and bool(self.name)

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target that a text names; see the class.

        Raises:
            InputError: The text is empty, too long, or a part is missing.
        """
        unit, rest = AUTOMATIC, text
        before, colon, after = rest.partition(":")
        if colon and before in (PROBABILITY, LOGIT):
            unit, rest = before, after
        before, colon, after = rest.partition(":")
        if rest.lower() == PREDICTED:
            return cls(PREDICTED, unit=unit)
        if rest == LABEL:
            return cls(LABEL, unit=unit)
        if colon and before in (CLASS, OUTPUT, REGION):
            return cls(before, after, unit=unit)
        if colon and before == DIFFERENCE:
            name, _, against = after.partition(_AGAINST)
            return cls(before, name, against, unit=unit)
        if colon and before == POINT:
            place, _, name = after.partition(_OF_POINT)
            return cls(before, name, point_ras=_point(place), unit=unit)
        return cls(CLASS, rest, unit=unit)

    @classmethod
    def of(cls, target: Target | str | int) -> Target:
        """The target itself, or the one that a text or the index of a class names.

        Raises:
            InputError: It is of another type, or as :meth:`parse` says.
        """
        if isinstance(target, Target):
            return target
        if isinstance(target, bool) or not isinstance(target, (str, Integral)):
            raise wrong_type("target", "a Target, or the name or index of a class", target)
        return cls.parse(str(target))

    def __str__(self) -> str:
        unit = "" if self.unit == AUTOMATIC else f"{self.unit}:"
        if self.kind in (PREDICTED, LABEL):
            return f"{unit}{self.kind}"
        if self.kind == CLASS:
            plain = f"{unit}{self.name}"
            return plain if Target.parse(plain) == self else f"{unit}{CLASS}:{self.name}"
        if self.kind == DIFFERENCE:
            return f"{unit}{self.kind}:{self.name}{_AGAINST}{self.against}"
        if self.kind == POINT:
            place = ",".join(map(repr, self.point_ras))
            return f"{unit}{self.kind}:{place}{_OF_POINT if self.name else ''}{self.name}"
        return f"{unit}{self.kind}:{self.name}"


#: The class of the highest probability, as each method takes it.
PREDICTED_CLASS = Target()


def _point(text: str) -> tuple[float, ...]:
    try:
        return tuple(number_of(part, LENGTHS) for part in text.split(","))
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"A target's point is three numbers in mm with commas (R,A,S), not '{text[:80]}'.",
        ) from None


def _is_point(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 3 and all(
        math.isfinite(number) and abs(number) <= _FARTHEST_MM for number in numbers
    )
