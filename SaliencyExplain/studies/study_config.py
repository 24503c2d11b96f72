"""The settings of a study: what is computed for each case, and where the data lie."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import choice_of, chosen_methods
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.specification.spec import ExplainSpec
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.output_folder import HeldFolder


@dataclass(frozen=True)
class StudyConfig:
    """What all cases of a study have in common; goes to worker processes as it is.

    Attributes:
        classifier: The classifier's file or folder.
        out: The output folder.
        spec: What is computed for each case. Its methods are all those of the output folder, in
            their order. A study has no limit of seconds: what is reached in a time depends on
            the machine, and its results could not be made again.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``.
        trust: Whether the classifier's own code may run.
        keep_identifiers: Whether names that may name patients are written.
        threads: Threads of torch in each process; 0: the cores shared out among them. Sums
            over threads round differently: the same bytes need the same number.
        scene: Whether each case's results are written as a scene of 3D Slicer, too.
        evaluate: Whether each case's maps are evaluated.
        backgrounds: The cases that the specification's backgrounds name.
        held: The output folder as the run holds it; set by the run.
    """

    classifier: Path
    out: Path
    spec: ExplainSpec
    device: str = "auto"
    trust: bool = False
    keep_identifiers: bool = False
    threads: int = 0
    scene: bool = False
    evaluate: bool = False
    backgrounds: tuple[Case, ...] = ()
    held: HeldFolder | None = None

    @functools.cached_property
    def methods(self) -> tuple[Method, ...]:
        """The methods with their parameters.

        Raises:
            InputError: None, one twice, or one that cannot be made as it is specified.
        """
        return tuple(chosen_methods(self.spec.methods))

    @property
    def compute(self) -> Compute:
        """On what, and within which limits."""
        return Compute(self.device, self.spec.limits)

    def with_methods(self, methods: Iterable[Method]) -> StudyConfig:
        """The same settings with other methods."""
        choices = tuple(map(choice_of, methods))
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, methods=choices))
