"""A segmentation in several files: parts of one segment, or a segment each."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import EMPTY_NOTE
from SaliencyExplain.images.segmentation_files import read_ground_truths, segment_names


def picture(path: Path, rows: slice) -> Path:
    values = np.zeros((20, 24), np.uint8)
    values[rows] = 255
    Image.fromarray(values).save(path)
    return path


def test_numbered_files_are_the_parts_of_one_segment(tmp_path: Path) -> None:
    Image.fromarray(np.arange(480, dtype=np.uint8).reshape(20, 24)).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    masks = [
        picture(tmp_path / "x_mask.png", slice(0, 4)),
        picture(tmp_path / "x_mask_1.png", slice(10, 12)),
        picture(tmp_path / "x_mask_2.png", slice(0, 0)),
    ]
    found, notes = read_ground_truths(masks, image)
    assert found is not None
    (segment,) = found.segments
    assert segment.mask.sum() == 24 * 6
    assert any("x_mask_2.png" in note for note in notes)
    assert read_ground_truths(masks[2:] * 2, image) == (None, (EMPTY_NOTE,))


def test_files_of_structures_are_a_segment_each_on_the_image_s_grid(tmp_path: Path) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    noise = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(noise, affine), tmp_path / "ct.nii.gz")
    for place, name in enumerate(("liver", "spleen")):
        mask = np.zeros(noise.shape, np.uint8)
        mask[place] = 1
        nibabel.save(nibabel.Nifti1Image(mask, affine), tmp_path / f"{name}.nii.gz")
    files = [tmp_path / "liver.nii.gz", tmp_path / "spleen.nii.gz"]
    found, _ = read_ground_truths(files, read_image(tmp_path / "ct.nii.gz"))
    assert found is not None
    assert [segment.name for segment in found.segments] == ["liver", "spleen"]
    assert [bool(s.mask[place].all()) for place, s in enumerate(found.segments)] == [True, True]
    assert [segment.mask.sum() for segment in found.segments] == [90, 90]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.arange(480, dtype=np.uint8).reshape(20, 24)).save(tmp_path / "x.png")
    (tmp_path / "x_mask_1.png").write_bytes(b"no picture")
    masks = [picture(tmp_path / "x_mask.png", slice(0, 4)), tmp_path / "x_mask_1.png"]
    with pytest.raises(InputError) as error:
        read_ground_truths(masks, read_image(tmp_path / "x.png"))
    assert error.value.code is ErrorCode.FILE_DAMAGED
    assert "x_mask_1.png" in str(error.value)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a_mask.png", "a_mask_1.png"], ["segmentation"] * 2),
        (["s/liver.nii.gz", "s/spleen.nii.gz"], ["liver", "spleen"]),
        (["g/I_1_attribute_globules.png", "g/I_1_attribute_streaks.png"], ["globules", "streaks"]),
        (["lung masks/1.png", "infection masks/1.png"], ["lung masks", "infection masks"]),
    ],
)
def test_segments_are_called_by_what_their_files_do_not_share(
    paths: list[str], names: list[str]
) -> None:
    assert segment_names([Path(path) for path in paths]) == names
