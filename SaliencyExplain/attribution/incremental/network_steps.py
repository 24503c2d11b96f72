"""The steps of incremental inference, one for each operation of a traced network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.operation_catalogue import (
    POINTWISE_KINDS,
    Family,
    Kind,
    Positions,
    family_of,
    kind_of,
    name_of,
)
from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable, symbolic_trace
from SaliencyExplain.attribution.graph.traced_operations import TracedOperations
from SaliencyExplain.attribution.incremental.layer_operations import operation_of, pointwise
from SaliencyExplain.attribution.incremental.operations import (
    Call,
    Combine,
    Concat,
    GlobalMean,
    Image,
    Operation,
    Step,
)
from SaliencyExplain.attribution.network.network_outputs import outputs_by_path, path_of_scores
from SaliencyExplain.attribution.network.network_state import REPEATABLE, Repeatability

#: Sums, products and the like, by their functions' names.
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "truediv": torch.div,
}


def network_steps(
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
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        raise NotTraceable("hooks watch its layers")
    return _StepMaker(symbolic_trace(network, known, image=image), image, output).steps()


class _StepMaker(TracedOperations):
    """Runs the traced network once for the shapes and makes a step of each node."""

    def __init__(self, graph: fx.GraphModule, image: Tensor, output: str | None) -> None:
        super().__init__(graph)
        self._image = image
        self._output = output
        self._axes = image.ndim - 2
        self._steps: list[Step] = []
        self._step_of: dict[fx.Node, Step] = {}
        self._result: Step | None = None

    def steps(self) -> list[Step]:
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
        if n.op == "placeholder" and not self._steps:
            self._add(n, Image(), (), shape)
        elif n.op in ("placeholder", "get_attr"):
            # Further inputs have their defaults; a step for them gives that value.
            self._add(n, Call(lambda value=value: value), (), ())
        else:
            self._add_step(n, shape)
        return value

    def _add(
        self, node: fx.Node, operation: Operation, sources: Sequence[Step], shape: tuple[int, ...]
    ) -> None:
        step = Step(operation, tuple(sources), shape, self._is_map(shape))
        self._steps.append(step)
        self._step_of[node] = step

    def _add_step(self, node: fx.Node, shape: tuple[int, ...]) -> None:
        inputs = node.all_input_nodes
        given = [self._step_of[source] for source in inputs]
        operation: Operation | None = None
        if self._is_map(shape) and given and all(source.is_map for source in given):
            if node.op == "call_module" and self._family(node).kind is Kind.IDENTITY:
                self._step_of[node] = given[0]
                return
            operation = self._local(node, given, shape)
        if operation is None and len(given) == 1 and given[0].is_map:
            operation = self._global_mean(node, shape)
        if operation is None:
            operation = Call(self.function_of(node, inputs), _asks_for_shape(node))
        self._add(node, operation, given, shape)
        overwritten = self.overwritten(node)
        if overwritten is not None:
            before = self._step_of[overwritten]
            for other, step in self._step_of.items():
                if step is before:
                    self._step_of[other] = self._step_of[node]

    def _is_map(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == self._axes + 2 and shape[0] == 1

    def _family(self, node: fx.Node) -> Family:
        return family_of(node, self.module_of(node))

    def _global_mean(self, node: fx.Node, shape: tuple[int, ...]) -> GlobalMean | None:
        family = self._family(node)
        is_mean = family.kind is Kind.MEAN and family.positions is Positions.ADAPTIVELY_POOLED
        return GlobalMean(keep_axes=True) if is_mean and set(shape[2:]) == {1} else None

    def _local(
        self, node: fx.Node, given: Sequence[Step], shape: tuple[int, ...]
    ) -> Operation | None:
        """The operation of a node that makes each output cell of the input cells near it."""
        module = self.module_of(node)
        kind = kind_of(node, module, len(given))
        alike = all(source.shape == shape for source in given)
        if kind in POINTWISE_KINDS and len(given) == 1 and alike:
            name = name_of(node) if module is None else type(module).__name__.lower()
            return pointwise(name, self.function_of(node, node.all_input_nodes))
        if module is not None:
            return operation_of(module, self._axes)
        if kind in (Kind.SUM, Kind.PRODUCT, Kind.QUOTIENT) and len(given) == 2 and alike:
            function = _BINARY.get(name_of(node).removeprefix("i"))
            return Combine(function) if function is not None and not node.kwargs else None
        if self._family(node).positions is Positions.CONCATENATED:
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            parts = node.args[0]
            whole = isinstance(parts, (list, tuple)) and len(parts) == len(given)
            return Concat() if whole and dim in (1, 1 - len(shape)) else None
        return None


def _asks_for_shape(node: fx.Node) -> bool:
    """Whether a node gives the shape or type of its input, which each batch has alike."""
    name = name_of(node) if node.op != "call_module" else ""
    return name in ("size", "dim") or (
        name == "getattr" and node.args[1] in ("shape", "ndim", "dtype", "device")
    )


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
