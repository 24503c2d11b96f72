"""Runs a network operation by operation, with a method's own backward rules.

LRP and DeepLIFT need the input and output of every layer, also of those that are no modules
(``+``, ``torch.cat``, ``F.relu``), which hooks on modules never see. Here torch.fx traces the
network, and each operation runs as a :class:`torch.autograd.Function` whose backward pass
is the method's rule; autograd adds up where a map has several users.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.layer_outputs import require_open
from SaliencyExplain.attribution.graph.operation_catalogue import Kind, kind_of, name_of
from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable, symbolic_trace
from SaliencyExplain.attribution.graph.traced_operations import TracedOperations
from SaliencyExplain.attribution.network.network_outputs import outputs_by_path, scores_in
from SaliencyExplain.attribution.network.score_network import Activation, ScoreNetwork
from SaliencyExplain.attribution.passes.batches import GRADIENT_COST
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError

#: Advice if a layer has no rule: methods that need only scores or gradients of the network.
OTHERS = "Use occlusion, integrated-gradients or smoothgrad instead"

#: Difference of the scores, in their largest size, that folding and rounding explain.
_ROUNDING = 1e-3

#: Where a traced graph keeps the path of the class scores in what it returns, and the name of
#: the activation that was taken off its end.
_OUTPUT, _FINAL = "output of the class scores", "activation at the end"

#: What turns scores into probabilities at the end of a network, and the activation of the
#: scores before it.
_FINALS: dict[str, tuple[Callable[[Tensor], Tensor], Activation]] = {
    "softmax": (lambda scores: scores.softmax(1), "softmax"),
    "log_softmax": (lambda scores: scores.log_softmax(1), "softmax"),
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "logsigmoid": (torch.nn.functional.logsigmoid, "sigmoid"),
}
_FINAL_MODULES: dict[type[nn.Module], str] = {
    nn.Softmax: "softmax",
    nn.LogSoftmax: "log_softmax",
    nn.Sigmoid: "sigmoid",
    nn.LogSigmoid: "logsigmoid",
}

#: The rule of an operation: from what comes back for its output, its inputs and its output
#: to what goes on to each input.
Back = Callable[[Tensor, Sequence[Tensor], Tensor], Sequence[Tensor]]


class _WithBackward(torch.autograd.Function):
    """An operation with a rule for its backward pass."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], back: Back, *inputs: Tensor) -> Tensor:
        output = function(*inputs)
        ctx.back = back
        ctx.save_for_backward(*inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *coming: Tensor) -> Any:
        *inputs, output = ctx.saved_tensors
        return None, None, *ctx.back(coming[0], inputs, output)


def with_backward(function: Callable[..., Tensor], back: Back, *inputs: Tensor) -> Tensor:
    """``function(*inputs)``, with ``back`` as its backward pass."""
    result: Tensor = _WithBackward.apply(function, back, *inputs)
    return result


def vjp(function: Callable[..., Tensor], values: Tensor, weights: Tensor) -> Tensor:
    """Vector-Jacobian product: the gradient of ``<function(values), weights>``."""
    with torch.enable_grad():
        free = values.detach().requires_grad_()
        return torch.autograd.grad(function(free), free, weights)[0]


class Propagation(TracedOperations):
    """Runs a traced network with a rule for each operation.

    Args:
        graph: What :func:`traced` gave.
        method: Name of the method, for refusals.
    """

    def __init__(self, graph: fx.GraphModule, method: str) -> None:
        super().__init__(graph)
        self._method = method
        self._output: str | None = graph.meta.get(_OUTPUT)
        self._final: str = graph.meta.get(_FINAL, "")
        self._carrying: set[fx.Node] = set()

    def scores(self, images: Tensor) -> Tensor:
        """The class scores in what the network returns for ``(B, C, *S)``."""
        self._carrying.clear()
        return scores_in(self.run(images), self._output)

    @property
    def note(self) -> str:
        """Note for the user on where the propagation begins; may be empty."""
        if not self._final:
            return ""
        return (
            f"The network ends in a {self._final.replace('_', '-')}. The map explains the class's "
            "score before it."
        )

    def finished(self, scores: Tensor) -> Tensor:
        """What the network itself returns: the scores after an activation at its end."""
        return _FINALS[self._final][0](scores) if self._final else scores

    def network_of_scores(self, network: ScoreNetwork) -> ScoreNetwork:
        """The network without an activation at its end, as far as its scores are concerned."""
        if not self._final:
            return network
        scored = ScoreNetwork(
            network.network,
            _FINALS[self._final][1],
            one_logit=network.one_logit,
            output=network.output,
            independent=network.independent,
        )
        scored.combination = network.combination
        return scored

    def run_node(self, n: fx.Node) -> Any:
        """Runs one operation; those that the image does not reach run as they are."""
        if n.op == "placeholder" and not self._carrying:
            self._carrying.add(n)
            return super().run_node(n)
        carriers = [source for source in n.all_input_nodes if source in self._carrying]
        if n.op == "output" or not carriers:
            return super().run_node(n)
        value = self._operation(n, carriers)
        if isinstance(value, (Tensor, tuple, list)):
            self._carrying.add(n)
        overwritten = self.overwritten(n)
        if overwritten is not None:
            before = self.env[overwritten]
            for node in [node for node, held in self.env.items() if held is before]:
                self.env[node] = value
                self._carrying.add(node)
        return value

    @abstractmethod
    def rule(
        self,
        node: fx.Node,
        kind: Kind,
        module: nn.Module | None,
        function: Callable[..., Any],
        inputs: Sequence[Tensor],
    ) -> Any:
        """The output of an operation with the method's backward rule; None: no rule.

        Args:
            node: The operation.
            kind: What kind of operation it is.
            module: Its module, where it is one.
            function: The operation as a function of the inputs that the image reaches.
            inputs: These inputs.
        """

    def refused(self, node: fx.Node, module: nn.Module | None) -> InputError:
        """The error for an operation without a rule."""
        what = type(module).__name__ if module is not None else name_of(node)
        return InputError(
            ErrorCode.METHOD_NETWORK,
            f"{self._method} has no rule for the layer '{node.target if module else node.name}' "
            f"({what}) of this network. {OTHERS}.",
        )

    def _operation(self, node: fx.Node, carriers: Sequence[fx.Node]) -> Any:
        module, function = self.module_of(node), self.function_of(node, carriers)
        inputs = [self.env[source] for source in carriers]
        kind = kind_of(node, module, len(carriers))
        is_moved = kind in (Kind.IDENTITY, Kind.SHAPE)
        if is_moved or not all(isinstance(value, Tensor) for value in inputs):
            return function(*inputs)
        value = self.rule(node, kind, module, function, inputs)
        if value is not None:
            return value
        error = self.refused(node, module)

        def refuse(*_: Any) -> Sequence[Tensor]:
            raise error

        # Only where something comes back to it: what feeds a gate alone needs no rule.
        value = function(*inputs)
        if not isinstance(value, Tensor):
            raise error
        return with_backward(lambda *_: value.detach(), refuse, *inputs)


def traced(network: ScoreNetwork, image: Tensor, method: str) -> fx.GraphModule:
    """The network as a list of operations; it shares the weights and changes nothing.

    A softmax, log-softmax or sigmoid at its end is left out, so that the scores before it are
    explained.

    Args:
        network: The network.
        image: An image for it, ``(1, C, *S)``.
        method: Name of the method, for refusals.

    Raises:
        InputError: The network hides its layers, its operations depend on the values, or its
            scores depend on other images.
    """
    require_open(network, method)
    try:
        graph = symbolic_trace(network.network, network.repeatability, image=image)
    except NotTraceable as error:
        raise InputError(
            ErrorCode.METHOD_NETWORK,
            f"{method}: it runs the network operation by operation, which is not possible here: "
            f"{error}. {OTHERS}.",
        ) from None
    graph.meta[_OUTPUT] = network.output
    _without_detach(graph)
    graph.meta[_FINAL] = _without_final(graph, network.output)
    return graph


def _without_detach(graph: fx.GraphModule) -> None:
    """Removes ``detach``: it stops gradients, and the values passed down here are not gradients."""
    for node in list(graph.graph.nodes):
        if node.op in ("call_method", "call_function") and name_of(node) == "detach":
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()


def _without_final(graph: fx.GraphModule, output: str | None) -> str:
    """Removes an activation at the end of a graph; returns its name, or an empty string."""
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    parts = outputs_by_path(end.args[0])
    ends = [parts.get(output)] if output is not None else list(parts.values())
    found = [one for one in (_final_of(graph, part) for part in ends) if one]
    if len(found) != 1:
        return ""
    node, name = found[0]
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.graph.erase_node(node)
    graph.recompile()
    return name


def _final_of(graph: fx.GraphModule, node: Any) -> tuple[fx.Node, str] | None:
    """The activation that only reshaping follows, and its name."""
    while isinstance(node, fx.Node) and len(node.all_input_nodes) == 1:
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        name = name_of(node) if module is None else _FINAL_MODULES.get(type(module), "")
        if name in _FINALS:
            return node, name
        if node.op == "placeholder" or kind_of(node, module, 1) not in (Kind.IDENTITY, Kind.SHAPE):
            return None
        node = node.all_input_nodes[0]
    return None


def target_score(network: ScoreNetwork, scores: Tensor, target: int) -> Tensor:
    """The target's score of each image ``(B,)`` in what the wrapped network returns."""
    return network.checked(scores, len(scores))[:, target]


def check_same(found: Tensor, expected: Tensor, method: str) -> None:
    """Raises InputError if the traced network gives different scores from the network."""
    limit = _ROUNDING * float(expected.abs().max()) + 1e-6
    if not float((found.detach() - expected).abs().max()) <= limit:
        raise InputError(
            ErrorCode.METHOD_NETWORK,
            f"{method}: the traced network gives different scores from the network itself, "
            f"possibly because of hooks on its layers. {OTHERS}.",
        )


def in_forward_passes(task: Task, total: float, count: int = 1) -> Task:
    """The task for ``count`` gradients that reports ``total`` forward passes as its progress.

    The layers' rules take longer than a gradient.
    """
    each = total / (GRADIENT_COST * count)
    return replace(task, progress=lambda done, _: task.progress(done * each, total))
