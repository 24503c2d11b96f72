"""Score-CAM: feature maps weighted by the score of the image that they mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.graph.layer_outputs import channel_count
from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.map_upsampling import upsampled_maps
from SaliencyExplain.attribution.passes.pass_spec import Parts, PassSpec
from SaliencyExplain.attribution.passes.shared_pass import layers_of, passed, wanted_layers
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.passes.watched_output import Watched
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import constant_of, parameter


@dataclass(frozen=True)
class ScoreCAM(Method):
    """Score-CAM: no gradient, one forward pass for each feature map.

    Each feature map is resampled to the image's grid, scaled to the range from 0 to 1 and used as
    a mask of the image; the class's score of the masked image is the feature map's weight. Each
    mask changes the whole image, so that forward passes cannot share results (occlusion's
    incremental inference would save nothing).

    Where the layer's cells are voxels it equals ``pytorch_grad_cam.ScoreCAM`` with all feature
    maps. On coarser layers that library stretches the masks from corner to corner, while here
    the cells lie at the centres of their receptive fields. The library also includes constant
    feature maps in the softmax, which makes its map weaker by one factor.
    """

    name: ClassVar[str] = "scorecam"
    family: ClassVar[str] = "class activation"
    title: ClassVar[str] = "Score-CAM"
    source: ClassVar[str] = (
        "Wang et al. 2020, algorithm 1; pytorch_grad_cam.ScoreCAM where the layer's cells are "
        "voxels"
    )
    signed: ClassVar[bool] = False
    parts: ClassVar[str] = "feature maps"

    layers: tuple[str, ...] = parameter(
        (), "Names of the layers; without one, the last feature maps on every path to the scores."
    )
    channels: int = parameter(
        64,
        "Largest number of feature maps of a layer, those with the largest standard deviation; "
        "each costs a forward pass. 0: all, as in the paper (1024 in DenseNet121).",
        minimum=0,
        maximum=65_536,
    )
    output: str = parameter(
        "score",
        "Output that weights a feature map: the target's score before the activation, or its "
        "probability.",
        choices=("score", "probability"),
    )
    weights: str = parameter(
        "softmax",
        "How the outputs become weights: a softmax over the feature maps, or the increase over "
        "the output of the baseline alone.",
        choices=("softmax", "increase"),
    )
    fill: str = parameter(
        "value",
        "What replaces voxels where the mask is 0: per channel the image's mean or minimum, or a "
        "constant (value).",
        choices=("value", "mean", "minimum"),
    )
    value: float = constant_of("fill")

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; keys are the layers' names, values are at least 0.

        The strongest feature maps come first. The map of those so far is published during the
        computation, and is the result if the deadline is reached first. Constant feature maps
        get no weight and cost nothing.

        Raises:
            InputError: A layer does not exist, is not run, or its output is not a feature map.
        """
        return upsampled_maps(task, self.raw(task))

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The rectified maps on the layers' own grids, before upsampling.

        Raises:
            InputError: See :meth:`attribute`.
        """
        image = plain(task.input)
        wanted = self.shares(task)
        given = passed(task, wanted, exact=True)
        parts = layers_of(given, wanted, task)
        order = _strongest_first(parts, self.channels)
        baseline = infill_of(image, self.fill, task.spacing, value=self.value)
        dark = baseline.boxes(np.zeros((1, image.ndim - 2), dtype=np.int64), image.shape[2:])
        # The estimate before the run counts the feature maps by the layers' definition.
        total, passes = self.forward_passes(task), 2 + len(order)

        def compute(indices: range) -> Tensor:
            masks = []
            for layer, number, channel in order[indices.start : indices.stop]:
                part = parts[layer][number]
                mask = part.place(part.features[channel]).upsampled()
                low, high = mask.aminmax()
                masks.append((mask - low) / (high - low).clamp(min=torch.finfo(mask.dtype).tiny))
            shown = torch.lerp(dark, image, torch.stack(masks)[:, None])
            return watched.outputs(self._scores(task, shown))

        def gains() -> Tensor:
            return (both - bare)[:, watched.column].to(image)

        def maps() -> dict[str, FeatureMap]:
            return {
                layer: self._weighed(several, layer, order, gains())
                for layer, several in parts.items()
            }

        job = dataclasses.replace(
            task, progress=lambda done, _of: task.progress((2 + done) * total / passes, total)
        )
        growing, watched = AnytimeMap(task), Watched(task, self.output)
        both = torch.zeros(0, 2, dtype=torch.float64)
        with untouched(task.network):
            bare = watched.outputs(self._scores(task, dark))
            watched.see(bare.numpy())
            for indices, found in in_batches(
                job, len(order), compute, gradient=False, total=len(order)
            ):
                both = torch.cat([both, found])
                watched.see(found.numpy())
                # All layers have a map once the first feature map of each has its weight.
                if len(both) >= len(parts) and growing.is_enough(
                    indices.stop / len(order), lambda: upsampled_maps(task, maps())
                ):
                    break
        task.record(
            {
                "feature_maps": {
                    layer: sum(name == layer for name, _, _ in order[: len(both)])
                    for layer in parts
                },
                "output_of_baseline": float(bare[0, watched.column]),
            }
        )
        watched.tell(bare.numpy()[0])
        return maps()

    def shares(self, task: Task) -> PassSpec:
        """Features of the layers.

        Raises:
            InputError: A layer does not exist, or the network's layers are not accessible.
        """
        return wanted_layers(task, self.layers, self.name, gradients=False)

    def _scores(self, task: Task, images: Tensor) -> Tensor:
        with torch.no_grad():
            return task.network(images)

    def _weighed(
        self, parts: Parts, layer: str, order: Sequence[_Mask], gains: Tensor
    ) -> FeatureMap:
        """The rectified weighted sum of a layer's feature maps that have a score."""
        done = [n for n, mask in enumerate(order[: len(gains)]) if mask[0] == layer]
        weights = gains[done]
        if self.weights == "softmax":
            weights = weights.softmax(dim=0)
        maps = []
        for number, part in enumerate(parts):
            of_part = [n for n, place in enumerate(done) if order[place][1] == number]
            channels = [order[done[n]][2] for n in of_part]
            maps.append(
                part.place(torch.tensordot(weights[of_part], part.features[channels], dims=1))
            )
        return FeatureMap.total(maps, rectified=True)

    def forward_passes(self, task: Task) -> float:
        """One for each feature map of the layers' definitions, the image and the baseline."""
        counts = channel_count(task.network, self.layers).values()
        return 2.0 + sum(min(count, self.channels or count) for count in counts)


#: A feature map: layer, part and channel.
_Mask = tuple[str, int, int]


def _strongest_first(parts: dict[str, Parts], most: int) -> list[_Mask]:
    """Feature maps, alternating between layers, each layer's by decreasing standard deviation.

    Raises:
        InputError: All feature maps of a layer are constant.
    """
    order: list[tuple[int, int, _Mask]] = []
    for turn, (layer, several) in enumerate(parts.items()):
        places = [(n, channel) for n, p in enumerate(several) for channel in range(len(p.features))]
        strength = torch.cat([p.features.flatten(1).std(dim=1, correction=0) for p in several])
        ranking = strength.argsort(descending=True, stable=True).tolist()
        # Rounding makes a constant feature map differ in its last digits.
        flat = 1e-6 * torch.stack([p.features.abs().amax() for p in several]).amax()
        chosen = [place for place in ranking if strength[place] > flat][: most or None]
        if not chosen:
            cells = " x ".join(map(str, several[0].features.shape[1:]))
            raise InputError(
                ErrorCode.LAYER_UNSUITABLE,
                f"Layer '{layer}': all its feature maps ({cells} cells) are constant and cannot "
                "serve as masks. Choose another layer.",
            )
        order += [(rank, turn, (layer, *places[place])) for rank, place in enumerate(chosen)]
    return [mask for _, _, mask in sorted(order)]
