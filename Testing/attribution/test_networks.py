"""Every kind of classification network that MONAI has, in 2D and 3D, through every method."""

from __future__ import annotations

import functools

import pytest
import torch
from monai.networks import nets

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import InputError

SETTINGS = {
    "occlusion": {"window_mm": 20.0, "stride_mm": 20.0},
    "smoothgrad": {"samples": 2},
    "guided-smoothgrad": {"samples": 2},
    "integrated-gradients": {"steps": 2},
}
ALWAYS = ("occlusion", "gradient", "smoothgrad", "gradient-times-input", "integrated-gradients")
SIDE = 32


def build(name, dims):
    if name == "DenseNet":
        return nets.DenseNet(dims, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2))
    if name == "ResNet":
        return nets.ResNet(
            "basic",
            (1, 1, 1, 1),
            (4, 8, 8, 8),
            spatial_dims=dims,
            n_input_channels=1,
            num_classes=3,
        )
    if name == "SENet":
        return nets.SENet(
            dims,
            1,
            nets.senet.SEResNetBottleneck,
            layers=(1, 1, 1, 1),
            groups=1,
            reduction=16,
            inplanes=64,
            num_classes=3,
        )
    if name == "EfficientNet":
        return nets.EfficientNet(
            ["r1_k3_s11_e1_i32_o16_se0.25", "r1_k3_s22_e2_i16_o32_se0.25"],
            spatial_dims=dims,
            in_channels=1,
            num_classes=3,
            width_coefficient=0.5,
            image_size=SIDE,
        )
    if name == "ViT":
        return nets.ViT(
            1,
            (SIDE,) * dims,
            (8,) * dims,
            hidden_size=24,
            mlp_dim=32,
            num_layers=2,
            num_heads=3,
            classification=True,
            num_classes=3,
            spatial_dims=dims,
            post_activation="x",
        )
    kinds = {
        "Classifier": functools.partial(nets.Classifier, (1, *(SIDE,) * dims), 3),
        "Regressor": functools.partial(nets.Regressor, (1, *(SIDE,) * dims), 3),
        "Discriminator": functools.partial(nets.Discriminator, (1, *(SIDE,) * dims)),
        "Critic": functools.partial(nets.Critic, (1, *(SIDE,) * dims)),
    }
    return kinds[name](channels=(4, 8), strides=(2, 2))


#: Those for networks with ReLU alone.
RECTIFIED = ("guided-backprop", "guided-smoothgrad", "deconvnet", "guided-gradcam")

#: Which methods apply beyond those that always do; what the others must say.
APPLIES = {
    "DenseNet": ("gradcam", "gradcam++", "cam", *RECTIFIED),
    "ResNet": ("gradcam", "gradcam++", "cam", *RECTIFIED),
    "SENet": ("gradcam", "gradcam++", "cam", *RECTIFIED),
    "EfficientNet": ("gradcam", "gradcam++", "cam"),
    "ViT": ("gradcam", "gradcam++"),
    "Classifier": ("gradcam", "gradcam++"),
    "Regressor": ("gradcam", "gradcam++"),
    "Discriminator": ("gradcam", "gradcam++"),
    "Critic": ("gradcam", "gradcam++"),
}
REFUSALS = {
    "cam": r"cam needs a network .* Use gradcam instead\.",
    "guided-backprop": "ReLU",
    "guided-smoothgrad": "ReLU",
    "deconvnet": "ReLU",
    "guided-gradcam": "ReLU",
}


@pytest.fixture(scope="module", params=[2, 3], ids=["2D", "3D"])
def dims(request):
    return request.param


@pytest.mark.parametrize("name", list(APPLIES))
def test_methods_give_a_finite_map_or_say_why_not(task, name, dims):
    network = build(name, dims).eval()
    one_logit = name in ("Discriminator", "Critic")
    applies = APPLIES[name]
    side = SIDE
    if name == "SENet":
        # Its last map has one cell for each 32 voxels, and of a single cell there is no map.
        # In 3D it is by far the slowest of them, and the methods that repeat others are left out.
        side, applies = (64, applies) if dims == 2 else (SIDE, ("gradcam", "guided-backprop"))
    image = torch.randn(1, 1, *(side,) * dims)
    job = task(ScoreNetwork(network, one_logit=one_logit), image)
    for method in (*ALWAYS, *applies):
        maps = find_method(method)(**SETTINGS.get(method, {})).attribute(job)
        for values in maps.values():
            assert values.shape == image.shape[2:], method
            assert values.isfinite().all(), method
            if method not in ("gradcam", "gradcam++", "guided-gradcam"):
                # Grad-CAM of an untrained network may well find nothing that speaks for a class.
                assert values.std() > 0, method
    refused = set(REFUSALS) - set(APPLIES[name])
    if side == SIDE and name == "SENet":
        refused = {"cam"}
    for method in refused:
        with pytest.raises(InputError, match=REFUSALS[method]):
            find_method(method)(**SETTINGS.get(method, {})).attribute(job)
