"""An evaluation together with what its trust cards are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.evaluation.image.partial_images import PartialImages
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.results.image_evaluation import Evaluation


@dataclass(frozen=True)
class MapPictures:
    """The voxels of an evaluated map.

    Attributes:
        values: ``(*S)`` on the image's own grid, float32.
        images: What the classifier was shown for its faithfulness; None where that was not
            evaluated.
    """

    values: NDArray[np.float32]
    images: PartialImages | None


@dataclass(frozen=True)
class EvaluatedMaps:
    """An evaluation, and the voxels that its pictures show.

    Attributes:
        evaluation: The evaluation.
        pictures: By label of the map.
        case: The image prepared for the classifier.
    """

    evaluation: Evaluation
    pictures: Mapping[str, MapPictures]
    case: PreparedCase

    def with_notes(self, change: Callable[[str], str]) -> EvaluatedMaps:
        """The same with each note of the evaluation changed, such as without patients' names."""
        notes = tuple(map(change, self.evaluation.notes))
        return dataclasses.replace(
            self, evaluation=dataclasses.replace(self.evaluation, notes=notes)
        )
