"""The way of an image onto the network's grid and of a map back to the image's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai import transforms as mt
from monai.data import MetaTensor
from scipy import ndimage

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.network_grid import plane_frame, resample_inside
from SaliencyExplain.models.preprocessing import affine_error
from Testing.models.conftest import affine_of, classifier_of, image_of, world_of

KINDS = ["straight", "flipped", "permuted", "oblique"]
SHAPES = {2: (40, 30), 3: (40, 30, 20)}


def spatial_transforms(dims: int) -> dict[str, mt.Transform]:
    linear = "trilinear" if dims == 3 else "bilinear"
    angle = 0.3 if dims == 2 else (0.1, 0.2, 0.3)
    spacing = (1.5, 1.1, 2.0)[:dims]
    edge = (32, 45, 24)[:dims]
    key = "image"
    return {
        "orientation": mt.Orientationd(key, axcodes="LPS" if dims == 3 else "PL"),
        "spacing": mt.Spacingd(key, pixdim=spacing),
        "spacing, corners aligned": mt.Spacingd(key, pixdim=spacing, align_corners=True),
        "spacing, same extent": mt.Spacingd(key, pixdim=spacing, scale_extent=True),
        "spacing, cubic": mt.Spacingd(key, pixdim=spacing, mode=3, padding_mode="nearest"),
        "resize": mt.Resized(key, spatial_size=edge, mode=linear),
        "resize, corners aligned": mt.Resized(
            key, spatial_size=edge, mode=linear, align_corners=True
        ),
        "resize, by area": mt.Resized(key, spatial_size=edge, mode="area"),
        "resize, smoothed": mt.Resized(
            key, spatial_size=(16,) * dims, mode=linear, anti_aliasing=True
        ),
        "resize, longest": mt.Resized(key, spatial_size=32, size_mode="longest", mode=linear),
        "zoom in": mt.Zoomd(key, zoom=1.3, mode=linear),
        "zoom out": mt.Zoomd(key, zoom=0.7, mode=linear),
        "zoom, other size": mt.Zoomd(key, zoom=1.3, mode=linear, keep_size=False),
        "zoom, corners aligned": mt.Zoomd(key, zoom=1.3, mode=linear, align_corners=True),
        "crop to the foreground": mt.CropForegroundd(
            key, source_key=key, select_fn=_warm, margin=1, allow_smaller=True
        ),
        "crop to the foreground, divisible": mt.CropForegroundd(
            key, source_key=key, select_fn=_warm, k_divisible=16, allow_smaller=False
        ),
        "crop the centre": mt.CenterSpatialCropd(key, roi_size=(21, 14, 9)[:dims]),
        "crop a share": mt.CenterScaleCropd(key, roi_scale=0.6),
        "crop a box": mt.SpatialCropd(key, roi_start=(3, 4, 5)[:dims], roi_end=(30, 20, 18)[:dims]),
        "pad": mt.SpatialPadd(key, spatial_size=(51, 40, 33)[:dims]),
        "pad at the end": mt.SpatialPadd(key, spatial_size=(51, 40, 33)[:dims], method="end"),
        "pad the border": mt.BorderPadd(key, spatial_border=3),
        "pad to a multiple": mt.DivisiblePadd(key, k=16),
        "pad or crop": mt.ResizeWithPadOrCropd(key, spatial_size=(31, 40, 33)[:dims]),
        "flip": mt.Flipd(key, spatial_axis=0),
        "quarter turn": mt.Rotate90d(key, k=1),
        "rotate": mt.Rotated(key, angle=angle, keep_size=False),
        "affine": mt.Affined(
            key, rotate_params=angle, translate_params=(3.0, 2.0, 1.0)[:dims], padding_mode="border"
        ),
    }


def _warm(values: torch.Tensor) -> torch.Tensor:
    return values > values.mean()


CASES = [(dims, name) for dims in (2, 3) for name in spatial_transforms(dims)]


@pytest.mark.parametrize(("dims", "name"), CASES)
def test_coordinates_that_go_through_a_transform_are_where_its_affine_says(
    dims: int, name: str
) -> None:
    affine = affine_of(dims, "oblique" if dims == 3 else "flipped")
    world = world_of(SHAPES[dims], affine)
    moved = spatial_transforms(dims)[name]({"image": image_of(world, affine)})["image"]
    after = moved.affine.numpy()
    said = world_of(tuple(moved.shape[1:]), after)
    origin = affine[:3, 3].reshape(3, *[1] * dims)
    index = np.tensordot(np.linalg.inv(affine)[:3, :3], said - origin, axes=1)
    shape = np.array(SHAPES[dims]).reshape(-1, *[1] * dims)
    inside = np.all((index[:dims] >= 2) & (index[:dims] <= shape - 3), axis=0)
    assert inside.sum() > 50
    apart = (moved.numpy() - said)[:, inside]
    # Area interpolation takes whole voxels; its mean place is right within a third of one.
    tolerance = 0.34 if "area" in name else 0.02
    in_voxels = np.linalg.pinv(after[:3, :dims]) @ apart
    assert np.abs(in_voxels).mean() < tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dims", "name"), CASES)
def test_a_blob_comes_back_to_where_it_was(dims: int, name: str, kind: str) -> None:
    shape = SHAPES[dims]
    affine = affine_of(dims, kind)
    centre = np.array([17.0, 12.0, 10.0][:dims])
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    distance = ((grid - centre.reshape(-1, *[1] * dims)) ** 2).sum(axis=0)
    blob = np.exp(-distance / (2 * 2.5**2))
    image = image_of(blob[None], affine)
    classifier = classifier_of([spatial_transforms(dims)[name]], dims)

    prepared = classifier.prepare(image)
    back = classifier.restore(prepared[0], prepared, image)

    assert back.shape == shape
    heavy = np.where(back > 0.3 * back.max(), back, 0)
    found = np.array(ndimage.center_of_mass(heavy))
    original = np.array(ndimage.center_of_mass(np.where(blob > 0.3, blob, 0)))
    assert np.abs(found - original).max() < 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [2, 3])
def test_world_coordinates_come_back_exactly_through_a_whole_preprocessing(
    dims: int, kind: str
) -> None:
    affine = affine_of(dims, kind)
    image = image_of(np.ones((1, *SHAPES[dims])), affine)
    classifier = classifier_of(
        [
            mt.Orientationd("image", axcodes="RAS" if dims == 3 else "PL"),
            mt.Spacingd("image", pixdim=(1.1, 0.8, 2.0)[:dims]),
            mt.SpatialPadd("image", spatial_size=(60, 60, 40)[:dims]),
            mt.Resized("image", spatial_size=(48, 50, 30)[:dims]),
        ],
        dims,
    )
    prepared = classifier.prepare(image)
    said = world_of(tuple(prepared.shape[1:]), prepared.affine.numpy())
    wanted = world_of(SHAPES[dims], affine)
    for axis in range(3):
        back = classifier.restore(torch.from_numpy(said[axis]), prepared, image)
        inner = (slice(2, -2),) * dims
        assert np.abs(back - wanted[axis])[inner].max() < 1e-3


@pytest.mark.parametrize("turn", ["axial", "coronal", "sagittal", "tilted sagittal"])
def test_a_slice_of_any_plane_is_handled_as_a_picture(turn: str) -> None:
    columns = {
        "axial": [[-0.7, 0, 0], [0, -0.9, 0], [0, 0, 1]],
        "coronal": [[-0.7, 0, 0], [0, 0, -0.9], [0, 1, 0]],
        "sagittal": [[0, -0.7, 0], [0, 0, -0.9], [1, 0, 0]],
        "tilted sagittal": [[0.2, -0.6, 0.1], [0.1, 0.2, -0.9], [1, 0, 0]],
    }[turn]
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    affine[:3, 3] = [3.0, 50.0, -20.0]
    values = np.random.default_rng(0).random((1, 40, 30))
    classifier = classifier_of([mt.Orientationd("image", axcodes="PL")], 2)
    image = image_of(values, affine)

    prepared = classifier.prepare(image)

    # Columns run to the display's right and rows down: the picture's rows are its y axis.
    np.testing.assert_allclose(prepared[0].numpy(), values[0].T, rtol=1e-6)
    np.testing.assert_allclose(
        world_of((30, 40), prepared.affine.numpy()).transpose(0, 2, 1),
        world_of((40, 30), affine),
        atol=1e-9,
    )
    # The same slice stored the other way round is the same picture.
    flipped_affine = affine.copy()
    flipped_affine[:, 3] += 39 * affine[:, 0]
    flipped_affine[:, 0] *= -1
    flipped = image_of(values[:, ::-1], flipped_affine)
    np.testing.assert_allclose(classifier.prepare(flipped).numpy(), prepared.numpy(), rtol=1e-6)


def test_a_plane_frame_is_rigid_and_the_axial_one_is_the_patients_own() -> None:
    frame = plane_frame(affine_of(2, "oblique"))
    np.testing.assert_allclose(frame, np.eye(4), atol=1e-12)
    with pytest.raises(InputError, match="parallel"):
        plane_frame(np.diag([1.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_a_picture_for_a_2d_classifier(axis: int) -> None:
    shape = [20, 24, 28]
    shape[axis] = 1
    values = np.random.default_rng(0).random((1, *shape))
    image = image_of(values, affine_of(3, "oblique"))
    classifier = classifier_of([mt.Resized("image", spatial_size=(40, 44), mode="bilinear")], 2)
    prepared = classifier.prepare(image)
    assert prepared.shape == (1, 40, 44)
    back = classifier.restore(prepared[0], prepared, image)
    assert back.shape == tuple(shape)
    assert np.corrcoef(back.ravel(), values.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("dims", [2, 3])
def test_the_gradient_of_a_flipped_copy_is_the_flipped_gradient(dims: int) -> None:
    affine = affine_of(dims, "oblique")
    values = np.random.default_rng(1).random((1, *SHAPES[dims]))
    steps = [
        mt.Orientationd("image", axcodes="RAS" if dims == 3 else "PL"),
        mt.Spacingd("image", pixdim=(1.2, 1.2, 2.5)[:dims]),
        mt.Resized(
            "image", spatial_size=(24, 26, 22)[:dims], mode="trilinear" if dims == 3 else "bilinear"
        ),
    ]
    classifier = classifier_of(steps, dims)
    original = _gradient(classifier, image_of(values, affine))
    assert original.max() > 0
    for axis in range(dims):
        other = affine.copy()
        other[:, 3] += (values.shape[axis + 1] - 1) * affine[:, axis]
        other[:, axis] *= -1
        flipped = _gradient(classifier, image_of(np.flip(values, axis + 1), other))
        np.testing.assert_allclose(
            np.flip(flipped, axis), original, atol=1e-4 * np.abs(original).max()
        )


def _gradient(classifier, image: MetaTensor) -> np.ndarray:
    prepared = classifier.prepare(image)
    values = prepared.as_tensor()[None].clone().requires_grad_()
    classifier.network(values)[0, 1].backward()
    return classifier.restore(values.grad[0, 0], prepared, image)


def test_outside_the_field_of_view_is_zero_and_the_border_does_not_fade() -> None:
    values = np.ones((4, 4), dtype=np.float32)
    coarse = np.diag([4.0, 4.0, 1.0, 1.0])
    fine = np.eye(4)
    fine[:2, 3] = -4.0
    back = resample_inside(values, coarse, fine, (24, 24))
    # The four voxels of 4 mm reach from -2 to 14 mm; the fine ones are at -4, -3, ….
    inside = (np.arange(24) - 4 >= -2) & (np.arange(24) - 4 <= 14)
    np.testing.assert_array_equal(back, np.outer(inside, inside).astype(np.float32))


def test_a_map_on_the_images_own_grid_comes_back_bit_for_bit() -> None:
    values = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    affine = affine_of(3, "oblique")
    image = image_of(values[None], affine)
    classifier = classifier_of([], 3)
    prepared = classifier.prepare(image)
    np.testing.assert_array_equal(classifier.restore(values, prepared, image), values)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_check_at_loading_finds_transforms_whose_affine_is_not_true(dims: int) -> None:
    swapped = mt.Transposed("image", indices=[0, 2, 1, 3][: dims + 1])
    assert affine_error(swapped, dims) > 0.5
    assert affine_error(mt.EnsureTyped("image", track_meta=False), dims) == np.inf
    assert affine_error(mt.ToNumpyd("image"), dims) == np.inf
    assert affine_error(mt.RepeatChanneld("image", repeats=3), dims) < 1e-6
    for name, transform in spatial_transforms(dims).items():
        assert affine_error(transform, dims) < (0.3 if "area" in name else 0.01), name


@pytest.mark.parametrize("dims", [2, 3])
def test_preparing_leaves_the_callers_image_as_it_was(dims: int) -> None:
    # MONAI's NormalizeIntensity writes into the array that it is given.
    values = np.random.default_rng(5).uniform(1, 9, (1, 12, 10, 8)[: dims + 1]).astype(np.float32)
    image = image_of(values, affine_of(dims, "straight"))
    before = image.as_tensor().clone()
    prepared = classifier_of([mt.NormalizeIntensityd("image", channel_wise=True)], dims).prepare(
        image
    )
    assert float(prepared.mean()) == pytest.approx(0, abs=1e-5)
    assert torch.equal(image.as_tensor(), before)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_is_no_volume_for_a_3d_classifier(axis: int) -> None:
    shape = [1, 12, 12, 12]
    shape[axis + 1] = 1
    classifier = classifier_of([mt.Resize((16, 16, 16))], 3)
    with pytest.raises(InputError) as error:
        classifier.predict(image_of(np.random.default_rng(0).random(shape), np.eye(4)))
    assert error.value.code is ErrorCode.IMAGE_AXES
    assert "small" in str(error.value)
