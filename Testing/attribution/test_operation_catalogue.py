"""Operations have one entry in the catalogue, however a network writes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import fx, nn

from SaliencyExplain.attribution.graph.network_structure import analyse
from SaliencyExplain.attribution.graph.operation_catalogue import (
    RECTIFIERS,
    Kind,
    Positions,
    family_of,
    family_of_class,
    family_of_function,
    kind_of,
)
from SaliencyExplain.attribution.methods.deep_lift import DeepLift
from SaliencyExplain.attribution.methods.layer_wise_relevance import LayerwiseRelevance
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode, InputError
from Testing.attribution.incremental_checks import largest_difference
from Testing.builders import make_task

_PAIRS = [
    *[(nn.ReLU, F.relu), (nn.ReLU6, F.relu6), (nn.LeakyReLU, F.leaky_relu), (nn.SiLU, F.silu)],
    *[(nn.RReLU, F.rrelu), (nn.Hardtanh, F.hardtanh), (nn.Sigmoid, torch.sigmoid)],
    *[(nn.LogSigmoid, F.logsigmoid), (nn.Hardshrink, F.hardshrink), (nn.Identity, torch.clone)],
    *[(nn.Dropout3d, F.dropout3d), (nn.AvgPool3d, F.avg_pool3d), (nn.MaxPool2d, F.max_pool2d)],
    *[(nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d), (nn.Conv3d, F.conv3d), (nn.Linear, F.linear)],
    *[(nn.ConvTranspose2d, F.conv_transpose2d), (nn.BatchNorm3d, F.batch_norm)],
    *[(nn.InstanceNorm2d, F.instance_norm), (nn.GroupNorm, F.group_norm), (nn.ZeroPad2d, F.pad)],
    *[(nn.Flatten, torch.flatten), (nn.Softmax, F.softmax), (nn.Threshold, F.threshold)],
]


@pytest.mark.parametrize(("module", "function"), _PAIRS)
def test_a_module_has_the_entry_of_its_function(module, function):
    family = family_of_class(module)
    assert family == family_of_function(function.__name__)
    assert (family.kind, family.positions) != (Kind.OTHER, Positions.OTHER)


def test_a_class_of_a_model_is_known_by_what_it_is_derived_from_alone():
    own = type("ReLU", (nn.Module,), {})
    derived = type("Special", (nn.LeakyReLU,), {})
    assert family_of_class(own).kind is Kind.OTHER
    assert family_of_class(derived).rectifies


def test_a_sigmoid_is_a_gate_and_no_rectifier():
    assert "sigmoid" not in RECTIFIERS
    assert not family_of_function("sigmoid").rectifies


class _Arithmetic(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = x * x
        y = y - 2
        y /= 3
        y = 1 / (y + x)
        return F.linear(x * y, y)


def test_a_number_beside_the_image_scales_it_and_weights_made_of_it_have_no_rule():
    nodes = [n for n in fx.symbolic_trace(_Arithmetic()).graph.nodes if n.op == "call_function"]
    kinds = [kind_of(node, None, len(node.all_input_nodes)) for node in nodes]
    assert kinds == [
        *(Kind.ACTIVATION, Kind.SCALE, Kind.SCALE, Kind.SUM),
        *(Kind.QUOTIENT, Kind.PRODUCT, Kind.OTHER),
    ]


def test_only_calls_have_a_family_and_not_inputs_of_a_function_s_name():
    def forward(relu):
        return relu + 1

    nodes = list(fx.symbolic_trace(forward).graph.nodes)
    assert family_of(nodes[0], None).kind is Kind.OTHER


class _Dynamic(nn.Module):
    """A convolution whose weights depend on the image."""

    def __init__(self):
        super().__init__()
        self.weights, self.last = nn.Linear(1, 9), nn.Linear(1, 2)

    def forward(self, images):
        weights = self.weights(images.mean((2, 3))).reshape(1, 1, 3, 3)
        return self.last(F.conv2d(images, weights).mean((2, 3)))


@pytest.mark.parametrize("method", [LayerwiseRelevance(), DeepLift()], ids=lambda m: m.name)
def test_a_convolution_whose_weights_depend_on_the_image_is_refused(method):
    with pytest.raises(InputError) as refused:
        method.attribute(make_task(_Dynamic(), torch.randn(1, 1, 8, 8)))
    assert refused.value.code is ErrorCode.METHOD_NETWORK


class _Through(nn.Module):
    """A function between two layers."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(1, 3, 3), nn.Linear(3, 2), function

    def forward(self, images):
        return self.last(self.function(self.first(images)).mean((2, 3)))


@pytest.mark.parametrize("method", [LayerwiseRelevance(), DeepLift()], ids=lambda m: m.name)
@pytest.mark.parametrize(
    "function",
    [
        torch.abs,
        torch.sqrt,
        lambda maps: F.lp_pool2d(maps, 2.0, 2),
        lambda maps: maps.amin(3, True),
    ],
    ids=["abs", "sqrt", "lp_pool", "amin"],
)
def test_a_function_that_is_not_linear_and_has_no_rule_is_refused(method, function):
    with pytest.raises(InputError) as refused:
        method.attribute(make_task(_Through(function), torch.randn(1, 1, 8, 8)))
    assert refused.value.code is ErrorCode.METHOD_NETWORK


class _AddedInPlace(nn.Module):
    """Writes what depends on the image into a tensor that does not."""

    def __init__(self, *, in_place):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3), nn.Linear(3, 2)
        self.place = nn.Parameter(torch.randn(1, 3, 6, 6))
        self.in_place = in_place

    def forward(self, images):
        found, sums = self.first(images), self.place * 2
        if self.in_place:
            sums += found
        else:
            sums = sums + found
        return self.last(sums.relu().mean((2, 3)))


@pytest.mark.parametrize("method", [LayerwiseRelevance(), DeepLift()], ids=lambda m: m.name)
def test_a_sum_written_into_a_tensor_without_the_image_is_one_like_any_other(method):
    one, other = _AddedInPlace(in_place=True), _AddedInPlace(in_place=False)
    other.load_state_dict(one.state_dict())
    image = torch.randn(1, 1, 8, 8)
    found, expected = (method.attribute(make_task(network, image))[""] for network in (one, other))
    assert torch.equal(found, expected)


class _Written(nn.Module):
    """Layers written as functions, or as modules."""

    def __init__(self, *, as_functions):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(4, 3)
        if as_functions:
            self.relu, self.shrink = F.relu, lambda values: F.hardshrink(values, 0.1)
        else:
            self.relu, self.shrink = nn.ReLU(), nn.Hardshrink(0.1)

    def forward(self, images):
        features = self.relu(self.norm(self.first(images)))
        return self.last(self.shrink(self.second(features)).mean((2, 3)))


@pytest.mark.parametrize("as_functions", [True, False])
def test_incremental_inference_computes_boxes_of_functions_as_of_modules(as_functions):
    network = _Written(as_functions=as_functions).eval()
    difference, inference = largest_difference(network, torch.randn(1, 1, 30, 30), (4, 4), 5)
    assert difference < 1e-5
    assert not inference.has_other_operations


def test_a_convolution_without_padding_by_its_name_keeps_its_stride():
    layers = [nn.Conv2d(1, 2, 3, stride=2, padding="valid"), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    network = ScoreNetwork(nn.Sequential(*layers, nn.Flatten(), nn.Linear(2, 2))).eval()
    (target,) = analyse(network, torch.randn(1, 1, 21, 21)).targets
    assert target.layout.placement == ((2.0, 1.0), (2.0, 1.0))
