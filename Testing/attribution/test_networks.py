"""Every kind of classification network that MONAI has, in 2D and 3D, through every method."""

from __future__ import annotations

import pytest
import torch

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with
from Testing.networks import SIDE, monai_network
from Testing.quick_methods import quick

ALWAYS = ("occlusion", "gradient", "smoothgrad", "gradient-times-input", "integrated-gradients")


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
    "cam": "gradcam",
    "guided-backprop": "ReLU",
    "guided-smoothgrad": "ReLU",
    "deconvnet": "ReLU",
    "guided-gradcam": "ReLU",
}


@pytest.fixture(scope="module", params=[2, 3], ids=["2D", "3D"])
def dims(request):
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("name", list(APPLIES))
def test_methods_give_a_finite_map_or_say_why_not(task, name, dims):
    network = monai_network(name, dims).eval()
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
        maps = quick(method).attribute(job)
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
        with error_with(ErrorCode.METHOD_NETWORK, REFUSALS[method]):
            quick(method).attribute(job)
