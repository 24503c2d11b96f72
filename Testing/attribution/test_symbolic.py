"""A trace leaves the network as it was, whatever the network keeps from its first pass."""

from __future__ import annotations

import functools
import pickle
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, fx, nn

from SaliencyExplain.attribution.graph.symbolic_trace import copy_sharing_weights, symbolic_trace
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import find_method
from Testing.builders import make_task


class _Keeping(nn.Module):
    """A classifier whose bias is made of a parameter and kept in some place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)
        self.table = nn.Parameter(torch.randn(4))

    def kept(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.conv(images)).mean((2, 3))
        return self.head(features + self.kept(images))


class _InDict(_Keeping):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Tensor] = {}

    def kept(self, images: Tensor) -> Tensor:
        if "bias" not in self.cache:
            self.cache["bias"] = self.table * 2
        return self.cache["bias"]


class _InClass(_Keeping):
    cache: ClassVar[dict[str, Tensor]] = {}

    def kept(self, images: Tensor) -> Tensor:
        if "bias" not in self.cache:
            self.cache["bias"] = self.table * 2
        return self.cache["bias"]


class _InList(_Keeping):
    def __init__(self) -> None:
        super().__init__()
        self.cache: list[Any] = [None, [None]]

    def kept(self, images: Tensor) -> Tensor:
        if self.cache[1][0] is None:
            self.cache[1][0] = self.table * 2
        return self.cache[1][0]


class _InFunction(_Keeping):
    @functools.lru_cache  # noqa: B019 the habit that is tested
    def bias(self) -> Tensor:
        return self.table * 2

    def kept(self, images: Tensor) -> Tensor:
        return self.bias()


class _InAttribute(_Keeping):
    def kept(self, images: Tensor) -> Tensor:
        if not hasattr(self, "bias"):
            self.bias = self.table * 2
        return self.bias


class _Store:
    def __init__(self) -> None:
        self.bias: Tensor | None = None


class _InObject(_Keeping):
    def __init__(self) -> None:
        super().__init__()
        self.store = _Store()

    def kept(self, images: Tensor) -> Tensor:
        if self.store.bias is None:
            self.store.bias = self.table * 2
        return self.store.bias


class _InHiddenModule(_Keeping):
    """Of a module in a plain list, which the network's modules() do not see."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [_InAttribute()]

    def kept(self, images: Tensor) -> Tensor:
        return self.hidden[0].kept(images)


_KEEPING = (_InDict, _InClass, _InList, _InFunction, _InAttribute, _InObject, _InHiddenModule)


@pytest.mark.parametrize("kind", _KEEPING)
def test_a_trace_leaves_nothing_in_the_network(kind: type[_Keeping]) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    image = torch.randn(2, 1, 8, 8)
    before = pickle.dumps(network)
    graph = symbolic_trace(network)
    assert pickle.dumps(network) == before
    found = network(image)
    assert isinstance(found, Tensor)
    assert torch.equal(graph(image), found)
    assert isinstance(graph, fx.GraphModule)
    kind.__dict__.get("cache", {}).clear()


@pytest.mark.parametrize("kind", _KEEPING)
@pytest.mark.parametrize("method", ["lrp", "deeplift", "occlusion"])
def test_methods_that_trace_leave_a_network_that_works(kind: type[_Keeping], method: str) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    image = torch.randn(1, 1, 24, 24)
    task = make_task(network, image)
    first = find_method(method)().attribute(task)[""]
    again = find_method(method)().attribute(task)[""]
    with torch.no_grad():
        assert isinstance(network(image), Tensor)
    assert torch.equal(first, again)
    kind.__dict__.get("cache", {}).clear()


def test_a_copy_has_the_weights_of_the_network_and_modules_of_its_own() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    twin = copy_sharing_weights(network)
    for name, tensor in network.state_dict(keep_vars=True).items():
        assert twin.state_dict(keep_vars=True)[name] is tensor
    assert not {id(module) for module in network.modules()} & {id(m) for m in twin.modules()}


class _Halving(nn.Module):
    """Works in place on its input, by an operator that is not among torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        images /= 2
        images -= 0.25
        return self.head(torch.relu(self.conv(images)).mean((2, 3)))


@pytest.mark.parametrize("method", ["lrp", "deeplift"])
def test_walking_through_layers_in_place_changes_no_image(method: str) -> None:
    torch.manual_seed(0)
    network = ScoreNetwork(_Halving().eval())
    image = torch.randn(1, 1, 12, 12)
    before = image.clone()
    found = find_method(method)().attribute(make_task(network, image))[""]
    assert torch.equal(image, before)
    assert torch.isfinite(found).all()
    assert found.abs().max() > 0
