"""Deletion, insertion and information curves of maps, from one set of forward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.evaluation.image.evaluation_passes import probabilities_of_images
from SaliencyExplain.evaluation.image.information_curves import (
    ENTROPIES,
    GreyLevels,
    compressed_size,
    histogram_entropy,
    information_curve,
    interpolated,
    kept_pixels,
)
from SaliencyExplain.evaluation.image.removal_baselines import Baseline
from SaliencyExplain.evaluation.image.removal_order import voxel_places, voxels_of_share
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.results.map_faithfulness import InformationCurve, MapCurves

#: Shares of the voxels at which the curves are computed, besides 0 and 1, whose images are the same
#: for all maps. They are dense at the start, because a tumour is a few per cent of a head.
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)


class CurveMaker:
    """Computes the curves of any number of maps of one image.

    In 2D the information curves are as published: the bare image is interpolated from a hundredth
    of its pixels, and each partly restored one from all its known pixels, in 256 grey values. In
    3D this interpolation is too expensive; the blurred baseline is the bare image, and the images
    of the insertion curve are used for these curves as well.

    Args:
        task: Network, image and target.
        baseline: The image that replaces removed voxels.
        seed: Seed of the order among voxels of equal value, and of the kept pixels.
    """

    def __init__(self, task: Task, baseline: Baseline, seed: int = 0) -> None:
        self._task = task
        self._baseline = baseline
        self._image = plain(task.input)[0]
        self._shape = tuple(self._image.shape[1:])
        self._ties = random_map(self._shape, task.spacing, seed=seed)
        self._levels = GreyLevels(self._image.cpu().numpy())
        self._kept = kept_pixels(self._shape, seed) if len(self._shape) == 2 else None

    @property
    def passes(self) -> float:
        """Forward passes for one map."""
        return passes_of_a_map(len(self._shape))

    @property
    def once(self) -> float:
        """Forward passes that all maps share."""
        return passes_of_the_image(len(self._shape))

    def prepare(self, progress: Progress = silent) -> None:
        """Computes what all maps share; call it once, before any map."""
        if self._kept is None:
            self._answers_of_ends = np.stack(
                [self._baseline.probabilities, self._baseline.original]
            )
            return
        ends = [self._bare, self._grey]
        self._answers_of_ends = probabilities_of_images(
            self._task, len(ends), lambda index: self._shown(ends[index]), progress
        )

    def places(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """The order of a map's voxels in its curves; see :func:`voxel_places`."""
        return voxel_places(values, self._ties)

    def curves(
        self,
        values: NDArray[np.floating],
        progress: Progress = silent,
        *,
        information: bool = True,
        fast: bool = False,
    ) -> MapCurves:
        """The curves of one map.

        Args:
            values: ``(*S)`` on the grid of the network's input.
            progress: Called after each batch; may raise Cancelled.
            information: Whether to compute the information curves. In 2D they cost forward
                passes and most of the time.
            fast: Whether 2D images may be interpolated in the faster way.

        Raises:
            InputError: The map is constant or not finite.
            DeviceMemoryError: Memory is exhausted with a single image.
            Cancelled: Out of ``progress``.
        """
        places = self.places(values)
        masks = [places < voxels_of_share(share, places.size) for share in SHARES]
        strongest = [torch.from_numpy(mask).to(self._image.device) for mask in masks]
        steps = len(masks)
        kinds = 2
        if self._kept is not None and information:
            kinds = 3
            masks = [mask | self._kept for mask in masks]
            restored = [interpolated(self._grey, mask, rims_only=fast) for mask in masks]

        def build(index: int) -> Tensor:
            kind, step = divmod(index, steps)
            if kind == 2:
                return self._shown(restored[step])
            return torch.where(strongest[step] == (kind == 1), self._image, self._baseline.values)

        found = probabilities_of_images(self._task, kinds * steps, build, progress)
        deletion, insertion = found[:steps], found[steps : 2 * steps]
        measured = {}
        if information:
            answers = insertion if self._kept is None else found[2 * steps :]
            if self._kept is None:
                restored = [self._levels.of(build(steps + n).cpu().numpy()) for n in range(steps)]
            measured = {name: self._information(name, restored, masks) for name in ENTROPIES}
        else:
            answers = insertion
        target = self._task.target
        whole, bare = self._baseline.original[target], self._baseline.probabilities[target]
        return MapCurves(
            shares=(0.0, *SHARES, 1.0),
            deletion=(float(whole), *deletion[:, target].tolist(), float(bare)),
            insertion=(float(bare), *insertion[:, target].tolist(), float(whole)),
            softmax_information=self._information_curves(measured, answers, self._softmax),
            accuracy_information=self._information_curves(measured, answers, self._accuracy),
        )

    def _shown(self, grey: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(self._levels.values(grey)).to(self._image)

    @cached_property
    def _grey(self) -> NDArray[np.uint8]:
        return self._levels.of(self._image.cpu().numpy())

    @cached_property
    def _bare(self) -> NDArray[np.uint8]:
        if self._kept is not None:
            return interpolated(self._grey, self._kept)
        return self._levels.of(self._baseline.values.cpu().numpy())

    @cached_property
    def _information_of_ends(self) -> dict[str, NDArray[np.float64]]:
        """The information of the bare image and of the whole one, by measure."""
        nothing = np.zeros(self._shape, dtype=bool) if self._kept is None else self._kept
        masks = [nothing, np.ones(self._shape, dtype=bool)]
        greys = [self._bare, self._grey]
        return {name: self._information(name, greys, masks) for name in ENTROPIES}

    def _information(
        self, name: str, greys: list[NDArray[np.uint8]], known: list[NDArray[np.bool_]]
    ) -> NDArray[np.float64]:
        if name == "compressed":
            return np.array([compressed_size(grey) for grey in greys])
        return np.array([histogram_entropy(self._grey, mask) for mask in known])

    def _information_curves(
        self,
        measured: dict[str, NDArray[np.float64]],
        answers: NDArray[np.float64],
        performance: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> dict[str, InformationCurve]:
        if not measured:
            return {}
        bare, whole = performance(self._answers_of_ends).tolist()
        curves = {}
        for name, information in measured.items():
            low, high = self._information_of_ends[name].tolist()
            curves[name] = information_curve(
                information, performance(answers), bare=(low, bare), whole=(high, whole)
            )
        return curves

    def _softmax(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return probabilities[:, self._task.target]

    def _accuracy(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 where the target is predicted: likeliest, or at least 0.5 for independent labels."""
        target, network = self._task.target, self._task.network
        if network.independent:
            return (probabilities[:, target] >= 0.5).astype(np.float64)
        return (probabilities.argmax(axis=1) == target).astype(np.float64)


def passes_of_a_map(axes: int) -> float:
    """Forward passes for the curves of one map: deletion, insertion, in 2D restoration."""
    return float(len(SHARES) * (3 if axes == 2 else 2))


def passes_of_a_null_map() -> float:
    """Forward passes for the deletion and insertion curves of a null map."""
    return float(len(SHARES) * 2)


def passes_of_the_image(axes: int) -> float:
    """Forward passes that the curves of all maps of an image share."""
    return 2.0 if axes == 2 else 0.0
