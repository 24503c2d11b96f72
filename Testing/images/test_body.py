from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.tumours import CLASSES
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.reading import read_image, to_image


def phantom_head(noise=0.02):
    """A ball of tissue with a dark ventricle, a bright skull, and a noisy even background."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    head = radius < 0.7
    values = np.where(head, 0.6, 0.0)
    values[(radius > 0.62) & head] = 1.0
    values[radius < 0.2] = 0.02
    values += np.abs(random.normal(scale=noise, size=values.shape))
    return head, values.astype(np.float32)


def test_the_body_is_found_with_what_is_dark_inside_it():
    head, values = phantom_head()
    found = body_mask(to_image(values[np.newaxis], np.eye(4), name="head"))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, head)
    flat = body_mask(to_image(values[np.newaxis, :, :, 20], np.eye(4), name="slice"))
    np.testing.assert_array_equal(flat, head[:, :, 20])


def test_a_volume_of_three_slices_is_no_colour_picture():
    head, values = phantom_head()
    found = body_mask(to_image(values[np.newaxis, :, :, 19:22], np.eye(4), name="thin"))
    np.testing.assert_array_equal(found, head[:, :, 19:22])


def test_padding_of_a_scanner_and_its_table_are_no_body():
    head, values = phantom_head()
    hounsfield = values * 1000 - 1000
    hounsfield[:2] = -3024
    hounsfield[30:, 37:38] = 100
    found = body_mask(to_image(hounsfield[np.newaxis], np.eye(4), name="ct"))
    np.testing.assert_array_equal(found, head)


@pytest.mark.parametrize("noise", [0.1, 0.2])
@pytest.mark.parametrize("planes", [slice(None), 20], ids=["3D", "2D"])
def test_the_body_is_found_in_noise(noise, planes):
    head, values = phantom_head(noise)
    image = to_image(values[np.newaxis, :, :, planes], np.eye(4), name="noisy")
    found, head = body_mask(image), head[:, :, planes]
    assert 2 * (found & head).sum() / (found.sum() + head.sum()) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_head_of_every_phantom_is_found(dimensions):
    for seed in range(12 if dimensions == 2 else 3):
        phantom = draw_phantom(CLASSES[1 + seed % 3], 5_000_000 + seed, dimensions=dimensions)
        found = body_mask(phantom.image)
        assert 0.25 < found.mean() < 0.6
        assert found[phantom.masks["tumour"]].mean() > 0.99


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).random((1, 20, 20, 20)),
        np.add.outer(np.arange(30.0), np.arange(30.0))[np.newaxis],
        np.pad(np.ones((1, 1, 1)), ((0, 0), (5, 9), (3, 11))),
        np.pad(np.zeros((1, 1, 1)), ((0, 0), (5, 9), (3, 11)), constant_values=1),
    ],
    ids=["noise", "ramp", "one pixel", "all but one pixel"],
)
def test_it_says_so_where_the_body_cannot_be_told(values):
    assert body_mask(to_image(values, np.eye(4), name="x")) is None


def test_a_hot_tumour_in_positron_emission_tomography_is_no_body():
    _, values = phantom_head()
    image = to_image(values[np.newaxis], np.eye(4), name="pet", modality="PT")
    assert body_mask(image) is None


@pytest.mark.slow
def test_real_images(shared_data):
    brain = read_image(shared_data / "brain-glioma-brats-gli-00001-000" / "t1c.nii.gz")
    inside = brain[0].numpy() > 0
    found = body_mask(brain)
    assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.97
    ct = body_mask(read_image(shared_data / "dicom-encodings-pydicom" / "693_J2KR.dcm"))
    # The head in its holder, within the circle that the scanner pads with -3024.
    assert 0.25 < ct.mean() < 0.4
    assert not ct[:90].any()
    sarcoma = shared_data / "soft-tissue-sarcoma-nifti"
    # Fat, muscle and air in a noisy MR of a thigh: the whole thigh, not only the fat.
    assert body_mask(read_image(sarcoma / "STS_024" / "MR_T1_image.nii.gz")).mean() > 0.85
    for pet in sorted(sarcoma.glob("*/PET_image.nii.gz")):
        assert body_mask(read_image(pet)) is None
    for chest in sorted((shared_data / "cxr-nih-boxes").glob("*.png")):
        assert body_mask(read_image(chest)) is None
