"""Calls of torch's functions, with the layouts of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from SaliencyExplain.attribution.graph.operation_catalogue import Positions, family_of_function
from SaliencyExplain.attribution.graph.tensor_layout import Axis, Layout

_LOCAL = (
    *(Positions.SAME, Positions.RESHAPED, Positions.PERMUTED, Positions.TAKEN, Positions.DIVIDED),
    *(Positions.CONCATENATED, Positions.STACKED),
)


@dataclass(frozen=True)
class Call:
    """A function that was called, as far as layouts go.

    Attributes:
        function: Its name without underscores at its ends.
        args: As given.
        kwargs: As given.
        layouts: Gives the layout of a tensor that the image reaches; None where it is not known.
        depends: Whether the image reaches a tensor.
    """

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    layouts: Callable[[Tensor], Layout | None]
    depends: Callable[[Tensor], bool]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument given by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def first(self) -> Layout | None:
        """The layout of the first argument."""
        given = self.argument(0, "input")
        return self.layouts(given) if isinstance(given, Tensor) else None

    @property
    def is_local(self) -> bool:
        """Whether each output position depends on the input at that position only."""
        name = self.function
        if family_of_function(name).positions in _LOCAL:
            return True
        layout = self.first
        if layout is None:
            return False
        last = layout.axes[-1] if layout.axes else Axis()
        if name == "linear":
            return not (last.carries_space or last.has_tokens)
        if name in ("layer_norm", "rms_norm"):
            count = len(self.argument(1, "normalized_shape", ()))
            return not any(axis.carries_space or axis.has_tokens for axis in layout.axes[-count:])
        return False
