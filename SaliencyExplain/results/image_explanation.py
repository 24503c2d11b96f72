"""What a classifier says of one image, and which voxels made it say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from SaliencyExplain.errors import unknown_name
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.results.attribution_map import Attribution


@dataclass(frozen=True, repr=False)
class Explanation:
    """What the classifier says of one image, and which voxels made it say so.

    Attributes:
        classes: Names of the classes.
        probabilities: One for each class, in [0, 1]; empty in a partial result of an image that
            was not predicted before.
        target: Index of the class that is explained; of a difference, of the one that it speaks
            for.
        target_name: What is explained: the name of the class, or the text of another target.
        attributions: One for each method and layer that gave a map.
        notes: What a user should be told aloud: resampled, guessed, fallen back.
        timings: Seconds by step.
        failures: Of the methods that gave no map.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    target: int
    target_name: str
    attributions: tuple[Attribution, ...]
    notes: tuple[str, ...]
    timings: dict[str, float]
    failures: tuple[MethodFailure, ...] = ()

    def __repr__(self) -> str:
        labels = ", ".join(one.label for one in self.attributions)
        probability = f"p = {self.probabilities[self.target]:.3f}" if self.probabilities else "?"
        return f"<{type(self).__name__} of {self.target_name} ({probability}): {labels}>"

    def __len__(self) -> int:
        """How many attributions there are."""
        return len(self.attributions)

    def __iter__(self) -> Iterator[Attribution]:
        """The attributions in the methods' order."""
        return iter(self.attributions)

    def __getitem__(self, which: int | str) -> Attribution:
        """An attribution by its number or its label, such as ``gradcam``.

        Raises:
            IndexError: There are not so many.
            InputError: There is none of that label; the message has the nearest one.
        """
        return self.attributions[self.index_of(which)]

    def index_of(self, which: int | str) -> int:
        """The number of an attribution by its number, label or method.

        Raises:
            InputError: There is none of that label; the message has the nearest one.
        """
        if isinstance(which, int):
            return which
        labels = [one.label for one in self.attributions]
        names = [one.method for one in self.attributions]
        for known in (labels, names):
            if which in known:
                return known.index(which)
        raise unknown_name("attribution", which, labels)
