"""Records a forward pass: which tensor was made of which, in which layer, with which layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from SaliencyExplain.attribution.graph.layout_calls import Call
from SaliencyExplain.attribution.graph.layout_rules import layouts_after
from SaliencyExplain.attribution.graph.operation_catalogue import (
    Family,
    family_of_function,
    function_name,
)
from SaliencyExplain.attribution.graph.tensor_layout import Layout
from SaliencyExplain.attribution.network.network_outputs import scores_in
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode, InputError

#: What is asked most often and gives no tensor.
_SILENT = (
    *("dim", "size", "numel", "stride", "is_floating_point", "is_complex", "__len__", "__hash__"),
    *("_set_grad_enabled", "data_ptr", "is_contiguous", "storage_offset", "untyped_storage"),
    *("__format__", "__repr__"),
)
_PROPERTIES = ("T", "mT", "H", "mH", "data", "real", "imag")

#: Tensors that are held at most; where more follow, none is.
_MOST_HELD = 64

CONSTANT = -1


@dataclass
class Value:
    """A tensor that the image reaches.

    Attributes:
        inputs: Indices of the values that it was made of; (): the image.
        function: What made it, without underscores.
        shape: Its shape.
        layout: Where its cells lie; None: not known.
        local: Whether each position depends on the same position of the input only.
        learnt: Whether a convolution or linear layer lies between it and the image.
        anchor: Name and run of the layer that ended last before it was made.
        calls: Calls of functions from then on, its own included.
        within: Name of the layer in whose forward it was made.
        layer: Name of the innermost layer whose output it is; empty: of none.
        run: Which run of that layer.
    """

    inputs: tuple[int, ...]
    function: str
    shape: tuple[int, ...]
    layout: Layout | None
    local: bool
    learnt: bool
    anchor: tuple[str, int]
    calls: int
    within: str
    layer: str = ""
    run: int = 0

    @property
    def family(self) -> Family:
        """That of the function that made it."""
        return family_of_function(self.function)


def called_name(func: Callable[..., Any]) -> str:
    """The name of a function that is called, without underscores; empty: it gives no tensor."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        return name if name in _PROPERTIES else ""
    return "" if name in _SILENT else function_name(func)


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, (tuple, list)):
        return [one for value in values for one in tensors_in(value)]
    if isinstance(values, Mapping):
        return [one for value in values.values() for one in tensors_in(value)]
    return []


def first_tensor(output: Any) -> Tensor | None:
    """The tensor, or the first of a tuple or list."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


class Counting(TorchFunctionMode):
    """Counts calls from the end of a layer on, but for those within :meth:`uncounted`."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = ("", 0)
        self.calls = 0
        self._runs: dict[str, int] = {}
        self._counts = True
        self._is_active = False

    def enter(self, *_: Any) -> None:
        """Becomes active, within a network's forward."""
        if not self._is_active:
            self._is_active = True
            self.__enter__()

    def leave(self, *_: Any) -> None:
        """Is not active any more."""
        if self._is_active:
            self._is_active = False
            self.__exit__(None, None, None)

    def ended(self, name: str) -> int:
        """A layer ended: calls are counted from here on. Gives which of its runs it was."""
        run = self._runs.get(name, 0)
        self._runs[name] = run + 1
        self.anchor, self.calls = (name, run), 0
        return run

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Calls that are not the network's own."""
        self._counts = False
        try:
            yield
        finally:
            self._counts = True

    def count(self) -> None:
        """A call."""
        if self._counts:
            self.calls += 1


class Recorder(Counting):
    """Records what runs while it is active; the network's layers are told to it.

    Attributes:
        values: In the order in which they were made.
        outputs: For each layer the values that its runs gave.
        result: The network's scores.
        held: Tensors by value, with the version that they had, from :meth:`hold` on.
    """

    def __init__(self, network: ScoreNetwork) -> None:
        super().__init__()
        self._network, self._output = network.network, network.output
        self._known: Any = WeakTensorKeyDictionary()
        self._writes: dict[int, int] = {}
        self._owned: set[int] | None = None
        self._running: list[str] = []
        self.values: list[Value] = []
        self.outputs: dict[str, list[int]] = {}
        self.result = CONSTANT
        self.held: dict[int, tuple[Tensor, int]] = {}
        self._holds = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records the whole forward pass of the network that runs meanwhile."""
        layers = {name: module for name, module in self._network.named_modules() if name}

        def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            image = inputs[0]
            layout = Layout.channels_first(image.shape, ((1.0, 0.0),) * (image.ndim - 2))
            self._add(
                image, Value((), "image", tuple(image.shape), layout, False, False, ("", 0), 0, "")
            )
            self.enter()

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.leave()
            if output is not None and self.values:
                scores = scores_in(output, self._output)
                self.result = self.index(scores) if isinstance(scores, Tensor) else CONSTANT

        with ExitStack() as stack:
            for name, module in layers.items():
                before = module.register_forward_pre_hook(self._entering(name))
                after = module.register_forward_hook(self._leaving(name))
                stack.callback(before.remove)
                stack.callback(after.remove)
            stack.callback(self._network.register_forward_pre_hook(enter).remove)
            after = self._network.register_forward_hook(leave, always_call=True)
            stack.callback(after.remove)
            yield

    def hold(self) -> None:
        """Keeps the tensors from here on."""
        self._holds = True

    def index(self, tensor: Tensor) -> int:
        """The value that a tensor is now; :data:`CONSTANT` where the image does not reach it."""
        return max(self._sources(tensor))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls the function and notes what it made of what."""
        kwargs = kwargs or {}
        name = called_name(func)
        if not name:
            return func(*args, **kwargs)
        given = tensors_in(args) + tensors_in(kwargs)
        if any(tensor.is_inference() for tensor in given):
            raise InputError(
                ErrorCode.NO_GRADIENT,
                "A part of the network runs under torch.inference_mode: it lets no gradient "
                "through, and its layers cannot be looked into. Use occlusion, or let it run with "
                "gradients, its weights frozen by requires_grad_(False).",
            )
        versions = [tensor._version for tensor in given]
        result = func(*args, **kwargs)
        self.count()
        self._note(name, args, kwargs, given, versions, tensors_in(result))
        return result

    def _note(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        given: list[Tensor],
        versions: list[int],
        outputs: list[Tensor],
    ) -> None:
        changed = [t for t, version in zip(given, versions, strict=True) if t._version != version]
        new = [t for t in outputs if not any(t is old for old in given)] + changed
        if not new:
            return
        inputs = sorted({source for t in given for source in self._sources(t)} - {CONSTANT})
        if not inputs:
            for tensor in new:
                self._known[tensor] = CONSTANT
            return
        call = Call(name, args, kwargs, self._layout, self._depends)
        layouts = layouts_after(call, new)
        local = call.is_local
        learnt = family_of_function(name).has_weights or any(
            self.values[source].learnt for source in inputs
        )
        for tensor, layout in zip(new, layouts, strict=True):
            self._add(
                tensor,
                Value(
                    *(tuple(inputs), name, tuple(tensor.shape), layout, local, learnt),
                    *(self.anchor, self.calls, self._running[-1] if self._running else ""),
                ),
            )
        for tensor in changed:
            self._writes[tensor.untyped_storage().data_ptr()] = len(self.values) - 1
        if self._holds and len(self.held) > _MOST_HELD:
            self.held.clear()
            self._holds = False

    def _add(self, tensor: Tensor, value: Value) -> None:
        self._known[tensor] = len(self.values)
        if self._holds:
            self.held[len(self.values)] = tensor, tensor._version
        self.values.append(value)

    def _sources(self, tensor: Tensor) -> tuple[int, ...]:
        found = self._known.get(tensor)
        if found is None:
            found = self._stranger(tensor)
        if self._writes:
            # Written to through another view of the same memory.
            written = self._writes.get(tensor.untyped_storage().data_ptr(), CONSTANT)
            if written > found:
                return (found, written)
        return (found,)

    def _stranger(self, tensor: Tensor) -> int:
        """A tensor that no recorded function made: the network's own, or not known."""
        if isinstance(tensor, nn.Parameter) or id(tensor) in self._own():
            self._known[tensor] = CONSTANT
            return CONSTANT
        value = Value(
            *((0,), "unknown", tuple(tensor.shape), None, False, True),
            *(self.anchor, self.calls, ""),
        )
        self._known[tensor] = len(self.values)
        self.values.append(value)
        return len(self.values) - 1

    def _own(self) -> set[int]:
        if self._owned is None:
            self._owned = {
                id(tensor)
                for module in self._network.modules()
                for tensor in tensors_in(vars(module))
            }
        return self._owned

    def _layout(self, tensor: Tensor) -> Layout | None:
        found = self._known.get(tensor, CONSTANT)
        return self.values[found].layout if found >= 0 else None

    def _depends(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and bool(self.index(tensor) >= 0)

    def _entering(self, name: str) -> Callable[..., None]:
        def enter(_module: nn.Module, _inputs: Any) -> None:
            self._running.append(name)

        return enter

    def _leaving(self, name: str) -> Callable[..., None]:
        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._running and self._running[-1] == name:
                self._running.pop()
            run = self.ended(name)
            tensor = first_tensor(output)
            if tensor is None or not self.values:
                return
            found = self.index(tensor)
            self.outputs.setdefault(name, []).append(found)
            if found >= 0 and not self.values[found].layer:
                self.values[found].layer, self.values[found].run = name, run

        return leave
