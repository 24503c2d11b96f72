"""The ways to compute a map: ours, MONAI's, captum's, PAIR's; each a call without arguments."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai import visualize
from torch import Tensor, nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.shared_pass import SharedPass
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import find_method

Run = Callable[[], Any]
#: Makes the run of another tool for a network, an image and the layer of Grad-CAM.
Make = Callable[[nn.Module, Tensor, str], Run]

TARGET = 1
#: The others; those that are installed take part.
TOOLS = ("MONAI", "captum", "PAIR")
#: Methods that are one row together, as one explanation computes them.
TOGETHER = "gradient,gradcam,gradcam++"
SAMPLES = 25
STEPS = 50

#: Other than the defaults, so that all tools compute the same.
SETTINGS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": SAMPLES},
    "guided-smoothgrad": {"samples": SAMPLES},
    "integrated-gradients": {"baseline": "value", "steps": STEPS},
}


def methods_of(name: str, layer: str) -> list[Method]:
    """The methods of a row, looking at the same layer as the other tools."""
    found = []
    for one in name.split(","):
        kind = find_method(one)
        settings = dict(SETTINGS.get(one, {}))
        if one in ("gradcam", "gradcam++", "guided-gradcam"):
            settings["layers"] = (layer,)
        found.append(kind(**settings))
    return found


def ours(task: Task, methods: list[Method]) -> Run:
    """The methods as one explanation computes them."""

    def run() -> list[Tensor]:
        together = dataclasses.replace(task, shared=SharedPass.of(methods, task))
        return [values for m in methods for values in m.attribute(together).values()]

    return run


def others(name: str, network: nn.Module, image: Tensor, layer: str) -> dict[str, Run]:
    """What other tools, those that are installed, compute for the same row."""
    makes: dict[str, Make] = {}
    if all(one in _MONAI for one in name.split(",")):
        makes["MONAI"] = _in_turn(_MONAI, name)
    if _installed("captum.attr") and all(one in _CAPTUM for one in name.split(",")):
        makes["captum"] = _in_turn(_CAPTUM, name)
    if name in _PAIR and image.ndim == 4 and _installed("saliency.core"):
        makes["PAIR"] = _PAIR[name]
    return {tool: make(network, image, layer) for tool, make in makes.items()}


def _in_turn(table: dict[str, Make], names: str) -> Make:
    def make(network: nn.Module, image: Tensor, layer: str) -> Run:
        runs = [table[one](network, image, layer) for one in names.split(",")]
        return lambda: [run() for run in runs]

    return make


def _installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _cam(kind: type) -> Make:
    def make(network: nn.Module, image: Tensor, layer: str) -> Run:
        # The raw map: MONAI's own normalisation is no part of the method.
        return lambda: kind(network, layer, postprocessing=lambda values: values)(
            image, class_idx=TARGET
        )

    return make


_MONAI: dict[str, Make] = {
    "gradient": lambda network, image, _: (
        lambda: visualize.VanillaGrad(network)(image.clone(), index=TARGET)
    ),
    "gradcam": _cam(visualize.GradCAM),
    "gradcam++": _cam(visualize.GradCAMpp),
    "smoothgrad": lambda network, image, _: (
        lambda: visualize.SmoothGrad(network, n_samples=SAMPLES, verbose=False)(image, index=TARGET)
    ),
    # It replaces the modules whose name has "relu" in it, and puts them back.
    "guided-backprop": lambda network, image, _: (
        lambda: visualize.GuidedBackpropGrad(network)(image.clone(), index=TARGET)
    ),
    "guided-smoothgrad": lambda network, image, _: (
        lambda: visualize.GuidedBackpropSmoothGrad(network, n_samples=SAMPLES, verbose=False)(
            image, index=TARGET
        )
    ),
}


def _captum(kind: str, *, layered: bool = False, **settings: Any) -> Make:
    def make(network: nn.Module, image: Tensor, layer: str) -> Run:
        attr = importlib.import_module("captum.attr")
        args = (network, network.get_submodule(layer)) if layered else (network,)

        def run() -> Tensor:
            method = getattr(attr, kind)(*args)
            return method.attribute(image.clone(), target=TARGET, **settings)

        return run

    return make


def _captum_smooth(network: nn.Module, image: Tensor, _layer: str) -> Run:
    attr = importlib.import_module("captum.attr")
    deviation = float(0.15 * (image.max() - image.min()))
    return lambda: attr.NoiseTunnel(attr.Saliency(network)).attribute(
        image.clone(),
        nt_type="smoothgrad_sq",
        nt_samples=SAMPLES,
        nt_samples_batch_size=1,
        stdevs=deviation,
        target=TARGET,
        abs=False,
    )


_CAPTUM: dict[str, Make] = {
    "gradient": _captum("Saliency"),
    "gradcam": _captum("LayerGradCam", layered=True),
    "guided-gradcam": _captum("GuidedGradCam", layered=True),
    "guided-backprop": _captum("GuidedBackprop"),
    "deconvnet": _captum("Deconvolution"),
    "gradient-times-input": _captum("InputXGradient"),
    "integrated-gradients": _captum(
        "IntegratedGradients", n_steps=STEPS, internal_batch_size=1, baselines=0.0
    ),
    "smoothgrad": _captum_smooth,
    "lrp": _captum("LRP"),
    "deeplift": _captum("DeepLift", baselines=0.0),
}


def _pair_call(network: nn.Module) -> Callable[..., dict[str, Any]]:
    """A network as PAIR's package calls it: images ``(B, *S)`` in, gradients out."""
    key = importlib.import_module("saliency.core.base").INPUT_OUTPUT_GRADIENTS

    def call(images: Any, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Any]:
        values = torch.from_numpy(np.asarray(images, dtype=np.float32))[:, None].requires_grad_()
        score = network(values)[:, TARGET].sum()
        return {key: torch.autograd.grad(score, values)[0][:, 0].numpy()}

    return call


def _pair_integrated(network: nn.Module, image: Tensor, _layer: str) -> Run:
    kind = importlib.import_module("saliency.core").IntegratedGradients()
    values, call = image[0, 0].numpy(), _pair_call(network)
    return lambda: kind.GetMask(values, call, x_steps=STEPS, x_baseline=np.zeros_like(values))


def _pair_smooth(network: nn.Module, image: Tensor, _layer: str) -> Run:
    kind = importlib.import_module("saliency.core").GradientSaliency()
    values, call = image[0, 0].numpy(), _pair_call(network)
    return lambda: kind.GetSmoothedMask(values, call, nsamples=SAMPLES)


_PAIR: dict[str, Make] = {
    "integrated-gradients": _pair_integrated,
    "smoothgrad": _pair_smooth,
}


def clean(network: nn.Module) -> None:
    """Removes what a tool has left on the network."""
    network.zero_grad(set_to_none=True)
    for module in network.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        module._backward_hooks.clear()
