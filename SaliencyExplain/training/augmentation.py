"""Names of the random changes of images during training."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandFlip,
    RandGaussianNoise,
    RandScaleIntensity,
)
from monai.utils import convert_to_tensor
from torch import Tensor

from SaliencyExplain.errors import unknown_name

#: Each word with what it does.
WORDS = {
    "mirror": "left and right are swapped; do not use it if the side distinguishes the classes",
    "rotate": "rotated by up to 10 degrees about each axis",
    "zoom": "up to 10 % larger or smaller",
    "contrast": "gamma from 0.8 to 1.25, and intensities scaled by up to 15 %",
    "noise": "Gaussian noise of up to a tenth of the image's standard deviation",
}
#: Without mirror: the class may depend on the side.
DEFAULT_WORDS = ("rotate", "zoom", "contrast", "noise")


def check_words(words: Iterable[str]) -> None:
    """Raises InputError where a word is not one of :data:`WORDS`."""
    for word in words:
        if word not in WORDS:
            raise unknown_name("augmentation", word, WORDS)


class Augmentation:
    """Changes images at random, as MONAI's transforms do.

    Args:
        words: Of :data:`WORDS`; none leaves the images as they are.
        spatial_dims: 2 or 3.
        deviation: Standard deviation of the images' intensities.
    """

    def __init__(self, words: Iterable[str], spatial_dims: int, deviation: float) -> None:
        wanted = set(words)
        angles = [math.radians(10)] * (3 if spatial_dims == 3 else 1)
        self._change = Compose(
            [
                # Left and right: the first axis of a volume (RAS), the second of a slice (PL).
                *(
                    [RandFlip(prob=0.5, spatial_axis=3 - spatial_dims)]
                    if "mirror" in wanted
                    else []
                ),
                *(
                    [
                        RandAffine(
                            prob=0.8,
                            rotate_range=angles if "rotate" in wanted else None,
                            scale_range=[0.1] * spatial_dims if "zoom" in wanted else None,
                            padding_mode="border",
                        )
                    ]
                    if wanted & {"rotate", "zoom"}
                    else []
                ),
                *(
                    [
                        RandAdjustContrast(prob=0.5, gamma=(0.8, 1.25)),
                        RandScaleIntensity(factors=0.15, prob=0.8),
                    ]
                    if "contrast" in wanted
                    else []
                ),
                *(
                    [RandGaussianNoise(prob=0.5, std=0.1 * deviation, sample_std=True)]
                    if "noise" in wanted
                    else []
                ),
            ]
        )

    def seed(self, seed: int) -> None:
        """Resets the random state."""
        self._change.set_random_state(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Changes each image ``(C, *S)`` of a batch ``(B, C, *S)`` by itself."""
        if not self._change.transforms:
            return images
        # Plain tensors: MetaTensor's bookkeeping would run at each operation of the training.
        changed = [convert_to_tensor(self._change(image), track_meta=False) for image in images]
        return torch.stack(changed)
