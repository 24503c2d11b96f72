"""Traces of networks whose code looks at the shapes of its tensors.

``if x.shape[-2] < 7`` has no answer while torch.fx traces with stand-ins alone. Here each
operation also runs on an image, so that what depends on shapes is decided as it is for this
image; the graph holds for images of its shape. What depends on voxels is refused as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

#: What code asks of a tensor without calling it.
_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "T", "mT")


class _ShapedProxy(fx.Proxy):
    """A stand-in that knows the shape of what it stands for."""

    def __getattr__(self, k: str) -> Any:
        if k in _ATTRIBUTES:
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)

    def _size(self) -> int:
        value = self.tracer.known(self)  # type: ignore[attr-defined]
        if isinstance(value, bool) or not isinstance(value, int):
            raise fx.proxy.TraceError("what it does depends on the values of the image")
        return value

    def __index__(self) -> int:
        return self._size()

    def __int__(self) -> int:
        return self._size()

    def __len__(self) -> int:
        value = self.tracer.known(self)  # type: ignore[attr-defined]
        return len(value)


class _ShapedTracer(fx.Tracer):
    """Runs each operation on an image while it is traced."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._image = image
        self._values: dict[fx.Node, Any] = {}
        #: While an operation runs on the image, what it does inside is not noted.
        self._running = False

    def known(self, proxy: fx.Proxy) -> Any:
        """What a stand-in stands for."""
        return self._values[proxy.node]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """See :class:`torch.fx.Tracer`."""
        return _ShapedProxy(node, self)

    def create_proxy(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        """See :class:`torch.fx.Tracer`."""
        proxy = super().create_proxy(kind, target, *args, **kwargs)
        if kind != "output":
            self._running = True
            try:
                self._values[proxy.node] = self._value(proxy.node)
            finally:
                self._running = False
        return proxy

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Notes a module that stand-ins are given; see :class:`torch.fx.Tracer`."""
        if self._running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Notes a parameter that is asked for; see :class:`torch.fx.Tracer`."""
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Decides by shapes; see :class:`torch.fx.Tracer`."""
        value = self.known(obj)
        if isinstance(value, Tensor):
            raise fx.proxy.TraceError("what it does depends on the values of the image")
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Goes through the parts of a shape or a list; see :class:`torch.fx.Tracer`."""
        parts: Any = obj
        return iter([parts[number] for number in range(len(self.known(obj)))])

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            first = not any(other.op == "placeholder" for other in self._values)
            return self._image if first else (node.args[0] if node.args else None)
        args: Any = fx.node.map_arg(node.args, lambda n: self._values[n])
        kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: self._values[n])
        target: Any = node.target
        with torch.no_grad():
            if node.op == "get_attr":
                value: Any = self.root
                for name in target.split("."):
                    value = getattr(value, name)
                return value
            if node.op == "call_module":
                return self.root.get_submodule(target)(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs)


def shaped_trace(network: nn.Module, image: Tensor) -> fx.GraphModule:
    """The operations of a network for images of one shape.

    Args:
        network: Is traced itself: give a copy.
        image: ``(1, C, *S)``; is not changed.

    Raises:
        Exception: Whatever torch.fx raises for networks that it cannot trace.
    """
    tracer = _ShapedTracer(image.clone())
    graph = tracer.trace(network)
    return fx.GraphModule(network, graph)
