"""Stability of a map under another seed, small noise and shifts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.attribution.methods.gradient import noise_like
from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.evaluation.image.changed_maps import MapMaker, Maps, first_of
from SaliencyExplain.evaluation.image.cost import CostTier, shifts
from SaliencyExplain.evaluation.image.similarity import similarity
from SaliencyExplain.results.map_changes import Change, Stability

#: Noise and the ball of the worst case, as a share of the image's value range: captum's
#: ``sensitivity_max`` takes 0.02 on images in [0, 1]. A scanner's own noise is of that order.
NOISE = 0.02


class _ChangedMaps:
    """A method under changes, for all its layers at once."""

    def __init__(
        self, maker: MapMaker, task: Task, original: Maps, body: NDArray[np.bool_] | None
    ) -> None:
        self.maker, self.task, self.original, self.body = maker, task, original, body
        self.changes: dict[str, list[Change]] = {layer: [] for layer in original}

    def run(self, task: Task) -> tuple[Maps, float]:
        """The maps of a changed task, by the original's layers, and its probability."""
        maps = self.maker.maps(task)
        found = {layer: first_of(maps, layer) for layer in self.original}
        return found, self.maker.probability(task)

    def note(
        self,
        kind: str,
        words: str,
        maps: Maps,
        probability: float,
        box: tuple[slice, ...] = (),
        others: tuple[slice, ...] = (),
    ) -> None:
        """Compares the maps with the original ones, each within its box."""
        for layer, values in self.original.items():
            body = None if self.body is None else self.body[box]
            one, other = values[box], maps[layer][others]
            self.changes[layer].append(
                Change(
                    kind,
                    words,
                    probability,
                    similarity(one, other, body if body is not None and body.any() else None),
                    sensitivity(one, other),
                )
            )


def stability(
    maker: MapMaker,
    task: Task,
    original: Maps,
    body: NDArray[np.bool_] | None,
    cost_tier: CostTier,
) -> dict[str, Stability]:
    """Computes a method's maps under small changes.

    Args:
        maker: The method.
        task: The image and the network.
        original: The method's maps of the task.
        body: ``(*S)`` on the task's grid, where similarity is measured; None: everywhere.
        cost_tier: How many changes.

    Returns:
        ``{layer: what was found}`` for the layers of ``original``.
    """
    changed = _ChangedMaps(maker, task, original, body)
    image = plain(task.input)
    reach = NOISE * float(image.max() - image.min())
    for number in range(1, cost_tier.seeds + 1):
        seed = task.seed + number
        maps, probability = changed.run(dataclasses.replace(task, seed=seed))
        changed.note("seed", f"seed {seed}", maps, probability)
    for number in range(cost_tier.noisy):
        noisy = image + reach * noise_like(image, task.seed, number)
        maps, probability = changed.run(dataclasses.replace(task, input=noisy))
        words = f"noise of {100 * NOISE:g} % of the value range"
        changed.note("noise", words, maps, probability)
    for kind, axis, voxels in shifts(task, cost_tier):
        maps, probability = changed.run(
            dataclasses.replace(task, input=shifted(image, axis, voxels))
        )
        words = f"{voxels * task.spacing[axis]:g} {task.length_unit} along axis {'ijk'[axis]}"
        before, after = _overlap(axis, voxels, image.ndim - 2)
        changed.note(kind, words, maps, probability, before, after)
    search = _Search(changed, reach, cost_tier) if cost_tier.searched else None
    return {
        layer: Stability(
            changes=(*changed.changes[layer], *(search.worst(layer) if search else ())),
            sensitivity_max=search.of_random[layer] if search else math.nan,
            search=search.words if search else "no search for the worst case",
        )
        for layer in original
    }


def sensitivity(values: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Norm of the difference of two maps divided by the norm of the first, as in captum."""
    norm = float(np.linalg.norm(values.ravel()))
    difference = float(np.linalg.norm((values - other).ravel()))
    return difference / norm if norm > 0 else math.nan


def shifted(image: Tensor, axis: int, voxels: int) -> Tensor:
    """An image ``(1, C, *S)`` shifted along a spatial axis, with its border repeated."""
    size = image.shape[axis + 2]
    source = (torch.arange(size, device=image.device) - voxels).clamp(0, size - 1)
    return image.index_select(axis + 2, source)


def _overlap(axis: int, voxels: int, axes: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The boxes of the unchanged map and of the shifted one that contain the same voxels."""
    before = [slice(None)] * axes
    after = [slice(None)] * axes
    before[axis], after[axis] = slice(None, -voxels), slice(voxels, None)
    return tuple(before), tuple(after)


class _Search:
    """Search for the worst change within the ball; a lower bound of the worst case.

    Random changes first, uniform in the ball (captum does only this), then steps that redraw half
    of the worst one in blobs and keep the result if it is worse. All layers are judged together.
    """

    def __init__(self, changed: _ChangedMaps, reach: float, cost_tier: CostTier) -> None:
        self._changed = changed
        task = changed.task
        image = plain(task.input)
        worst = -math.inf
        best = torch.zeros_like(image)
        self._kept: tuple[Maps, float] = ({}, math.nan)
        self.of_random = dict.fromkeys(changed.original, math.nan)
        for number in range(cost_tier.searched + cost_tier.refined):
            change = uniform_change(image, reach, task.seed, number)
            if number >= cost_tier.searched:
                blobs = random_map(tuple(image.shape[2:]), task.spacing, seed=task.seed + number)
                anew = torch.from_numpy(blobs > 0.5).to(image.device)
                change = torch.where(anew, change, best)
            maps, probability = changed.run(dataclasses.replace(task, input=image + change))
            found = {
                layer: sensitivity(values, maps[layer])
                for layer, values in changed.original.items()
            }
            if number < cost_tier.searched:
                self.of_random = {
                    layer: float(np.fmax(self.of_random[layer], one))
                    for layer, one in found.items()
                }
            if sum(found.values()) > worst:
                best, worst, self._kept = change, sum(found.values()), (maps, probability)
        self.words = (
            f"{cost_tier.searched} random changes and {cost_tier.refined} steps of search, within "
            f"±{100 * NOISE:g} % of the value range"
        )

    def worst(self, layer: str) -> Sequence[Change]:
        """The worst change found; none for a map of zeros, relative to which it is undefined."""
        maps, probability = self._kept
        if not maps:
            return ()
        values, other = self._changed.original[layer], maps[layer]
        return (
            Change(
                "worst case",
                self.words,
                probability,
                similarity(values, other, self._changed.body),
                sensitivity(values, other),
            ),
        )


def uniform_change(image: Tensor, reach: float, seed: int, number: int) -> Tensor:
    """A uniform change in [-reach, reach], equal on all devices for a seed and number."""
    random = np.random.default_rng([seed, number, 1])
    values = random.uniform(-reach, reach, tuple(image.shape)).astype(np.float32)
    return torch.from_numpy(values).to(image.device)
