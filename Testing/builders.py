"""Attribution inputs for tests, and what a method reports beside its map."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task


def make_task(network: nn.Module, image: Tensor, target: int = 1, **settings: Any) -> Task:
    """An attribution input for one image.

    Args:
        network: A :class:`ScoreNetwork`, or a network whose outputs become probabilities by
            softmax. It is put into eval mode, unless it is a compiled one that has no modes.
        image: ``(1, C, *S)``.
        target: Index of the class.
        settings: Further fields of :class:`Task`; ``spacing`` is 1 mm unless given.
    """
    if not isinstance(network, ScoreNetwork):
        network = ScoreNetwork(network)
    # A module of torch.export has a method of its own there, which raises an error.
    if "eval" not in vars(network.network):
        network.eval()
    spacing = settings.pop("spacing", (1.0,) * (image.ndim - 2))
    return Task(network, image, target, spacing, **settings)


@dataclasses.dataclass(frozen=True)
class Observed:
    """A computed map and what was reported while it was computed.

    Attributes:
        maps: ``{layer: map}``, as :meth:`Method.attribute` returns them.
        figures: What the method recorded beside its map.
        notes: What it told the reader of the map.
    """

    maps: dict[str, Tensor]
    figures: dict[str, Any]
    notes: list[str]

    @property
    def map(self) -> Tensor:
        """The one map of a method that computes no map per layer."""
        return self.maps[""]


def observe(method: Method, task: Task) -> Observed:
    """Computes a map and collects the figures and notes of the method."""
    figures: dict[str, Any] = {}
    notes: list[str] = []
    watched = dataclasses.replace(task, record=figures.update, note=notes.append)
    return Observed(method.attribute(watched), figures, notes)
