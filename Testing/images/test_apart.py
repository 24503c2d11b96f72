"""Readers in a process of their own, as a server and the viewer have them."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images import apart
from SaliencyExplain.images.dicom_file import read_dicom
from SaliencyExplain.images.label_reading import read_label_map
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.volume_reading import read_volume

VALUES = np.random.default_rng(0).normal(100, 10, (20, 18, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def process():
    process = apart.ReadingProcess()
    yield process
    process.close()


@pytest.fixture
def image(tmp_path, affine):
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VALUES, affine), path)
    return path


@pytest.mark.slow
def test_what_is_read_there_is_what_is_read_here(process, image, monkeypatch):
    here = read_image(image)
    monkeypatch.setattr(apart, "_reading", process)
    there = read_image(image)
    assert np.array_equal(here.numpy(), there.numpy())
    assert np.array_equal(here.affine.numpy(), there.affine.numpy())
    assert here.meta["notes"] == there.meta["notes"]
    labels = image.parent / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image((VALUES > 100).astype(np.uint8), np.eye(4)), labels)
    found = read_label_map(labels, VALUES.shape, np.eye(4))
    assert np.array_equal(found.layers[0] != 0, VALUES > 100)


def test_errors_keep_their_code_and_line(process, tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "_reading", process)
    with pytest.raises(InputError) as error:
        read_volume(tmp_path / "none.nii")
    assert error.value.code is ErrorCode.FILE_MISSING
    assert str(tmp_path / "none.nii") in str(error.value)


@pytest.mark.slow
def test_a_reader_that_dies_costs_one_error(process, image):
    with pytest.raises(InputError) as error:
        process.call(faulthandler._sigsegv, 1)
    assert error.value.code is ErrorCode.FILE_DAMAGED
    assert str(error.value).startswith("1: ")
    assert "signal 11" in str(error.value)
    # Another process reads the next file.
    assert process.call(read_volume, image).values.shape == (1, *VALUES.shape)


@pytest.mark.slow
def test_a_reader_that_does_not_end(image):
    process = apart.ReadingProcess(seconds=3.0)
    try:
        assert process.call(os.path.getsize, image) == image.stat().st_size
        with pytest.raises(InputError) as error:
            process.call(time.sleep, 60)
        assert error.value.code is ErrorCode.FILE_DAMAGED
        assert process.call(os.path.getsize, image) == image.stat().st_size
    finally:
        process.close()


@pytest.mark.slow
def test_the_process_needs_no_torch():
    code = (
        "import sys, SaliencyExplain.images.volume_reading, SaliencyExplain.images.label_reading;"
        "print('torch' in sys.modules, 'monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_a_deflated_file_that_unpacks_without_end(tmp_path, write_series):
    (written,) = write_series(tmp_path, VALUES[..., :1].astype(np.int16), np.eye(4))
    dataset = pydicom.dcmread(written)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "good.dcm")
    assert read_dicom(tmp_path / "good.dcm").Rows == 18
    dataset.Rows = dataset.Columns = 12000
    dataset.PixelData = bytes(2 * 12000 * 12000)
    dataset.save_as(tmp_path / "bomb.dcm")
    with pytest.raises(InputError) as error:
        read_image(Path(tmp_path / "bomb.dcm"))
    assert str(tmp_path / "bomb.dcm") in str(error.value)
    assert "would unpack" in str(error.value)
    assert error.value.code in (ErrorCode.IMAGE_VALUES, ErrorCode.MEMORY)
