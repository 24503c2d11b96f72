"""Assignment of volumes to the channels of a classifier, guessed from their names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

#: Words that mean the same sequence, the more special ones first: a name is of the first
#: group of which it holds a word. Contrast agent comes before the plain T1, whose word it holds.
_GROUPS: tuple[frozenset[str], ...] = tuple(
    frozenset(words.split())
    for words in (
        "flair t2flair t2f",
        "t1ce t1gd t1c t1post t1contrast t1km t1gad t1cpost t1wce t1wc gd gad gadolinium post "
        "contrast ce",
        "t1 t1w t1n t1pre mprage native",
        "t2 t2w",
        "adc",
        "dwi trace b1000",
        "pd pdw",
        "swi",
        "pet suv fdg",
        "ct",
    )
)


def guess_channels(channels: Sequence[str], volumes: Sequence[str]) -> list[int | None]:
    """Assigns volumes to channels.

    Args:
        channels: Names of the classifier's channels.
        volumes: Names of volumes.

    Returns:
        For each channel the index of a volume, none twice; None where no name fits, or where
        two fit equally well. One channel and one volume go together whatever their names.
    """
    if len(channels) == 1 and len(volumes) == 1:
        return [0]
    guessed: list[int | None] = []
    for channel in channels:
        fitting = [_fit(channel, volume) for volume in volumes]
        best = max(fitting, default=0)
        alone = best > 0 and fitting.count(best) == 1
        guessed.append(fitting.index(best) if alone else None)
    return [index if guessed.count(index) == 1 else None for index in guessed]


def _fit(channel: str, volume: str) -> int:
    """3: the volume's name has the channel's words; 2: the same kind of sequence; 0: neither."""
    wanted, words = _words(channel), _words(volume)
    groups = _group(wanted), _group(words)
    if all(group is not None for group in groups) and groups[0] != groups[1]:
        return 0
    if wanted and wanted <= words:
        return 3
    return 2 if groups[0] is not None and groups[0] == groups[1] else 0


def _group(words: set[str]) -> int | None:
    for number, group in enumerate(_GROUPS):
        if words & group:
            return number
    return None


def _words(name: str) -> set[str]:
    """The words of a name, and pairs of neighbours, so that ``T1-Gd`` also has ``t1gd``."""
    parts = [part for part in re.split(r"[^a-z0-9]+", name.lower()) if part]
    return set(parts) | {a + b for a, b in itertools.pairwise(parts)}
