"""The pass that gives the features and gradients of layers, of the right tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.graph.feature_tensors import (
    PlaceInPass,
    Spot,
    Structure,
    joint_name,
)
from SaliencyExplain.attribution.graph.layer_outputs import feature_layers, forward_hooks
from SaliencyExplain.attribution.graph.network_structure import (
    keep_structure,
    known_structure,
    structure_of,
)
from SaliencyExplain.attribution.graph.recorded_pass import Recorder
from SaliencyExplain.attribution.graph.tensor_capture import TensorCapture
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.half_precision import autocast
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.gradient_path import gradient_end, no_gradient
from SaliencyExplain.attribution.passes.pass_spec import Parts, PassPart, PassResult, PassSpec
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError


class FeaturePass:
    """One forward pass of an image, and one backward pass if gradients are wanted.

    Where the tensors are is known from an earlier image of the same shape. The first one finds
    it out: its pass is recorded, and most often gives the tensors as well; else a second one does.

    The backward pass ends at the earliest tensor that is wanted: it is made the start of the
    graph.

    Args:
        task: The image.
        wanted: What is wanted of it.
    """

    def __init__(self, task: Task, wanted: PassSpec) -> None:
        self._network: ScoreNetwork = task.network
        self._task, self._wanted = task, wanted
        self._image = plain(task.input)
        self._graph = wanted.gradients or wanted.voxels
        #: If no earlier tensors are requested, the graph begins at the last tensors.
        self._cuts = not (wanted.layers or wanted.every or wanted.stages or wanted.voxels)
        self._captured: dict[PlaceInPass, Tensor] = {}
        self._end: tuple[str, Tensor, Tensor] | None = None

    def run(self) -> PassResult:
        """The pass.

        Raises:
            InputError: A layer gives no feature map or did not run, or the network lets no
                gradient through.
        """
        network = self._network
        with untouched(network), torch.set_grad_enabled(self._graph):
            structure = known_structure(network, self._image)
            found = None
            if not self._wanted.features:
                structure = Structure((), False, (), {})
            elif structure is None:
                structure, found = self._first()
            if found is None:
                found = self._again(structure)
        return found

    def _again(self, structure: Structure) -> PassResult:
        """The pass, with the tensors already located."""
        if structure.is_nested and self._wanted.last and not self._cuts:
            # A separate graph, so that the gradient between two tensors is not counted twice.
            alone = PassSpec(last=True, gradients=self._wanted.gradients)
            last = FeaturePass(self._task, alone).run()
            rest = FeaturePass(self._task, dataclasses.replace(self._wanted, last=False)).run()
            changes = {name: getattr(last, name) for name in ("target", "name", "record")}
            return dataclasses.replace(rest, notes=rest.notes | last.notes, **changes)
        spots = self._spots(structure)
        self._captured.clear()
        voxels = self._voxels()
        capture = TensorCapture(self._network.network, spots, self._capture)
        # A program without layers has no tensors to capture.
        with capture.active() if spots else nullcontext():
            scores = self._scores(voxels)
        if any(spot.place not in self._captured for spot in spots):
            raise InputError(
                ErrorCode.LAYER_UNSUITABLE,
                f"{type(self._network.network).__name__}: it runs different layers for different "
                "images of the same shape, so its feature maps cannot be located. Use occlusion, "
                "gradient or smoothgrad.",
            )
        tensors = {spot.value: self._captured[spot.place] for spot in spots}
        return self._passed(structure, tensors, scores, voxels)

    def _first(self) -> tuple[Structure, PassResult | None]:
        """Locates the tensors, and returns them if the recorded pass kept them."""
        wanted, recorder = self._wanted, Recorder(self._network)
        # Outputs after the last convolution are kept until the requested ones are known.
        start = next(reversed(self._network.convolutions()), "")
        layers = {start, *wanted.layers}
        if wanted.every or wanted.stages:
            layers |= set(feature_layers(self._network))

        def look(name: str) -> Callable[..., Tensor | None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
                with recorder.uncounted():
                    # The recorder has already recorded the end of this layer.
                    changed = self._capture((*recorder.anchor, 0), output)
                if name == start:
                    recorder.hold()
                return changed

            return hook

        voxels = self._voxels()
        modules = {name: self._network.layer(name) for name in layers if name}
        with recorder.recording(), forward_hooks(modules, look):
            scores = self._scores(voxels)
        structure = keep_structure(self._network, self._image, structure_of(recorder))
        tensors = {}
        for spot in self._spots(structure):
            tensor = self._captured.get(spot.place)
            if tensor is None:
                tensor = _unchanged(recorder, spot)
            if tensor is None or (wanted.gradients and not tensor.requires_grad):
                return structure, None
            tensors[spot.value] = tensor
        if structure.is_nested and wanted.last:
            return structure, None
        return structure, self._passed(structure, tensors, scores, voxels)

    def _spots(self, structure: Structure) -> list[Spot]:
        """The requested tensors.

        Raises:
            InputError: The network does not have them.
        """
        wanted, kind = self._wanted, type(self._network.network).__name__
        found: list[Spot] = []
        for name in wanted.layers:
            found += self._named(structure, name)
        if wanted.every:
            for name in feature_layers(self._network):
                found += structure.outputs[name].spots if name in structure.outputs else ()
        if wanted.stages or wanted.last:
            if not structure.targets:
                raise InputError(
                    ErrorCode.LAYER_UNSUITABLE,
                    f"{kind}: class activation methods need a convolution or tokens with a grid "
                    "of more than one cell on every path from the image to the scores, and none "
                    "was found in this network. Use occlusion, gradient, smoothgrad or "
                    "integrated-gradients, or name a layer.",
                )
            found += structure.targets if wanted.last else ()
            if wanted.stages:
                found += [spot for stage in structure.stages for spot in stage]
        return list({spot.value: spot for spot in found}.values())

    def _named(self, structure: Structure, name: str) -> tuple[Spot, ...]:
        output = structure.outputs.get(name)
        reason = ""
        if output is None:
            reason = "is not run in a forward pass. Choose another layer."
        elif output.shape is None and not output.reached:
            reason = (
                "does not depend on the image (its output is the same for all images). Choose "
                "another layer."
            )
        elif not output.spots:
            others = structure.targets
            such = next((spot.name for spot in others if not spot.calls), "")
            reason = (
                f"gives {output.shape}, not a feature map with {self._image.ndim - 2} spatial axes "
                "on whose cells the scores depend. Choose "
                + (f"a layer such as '{such}'." if such else "another layer.")
            )
        if output is None or reason:
            raise InputError(ErrorCode.LAYER_UNSUITABLE, f"Layer '{name}' {reason}")
        return output.spots

    def _capture(self, where: PlaceInPass, output: Any) -> Tensor | None:
        """Keeps a tensor, and gives a copy of it to go on with."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        if self._cuts:
            output = output.detach()
        if self._graph and not output.requires_grad:
            output = output.detach().requires_grad_()
        self._captured[where] = output
        # A copy, since a ReLU behind the layer may work in place.
        return output.clone()

    def _voxels(self) -> Tensor:
        voxels = self._image.detach()
        return voxels.clone().requires_grad_() if self._wanted.voxels else voxels

    def _scores(self, voxels: Tensor) -> Tensor:
        with self._watching_the_end(), autocast(voxels.device, self._task.precision):
            scores: Tensor = self._network(voxels).float()
        if self._wanted.voxels and not scores.requires_grad:
            raise no_gradient(self._network, self._image)
        return scores

    @contextmanager
    def _watching_the_end(self) -> Iterator[None]:
        if not self._wanted.ends:
            yield
            return

        def look(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
                if inputs and isinstance(inputs[0], Tensor):
                    self._end = name, inputs[0].detach().float(), output.detach().float()

            return hook

        linear = {
            name: module
            for name, module in self._network.network.named_modules()
            if isinstance(module, nn.Linear)
        }
        with forward_hooks(linear, look):
            yield

    def _passed(
        self,
        structure: Structure,
        tensors: Mapping[int, Tensor],
        scores: Tensor,
        voxels: Tensor,
    ) -> PassResult:
        """What was found, with the gradients."""
        wanted = self._wanted
        found = PassResult(scores.detach()[0], end=self._end)
        chosen = list(tensors) if wanted.gradients else []
        starts = [*(tensors[value] for value in chosen), *([voxels] if wanted.voxels else [])]
        gradients: dict[int, Tensor | None] = {}
        if starts:
            score = scores[0, self._task.target]
            if not score.requires_grad:
                raise no_gradient(self._network, self._image)
            given = torch.autograd.grad(score, starts, allow_unused=True)
            if None in given and gradient_end(self._network, self._image):
                raise no_gradient(self._network, self._image)
            gradients = dict(zip(chosen, given, strict=False))
            if wanted.voxels:
                if given[-1] is None:
                    raise no_gradient(self._network, self._image)
                found.voxels = given[-1][0]

        def parts(spots: Iterable[Spot]) -> Parts:
            return _merged([self._part(spot, tensors, gradients) for spot in spots])

        for name in wanted.layers:
            output = structure.outputs[name]
            found.layers[name] = parts(output.spots)
            if output.runs > 1:
                found.notes[name] = _runs_note(name, output.runs, len(output.spots))
        if wanted.every:
            ran = sorted(
                (one.spots[-1].value, name)
                for name in feature_layers(self._network)
                if (one := structure.outputs.get(name)) and one.spots
            )
            found.every = tuple(name for _, name in ran)
            for name in found.every:
                found.layers[name] = parts(structure.outputs[name].spots)
        if wanted.stages:
            for stage in structure.stages:
                name = joint_name(stage)
                if name in found.stages:
                    name = f"{name}#{len(found.stages) + 1}"
                found.stages[name] = parts(stage)
        if wanted.last:
            found.target, found.name = parts(structure.targets), structure.name
            if not structure.is_plain:
                found.record = [spot.record() for spot in structure.targets]
            if structure.note:
                found.notes[""] = structure.note
        return found

    def _part(
        self, spot: Spot, tensors: Mapping[int, Tensor], gradients: Mapping[int, Tensor | None]
    ) -> PassPart:
        layout, tensor = spot.layout, tensors[spot.value].detach()
        gradient = None
        if self._wanted.gradients:
            slope = gradients[spot.value]
            if slope is None:
                raise InputError(
                    ErrorCode.LAYER_UNSUITABLE,
                    f"Layer '{spot.name}': no gradient reaches it, because later operations are "
                    "not differentiable or change its output in place. Choose another layer, or "
                    "use occlusion.",
                )
            gradient = layout.features(slope).float()
            without = [one for one in layout.tokens_without_place(slope) if one.any()]
            if without and not gradient.any():
                raise InputError(
                    ErrorCode.LAYER_UNSUITABLE,
                    f"Layer '{spot.name}': after it the score depends only on the class token and "
                    "on no token with a position. Choose an earlier layer, such as the block "
                    "before, or use occlusion.",
                )
        size = tuple(self._image.shape[2:])
        return PassPart(layout.features(tensor).float(), gradient, layout.placement, size)


def _unchanged(recorder: Recorder, spot: Spot) -> Tensor | None:
    """The tensor of a spot as it was recorded; None: it is not kept, or was written to."""
    tensor, version = recorder.held.get(spot.value, (None, 0))
    return tensor if tensor is not None and tensor._version == version else None


def _merged(parts: Sequence[PassPart]) -> Parts:
    """Parts whose cells lie alike as one with all their channels."""
    groups: dict[tuple[Any, ...], list[PassPart]] = {}
    for part in parts:
        groups.setdefault((part.features.shape[1:], part.placement), []).append(part)
    found = []
    for group in groups.values():
        features = torch.cat([part.features for part in group]) if group[1:] else group[0].features
        gradient = group[0].gradient
        if group[1:] and gradient is not None:
            gradient = torch.cat([part.slope for part in group])
        found.append(dataclasses.replace(group[0], features=features, gradient=gradient))
    return tuple(found)


def _runs_note(name: str, runs: int, shown: int) -> str:
    if shown > 1:
        return (
            f"Layer '{name}' runs {runs} times in a forward pass; the map is the sum of {shown} of "
            "its runs, which lie side by side."
        )
    return (
        f"Layer '{name}' runs {runs} times in a forward pass, one after another; the map is that "
        "of the last run on whose cells the score depends."
    )
