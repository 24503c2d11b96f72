"""How much an evaluation computes, and what that costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SaliencyExplain.attribution.graph.layer_outputs import closed_kind
from SaliencyExplain.attribution.graph.network_structure import feature_outputs
from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.evaluation.image.channel_importance import MOST_CHANNELS
from SaliencyExplain.evaluation.image.image_controls import MOST_CONTROLS
from SaliencyExplain.evaluation.image.infidelity import passes_of_boxes
from SaliencyExplain.evaluation.image.randomisation import stages_of
from SaliencyExplain.evaluation.image.removal_baselines import CHOICE_PASSES
from SaliencyExplain.evaluation.image.removal_curves import (
    passes_of_a_map,
    passes_of_a_null_map,
    passes_of_the_image,
)
from SaliencyExplain.evaluation_parts import PARTS

#: The longer shift, mm: a typical difference of a patient's position between two series.
SHIFT_MM = 4.0

#: Layers whose maps are compared: the last one, and those after a third and two thirds of the
#: network.
_LAYERS = 3


@dataclass(frozen=True)
class CostTier:
    """How many maps an evaluation computes.

    Attributes:
        random_maps: Number of null maps for the faithfulness of each map. With 20, exceeding all
            of them has a p-value of 1/21 < 0.05.
        stages: Stages of the cascade of random weights. Adebayo et al. use one per layer; a
            DenseNet121 has 121, and a curve through six shows the same.
        draws: Number of draws of all weights, since a single draw may be similar by chance.
        independent: Whether each stage is also randomised alone.
        seeds: Number of other seeds.
        noisy: Number of noisy copies of the image.
        shifted: Whether the image is shifted along every axis; False: along the first.
        searched: Number of random changes at the start of the search for the worst case.
        refined: Number of steps that change the worst one further.
    """

    random_maps: int = 20
    stages: int = 6
    draws: int = 3
    independent: bool = True
    seeds: int = 2
    noisy: int = 2
    shifted: bool = True
    searched: int = 4
    refined: int = 4


#: From the whole evaluation to the least that still answers each question; a budget of forward
#: passes takes the first that fits it.
COST_TIERS: dict[str, CostTier] = {
    "full": CostTier(),
    "reduced": CostTier(
        stages=4, draws=2, independent=False, seeds=1, noisy=1, searched=2, refined=2
    ),
    "least": CostTier(
        stages=1, draws=1, independent=False, seeds=1, noisy=1, shifted=False,
        searched=0, refined=0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What an evaluation costs, in forward passes of one image, a backward pass counted as one.

    Attributes:
        name: ``full``, ``reduced``, ``least``, or ``chosen`` by the caller.
        cost_tier: What is computed.
        parts: Forward passes of each part, and of the ``maps`` themselves.
        compared: The methods whose maps at several layers are held against each other.
        seconds_beside: Seconds that no forward pass takes, see :meth:`Method.seconds_beside`.
    """

    name: str
    cost_tier: CostTier
    parts: dict[str, float]
    compared: tuple[Method, ...] = ()
    seconds_beside: float = 0.0

    @property
    def forward_passes(self) -> float:
        """Of all parts together."""
        return sum(self.parts.values())


def check_parts(parts: Sequence[str]) -> None:
    """Raises InputError where a part of an evaluation does not exist, or there is none."""
    for part in parts:
        if part not in PARTS:
            raise unknown_name("part of an evaluation", part, PARTS)
    if not parts:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            (f"Evaluation: no part was given. Give at least one of {', '.join(PARTS)}."),
        )


def affordable(
    task: Task,
    methods: Sequence[Method],
    parts: Sequence[str],
    *,
    given_maps: int = 0,
    modalities: bool = False,
    cost_tier: CostTier | None = None,
    budget: float | None = None,
) -> Cost:
    """The highest cost tier that a budget of forward passes allows, and its cost.

    The least tier is used whatever the budget; one that is given is used as it is. With
    segmentations of modalities, maps that are made of those of the channels are computed again.
    """
    tiers = COST_TIERS
    if cost_tier is not None:
        name = next((name for name, known in COST_TIERS.items() if known == cost_tier), "chosen")
        tiers = {name: cost_tier}
    compared = at_layers(methods, task) if "agreement" in parts else ()
    agreement = sum(method.forward_passes(task) for method in compared)
    beside = sum(method.seconds_beside(task) for method in methods)
    costs = []
    for name, one in tiers.items():
        passes = _passes(task, methods, parts, one, given_maps, modalities)
        if "agreement" in parts:
            passes["agreement"] = agreement
        costs.append(Cost(name, one, passes, compared, beside * _maps(task, parts, one)))
    if budget is None:
        return costs[0]
    return next((cost for cost in costs if cost.forward_passes <= budget), costs[-1])


def shifts(task: Task, cost_tier: CostTier) -> list[tuple[str, int, int]]:
    """The shifts of the stability: kind, axis and voxels.

    By one voxel, and by :data:`SHIFT_MM` if that is more than one voxel.
    """
    axes = range(len(task.spacing) if cost_tier.shifted else 1)
    found = [("shift by a voxel", axis, 1) for axis in axes if task.input.shape[axis + 2] > 1]
    for axis in axes:
        voxels = min(round(SHIFT_MM / task.spacing[axis]), task.input.shape[axis + 2] - 1)
        if voxels > 1:
            found.append(("shift by several voxels", axis, voxels))
    return found


def stability_maps(task: Task, cost_tier: CostTier) -> int:
    """Number of maps for the stability of a method."""
    moved = len(shifts(task, cost_tier))
    return cost_tier.seeds + cost_tier.noisy + moved + cost_tier.searched + cost_tier.refined


def sanity_maps(cost_tier: CostTier, stages: int) -> int:
    """Number of maps for the sanity check of a method, with a network of ``stages`` stages."""
    return stages + (stages - 1 if cost_tier.independent else 0) + cost_tier.draws - 1


def at_layers(methods: Sequence[Method], task: Task) -> tuple[Method, ...]:
    """The methods at the layers whose maps are compared.

    The layers are the convolutions and activation functions with more than one cell that depend
    on the image and on which the scores depend; a forward pass determines them.

    Methods without layers, with given layers, or that combine several layers are left out; if the
    network has only one such layer or its layers are not accessible, all are left out.
    """
    open_ones = [
        method
        for method in methods
        if getattr(method, "layers", None) == () and not isinstance(method, LayerSweep)
    ]
    names = _layers_that_see(task) if open_ones else []
    if len(names) < 2:
        return ()
    places = np.linspace((len(names) - 1) / _LAYERS, len(names) - 1, _LAYERS).round()
    layers = tuple(dict.fromkeys(names[int(place)] for place in places))
    return tuple(
        dataclasses.replace(method, layers=layers)  # type: ignore[call-arg]
        for method in open_ones
    )


def _layers_that_see(task: Task) -> list[str]:
    """The feature layers with more than one cell, in the order in which they run."""
    if closed_kind(task.network.network):
        return []
    return list(feature_outputs(task.network, task.input))


def _maps(task: Task, parts: Sequence[str], cost_tier: CostTier) -> int:
    """Number of times that each method's map is computed."""
    count = 1
    if "sanity" in parts:
        count += sanity_maps(cost_tier, len(stages_of(task.network, cost_tier.stages)))
    if "stability" in parts:
        count += stability_maps(task, cost_tier)
    return count


def _passes(
    task: Task,
    methods: Sequence[Method],
    parts: Sequence[str],
    cost_tier: CostTier,
    given_maps: int,
    modalities: bool,
) -> dict[str, float]:
    axes = task.input.ndim - 2
    costs = [method.forward_passes(task) for method in methods]
    of_maps = sum(costs)
    found = {"maps": of_maps}
    if "faithfulness" in parts:
        layers = [max(1, len(getattr(method, "layers", ()))) for method in methods]
        of_nulls = cost_tier.random_maps * passes_of_a_null_map()
        found["faithfulness"] = (
            CHOICE_PASSES
            + passes_of_the_image(axes)
            + MOST_CONTROLS * passes_of_a_map(axes)
            + (sum(layers) + given_maps) * (passes_of_a_map(axes) + of_nulls)
            + passes_of_boxes(tuple(task.input.shape[2:]))
        )
    # Each changed network or image costs a pass for its probability as well.
    if "sanity" in parts and methods:
        stages = len(stages_of(task.network, cost_tier.stages))
        # The trained network's scores, once for each method, are held against the random ones'.
        found["sanity"] = sanity_maps(cost_tier, stages) * (of_maps + len(methods)) + len(methods)
    if "stability" in parts and methods:
        found["stability"] = stability_maps(task, cost_tier) * (of_maps + len(methods))
    channels = task.input.shape[1]
    if "channels" in parts and 2 <= channels <= MOST_CHANNELS:
        apart = [
            cost
            for method, cost in zip(methods, costs, strict=True)
            if modalities and method.per_channel
        ]
        found["channels"] = 2.0**channels + sum(apart)
    return found
