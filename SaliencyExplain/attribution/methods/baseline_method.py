"""Base of the methods that compare the image with a baseline."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.baselines import BASELINES, baseline_image
from SaliencyExplain.attribution.perturbation.infill import automatic_blur_mm
from SaliencyExplain.specification.parameters import automatic_length, constant_of, parameter


@dataclass(frozen=True)
class BaselineMethod(Method):
    """A method that compares the image with one baseline."""

    requires: ClassVar[tuple[str, ...]] = ("backgrounds",)

    baseline: str = parameter(
        "minimum",
        "The image that is compared with: per channel the image's minimum (black) or mean, a "
        "constant (value), the blurred image, or the mean of the background images.",
        choices=BASELINES,
    )
    value: float = constant_of("baseline")
    blur_mm: float = automatic_length(
        "Standard deviation of the Gaussian blur for baseline=blur.",
        automatic="a sixteenth of the image's longest side",
    )

    def resolved(self, task: Task) -> Method:
        """The method with the blur in millimetres for this image."""
        if self.baseline != "blur" or self.blur_mm:
            return self
        blur_mm = automatic_blur_mm(task.input.shape[2:], task.spacing)
        return dataclasses.replace(self, blur_mm=blur_mm)

    def start(self, task: Task) -> Tensor:
        """The baseline, ``(1, C, *S)``.

        Raises:
            InputError: Background images are needed and were not given, or do not fit.
        """
        return baseline_image(
            task, self.baseline, value=self.value, blur_mm=self.blur_mm, method=self.name
        )
