"""From a network to the list of its operations, by torch.fx."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.layer_kinds import overwrites
from SaliencyExplain.attribution.graph.symbolic_trace import symbolic_trace
from SaliencyExplain.attribution.incremental.layer_operations import operation_of
from SaliencyExplain.attribution.incremental.operations import (
    Call,
    Combine,
    Concat,
    GlobalMean,
    Image,
    Operation,
    Pointwise,
    Step,
)
from SaliencyExplain.attribution.network.network_outputs import outputs_by_path, path_of_scores
from SaliencyExplain.attribution.network.network_state import REPEATABLE, Repeatability

#: Functions of torch that work cell by cell, also those ending in ``_``.
_POINTWISE_FUNCTIONS = (
    "relu",
    "sigmoid",
    "tanh",
    "silu",
    "gelu",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "relu6",
    "mish",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "softplus",
    "softsign",
    "logsigmoid",
    "exp",
    "neg",
    "abs",
    "sqrt",
    "square",
    "clamp",
    "clamp_min",
    "clamp_max",
)
_COMBINATIONS: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "iadd": torch.add,
    "add_": torch.add,
    "mul": torch.mul,
    "imul": torch.mul,
    "mul_": torch.mul,
    "sub": torch.sub,
    "isub": torch.sub,
    "sub_": torch.sub,
    "truediv": torch.div,
    "itruediv": torch.div,
    "div": torch.div,
    "div_": torch.div,
}
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_ADAPTIVE_MEANS = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


class NotTraceable(Exception):
    """The network cannot be taken apart; the message says why."""


def trace(
    network: nn.Module,
    image: Tensor,
    output: str | None = None,
    known: Repeatability = REPEATABLE,
) -> list[Step]:
    """The operations of a network in eval mode, in order; the image first.

    Nothing is left on the network. The weights are shared where they are not folded, so
    that the steps hold as long as nobody changes the network.

    Args:
        network: The network.
        image: An image for it, ``(1, C, *S)``.
        output: Path of the class scores in what it returns, see
            :func:`~SaliencyExplain.attribution.network.network_outputs.path_of_scores`.
        known: What is known of the network's scores.

    Raises:
        ClassifierError: It returns no such output.
        NotTraceable: What it does depends on the values, on the other images of a batch or on
            the passes before, or its layers are hidden or watched by hooks.
    """
    if known.one_at_a_time:
        raise NotTraceable("its scores depend on the other images of a batch")
    if known.float32:
        raise NotTraceable("its operations convert to half precision")
    if known.drifts:
        raise NotTraceable("its scores depend on the passes before")
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise NotTraceable("a TorchScript module hides its layers")
        if module._forward_hooks or module._forward_pre_hooks:
            raise NotTraceable("hooks watch its layers")
    try:
        graph = symbolic_trace(network, known, image=image)
        return _Lowering(graph, image, output).lower()
    except (fx.proxy.TraceError, TypeError, ValueError, AttributeError, NameError) as error:
        raise NotTraceable(str(error).splitlines()[0] if str(error) else "torch.fx fails") from None
    except (RuntimeError, NotImplementedError, LookupError, AssertionError) as error:
        raise NotTraceable(str(error).splitlines()[0] if str(error) else "torch.fx fails") from None


class _Lowering(fx.Interpreter):
    """Runs the traced network once for the shapes and makes a step of each node."""

    def __init__(self, graph: fx.GraphModule, image: Tensor, output: str | None) -> None:
        super().__init__(graph)
        self._image = image
        self._output = output
        self._axes = image.ndim - 2
        self._steps: list[Step] = []
        self._step_of: dict[fx.Node, Step] = {}
        self._result: Step | None = None

    def lower(self) -> list[Step]:
        with torch.no_grad():
            # A copy: what works in place would change the image.
            self.run(self._image.clone())
        assert self._result is not None
        return _needed(self._steps, self._result)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "output":
            result = outputs_by_path(n.args[0])[path_of_scores(value, self._output)]
            if not isinstance(result, fx.Node):
                raise NotTraceable("it returns no tensor")
            self._result = self._step_of[result]
            return value
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        if n.op == "placeholder":
            if self._steps:
                # Further inputs have their defaults; a step for them gives that value.
                self._add(n, Call(lambda value=value: value), (), ())
            else:
                self._add(n, Image(), (), shape)
            return value
        if n.op == "get_attr":
            self._add(n, Call(lambda value=value: value), (), ())
            return value
        self._lower(n, shape)
        return value

    def _add(
        self, node: fx.Node, operation: Operation, sources: Sequence[Step], shape: tuple[int, ...]
    ) -> None:
        is_map = len(shape) == self._axes + 2 and shape[0] == 1
        step = Step(operation, tuple(sources), shape, is_map)
        self._steps.append(step)
        self._step_of[node] = step

    def _lower(self, node: fx.Node, shape: tuple[int, ...]) -> None:
        given = [self._step_of[source] for source in node.all_input_nodes]
        module = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        is_map = len(shape) == self._axes + 2 and shape[0] == 1
        if is_map and given and all(source.is_map for source in given):
            if isinstance(module, _IDENTITIES):
                self._step_of[node] = given[0]
                return
            if module is not None:
                operation = operation_of(module, self._axes)
            else:
                operation = self._function(node, given, shape)
            if operation is not None:
                self._add(node, operation, given, shape)
                self._rename(node, given, module)
                return
        if len(given) == 1 and given[0].is_map:
            mean = self._global_mean(node, module, shape)
            if mean is not None:
                self._add(node, mean, given, shape)
                return
        self._add(node, self._call(node, module), given, shape)
        self._rename(node, given, module)

    def _rename(self, node: fx.Node, given: Sequence[Step], module: nn.Module | None) -> None:
        """What overwrites its input is what later users of the input see."""
        if given and self._overwrites(node, module):
            for other, step in self._step_of.items():
                if step is given[0]:
                    self._step_of[other] = self._step_of[node]

    def _overwrites(self, node: fx.Node, module: nn.Module | None) -> bool:
        """Whether a node writes into a tensor; ``n += 1`` of a number makes another number."""
        if not overwrites(node, module) or not node.all_input_nodes:
            return False
        return isinstance(self.env.get(node.all_input_nodes[0]), Tensor)

    def _call(self, node: fx.Node, module: nn.Module | None) -> Call:
        """The node as it is, with places for its inputs."""
        inputs = node.all_input_nodes
        number = {source: place for place, source in enumerate(inputs)}
        target = node.target
        writes = self._overwrites(node, module)

        def function(*values: Any) -> Any:
            def fill(source: fx.Node) -> Any:
                return values[number[source]]

            args: Any = fx.node.map_arg(node.args, fill)
            kwargs: Any = fx.node.map_arg(node.kwargs, fill)
            if writes:
                args = (args[0].clone(), *args[1:])
            if module is not None:
                return module(*args, **kwargs)
            if isinstance(target, str):
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs)

        asks = _name(target)
        query = asks in ("size", "dim") or (
            asks == "getattr" and node.args[1] in ("shape", "ndim", "dtype", "device")
        )
        return Call(function, query)

    def _global_mean(
        self, node: fx.Node, module: nn.Module | None, shape: tuple[int, ...]
    ) -> GlobalMean | None:
        if isinstance(module, _ADAPTIVE_MEANS) and set(shape[2:]) == {1}:
            return GlobalMean(keep_axes=True)
        name = _name(node.target) if module is None else ""
        if name.startswith("adaptive_avg_pool") and set(shape[2:]) == {1}:
            return GlobalMean(keep_axes=True)
        return None

    def _function(
        self, node: fx.Node, given: Sequence[Step], shape: tuple[int, ...]
    ) -> Operation | None:
        name = _name(node.target)
        if name.removesuffix("_") in _POINTWISE_FUNCTIONS and len(given) == 1:
            return Pointwise(self._call(node, None).function)
        if name in _COMBINATIONS and not node.kwargs:
            if len(given) == 1 and len(node.all_input_nodes) == 1:
                numbers = [a for a in node.args if isinstance(a, (int, float))]
                return Pointwise(self._call(node, None).function) if numbers else None
            alike = len(given) == 2 and given[0].shape == given[1].shape == shape
            return Combine(_COMBINATIONS[name]) if alike else None
        if name in ("cat", "concat", "concatenate"):
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            parts = node.args[0]
            whole = isinstance(parts, (list, tuple)) and len(parts) == len(given)
            return Concat() if whole and dim in (1, 1 - len(shape)) else None
        return None


def _name(target: Any) -> str:
    """The name of a function or method, without torch's packets and overloads."""
    if isinstance(target, str):
        return target
    packet = getattr(target, "overloadpacket", target)
    return str(getattr(packet, "__name__", packet))


def _needed(steps: Sequence[Step], result: Step) -> list[Step]:
    """The steps that the result depends on, in order, the result last."""
    wanted = {result}
    for step in reversed(steps):
        if step in wanted:
            wanted.update(step.sources)
    kept = [step for step in steps if step in wanted]
    if not isinstance(kept[0].operation, Image):
        raise NotTraceable("its result does not depend on the image")
    return [*(step for step in kept if step is not result), result]
