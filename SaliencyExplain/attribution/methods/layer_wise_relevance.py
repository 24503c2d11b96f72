"""Layer-wise relevance propagation; its rules include deep Taylor decomposition."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from SaliencyExplain.attribution.graph.operation_catalogue import Kind, kind_of, name_of
from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.gradient_path import no_slope
from SaliencyExplain.attribution.passes.propagation import (
    Propagation,
    check_same,
    in_forward_passes,
    traced,
    with_backward,
)
from SaliencyExplain.attribution.passes.relevance_rules import (
    COMPOSITES,
    LinearLayer,
    epsilon,
    epsilon_with_bias,
    proportional,
    stabilised,
)
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import parameter

#: Forward passes: one as a check, one through the graph, and in the backward pass of each layer
#: two to eight convolutions and as many gradients. Measured on ResNet-18 of 48^3 voxels.
_COST = {"alpha2-beta1-flat": 10.0, "gamma-box": 22.0}
_USUAL_COST = 7.0

#: The sum divided by the score counts as close between these limits: half and twice. With the
#: stable rules it is 0.98 to 1.02 on 36 phantoms in 2D and 0.8 to 1.3 on 14 of 15 in 3D; with
#: epsilon-plus-flat the sum has the opposite sign in 11 of these 51 (docs/METHODS.md).
_NEAR = (0.5, 2.0)

#: The propagation is unstable above these ratios to the relevance at the start: of the sum of
#: absolute relevances, and of the sum. The rules that find the planted tumour stay below 60
#: (DenseNets in 2D and 3D); epsilon reaches 27,000 and gamma-box 2,000 there, with an AUROC of
#: 0.4 to 0.7.
_EXPLODED, _EXPLODED_SUM = 1000.0, 100.0

#: Above this ratio a note says that positive and negative values cancel.
_CANCELS = 100.0


class RelevancePropagation(Propagation):
    """A network whose backward pass propagates relevance.

    Args:
        graph: The traced network.
        composite: Name of the composite of rules.
        stabiliser: The epsilon of the epsilon rule.
        method: Name of the method, for error messages.
    """

    def __init__(
        self, graph: fx.GraphModule, composite: str, stabiliser: float, method: str
    ) -> None:
        super().__init__(graph, method)
        self._composite = COMPOSITES[composite]
        self._epsilon = epsilon(stabiliser)
        self._dense = (
            epsilon_with_bias(stabiliser) if self._composite.shares_bias else epsilon(stabiliser)
        )
        # Nodes after a linear layer; the input of the others is the image itself.
        self._deep: set[fx.Node] = set()

    def rule(
        self,
        node: fx.Node,
        kind: Kind,
        module: nn.Module | None,
        function: Callable[..., Any],
        inputs: Sequence[Tensor],
    ) -> Any:
        """See :meth:`Propagation.rule`."""
        first = inputs[0]
        if kind is Kind.LINEAR:
            return self._linear(node, module, first)
        if kind is Kind.BATCH_NORMALISATION and self._is_folded(node):
            return first
        if kind in (Kind.ACTIVATION, Kind.BATCH_NORMALISATION, Kind.NORMALISATION, Kind.SCALE):
            return _passed(function, first)
        if kind is Kind.MAXIMUM:
            # All relevance goes to the largest cell, as the gradient does.
            return function(first)
        if kind is Kind.MEAN:
            return with_backward(
                function,
                lambda relevance, given, output: (
                    proportional(function, relevance, given[0], output),
                ),
                first,
            )
        if kind is Kind.SUM:
            return with_backward(function, _shared_sum(function), *inputs)
        if kind is Kind.PRODUCT:
            return self._gated(node, function, inputs)
        return None

    def run_node(self, n: fx.Node) -> Any:
        """See :meth:`Propagation.run_node`; records which nodes come after a linear layer."""
        value = super().run_node(n)
        linear = kind_of(n, self.module_of(n), 1) is Kind.LINEAR
        if linear or any(source in self._deep for source in n.all_input_nodes):
            self._deep.add(n)
        return value

    def _linear(self, node: fx.Node, module: nn.Module | None, values: Tensor) -> Tensor:
        if module is not None:
            layer = linear_layer(module, self._normalisation_after(node))
        else:
            layer = linear_call(node.target, *self.fetch_args_kwargs_from_env(node))
        is_dense = isinstance(module, nn.Linear) or name_of(node) == "linear"
        chosen = self._composite.dense if is_dense else self._composite.convolution
        if not any(source in self._deep for source in node.all_input_nodes):
            chosen = self._composite.first
            axes = [0, *range(2, values.ndim)]
            layer = replace(
                layer,
                low=values.detach().amin(axes, keepdim=True),
                high=values.detach().amax(axes, keepdim=True),
            )
        rule = chosen or (self._dense if is_dense else self._epsilon)
        return with_backward(
            layer,
            lambda relevance, given, output: (rule(layer, relevance, given[0], output),),
            values,
        )

    def _normalisation_after(self, node: fx.Node) -> nn.Module | None:
        """The batch normalisation that is the only user of a linear layer's output, if any."""
        users = list(node.users)
        module: Any = self.module_of(users[0]) if len(users) == 1 else None
        if module is None or kind_of(users[0], module, 1) is not Kind.BATCH_NORMALISATION:
            return None
        return module if module.running_mean is not None else None

    def _is_folded(self, node: fx.Node) -> bool:
        source = node.all_input_nodes[0]
        module = self.module_of(source)
        is_linear = module is not None and kind_of(source, module, 1) is Kind.LINEAR
        return is_linear and self._normalisation_after(source) is not None

    def _gated(
        self, node: fx.Node, function: Callable[..., Tensor], inputs: Sequence[Tensor]
    ) -> Tensor | None:
        """A map times a gate: all relevance goes to the map (Arras et al. 2017)."""
        gates = [self._is_gate(source) for source in node.all_input_nodes]
        if gates[0] == gates[1]:
            sizes = [value.numel() for value in inputs]
            if sizes[0] == sizes[1]:
                return None
            gates = [size < max(sizes) for size in sizes]
        signal = gates.index(False)
        gate = inputs[1 - signal].detach()

        def times(values: Tensor) -> Tensor:
            return function(values, gate) if signal == 0 else function(gate, values)

        return _passed(times, inputs[signal])

    def _is_gate(self, node: fx.Node) -> bool:
        module = self.module_of(node)
        name = name_of(node) if module is None else type(module).__name__.lower()
        return name in ("sigmoid", "hardsigmoid")


def linear_layer(module: nn.Module, normalisation: nn.Module | None) -> LinearLayer:
    """A convolution or dense layer with its normalisation folded in, as the rules need it."""
    weight, bias = module.weight, module.bias
    dense = isinstance(module, nn.Linear)
    if normalisation is not None:
        fuse: Any = fuse_linear_bn_weights if dense else fuse_conv_bn_weights
        n: Any = normalisation
        more = () if dense else (getattr(module, "transposed", False),)
        weight, bias = fuse(
            weight, bias, n.running_mean, n.running_var, n.eps, n.weight, n.bias, *more
        )
    assert isinstance(weight, Tensor)
    if bias is not None:
        assert isinstance(bias, Tensor)
        bias = bias.detach()
        if not dense:
            bias = bias.reshape(-1, *[1] * (weight.ndim - 2))

    # A copy, for its padding mode and strides; the weights are passed as arguments.
    bare = copy.copy(module)
    bare._parameters = {**module._parameters, "bias": None}

    def apply(values: Tensor, given: Tensor) -> Tensor:
        bare._parameters["weight"] = given  # type: ignore[assignment]
        result: Tensor = bare.forward(values)
        return result

    return LinearLayer(apply, weight.detach(), bias)


def linear_call(target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> LinearLayer:
    """As :func:`linear_layer`, for a call of ``conv2d``, ``conv3d`` or ``linear`` of torch."""
    given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
    rest = {name: value for name, value in kwargs.items() if name not in ("input", "weight")}
    rest.pop("bias", None)
    weight, bias = given["weight"].detach(), given.get("bias")
    if bias is not None:
        bias = bias.detach().reshape(-1, *[1] * (weight.ndim - 2))

    def apply(values: Tensor, used: Tensor) -> Tensor:
        result: Tensor = target(values, used, None, *args[3:], **rest)
        return result

    return LinearLayer(apply, weight, bias)


def _passed(function: Callable[..., Tensor], values: Tensor) -> Tensor | None:
    """For elementwise functions: each cell keeps its relevance."""
    with torch.no_grad():
        shape = function(values).shape
    if shape != values.shape:
        return None
    return with_backward(function, lambda relevance, *_: (relevance,), values)


def _shared_sum(function: Callable[..., Tensor]) -> Callable[..., Sequence[Tensor]]:
    """For sums of two maps: relevance is divided by their contributions."""

    def back(relevance: Tensor, inputs: Sequence[Tensor], output: Tensor) -> Sequence[Tensor]:
        each = relevance / stabilised(output)
        with torch.enable_grad():
            free = [value.detach().requires_grad_() for value in inputs]
            slopes = torch.autograd.grad(function(*free), free, each)
        return [value * slope for value, slope in zip(inputs, slopes, strict=True)]

    return back


@dataclass(frozen=True)
class LayerwiseRelevance(Method):
    """LRP: the target's score, propagated backwards layer by layer to the voxels.

    Positive relevance supports the class. Each layer distributes the relevance of its outputs
    among its inputs. Batch normalisations that follow a convolution or dense layer are folded
    into it; other normalisations, activations and constant factors pass relevance on unchanged;
    max pooling passes all of it to the largest cell; means and sums distribute it by
    contribution; of a map times a gate (squeeze and excitation) the map receives all.

    The relevance at the start is the target's score; with the stable rules and mutually exclusive
    classes it is the score minus the mean of the other classes' scores. The map's sum equals the
    relevance at the start if all layers conserve it. Biases of layers with the epsilon rule absorb
    their share (with the stable rules they pass it on). Under the plus rule a cell that has only
    negative contributions loses its relevance: this is rare after ReLU and common after SiLU
    (EfficientNet), where epsilon and gamma are unstable. Score and sum are recorded, a note says
    where they differ much, and unstable relevance is refused.
    """

    name: ClassVar[str] = "lrp"
    explains_probabilities: ClassVar[bool] = False
    family: ClassVar[str] = "relevance"
    title: ClassVar[str] = "Layer-wise relevance propagation"
    source: ClassVar[str] = (
        "Bach et al. 2015; composites of Montavon et al. 2019, section 10.3, and Kohlbrenner et "
        "al. 2020; deep-taylor: Montavon et al. 2017; epsilon, gamma and plus equal "
        "captum.attr.LRP's rules, biases set to zero but for epsilon"
    )
    signed: ClassVar[bool] = True

    rules: str = parameter(
        "stable",
        "Rules of the layers. stable is epsilon-plus-flat in which dense layers distribute their "
        "biases among their inputs and the score is taken relative to the other classes. The "
        "other names give the rules of dense layers (epsilon; for deep-taylor plus), convolutions "
        "(plus, alpha2-beta1, gamma or epsilon) and the first layer (flat or box, that is z-B).",
        choices=tuple(COMPOSITES),
    )
    epsilon: float = parameter(
        1e-6,
        "Stabiliser added to the denominators of the epsilon rule; larger values suppress weak "
        "and contradictory contributions.",
        minimum=1e-12,
        maximum=1e12,
    )

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the relevances of the channels are added."""
        image = plain(task.input)
        network = task.network
        start = torch.zeros(0)

        def compute(_: range) -> Tensor:
            nonlocal start
            with torch.no_grad():
                expected = network(image)
            graph = traced(network, image, self.name)
            walk = RelevancePropagation(graph, self.rules, self.epsilon, self.name)
            voxels = image.detach().requires_grad_()
            with torch.enable_grad():
                scores = walk.scores(voxels)
                check_same(network.checked(walk.finished(scores), 1), expected, self.name)
                scored = walk.network_of_scores(network)
                start = self._start(scored, scores.detach(), task.target)
                if not scores.requires_grad:
                    raise no_slope(self.name)
                relevance = torch.autograd.grad(scores, voxels, start)[0]
            if walk.note:
                task.note(walk.note)
            return relevance

        relevance = torch.zeros_like(image)
        with untouched(network):
            for _, found in in_batches(
                in_forward_passes(task, self.forward_passes(task)),
                1,
                compute,
                gradient=True,
                total=1.0,
            ):
                relevance = found
        values = relevance[0].sum(0)
        self._check(task, start, values)
        return {"": values.float()}

    def _start(self, network: ScoreNetwork, scores: Tensor, target: int) -> Tensor:
        """The relevance at the output of the wrapped network, in the output's shape."""
        start = torch.zeros_like(scores)
        if network.one_logit:
            # The network has one logit, the second class's score; the first's is its negative.
            signs = [
                factor * (2 * index - 1) for index, factor in network.target_weights(target, 2)
            ]
            return scores * sum(signs)
        combined = network.target_weights(target, scores.shape[1])
        exclusive = network.activation == "softmax" and not network.independent
        others = scores.shape[1] - 1
        if COMPOSITES[self.rules].contrast and exclusive and others and len(combined) == 1:
            start = -scores / others
        for index, factor in combined:
            start[:, index] = factor * scores[:, index]
        return start

    def _check(self, task: Task, start: Tensor, values: Tensor) -> None:
        """Records score and sum; adds a note if they differ much.

        Raises:
            InputError: The propagation is unstable.
        """
        score, total = float(start.double().sum()), float(values.double().sum())
        task.record({"score": score, "relevance": total})
        given, handed = float(start.double().abs().sum()), float(values.double().abs().sum())
        if not (abs(total) <= _EXPLODED_SUM * given and handed <= _EXPLODED * given):
            raise InputError(
                ErrorCode.METHOD_NETWORK,
                f"{self.name}: the rules {self.rules} are unstable on this network. The absolute "
                f"relevance grew from {given:.3g} at the output to {handed:.3g} at the image, and "
                f"the map's sum is {total:.3g} for a score of {score:.3g}. Use lrp.rules=stable, "
                "or a larger lrp.epsilon.",
            )
        if not _NEAR[0] * abs(score) <= total * (1 if score >= 0 else -1) <= _NEAR[1] * abs(score):
            opposite = total * score < 0
            task.note(
                f"The map's relevance adds up to {total:.3g}, "
                f"{'of opposite sign to' if opposite else 'far from'} the score of {score:.3g}. "
                "The rest was absorbed by biases or lost, so the sign of the map is not reliable."
            )
        elif handed > _CANCELS * given:
            task.note(
                f"The map's values add up to {total:.3g}, but their absolute values add up to "
                f"{handed:.3g}: positive and negative relevance cancel, so the values at single "
                "voxels are not reliable."
            )

    def forward_passes(self, task: Task) -> float:
        """The cost of the layers' rules."""
        return _COST.get(self.rules, _USUAL_COST)
