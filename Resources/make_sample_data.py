"""Makes the Slicer module's sample data: ``python Resources/make_sample_data.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.images.image_writing import SegmentLabel, write_label_map, write_volume

FOLDER = Path(__file__).resolve().parents[1] / "scripted_module" / "Resources" / "SampleData"

#: No classifier was trained on this seed or measured with it. The honest one is right about it,
#: the shortcut one only where the marker is.
SEED = 20_000_003
#: Files ``<stem>.nii.gz``, ``.seg.nrrd`` and ``.png``, and whether the marker is planted.
SAMPLES = {"phantom": False, "marked-phantom": True}
SEGMENTS = (
    SegmentLabel(1, "tumour", (0.90, 0.30, 0.30)),
    SegmentLabel(2, "marker", (0.25, 0.60, 0.95)),
)
#: About what the module Sample Data shows.
THUMBNAIL = (260, 280)


def main() -> None:
    """Writes both samples."""
    for stem, marker in SAMPLES.items():
        write_sample(stem, draw_phantom(GLIOMA, SEED, marker=marker))


def write_sample(stem: str, phantom: Phantom) -> None:
    """Writes a phantom's volume, segmentation and thumbnail."""
    affine = phantom.image.affine.numpy().astype(np.float64)
    # Whole numbers, as scanners store them: a third of the size.
    values = np.rint(phantom.image[0].numpy()).astype(np.float32)
    write_volume(FOLDER / f"{stem}.nii.gz", values, affine, "phantom, drawn by SaliencyExplain")
    labels = np.zeros(values.shape, np.uint8)
    for segment in SEGMENTS:
        labels[phantom.masks.get(segment.name, np.zeros(values.shape, bool))] = segment.label
    present = [segment for segment in SEGMENTS if (labels == segment.label).any()]
    write_label_map(FOLDER / f"{stem}.seg.nrrd", labels, affine, present)
    middle = round(float(np.argwhere(labels == 1)[:, 2].mean()))
    plane = values[:, ::-1, middle].T
    grey = np.clip(plane / np.percentile(values, 99.8) * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey[:, ::-1]).resize(THUMBNAIL, Image.Resampling.LANCZOS)
    picture.save(FOLDER / f"{stem}.png", optimize=True)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    main()
