"""Files of the public set of brain tumours: MATLAB 7.3, which is HDF5 behind a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")


def write_tumour_slice(
    path: Path,
    image: np.ndarray,
    mask: np.ndarray,
    *,
    label: float = 2,
    patient: str = "112649",
    structure: str = "cjdata",
) -> Path:
    """Writes (rows, columns) as MATLAB does: columns first, a header of 512 bytes before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group(structure)
        group.create_dataset("PID", data=np.array([[ord(c)] for c in patient], np.uint16))
        group.create_dataset("image", data=image.T.astype(np.int16))
        group.create_dataset("label", data=np.array([[float(label)]]))
        group.create_dataset("tumorBorder", data=np.ones((1, 8)))
        group.create_dataset("tumorMask", data=mask.T.astype(np.uint8))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(116))
    return path


def picture(rows: int = 32, columns: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright tumour in the upper right of the picture."""
    image = np.random.default_rng(0).integers(0, 60, (rows, columns))
    mask = np.zeros((rows, columns), bool)
    mask[3:8, 15:22] = True
    image[mask] += 150
    return image, mask
