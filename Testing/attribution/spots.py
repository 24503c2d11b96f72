"""Images with bright spots, and the methods that read feature maps."""

from __future__ import annotations

import torch
from torch import nn

from SaliencyExplain.attribution.registry import find_method
from Testing.quick_methods import names

#: Methods that read feature maps, which only CAM does of networks of one form alone.
METHODS = [name for name in names(parameter="layers") if name != "cam"]


#: Without those that also need ReLU modules.
WITHOUT_GUIDED = [name for name in METHODS if find_method(name).family == "class activation"]


def convolution(dims, *arguments, **settings):
    return (nn.Conv2d if dims == 2 else nn.Conv3d)(*arguments, **settings)


def mean(features):
    return features.flatten(2).mean(2)


def image_with_spots(shape, bright, dark=()):
    image = torch.zeros(1, 1, *shape)
    for places, value in ((bright, 1.0), (dark, -1.0)):
        if places:
            around = tuple(slice(place - 2, place + 3) for place in places)
            image[(0, 0, *around)] = value
    return image


def strongest_voxel(values):
    return [int(n) for n in torch.unravel_index(values.argmax(), values.shape)]


def assert_peak_at(values, place, distance):
    assert max(abs(a - b) for a, b in zip(strongest_voxel(values), place, strict=True)) <= distance
