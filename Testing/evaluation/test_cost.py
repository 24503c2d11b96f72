"""What an evaluation will cost: the layers that are compared, and tiers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep
from SaliencyExplain.attribution.methods.score_cam import ScoreCAM
from SaliencyExplain.attribution.methods.xrai import XRAI, FastXRAI
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.evaluation.image.cost import COST_TIERS, CostTier, affordable, at_layers
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.method_costs import cost_of
from SaliencyExplain.explanation.prepared_case import prepare


class Gated(nn.Module):
    """Two convolutions that see places, a gate of one cell, and an ELU behind the pooling."""

    def __init__(self):
        super().__init__()
        self.first, self.act1 = nn.Conv2d(1, 3, 3, padding=1), nn.ELU()
        self.second, self.act2 = nn.Conv2d(3, 7, 3, padding=1), nn.ELU()
        self.gate = nn.Conv2d(7, 7, 1)
        self.hidden, self.act3, self.head = nn.Linear(7, 5), nn.ELU(), nn.Linear(5, 2)

    def forward(self, images):
        features = self.act2(self.second(self.act1(self.first(images))))
        features = features * self.gate(features.mean((2, 3), keepdim=True)).sigmoid()
        return self.head(self.act3(self.hidden(features.mean((2, 3)))))


def test_the_compared_layers_end_at_the_one_that_grad_cam_takes_by_default(phantom_task):
    (compared,) = at_layers([GradCAM(), Gradient()], phantom_task)
    assert compared.layers[-1] == next(iter(GradCAM().attribute(phantom_task)))
    assert len(compared.layers) == 3


def test_gates_and_layers_behind_the_pooling_are_no_layers_to_compare(task):
    made = task(ScoreNetwork(Gated()).eval(), torch.rand(1, 1, 12, 12))
    (compared,) = at_layers([ScoreCAM()], made)
    assert compared.layers == ("act1", "second", "act2")
    images = []
    made.network.network.register_forward_pre_hook(lambda _, given: images.append(len(given[0])))
    assert set(compared.attribute(made)) == {"act1", "second", "act2"}
    # Their 3, 7 and 7 channels, the image and the baseline.
    assert sum(images) == compared.forward_passes(made) == 19


def test_the_parts_cost_says_what_the_compared_maps_cost_at_each_cost_tier(task):
    made = task(ScoreNetwork(Gated()).eval(), torch.rand(1, 1, 12, 12))
    for budget in (None, 1):
        cost = affordable(made, [ScoreCAM(), Gradient()], ["agreement"], budget=budget)
        assert cost.parts["agreement"] == 19
        assert [one.name for one in cost.compared] == ["scorecam"]
    assert affordable(made, [ScoreCAM()], ["stability"]).compared == ()


@pytest.mark.slow
def test_one_map_of_several_layers_layers_that_were_named_and_hidden_ones_are_not_compared(task):
    network, image = Gated().eval(), torch.rand(1, 1, 12, 12)
    made = task(ScoreNetwork(network).eval(), image)
    assert at_layers([LayerSweep(), GradCAM(layers=("first",)), Gradient()], made) == ()
    closed = task(ScoreNetwork(torch.jit.trace(network, image)).eval(), image)
    assert at_layers([GradCAM()], closed) == ()


def test_what_is_computed_beside_the_network_is_in_the_estimate_and_in_the_evaluation_cost(
    phantom, honest
):
    case = prepare(phantom.image, honest, "glioma-like", Compute("cpu"))
    made, one_pass = case.task(), case.prediction.seconds
    beside = XRAI().seconds_beside(made)
    # Regions of six sizes: measured 0.75 s for these 76,800 voxels, and their ranking.
    assert 0.5 < beside < 3
    xrai, gradient = (cost_of(one, made, one_pass) for one in (XRAI(), Gradient()))
    assert xrai.seconds == pytest.approx(XRAI().forward_passes(made) * one_pass + beside)
    assert xrai.forward_passes == pytest.approx(xrai.seconds / one_pass)
    assert gradient.forward_passes == pytest.approx(Gradient().forward_passes(made))
    cost_tier = CostTier(seeds=1, noisy=0, shifted=False, searched=0, refined=0)
    cost = affordable(made, [XRAI(), Gradient()], ["stability"], cost_tier=cost_tier)
    # The map, another seed, and a shift by a voxel along the first axis.
    assert cost.seconds_beside == pytest.approx(3 * beside)


def test_the_time_of_regions_grows_with_the_voxels_and_fast_ranking_takes_none(task):
    network = ScoreNetwork(Gated()).eval()
    small, large = (
        task(network, torch.zeros(1, 1, *shape)) for shape in ((40, 40, 40), (80, 40, 40))
    )
    fast = [FastXRAI().seconds_beside(one) for one in (small, large)]
    assert fast[1] == pytest.approx(2 * fast[0])
    assert XRAI().seconds_beside(small) > fast[0]


@pytest.mark.parametrize("name", COST_TIERS)
def test_a_cost_tier_keeps_its_name_and_another_one_is_the_callers(name, task):
    made = task(ScoreNetwork(Gated()).eval(), torch.rand(1, 1, 12, 12))
    parts = ["faithfulness", "stability"]
    assert affordable(made, [Gradient()], parts, cost_tier=COST_TIERS[name]).name == name
    assert affordable(made, [Gradient()], parts, cost_tier=CostTier(seeds=7)).name == "chosen"
