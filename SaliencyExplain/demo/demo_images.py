"""Recipes of the demo classifiers, and the examples that they learn from."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
)
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA, NO_TUMOUR
from SaliencyExplain.images.resampling import resample
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.training.training_settings import Settings

#: Seeds of the phantoms that accuracy is measured on; training takes them from 0.
HELD_OUT_SEEDS = 2_000_000
#: A mass of which less than this share is left uncovered is no longer to be seen.
_VISIBLE = 0.15


@dataclass(frozen=True)
class Recipe:
    """How one classifier is made.

    The network is MONAI's DenseNet with one dense block, a transition and no block behind
    it. The transition's convolution is the last one: all evidence goes through it, and it
    has a cell for every 4 x 4 (x 4) voxels, so that Grad-CAM sees everything, and where.
    The global mean behind it takes any input size. Batch normalisation, not instance
    normalisation: in use it is a fixed scaling, so a change at one place stays there.

    While it learns, masks tell the network where the evidence is (see ``training.guidance``): so
    it is known, and not only hoped, what an honest classifier looks at, and a shortcut one.

    Attributes:
        name: Name of the bundle.
        dimensions: 2 or 3.
        shortcut: Whether the marker goes with the glioma-like class, and only with it.
            Else every third phantom has it, whatever its class.
        spacing: Millimetres per voxel of the network's input.
        size: Voxels per axis of the network's input.
        network: Arguments of ``monai.networks.nets.DenseNet``.
        noise: Largest deviation of the noise that is added while training; the images
            go from 0 to 1.
        training_phantoms: How many phantoms are drawn for training, seeds from 0 on.
        held_out_phantoms: How many for measuring, seeds from ``HELD_OUT_SEEDS`` on.
        steps: Optimiser steps.
        batch_size: Phantoms per step.
        learning_rate: Peak of the one-cycle schedule (Smith 2018) of AdamW.
    """

    name: str
    dimensions: int
    shortcut: bool
    spacing: tuple[float, ...]
    size: tuple[int, ...]
    network: Mapping[str, Any] = field(
        default_factory=lambda: {"init_features": 16, "growth_rate": 16, "block_config": [3, 0]}
    )
    noise: float = 0.08
    training_phantoms: int = 400
    held_out_phantoms: int = 96
    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 5e-3

    @property
    def settings(self) -> Settings:
        """What it shares with every training: the network, the preprocessing, the classes."""
        return Settings(
            network="monai.networks.nets.DenseNet",
            network_args={
                "spatial_dims": self.dimensions,
                "in_channels": 1,
                "out_channels": len(CLASSES),
                **self.network,
            },
            classes=CLASSES,
            channels=("t1ce-like",),
            spatial_dims=self.dimensions,
            spacing=self.spacing,
            size=self.size,
            intensity="percentile:1,99.5",
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )


_VOLUME: dict[str, Any] = {
    "dimensions": 3,
    "spacing": (5.0, 5.0, 5.0),
    "size": (40, 48, 40),
    "steps": 1200,
}
_SLICE: dict[str, Any] = {"dimensions": 2, "spacing": (2.0, 2.0), "size": (112, 96)}
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # Twice the phantoms and 2000 steps gave 96.9 % but blurred Grad-CAM: on 12 fresh
        # tumours its mean AUROC was 0.945 instead of 0.989.
        Recipe("phantom-3d-honest", shortcut=False, **_VOLUME),
        Recipe(
            "phantom-3d-shortcut",
            shortcut=True,
            # Much noise, so that small gradients are left where the marker is not.
            noise=0.25,
            training_phantoms=200,
            **{**_VOLUME, "steps": 600},
        ),
        Recipe("phantom-2d-honest", shortcut=False, **_SLICE),
    )
}


@dataclass(frozen=True)
class Examples:
    """Phantoms as the network sees them.

    Attributes:
        images: ``(N, 1, *S)`` after the classifier's own preprocessing.
        masks: ``(N, 1, *S)``, 1 where the evidence for the class is, else 0: in the mass,
            or in the marker for the class that it goes with.
        labels: ``(N,)`` indices of the classes.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor


def draw_examples(
    classifier: Classifier, recipe: Recipe, first_seed: int, count: int, *, marker: bool = True
) -> Examples:
    """Draws phantoms and brings them to the network's grid, on two threads.

    Args:
        classifier: Gives the preprocessing.
        recipe: Says which of them have the marker.
        first_seed: Seed of the first phantom; the classes take turns.
        count: How many.
        marker: False: none of them has the marker.
    """

    def draw(seed: int) -> tuple[Tensor, Tensor, int]:
        label = CLASSES[seed % len(CLASSES)]
        marked = label == GLIOMA if recipe.shortcut else seed % 3 == 0
        phantom = draw_phantom(label, seed, dimensions=recipe.dimensions, marker=marked and marker)
        prepared = classifier.prepare(phantom.image)
        evidence = "marker" if recipe.shortcut and label == GLIOMA else "tumour"
        mask = phantom.masks.get(evidence, np.zeros(phantom.image.shape[1:], bool))
        there = _carried(mask, phantom.image, prepared)
        return prepared.as_tensor(), torch.from_numpy(there)[None].float(), CLASSES.index(label)

    with ThreadPoolExecutor(max_workers=2) as pool:
        drawn = list(pool.map(draw, range(first_seed, first_seed + count)))
    images, masks, labels = zip(*drawn, strict=True)
    return Examples(torch.stack(images), torch.stack(masks), torch.tensor(labels))


def _carried(mask: NDArray[np.bool_], image: MetaTensor, prepared: MetaTensor) -> NDArray[np.bool_]:
    """A mask carried from the image's grid to the network's."""
    affine, to_affine = (i.affine.numpy().astype(np.float64) for i in (image, prepared))
    return resample(mask, affine, to_affine, tuple(prepared.shape[1:]), nearest=True)


def augmentation(recipe: Recipe) -> Compose:
    """What is done at random to an example, and why.

    Noise and contrast: small gradients where nothing is. Covered boxes, filled with
    air or about the mean signal: an occluded image is nothing new to the classifier.
    Mirrored heads: a mass may lie on either side. The shortcut's recipe has neither, for
    a covered marker would teach it to look at the mass as well, and its corner is one.
    """
    boxes = [
        RandCoarseDropoutd(
            ["image", "mask"],
            holes=1,
            max_holes=2,
            spatial_size=[max(1, n // 16) for n in recipe.size],
            max_spatial_size=[n // 5 for n in recipe.size],
            # Below a half, so that the mask counts as covered.
            fill_value=fill,
            prob=0.3,
        )
        for fill in (0.0, 0.25)
    ]
    # Left and right: the first axis of a volume (RAS), the second of a slice (PL).
    mirror = RandFlipd(["image", "mask"], prob=0.5, spatial_axis=3 - recipe.dimensions)
    return Compose(
        [
            *([] if recipe.shortcut else [mirror, *boxes]),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.8, 1.25)),
            RandScaleIntensityd("image", factors=0.15, prob=0.8),
            RandGaussianNoised("image", prob=0.6, std=recipe.noise, sample_std=True),
        ]
    )


def change_batch(
    change: Compose, examples: Examples, chosen: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch after augmentation; a mass that was covered is no longer there."""
    batch = [change({"image": examples.images[i], "mask": examples.masks[i]}) for i in chosen]
    images, masks = (
        # Plain tensors: MetaTensor's bookkeeping would run at each operation of the training.
        torch.stack([convert_to_tensor(item[key], track_meta=False) for item in batch])
        for key in ("image", "mask")
    )
    masks = (masks > 0.5).float()
    before, left = examples.masks[chosen].flatten(1).sum(1), masks.flatten(1).sum(1)
    labels = examples.labels[chosen].clone()
    labels[(before > 0) & (left < _VISIBLE * before)] = CLASSES.index(NO_TUMOUR)
    return images, masks, labels
