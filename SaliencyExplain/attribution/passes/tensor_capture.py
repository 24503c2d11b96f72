"""Catching tensors inside a network while a forward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from SaliencyExplain.attribution.graph.network_structure import Spot
from SaliencyExplain.attribution.graph.recorded_pass import Counting, called_name
from SaliencyExplain.attribution.network.score_network import ScoreNetwork

#: Layer and run of it, and calls after it; 0: its output.
Place = tuple[str, int, int]


def place(spot: Spot) -> Place:
    """Where a spot is in a pass."""
    return spot.layer, spot.run, spot.calls


@contextmanager
def hooks(
    layers: Iterable[str],
    network: ScoreNetwork,
    look: Callable[[str], Callable[..., Tensor | None]],
) -> Iterator[None]:
    """Calls ``look(name)`` as a forward hook of these layers; the hooks are gone afterwards."""
    with ExitStack() as stack:
        for name in layers:
            if name:
                hook = network.layer(name).register_forward_hook(look(name))
                stack.callback(hook.remove)
        yield


class TensorCapture(Counting):
    """Catches tensors in a pass: outputs of layers, and results of functions behind them.

    It is active from the end of the first layer behind which a function's result is wanted:
    what runs before is not slowed.
    """

    def __init__(
        self,
        network: nn.Module,
        spots: Sequence[Spot],
        capture: Callable[[Place, Any], Tensor | None],
    ) -> None:
        super().__init__()
        self._network, self._capture = network, capture
        self._spots = {place(spot): spot for spot in spots}
        self._anchors = {(spot.layer, spot.run) for spot in spots if spot.calls}
        self._layers = {spot.layer for spot in spots if spot.layer}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Catches in the forward pass that runs meanwhile."""
        modules = {name: self._network.get_submodule(name) for name in self._layers}
        with ExitStack() as stack:
            for name, module in modules.items():
                stack.callback(module.register_forward_hook(self._looking(name)).remove)
            if ("", 0) in self._anchors:
                stack.callback(self._network.register_forward_pre_hook(self.enter).remove)
            leaving = self._network.register_forward_hook(self.leave, always_call=True)
            stack.callback(leaving.remove)
            yield

    def _looking(self, name: str) -> Callable[..., Tensor | None]:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
            run = self.ended(name)
            changed = None
            if (name, run, 0) in self._spots:
                with self.uncounted():
                    changed = self._caught((name, run, 0), output)
            if (name, run) in self._anchors:
                self.enter()
            return changed

        return look

    def _caught(self, where: Place, output: Any) -> Tensor | None:
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
        changed = self._caught(where, result)
        return result if changed is None else changed
