"""What stands in the place of what is removed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
import torch

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS

SPACING = (1.0, 2.0, 3.5)


def membrane(channel, removed, spacing):
    """Laplace's equation on the removed voxels by a sparse direct solver."""
    number = -np.ones(channel.shape, dtype=int)
    number[removed] = np.arange(removed.sum())
    rows, columns, entries = [], [], []
    right = np.zeros(removed.sum())
    for place in zip(*np.nonzero(removed), strict=True):
        for axis, step in itertools.product(range(channel.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            if not 0 <= other[axis] < channel.shape[axis]:
                continue
            weight = spacing[axis] ** -2
            here, there = number[place], number[tuple(other)]
            rows.append(here)
            columns.append(here)
            entries.append(weight)
            if there >= 0:
                rows.append(here)
                columns.append(there)
                entries.append(-weight)
            else:
                right[here] += weight * channel[tuple(other)]
    matrix = scipy.sparse.csr_matrix((entries, (rows, columns)))
    filled = channel.copy()
    filled[removed] = scipy.sparse.linalg.spsolve(matrix.tocsc(), right)
    return filled


def box_mask(shape, corner, window):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(n, n + w) for n, w in zip(corner, window, strict=True))] = True
    return mask


@pytest.mark.parametrize("dims", [2, 3])
def test_inpainting_solves_laplaces_equation_also_at_the_border(dims):
    shape, window = (14, 12, 9)[:dims], (6, 5, 4)[:dims]
    spacing = SPACING[:dims]
    image = torch.randn(1, 2, *shape)
    corners = np.array([(0, 0, 0), (4, 3, 2), (8, 2, 5), (8, 7, 5)])[:, :dims]
    found = infill_of(image, "inpaint", spacing).boxes(corners, window)
    for corner, content in zip(corners, found, strict=True):
        mask = box_mask(shape, corner, window)
        for channel, values in zip(image[0].double().numpy(), content.numpy(), strict=True):
            expected = membrane(channel, mask, spacing)[mask].reshape(window)
            np.testing.assert_allclose(values, expected, atol=2e-4)


def test_inpainting_of_any_form_solves_it_too_and_a_ball_beside_others_is_the_same():
    image = torch.randn(1, 1, 16, 15, 14)
    fill = infill_of(image, "inpaint", SPACING)
    index = np.indices((9, 7, 5)).reshape(3, -1).T.reshape(9, 7, 5, 3)
    ball = ((index - [4, 3, 2]) ** 2 * [1, 1.5, 3] <= 15).any(-1) & (index[..., 0] != 2)
    content = fill.place((7, 6, 9), torch.from_numpy(ball)).numpy()
    whole = np.zeros((16, 15, 14), dtype=bool)
    whole[7:16, 6:13, 9:14] = ball
    expected = membrane(image[0, 0].double().numpy(), whole, SPACING)[7:16, 6:13, 9:14]
    np.testing.assert_allclose(content[0][ball], expected[ball], atol=2e-4)
    corners = np.array([[0, 1, 2], [5, 5, 5], [9, 8, 9]])
    together = fill.boxes(corners, (6, 6, 5))
    for corner, content in zip(corners, together, strict=True):
        assert torch.equal(fill.boxes(corner[None], (6, 6, 5))[0], content)


def test_a_ramp_is_continued_as_a_ramp_and_a_place_without_surroundings_gets_the_mean():
    ramp = torch.arange(20.0)[:, None] + 3 * torch.arange(18.0)
    found = infill_of(ramp[None, None], "inpaint", (1, 2)).boxes(np.array([[5, 6]]), (8, 7))
    torch.testing.assert_close(found[0, 0], ramp[5:13, 6:13], rtol=0, atol=1e-2)
    whole = infill_of(ramp[None, None], "inpaint", (1, 2)).boxes(np.array([[0, 0]]), (20, 18))
    torch.testing.assert_close(whole, ramp.mean().expand(1, 1, 20, 18))


def test_blur_is_a_gaussian_filter_in_millimetres_and_keeps_what_is_constant():
    image = torch.randn(1, 2, 40, 30)
    found = infill_of(image, "blur", (1.0, 2.0), blur_mm=4.0).boxes(np.array([[0, 0]]), (40, 30))
    inner = (slice(None), slice(14, 26), slice(8, 22))
    expected = scipy.ndimage.gaussian_filter(image[0].numpy(), (0, 4, 2), truncate=8)
    np.testing.assert_allclose(found[0].numpy()[inner], expected[inner], atol=2e-3)
    flat = infill_of(torch.full((1, 1, 9, 9), 3.0), "blur", (1, 1)).boxes(
        np.array([[0, 0]]), (9, 9)
    )
    torch.testing.assert_close(flat, torch.full((1, 1, 9, 9), 3.0))


def test_noise_has_the_channels_statistics_and_is_that_of_its_seed():
    image = torch.stack([torch.rand(60, 60), 100 + 10 * torch.rand(60, 60)])[None]
    draws = [
        infill_of(image, "noise", (1, 1), seed=seed).boxes(np.array([[0, 0]]), (60, 60))[0]
        for seed in (3, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    for drawn, channel in zip(draws[0], image[0], strict=True):
        assert drawn.mean() == pytest.approx(float(channel.mean()), abs=0.1 * float(channel.std()))
        assert drawn.std() > 0.7 * channel.std()
        assert channel.min() <= drawn.min()
        assert drawn.max() <= channel.max()


@pytest.mark.parametrize("fill", FILLS)
def test_windows_that_change_nothing_are_known_before(fill):
    image = torch.zeros(1, 2, 24, 20)
    image[:, 1, 8:12, 3:9] = torch.rand(4, 6) + 1
    windows = Occlusion(window_mm=4, stride_mm=3).windows((24, 20), (1.0, 1.0))
    fill_in = infill_of(image, fill, (1.0, 1.0), value=0.0, seed=1)
    changes = fill_in.changes(windows)
    corners = windows.corners(np.arange(changes[0].size))
    contents = fill_in.boxes(corners, windows.window)
    for channel in range(2):
        for corner, content, changed in zip(
            corners.tolist(), contents[:, channel], changes[channel].ravel(), strict=True
        ):
            given = image[0, channel, corner[0] : corner[0] + 4, corner[1] : corner[1] + 4]
            # Whatever is skipped would have changed nothing.
            assert changed or torch.equal(content, given)
    assert not changes[0].any()
    assert 0 < changes[1].sum() < changes[1].size or fill in ("mean", "noise", "blur")
