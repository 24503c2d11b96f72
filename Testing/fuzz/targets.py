"""The readers that damaged files are given to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from SaliencyExplain.brain_tumour_set import matlab_files
from SaliencyExplain.images.reading import read_image, to_image
from SaliencyExplain.images.segmentation import read_segmentation
from SaliencyExplain.models.checkpoints import Checkpoint
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.weights import read_weights
from SaliencyExplain.studies.discovery import discover
from Testing.fuzz.seeds import AFFINE, SHAPE

_REFERENCE = to_image(
    np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32), AFFINE, name="reference"
)
_FLAT_REFERENCE = to_image(
    np.random.default_rng(0).normal(size=(1, *SHAPE[:2])).astype(np.float32),
    AFFINE,
    name="reference",
)
#: On the grid that a MATLAB file of this size is given (512 pixels of 0.49 mm).
_SLICE_REFERENCE = to_image(
    _FLAT_REFERENCE.numpy(),
    np.diag([-512 * 0.49 / max(SHAPE[:2]), -512 * 0.49 / max(SHAPE[:2]), 1.0, 1.0]),
    name="reference",
)


def _bundle(path: Path) -> Classifier:
    torch.manual_seed(0)
    return load_classifier(path.parents[1])


def _weights(path: Path) -> Checkpoint:
    return read_weights(path.read_bytes(), path.name)


#: Reader by its name in a seed.
TARGETS: dict[str, Callable[[Path], object]] = {
    "image": read_image,
    "segmentation": lambda path: read_segmentation(path, _REFERENCE),
    "picture mask": lambda path: read_segmentation(path, _FLAT_REFERENCE),
    "tumour mask": lambda path: read_segmentation(path, _SLICE_REFERENCE),
    "tumour description": matlab_files.read_description,
    "folder": lambda path: read_image(path.parent),
    "cases": lambda path: discover(path.parent),
    "weights": _weights,
    "bundle": _bundle,
    "table": discover,
}
