"""Feature maps that hold several parts of the image at one place are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode, InputError
from Testing.attribution.spots import (
    METHODS,
    assert_peak_at,
    convolution,
    image_with_spots,
    mean,
)


def quarters(images):
    half = images.shape[2] // 2
    halves = (slice(None, half), slice(half, None))
    return [images[:, :, rows, columns] for rows in halves for columns in halves]


def corner_and_whole(images):
    """Two crops of the same shape: a corner at full size, and the whole made smaller."""
    half = images.shape[2] // 2
    size = (half, half, *images.shape[4:])
    return [images[:, :, half:, half:], functional.interpolate(images, size)]


#: Each puts different parts of the image, or an image turned over, at the same cells.
FOLDED = {
    "quarters in the batch": lambda images: torch.cat(quarters(images), 0),
    "quarters as a bag": lambda images: torch.stack(quarters(images), 1).flatten(0, 1),
    "halves in the batch": lambda images: torch.cat(images.chunk(2, 2), 0),
    "overlapping crops": lambda images: torch.cat([images[:, :, :-8], images[:, :, 8:]], 0),
    "crops by padding": lambda images: torch.cat(
        [functional.pad(images.movedim(2, -1), pad).movedim(-1, 2) for pad in ((-16, 0), (0, -16))]
    ),
    "corner and whole": lambda images: torch.cat(corner_and_whole(images), 0),
    "halves as channels": lambda images: torch.cat(images.chunk(2, 2), 1),
    "sum of halves": lambda images: sum(images.chunk(2, 2)),
    "larger of halves": lambda images: torch.stack(images.chunk(2, 2)).amax(0),
    "transposed": lambda images: torch.cat([images, images.transpose(2, 3)], 0),
}


class Folded(nn.Module):
    """Class 1 is brightness anywhere; the mean, or the most, of the scores of all parts counts."""

    def __init__(self, dims, fold, most=False):
        super().__init__()
        channels = 2 if fold == "halves as channels" else 1
        self.conv = convolution(dims, channels, 1, 4, stride=4, bias=False)
        self.fc = nn.Linear(1, 2, bias=False)
        self.fold, self.most = FOLDED.get(fold, fold), most
        self.conv.weight.data.fill_(4.0**-dims)
        self.fc.weight.data = torch.tensor([[-9.0], [9.0]])

    def forward(self, images):
        scores = self.fc(mean(functional.relu(self.conv(self.fold(images)))))
        scores = scores.reshape(-1, len(images), 2)
        return scores.amax(0) if self.most else scores.mean(0)


@pytest.mark.parametrize("most", [False, True], ids=["mean", "most"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("fold", FOLDED)
def test_parts_of_the_image_laid_over_each_other_are_refused(task, fold, dims, most):
    image = image_with_spots((32, 32, 12)[:dims], (26, 6, 6)[:dims])
    job = task(Folded(dims, fold, most), image)
    for name in METHODS:
        with pytest.raises(InputError, match="Folded") as error:
            find_method(name)().attribute(job)
        assert error.value.code is ErrorCode.LAYER_UNSUITABLE


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "fold",
    [
        lambda images: images[:, :, 16:],
        lambda images: torch.cat([images, images * 0.5], 0),
        # A mean of neighbours and the pixels of a patch as channels lie a cell apart at most.
        lambda images: (images[:, :, 1:] + images[:, :, :-1]) / 2,
        lambda images: torch.cat([images[:, :, ::2], images[:, :, 1::2]], 0),
    ],
    ids=["one crop", "the same twice", "neighbours", "every other row"],
)
def test_parts_that_lie_at_the_same_place_are_not(task, fold, dims):
    place = (26, 6, 6)[:dims]
    job = task(Folded(dims, fold), image_with_spots((32, 32, 12)[:dims], place))
    for name in METHODS:
        assert_peak_at(next(iter(find_method(name)().attribute(job).values())), place, 4)


class Crops(nn.Module):
    """Each half of the image goes through the encoder by itself."""

    def __init__(self, dims):
        super().__init__()
        self.encoder = Folded(dims, lambda images: images)

    def forward(self, images):
        return torch.stack([self.encoder(one) for one in images.chunk(2, 2)]).mean(0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_crops_that_are_looked_at_one_by_one_are_laid_where_they_are(task, method, dims):
    place = (26, 6, 6)[:dims]
    job = task(Crops(dims), image_with_spots((32, 32, 12)[:dims], place))
    assert_peak_at(next(iter(find_method(method)().attribute(job).values())), place, 2)
