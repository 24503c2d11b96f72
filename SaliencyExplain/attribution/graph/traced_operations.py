"""Runs a traced network operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.operation_catalogue import overwrites


class TracedOperations(fx.Interpreter):
    """Gives each operation of a traced network as a function.

    Args:
        graph: What :func:`~SaliencyExplain.attribution.graph.symbolic_trace.symbolic_trace` gave.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        # It would write its own lines into the messages of errors.
        self.extra_traceback = False
        self._modules = {
            node: self.fetch_attr(str(node.target))
            for node in graph.graph.nodes
            if node.op == "call_module"
        }

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls; None: it calls a function or method."""
        return self._modules.get(node)

    def overwritten(self, node: fx.Node) -> fx.Node | None:
        """The tensor that a node writes its output into: its first input; None: into none.

        Later users of that input see the output. ``n += 1`` of a number makes another number.
        """
        first = next(iter(node.all_input_nodes), None)
        if first is None or not overwrites(node, self.module_of(node)):
            return None
        return first if isinstance(self.env.get(first), Tensor) else None

    def function_of(self, node: fx.Node, inputs: Sequence[fx.Node]) -> Callable[..., Any]:
        """An operation as a function of some of its inputs, none of which it overwrites.

        Args:
            node: The operation.
            inputs: The nodes in whose place the function's arguments are put; all others have
                the values of this run.
        """
        fixed = {n: self.env[n] for n in node.all_input_nodes if n not in inputs}
        module, target = self.module_of(node), node.target
        writes = self.overwritten(node) is not None

        def function(*values: Any) -> Any:
            given = {**fixed, **dict(zip(inputs, values, strict=True))}
            args: Any = fx.node.map_arg(node.args, lambda n: given[n])
            kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: given[n])
            if writes:
                args = (args[0].clone(), *args[1:])
            if module is not None:
                return module(*args, **kwargs)
            if isinstance(target, str):
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs)

        return function
