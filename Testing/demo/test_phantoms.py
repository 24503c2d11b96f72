"""The phantoms' truth: what is where, at which size, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_fill_holes, distance_transform_edt, label

from SaliencyExplain.demo.anatomy import brain_depth
from SaliencyExplain.demo.phantoms import MARKER_SIZE, SPACING_3D, draw_phantom
from SaliencyExplain.demo.tumours import (
    CLASSES,
    GLIOMA,
    MENINGIOMA,
    NO_TUMOUR,
    PITUITARY,
)
from SaliencyExplain.errors import InputError

SEEDS = range(5)
TUMOURS = (GLIOMA, MENINGIOMA, PITUITARY)


def signal_of(phantom):
    """The picture scaled so that its brain is about 0.65."""
    values = phantom.image[0].numpy()
    return values / np.percentile(values, 99) * 0.8


def head_of(phantom):
    """The filled silhouette of the head, found from the picture alone."""
    bright = signal_of(phantom) > 0.25
    parts, _ = label(bright)
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1
    filled = binary_fill_holes(parts == largest)
    return np.stack([binary_fill_holes(filled[:, :, k]) for k in range(filled.shape[2])], axis=2)


def middle_mm(phantom, mask):
    """Middle of a mask in RAS millimetres, by the affine that the image carries."""
    index = np.argwhere(mask).mean(axis=0)
    index = [*index, 0.0, 1.0] if len(index) == 2 else [*index, 1.0]
    return (phantom.image.affine.numpy() @ index)[:3]


@pytest.mark.parametrize("kind", TUMOURS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_tumour_lies_inside_the_head(kind, seed):
    phantom = draw_phantom(kind, seed, marker=True)
    tumour = phantom.masks["tumour"]
    assert tumour[head_of(phantom)].sum() > 0.97 * tumour.sum()


@pytest.mark.parametrize("kind", TUMOURS)
def test_the_tumour_has_the_volume_of_its_radius_in_millimetres(kind):
    smallest, largest = (9, 17) if kind == PITUITARY else (10, 24)
    voxel = np.prod(SPACING_3D)
    for seed in SEEDS:
        volume = draw_phantom(kind, seed).masks["tumour"].sum() * voxel
        assert 4 / 3 * np.pi * smallest**3 < volume < 4 / 3 * np.pi * largest**3


@pytest.mark.slow
@pytest.mark.parametrize("kind", TUMOURS)
def test_the_tumour_is_one_piece_where_the_picture_differs_from_the_same_head_without(kind):
    for seed in SEEDS:
        tumour = draw_phantom(kind, seed).masks["tumour"]
        change = signal_of(draw_phantom(kind, seed)) - signal_of(draw_phantom(NO_TUMOUR, seed))
        assert label(tumour)[1] == 1
        assert (
            np.abs(change[tumour]).mean()
            > 6 * np.abs(change[~binary_dilation(tumour, iterations=5)]).mean()
        )


@pytest.mark.slow
def test_a_meningioma_lies_on_the_inner_skull_and_a_glioma_does_not():
    """The skull's inner side is the outer edge of the dark fluid and bone around the brain."""
    for seed in SEEDS:
        gaps = {}
        for kind in (MENINGIOMA, GLIOMA):
            phantom = draw_phantom(kind, seed)
            skin = distance_transform_edt(head_of(phantom), sampling=SPACING_3D)
            gaps[kind] = skin[phantom.masks["tumour"]].min()
        # Scalp and bone are 11 mm thick together; the silhouette is sharp to a voxel.
        assert 5 < gaps[MENINGIOMA] < 15
        assert gaps[GLIOMA] > gaps[MENINGIOMA]


@pytest.mark.slow
def test_a_glioma_is_dark_inside_and_bright_at_its_rim_and_a_meningioma_is_even():
    for seed in SEEDS:
        for kind in (GLIOMA, MENINGIOMA):
            phantom = draw_phantom(kind, seed)
            deep = distance_transform_edt(phantom.masks["tumour"], sampling=SPACING_3D)
            signal = signal_of(phantom)
            core = signal[deep > 0.75 * deep.max()].mean()
            rim = signal[(deep > 2) & (deep < 5)].mean()
            if kind == GLIOMA:
                assert core < 0.7 * rim
            else:
                assert core == pytest.approx(rim, rel=0.15)


def test_a_pituitary_tumour_lies_at_the_midline_near_the_base_of_the_brain():
    for seed in SEEDS:
        phantom = draw_phantom(PITUITARY, seed)
        x, y, z = middle_mm(phantom, phantom.masks["tumour"])
        # The head is turned by up to 7 degrees and shifted by up to 4 mm.
        assert abs(x) < 14
        assert abs(y - 14) < 15
        assert -60 < z < -25


@pytest.mark.slow
def test_gliomas_and_meningiomas_lie_on_both_sides():
    for kind in (GLIOMA, MENINGIOMA):
        sides = [
            middle_mm(p, p.masks["tumour"])[0] > 0
            for p in (draw_phantom(kind, s) for s in range(8))
        ]
        assert 0 < sum(sides) < 8


def test_without_a_tumour_there_is_no_mask():
    assert draw_phantom(NO_TUMOUR, 0).masks == {}


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_marker_lies_in_a_corner_outside_the_head(dimensions):
    for seed in SEEDS:
        phantom = draw_phantom(GLIOMA, seed, dimensions=dimensions, marker=True)
        bare = draw_phantom(GLIOMA, seed, dimensions=dimensions)
        marker = phantom.masks["marker"]
        volume = marker.sum() * abs(np.linalg.det(phantom.image.affine.numpy()[:3, :3]))
        assert volume == pytest.approx(MARKER_SIZE**dimensions, rel=0.3)
        # Air is there without it, also 6 mm around.
        around = binary_dilation(marker, iterations=2)
        assert signal_of(bare)[around].max() < 0.25
        assert signal_of(phantom)[marker].min() > 0.6
        corner = middle_mm(phantom, marker) - middle_mm(phantom, np.ones_like(marker))
        assert (corner[:dimensions] > 60).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_taking_the_marker_away_changes_its_voxels_alone(dimensions):
    marked, bare = (draw_phantom(GLIOMA, 3, dimensions=dimensions, marker=m) for m in (True, False))
    differs = (marked.image != bare.image)[0].numpy()
    assert np.array_equal(differs, marked.masks["marker"])
    assert np.array_equal(marked.masks["tumour"], bare.masks["tumour"])


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", CLASSES)
def test_the_same_seed_gives_the_same_phantom_and_another_seed_another(kind, dimensions):
    first, again, other = (draw_phantom(kind, seed, dimensions=dimensions) for seed in (7, 7, 8))
    assert first.label == kind
    assert np.array_equal(first.image.numpy(), again.image.numpy())
    assert all(np.array_equal(mask, again.masks[name]) for name, mask in first.masks.items())
    assert not np.allclose(signal_of(first), signal_of(other), atol=0.2)


def test_a_volume_is_ras_with_thick_slices_and_its_middle_near_the_origin():
    image = draw_phantom(NO_TUMOUR, 0).image
    affine = image.affine.numpy()
    assert image.shape == (1, 72, 88, 56)
    assert affine[:3, :3].tolist() == np.diag([2.5, 2.5, 3.0]).tolist()
    assert (affine @ [35.5, 43.5, 27.5, 1])[:3] == pytest.approx([0, 0, 0])


def test_a_slice_has_the_axes_of_a_picture():
    """Columns to the patient's left, rows to the back: the nose is at the top."""
    phantom = draw_phantom(PITUITARY, 0, dimensions=2)
    assert phantom.image.affine.numpy().tolist() == np.diag([-1.0, -1.0, 1.0, 1.0]).tolist()
    assert phantom.image.shape == (1, 184, 224)
    rows = np.argwhere(phantom.masks["tumour"])[:, 1]
    assert rows.mean() < 112  # the sella lies in front of the middle


def test_a_slice_is_the_volume_cut_at_its_height():
    """Both are drawn from one description in millimetres: their tumours lie at one place."""
    for kind in TUMOURS:
        volume, plane = (draw_phantom(kind, 4, dimensions=d) for d in (3, 2))
        middle = middle_mm(volume, volume.masks["tumour"])
        columns, rows = np.argwhere(plane.masks["tumour"]).mean(axis=0)
        assert (91.5 - columns, 111.5 - rows) == pytest.approx(tuple(middle[:2]), abs=4)


def test_depth_below_the_brain_is_in_millimetres():
    """Down from the top of an upright head each millimetre of way is one of depth."""
    z = np.linspace(40, 80, 41).astype(np.float32)
    depth = brain_depth([np.zeros(41, np.float32), np.full(41, -4, np.float32), z])
    assert depth == pytest.approx(66 - z, abs=0.1)


def test_an_unknown_class_or_dimension_is_named():
    with pytest.raises(InputError, match="Did you mean 'glioma-like'"):
        draw_phantom("glioma", 0)
    with pytest.raises(InputError, match="2 or 3"):
        draw_phantom(GLIOMA, 0, dimensions=4)
