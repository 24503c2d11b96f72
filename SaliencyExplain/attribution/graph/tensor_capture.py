"""Captures known tensors of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from SaliencyExplain.attribution.graph.feature_tensors import PlaceInPass, Spot
from SaliencyExplain.attribution.graph.layer_outputs import forward_hooks
from SaliencyExplain.attribution.graph.recorded_pass import Counting, called_name, first_tensor


class TensorCapture(Counting):
    """Keeps tensors of a pass: outputs of layers, and results of functions that run after them.

    Functions are watched from the end of the first layer after which a result is wanted; what
    runs before that is not slowed.

    Args:
        network: The network whose forward pass is watched.
        spots: The tensors.
        capture: Given where a tensor is and the tensor; what it returns replaces the tensor.
    """

    def __init__(
        self,
        network: nn.Module,
        spots: Sequence[Spot],
        capture: Callable[[PlaceInPass, Any], Tensor | None],
    ) -> None:
        super().__init__()
        self._network, self._capture = network, capture
        self._spots = {spot.place: spot for spot in spots}
        self._anchors = {(spot.layer, spot.run) for spot in spots if spot.calls}
        self._layers = {spot.layer for spot in spots if spot.layer}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Watches the forward pass that runs meanwhile."""
        modules = {name: self._network.get_submodule(name) for name in self._layers}
        with forward_hooks(modules, self._hook_of), ExitStack() as stack:
            if ("", 0) in self._anchors:
                stack.callback(self._network.register_forward_pre_hook(self.enter).remove)
            leaving = self._network.register_forward_hook(self.leave, always_call=True)
            stack.callback(leaving.remove)
            yield

    def _hook_of(self, name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            run = self.ended(name)
            changed = None
            if (name, run, 0) in self._spots:
                with self.uncounted():
                    changed = self._captured((name, run, 0), first_tensor(output))
                if changed is not None and isinstance(output, (tuple, list)):
                    # The blocks of many transformers return a tuple.
                    changed = _with_first(output, changed)
            if (name, run) in self._anchors:
                self.enter()
            return changed

        return hook

    def _captured(self, where: PlaceInPass, output: Any) -> Tensor | None:
        fits = isinstance(output, Tensor) and tuple(output.shape) == self._spots[where].shape
        return self._capture(where, output) if fits else None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls the function, and keeps its result where that is wanted."""
        result = func(*args, **(kwargs or {}))
        name = called_name(func)
        if not name:
            return result
        self.count()
        where = (*self.anchor, self.calls)
        spot = self._spots.get(where)
        if spot is None or spot.function != name or where[2] == 0:
            return result
        changed = self._captured(where, result)
        return result if changed is None else changed


def _with_first(output: tuple[Any, ...] | list[Any], first: Tensor) -> Any:
    """The same tuple or list with another first value."""
    values = [first, *output[1:]]
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)
