"""torch.fx traces of a network that leave the network itself as it was.

While torch.fx traces, the network's code runs on stand-ins (:class:`torch.fx.Proxy`) for
tensors. A network that keeps something from its first pass, as LeViT and EfficientFormer keep
their attention biases in eval mode, would keep a stand-in and return one ever after. So a copy
is traced, with modules and attributes of its own and the same weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.layer_outputs import closed_kind
from SaliencyExplain.attribution.graph.shaped_trace import shaped_trace
from SaliencyExplain.attribution.network.module_copies import Copier, cloned
from SaliencyExplain.attribution.network.network_state import REPEATABLE, Repeatability


class NotTraceable(Exception):
    """The network cannot be run operation by operation; the message says why."""


def symbolic_trace(
    network: nn.Module, known: Repeatability = REPEATABLE, *, image: Tensor | None = None
) -> fx.GraphModule:
    """The operations of a network, as :func:`torch.fx.symbolic_trace` gives them.

    Where the network's code looks at shapes, which that cannot follow, they are those for images
    of one shape (:func:`shaped_trace`).

    Args:
        network: Is left as it was, also what it keeps from pass to pass.
        known: What a forward pass changes in it, and what its scores depend on.
        image: An image for it, ``(1, C, *S)``; without one, code that looks at shapes fails.

    Returns:
        A graph whose weights are the network's own, but for those that a pass writes into.

    Raises:
        NotTraceable: The network hides its layers, what it does depends on the values, on the
            other images of a batch or on earlier passes, or torch.fx fails.
    """
    hiding = closed_kind(network)
    if hiding:
        raise NotTraceable(f"a {hiding} hides its layers")
    if known.one_at_a_time:
        raise NotTraceable("its scores depend on the other images of a batch")
    if known.float32:
        raise NotTraceable("its operations convert to half precision")
    if known.drifts:
        raise NotTraceable("its scores depend on the passes before")
    try:
        return fx.symbolic_trace(copy_sharing_weights(network, known))
    except Exception as error:  # noqa: BLE001 - the network's code may raise anything on a proxy
        failure = error
    if image is not None:
        try:
            return shaped_trace(copy_sharing_weights(network, known), image)
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
    line = (str(failure).splitlines() or [""])[0]
    is_reason = isinstance(failure, fx.proxy.TraceError) and line
    raise NotTraceable(line if is_reason else f"torch.fx fails ({type(failure).__name__}: {line})")


def copy_sharing_weights(network: nn.Module, known: Repeatability = REPEATABLE) -> nn.Module:
    """The network with modules of its own and the tensors of the original.

    Tensors that a forward pass was seen to write into are copied.
    """
    memo: dict[int, Any] = {id(one): cloned(one) for one in known.written(network)}
    return Copier(tensors=False, memo=memo).modules(network)
