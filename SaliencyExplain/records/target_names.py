"""What a record says that its maps explain: a class, or another target of a model's classes."""

from __future__ import annotations

from collections.abc import Sequence

from SaliencyExplain.errors import InputError
from SaliencyExplain.specification.target import CLASS, DIFFERENCE, POINT, REGION, Target


def class_of(target: str, classes: Sequence[str]) -> str | None:
    """The class that a target speaks for; None where it is no target of these classes.

    Args:
        target: The name of a class, or the text of a target.
        classes: Names of the classes.
    """
    if target in classes:
        return target
    try:
        read = Target.parse(target)
    except InputError:
        return None
    if read.kind == DIFFERENCE and read.against not in classes:
        return None
    if read.kind not in (CLASS, DIFFERENCE, POINT, REGION):
        return None
    # Of a region given by a segment, the segment's name follows the class's.
    of_region = [one for one in classes if read.name.startswith(f"{one}@")]
    known = [read.name] if read.name in classes else of_region if read.kind == REGION else []
    return max(known, key=len, default=None)
