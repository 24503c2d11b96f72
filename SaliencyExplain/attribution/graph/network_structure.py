"""Where a network's feature maps are: what every path from the image to the scores goes through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from SaliencyExplain.attribution.graph.feature_tensors import Output, Spot, Structure
from SaliencyExplain.attribution.graph.layer_outputs import feature_layers
from SaliencyExplain.attribution.graph.operation_catalogue import (
    Kind,
    Positions,
    family_of_class,
)
from SaliencyExplain.attribution.graph.recorded_pass import Recorder, Value
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork

#: More parts than this are no ensemble or set of branches but a network that is not understood.
_MOST_PARTS = 64

#: A sequence of fewer tokens than this, whose places are not known, is no feature map.
_FEW_POSITIONS = 4


def known_structure(network: ScoreNetwork, image: Tensor) -> Structure | None:
    """What :func:`analyse` found before for images of this shape; None: nothing yet."""
    if not network.structures:
        return None
    found: Structure | None = network.structures.get(_key(network, image))
    return found


def keep_structure(network: ScoreNetwork, image: Tensor, structure: Structure) -> Structure:
    """Remembers it for images of this shape."""
    network.structures[_key(network, image)] = structure
    return structure


def analyse(network: ScoreNetwork, image: Tensor) -> Structure:
    """Finds the structure for images of this shape by one forward pass, or remembers it.

    Args:
        network: Whose layers can be looked into.
        image: ``(1, C, *S)``.
    """
    known = known_structure(network, image)
    if known is not None:
        return known
    recorder = Recorder(network)
    with untouched(network), torch.no_grad(), recorder.recording():
        network(plain(image))
    return keep_structure(network, image, structure_of(recorder))


def feature_outputs(network: ScoreNetwork, image: Tensor) -> dict[str, Output]:
    """Those of the convolutions and activation functions that have a grid, as they run."""
    outputs = analyse(network, image).outputs
    found = [(name, outputs[name]) for name in feature_layers(network) if name in outputs]
    seen = [(name, output) for name, output in found if output.spots]
    return dict(sorted(seen, key=lambda one: one[1].spots[-1].value))


def last_layers_by_grid(network: ScoreNetwork, image: Tensor) -> tuple[str, ...]:
    """For each size of feature map the layer that gives it last, from coarse to fine.

    Of a network whose paths around its coarse feature maps (skip connections) leave no tensor that
    every path goes through. An activation function is taken before a convolution.

    Args:
        network: Whose layers can be looked into.
        image: ``(1, C, *S)``.
    """
    found: dict[tuple[int, ...], str] = {}
    rectified: set[tuple[int, ...]] = set()
    for name, output in feature_outputs(network, image).items():
        spot, grid = output.spots[-1], output.spots[-1].layout.counts
        rectifies = family_of_class(type(network.layer(spot.layer))).rectifies
        if rectifies or grid not in rectified:
            found[grid] = name
        rectified |= {grid} if rectifies else set()
    return tuple(found[grid] for grid in sorted(found, key=math.prod) if math.prod(grid) > 1)


def _key(network: ScoreNetwork, image: Tensor) -> tuple[object, ...]:
    # A network whose layers were exchanged meanwhile is another one.
    kinds = tuple(type(module) for module in network.network.modules())
    return (tuple(image.shape), hash(kinds))


def structure_of(recorder: Recorder) -> Structure:
    """The structure of the network that was recorded."""
    return _Graph(recorder).structure()


class _Graph:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._values: Sequence[Value] = recorder.values
        self._needed = self._ancestors(recorder.result) if recorder.result >= 0 else set()
        self._unread = self._find_unread()

    def structure(self) -> Structure:
        targets = self._targets()
        behind = {target: self._ancestors(target) - {target} for target in targets}
        return Structure(
            tuple(self._spot(target) for target in targets),
            any(other in behind[target] for target in targets for other in targets),
            self._stages(targets),
            self._outputs(),
        )

    def _ancestors(self, last: int) -> set[int]:
        found, left = {last}, [last]
        while left:
            for source in self._values[left.pop()].inputs:
                if source not in found:
                    found.add(source)
                    left.append(source)
        return found

    def _has_grid(self, index: int) -> bool:
        layout = self._values[index].layout
        return layout is not None and layout.has_grid

    def _find_unread(self) -> set[int]:
        """Values of whose cells with a place nothing goes into the scores.

        The classifier reads the class token, and what is done to it position by position does
        not bring the others in.
        """
        uses: dict[int, list[int]] = {index: [] for index in self._needed}
        for index in self._needed:
            for source in self._values[index].inputs:
                uses[source].append(index)
        unread: set[int] = set()
        for index in sorted(self._needed, reverse=True):
            if not self._has_grid(index) or not uses[index]:
                continue
            if all(
                self._values[use].local and (use in unread or self._leaves_space(use))
                for use in uses[index]
            ):
                unread.add(index)
        return unread

    def _leaves_space(self, index: int) -> bool:
        layout = self._values[index].layout
        return layout is not None and layout.is_placeless and max(layout.counts) == 0

    def _places(self, index: int) -> tuple[object, ...]:
        layout = self._values[index].layout
        return (layout.counts, layout.placement) if layout is not None else ()

    def _targets(self) -> list[int]:
        """The last values with a grid on all paths; empty where a path has none."""
        if not self._needed:
            return []
        found: dict[int, None] = {}
        seen, left = {self._recorder.result}, [self._recorder.result]
        while left:
            index = left.pop()
            if self._is_place(index):
                target = self._resolved(index)
                if target is None or len(found) > _MOST_PARTS:
                    return []
                found[target] = None
                continue
            sources = self._values[index].inputs
            if not sources or self._is_lost(index):
                return []
            for source in sources:
                if source not in seen:
                    seen.add(source)
                    left.append(source)
        if len(found) > 1:
            whole = [one for one in self._dominators(self._recorder.result) if self._is_fit(one)]
            if whole and all(self._is_local_from(whole[-1], target) for target in found):
                # Keys and values, weights and what they weigh: made of it place by place.
                found = {whole[-1]: None}
        return sorted(found)

    def _is_lost(self, index: int) -> bool:
        """Whether it looks like feature maps whose layout is not understood."""
        value = self._values[index]
        if value.layout is not None:
            return False
        is_long = value.function == "linear" and math.prod(value.shape[:-1]) >= _FEW_POSITIONS
        return is_long or value.family.is_convolution

    def _is_place(self, index: int) -> bool:
        """Whether it has a grid, if only of one cell."""
        layout = self._values[index].layout
        return layout is not None and min(layout.counts) > 0

    def _is_local_from(self, start: int, end: int) -> bool:
        """Whether nothing but what works place by place lies between two values."""
        between = self._ancestors(end) - self._ancestors(start)
        return end == start or (
            start in self._ancestors(end) and all(self._values[one].local for one in between)
        )

    def _resolved(self, index: int) -> int | None:
        if index in self._unread or not self._has_grid(index):
            before = [one for one in self._dominators(index) if self._is_fit(one)]
            if not before:
                return None
            index = before[-1]
        while True:
            before_it = self._serves_as_well(index)
            if before_it is None:
                return index if self._is_fit(index) else None
            index = before_it

    def _serves_as_well(self, index: int) -> int | None:
        """The value before, where one was pooled or laid out otherwise, or gated by itself."""
        value = self._values[index]
        fit = [one for one in value.inputs if self._is_fit(one)]
        if len(fit) != 1:
            return None
        if value.family.keeps_features and len(value.inputs) == 1:
            return fit[0]
        is_taken = value.family.positions in (Positions.TAKEN, Positions.DIVIDED)
        if is_taken and self._places(fit[0]) == self._places(index):
            return fit[0]
        # Squeeze-and-excitation: a factor for each channel, made of the feature maps themselves.
        layouts = [self._values[one].layout for one in value.inputs if one != fit[0]]
        is_gated = (
            value.family.kind is Kind.PRODUCT
            and len(value.inputs) == 2
            and all(layout is not None and max(layout.counts) == 0 for layout in layouts)
            and fit[0] in self._dominators(index)
        )
        return fit[0] if is_gated else None

    def _is_fit(self, index: int) -> bool:
        return self._has_grid(index) and self._values[index].learnt and index not in self._unread

    def _dominators(self, last: int) -> list[int]:
        """The values that all paths from the image to one go through, in their order."""
        needed = sorted(self._ancestors(last))
        # An edge that spans a value is a path around it.
        reach, found = 0, []
        latest: dict[int, int] = {}
        for index in needed:
            for source in self._values[index].inputs:
                latest[source] = max(latest.get(source, 0), index)
        for index in needed:
            if reach <= index:
                found.append(index)
            reach = max(reach, latest.get(index, 0))
        return found

    def _stages(self, targets: Iterable[int]) -> tuple[tuple[Spot, ...], ...]:
        ways = [self._stages_before(target) for target in targets]
        found: dict[tuple[int, ...], None] = {}
        # Counted from the scores on; a shorter way has its first tensor in the stages before.
        for back in range(1, max(map(len, ways), default=0) + 1):
            found[tuple(sorted({way[max(0, len(way) - back)] for way in ways}))] = None
        stages = sorted(found, key=lambda stage: stage[::-1])
        return tuple(tuple(self._spot(index) for index in stage) for stage in stages)

    def _stages_before(self, target: int) -> list[int]:
        """The last value of each grid on the way to a target, which is the last of them."""
        last: dict[tuple[int, ...], int] = {}
        for index in self._dominators(target):
            value = self._values[index]
            if not self._is_fit(index) or (value.family.keeps_features and index != target):
                continue
            assert value.layout is not None
            grid = value.layout.counts
            before = last.get(grid)
            if (
                before is None
                or value.family.rectifies
                or not self._values[before].family.rectifies
            ):
                last[grid] = index
        return sorted(last.values())

    def _outputs(self) -> dict[str, Output]:
        found = {}
        for name, indices in self._recorder.outputs.items():
            reached = [index for index in indices if index >= 0]
            fit = [index for index in reached if self._has_grid(index) and index in self._needed]
            earlier = {
                one for index in fit for one in (self._ancestors(index) - {index}).intersection(fit)
            }
            spots = tuple(
                self._spot(index, name, indices.index(index))
                for index in fit
                if index not in earlier
            )
            shape = self._values[reached[-1]].shape if reached else None
            found[name] = Output(spots, len(indices), shape, bool(reached))
        return found

    def _spot(self, index: int, layer: str = "", run: int = 0) -> Spot:
        value = self._values[index]
        assert value.layout is not None
        if layer or value.layer:
            layer, run = (layer, run) if layer else (value.layer, value.run)
            return Spot(layer, layer, run, 0, value.function, value.layout, index)
        name = f"{value.within}.{value.function}()".lstrip(".")
        return Spot(name, *value.anchor, value.calls, value.function, value.layout, index)
