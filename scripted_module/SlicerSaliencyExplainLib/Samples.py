"""The module's sample data: phantoms that lie beside it, with the truth about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .SceneFiles import load_segmentation, load_volume

_FOLDER = Path(__file__).resolve().parents[1] / "Resources" / "SampleData"
CATEGORY = "SaliencyExplain"


@dataclass(frozen=True)
class Sample:
    """A phantom.

    Attributes:
        name: Of the sample, and of its volume.
        stem: Of its files ``<stem>.nii.gz`` and ``<stem>.seg.nrrd``.
    """

    name: str
    stem: str

    @property
    def volume(self) -> Path:
        """The volume's file."""
        return _FOLDER / f"{self.stem}.nii.gz"

    @property
    def segmentation(self) -> Path:
        """The file with the tumour and, where it is planted, the marker."""
        return _FOLDER / f"{self.stem}.seg.nrrd"

    @property
    def files(self) -> tuple[Path, Path]:
        """Volume and segmentation."""
        return self.volume, self.segmentation

    def digests(self) -> list[str]:
        """SHA-256 of each file, as hexadecimal digits."""
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files]

    @property
    def thumbnail(self) -> Path:
        """A picture of it."""
        return _FOLDER / f"{self.stem}.png"


SAMPLES = (
    Sample("SaliencyExplainPhantom", "phantom"),
    Sample("SaliencyExplainMarkedPhantom", "marked-phantom"),
)


def load_sample(scene: Any, sample: Sample = SAMPLES[0]) -> tuple[Any, Any]:
    """Loads a phantom; needs neither a network nor the engine.

    Returns:
        Its volume and segmentation nodes.

    Raises:
        InputError: The files are missing.
    """
    volume = load_volume(scene, sample.volume, sample.name)
    segmentation = load_segmentation(scene, sample.segmentation, f"{sample.name} segmentation")
    return volume, segmentation
