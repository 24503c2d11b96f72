"""Sanity check: does a map change when the network's weights are randomised?

Adebayo et al. 2018, Sanity checks for saliency maps, sections 3 and 4. A map that does not change
shows the image, its edges, or the network's architecture, and cannot explain what the network has
learnt.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.changed_maps import MapMaker, Maps, first_of
from SaliencyExplain.evaluation.image.similarity import similarity
from SaliencyExplain.results.map_changes import Randomised, Sanity, Similarity


@dataclass(frozen=True)
class Stage:
    """Layers whose weights are randomised together.

    Attributes:
        first: Name of the first layer, as the network defines them.
        last: Name of the last one.
        parameters: Names of their parameters.
    """

    first: str
    last: str
    parameters: tuple[str, ...]

    @property
    def title(self) -> str:
        """The names of the layers for display."""
        return self.last if self.first == self.last else f"{self.first} … {self.last}"


def stages_of(network: ScoreNetwork, most: int) -> tuple[Stage, ...]:
    """The network's layers with weights, from the last to the first, in groups.

    The first group is the last layer alone, which computes the scores; the others have about
    equally many layers. A single group contains all layers. The order is that of the network's
    definition, which for classifiers is the order in which they run.

    Raises:
        InputError: The network's weights are not accessible (it was frozen).
    """
    layers: dict[str, list[str]] = {}
    heavy = set()
    for name, parameter in network.network.named_parameters():
        if parameter.is_floating_point():
            layers.setdefault(name.rpartition(".")[0], []).append(name)
            if parameter.ndim >= 2:
                heavy.add(name)
    # A normalisation belongs to the convolution before it; only layers with matrices begin a stage.
    groups: list[list[str]] = []
    for layer, names in layers.items():
        if not groups or heavy & set(names):
            groups.append([])
        groups[-1].append(layer)
    if not groups:
        raise InputError(
            ErrorCode.LAYERS_HIDDEN,
            "Sanity check: the network's weights are not accessible. Evaluate without it, or give "
            "the classifier as a network with its weights.",
        )
    groups.reverse()
    parts = [groups[:1]]
    rest = groups[1:]
    if most == 1:
        parts = [groups]
    elif rest:
        split = np.array_split(np.arange(len(rest)), min(most - 1, len(rest)))
        parts += [[rest[index] for index in part] for part in split]
    found = []
    for part in parts:
        ordered = [layer for group in reversed(part) for layer in group]
        names = [name for layer in ordered for name in layers[layer]]
        found.append(Stage(ordered[0] or "network", ordered[-1] or "network", tuple(names)))
    return tuple(found)


def randomised(network: ScoreNetwork, stages: Sequence[Stage], seed: int) -> ScoreNetwork:
    """A copy of the network in which the weights of these stages are permuted.

    The values within each parameter are permuted, which keeps their scale. With draws from the
    initial distribution activations vanish or explode in a deep network with fixed normalisation.
    Running statistics of normalisations are kept, because they describe the strength of a signal
    and not its content. The network itself is not changed.

    Args:
        network: The classifier's network.
        stages: Stages to randomise.
        seed: The same seed gives the same weights.

    Raises:
        InputError: The network cannot be copied.
    """
    try:
        changed = copy.deepcopy(network)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise InputError(
            ErrorCode.LAYERS_HIDDEN,
            "Sanity check: the network cannot be copied, so its weights cannot be randomised: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
        ) from error
    parameters = dict(changed.network.named_parameters())
    for stage in stages:
        for number, name in enumerate(stage.parameters):
            random = np.random.default_rng([seed, number, *name.encode()])
            values = parameters[name].detach()
            order = torch.from_numpy(random.permutation(values.numel())).to(values.device)
            with torch.no_grad():
                parameters[name].copy_(values.flatten()[order].reshape(values.shape))
    return changed


def sanity(
    maker: MapMaker,
    task: Task,
    original: Maps,
    body: NDArray[np.bool_] | None,
    *,
    stages: int,
    draws: int,
    independent: bool,
) -> dict[str, Sanity]:
    """Randomises the weights and computes a method's maps again, on copies of the network.

    Args:
        maker: The method.
        task: The image and the trained network; its seed seeds the weights too.
        original: The method's maps of the task.
        body: ``(*S)`` on the task's grid, where similarity is measured; None: everywhere.
        stages: Stages of the cascade at most.
        draws: Times that all weights are drawn, the cascade's own included.
        independent: Whether each stage is randomised by itself as well.

    Returns:
        ``{layer: what was found}`` for the layers of ``original``.

    Raises:
        InputError: The network shows no weights or cannot be copied.
    """
    found = stages_of(task.network, stages)
    runs: list[tuple[str, str, Sequence[Stage], int]] = []
    for count in range(1, len(found) + 1):
        title = f"{found[count - 1].title} and all later layers" if count > 1 else found[0].title
        runs.append(("cascading", title, found[:count], task.seed))
    if independent:
        runs += [("independent", stage.title, [stage], task.seed) for stage in found[1:]]
    runs += [("all", "all", found, task.seed + draw) for draw in range(1, draws)]
    results: dict[str, list[Randomised]] = {layer: [] for layer in original}
    trained = maker.scores(task)
    for kind, title, which, seed in runs:
        changed = dataclasses.replace(task, network=randomised(task.network, which, seed))
        # The outputs first; if they do not change, the map need not change.
        scores = maker.scores(changed)
        probability = float(task.network.probabilities(scores)[0, task.target])
        maps = maker.maps(changed)
        for layer, values in original.items():
            similarity = _similarity(values, first_of(maps, layer), body)
            results[layer].append(
                Randomised(title, kind, probability, _change(trained, scores), similarity)
            )
    return {layer: _sanity(entries) for layer, entries in results.items()}


def _similarity(
    values: NDArray[np.float32], other: NDArray[np.float32], body: NDArray[np.bool_] | None
) -> Similarity:
    # Random weights may overflow; such a map has no similarity to the original.
    return similarity(values, np.nan_to_num(other, nan=0.0, posinf=0.0, neginf=0.0), body)


def _change(trained: Tensor, scores: Tensor) -> float:
    """The largest change of a score divided by the largest absolute score; may be infinite."""
    if not bool(torch.isfinite(scores).all()):
        return math.inf
    largest = float(trained.abs().max())
    change = float((scores - trained).abs().max())
    return change / largest if largest > 0 else (math.inf if change > 0 else 0.0)


def _sanity(entries: Sequence[Randomised]) -> Sanity:
    def of(kind: str) -> tuple[Randomised, ...]:
        return tuple(entry for entry in entries if entry.kind == kind)

    cascading = of("cascading")
    # Randomising the last layers alone is the first step of the cascade.
    first = dataclasses.replace(cascading[0], kind="independent")
    alone = of("independent")
    return Sanity(
        cascading=cascading,
        independent=(first, *alone) if alone else (),
        all_random=(dataclasses.replace(cascading[-1], kind="all"), *of("all")),
    )
