"""Feature maps of a network: the tensors that class activation methods read, and their layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from SaliencyExplain.attribution.graph.tensor_layout import Layout

#: Layer and run of it, and calls of functions after it; 0: its output.
PlaceInPass = tuple[str, int, int]


@dataclass(frozen=True)
class Spot:
    """A tensor of a forward pass, and how to find it in another one.

    Attributes:
        name: For users: the layer whose output it is, or the function and where it is called.
        layer: The layer whose output it is, or the one that ended last before it.
        run: Which run of that layer.
        calls: Calls of functions after that layer ended; 0: it is the layer's output.
        function: The name of the function that makes it.
        layout: Where its cells lie.
        value: Its number in the recording.
    """

    name: str
    layer: str
    run: int
    calls: int
    function: str
    layout: Layout
    value: int

    @property
    def place(self) -> PlaceInPass:
        """Where it is in a pass."""
        return self.layer, self.run, self.calls

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.layout.shape

    def record(self) -> dict[str, object]:
        """What goes into the provenance of a map of it."""
        return {
            "tensor": self.name,
            "shape": list(self.shape),
            "cells": list(self.layout.counts),
            "axes": self.layout.kind,
        }

    @property
    def told(self) -> str:
        """Name, shape and layout in words."""
        cells = " x ".join(map(str, self.layout.counts))
        return f"{self.name} ({cells} cells, {self.layout.kind})"


@dataclass(frozen=True)
class Output:
    """What a layer gave.

    Attributes:
        spots: The runs that count: of runs one after another the last, of parallel ones all.
        runs: How often it ran.
        shape: Of its last output; None: it gave no tensor.
        reached: Whether the image reaches it.
    """

    spots: tuple[Spot, ...]
    runs: int
    shape: tuple[int, ...] | None
    reached: bool


@dataclass(frozen=True)
class Structure:
    """What is known of a network for images of one shape.

    Attributes:
        targets: What class activation methods look at: the last tensors with a grid that all
            paths to the scores go through, one of them on each path.
        is_nested: Whether one of them is made of another.
        stages: For each grid on the way the last of them, rectified where there is such a one.
            Of branches or members of an ensemble a stage has one tensor each, so that all paths
            go through it: their maps belong on one scale.
        outputs: For each layer what it gave.
    """

    targets: tuple[Spot, ...]
    is_nested: bool
    stages: tuple[tuple[Spot, ...], ...]
    outputs: dict[str, Output]

    @property
    def name(self) -> str:
        """Of the targets."""
        return joint_name(self.targets)

    @property
    def is_plain(self) -> bool:
        """Whether the target is the channels-first output of one layer."""
        first = self.targets[0]
        return len(self.targets) == 1 and not first.calls and first.layout.kind == "channels first"

    @property
    def note(self) -> str:
        """What must be told of a map of the targets; empty: it is the output of one layer."""
        if len(self.targets) == 1:
            (target,) = self.targets
            if not target.calls:
                return ""
            return (
                f"The map is of the result of {target.told}, which is no layer's output: the last "
                "tensor with a grid that every path to the scores goes through."
            )
        shown = ", ".join(spot.told for spot in self.targets[:4])
        more = f" and {len(self.targets) - 4} more" if len(self.targets) > 4 else ""
        return (
            f"No single tensor with a grid lies on every path to the scores; the map is the sum of "
            f"the maps of {len(self.targets)} tensors, one on each path: {shown}{more}."
        )


def joint_name(spots: Sequence[Spot]) -> str:
    """Of tensors that one map is made of."""
    names = list(dict.fromkeys(spot.name for spot in spots))
    more = f"+{len(names) - 2}" if len(names) > 2 else ""
    return "+".join(names[:2]) + more
