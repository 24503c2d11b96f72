"""The regions of LIME's image explainer: scikit-image's quickshift with LIME's settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import gray2rgb
from skimage.segmentation import quickshift
from torch import nn

from SaliencyExplain.attribution.methods.kernel_shap import KernelShap
from SaliencyExplain.attribution.methods.lime import Lime
from SaliencyExplain.attribution.perturbation.supervoxels import quickshift_as_in_lime
from SaliencyExplain.errors import ErrorCode, InputError
from Testing.builders import observe

SETTINGS = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}


def picture(channels=1, seed=0):
    """Blobs of several sizes and some noise, from 0 to 1."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:56, :48]
    found = []
    for _ in range(channels):
        values = 0.1 * random.random((56, 48))
        for row, column, size in ((14, 12, 7), (36, 30, 10), (20, 40, 5)):
            values += 0.8 * ((rows - row) ** 2 + (columns - column) ** 2 < size**2)
        found.append(values / values.max())
    return torch.from_numpy(np.stack(found)).float()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_labels_are_scikit_images_own(channels):
    image = picture(channels)
    as_given = gray2rgb(image[0].numpy()) if channels == 1 else image.permute(1, 2, 0).numpy()
    expected = quickshift(as_given.astype(np.float64), **SETTINGS)
    found = quickshift_as_in_lime(image).numpy()
    np.testing.assert_array_equal(found, expected + 1)
    assert found.max() >= 3


def test_values_of_another_range_are_brought_to_that_of_a_picture():
    image = picture()
    image = (image - image.min()) / (image.max() - image.min())
    assert torch.equal(quickshift_as_in_lime(700 * image - 300), quickshift_as_in_lime(image))


def test_other_numbers_of_channels_are_divided_too():
    assert quickshift_as_in_lime(picture(4)).max() > 1


class Bright(nn.Module):
    def forward(self, images):
        score = images[:, :, 26:46, 20:40].mean((1, 2, 3))
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("kind", [Lime, KernelShap])
def test_the_region_that_counts_stands_out(task, kind):
    job = task(Bright(), picture()[None], 1)
    method = kind(regions="quickshift", samples=400, fill="minimum", output="score")
    observed = observe(method, job)
    values, figures = observed.map, observed.figures
    labels = quickshift_as_in_lime(picture())
    assert {row["voxels"] for row in figures["regions"]} == set(
        labels.unique(return_counts=True)[1].tolist()
    )
    strongest = max(figures["regions"], key=lambda row: abs(row["value"]))
    inside = labels == int(strongest["name"].split()[-1])
    assert inside[26:46, 20:40].sum() > 0
    assert float(values.sum()) == pytest.approx(
        sum(row["value"] for row in figures["regions"]), rel=1e-3
    )
    assert method.seconds_beside(job) > 0


def test_a_volume_is_refused_by_name(task):
    job = task(Bright(), torch.rand(1, 1, 8, 8, 8), 1)
    with pytest.raises(InputError) as error:
        Lime(regions="quickshift").attribute(job)
    assert error.value.code is ErrorCode.REGIONS
    assert "quickshift" in str(error.value)
