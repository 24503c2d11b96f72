"""What is explained in benchmarks: networks with random weights or shipped ones, and images.

Needs torch, numpy and MONAI alone, so that it also runs on a bare GPU machine; the real image
is read where nibabel is installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import DenseNet121, resnet18, resnet50
from torch import Tensor, nn

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
MRI = DATA / "ms-lesions-mni-patient19"
MRI /= "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"
CLASSES = 3


@dataclass(frozen=True)
class Subject:
    """A network and the shape of its input.

    Attributes:
        name: For the table.
        build: Makes the network.
        shape: ``(1, C, *S)``.
        layer: The layer that Grad-CAM looks at.
        seconds: About how long a forward pass of one image takes on two CPU cores.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layer: str
    seconds: float


_DENSE_LAYER = "features.denseblock4.denselayer16.layers.conv2"
_NETWORKS: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "DenseNet121": (
        lambda axes: DenseNet121(spatial_dims=axes, in_channels=1, out_channels=CLASSES),
        _DENSE_LAYER,
    ),
    "ResNet18": (
        lambda axes: resnet18(spatial_dims=axes, n_input_channels=1, num_classes=CLASSES),
        "layer4.1.conv2",
    ),
    "ResNet50": (
        lambda axes: resnet50(spatial_dims=axes, n_input_channels=1, num_classes=CLASSES),
        "layer4.2.conv3",
    ),
}
#: About the seconds of a forward pass at 96^3 and at 224^2.
_SECONDS = {
    ("DenseNet121", 3): 0.4,
    ("ResNet18", 3): 1.7,
    ("ResNet50", 3): 4.0,
    ("DenseNet121", 2): 0.08,
    ("ResNet50", 2): 0.35,
}
_SIZES = {3: (64, 96, 128), 2: (224, 512)}
_KNOWN = {3: 96, 2: 224}
SHIPPED = ("phantom-3d-honest", "phantom-3d-shortcut", "phantom-2d-honest")


def subjects() -> dict[str, Subject]:
    """All of them by name."""
    found = {}
    for (name, axes), seconds in _SECONDS.items():
        build, layer = _NETWORKS[name]
        for size in _SIZES[axes]:
            subject = Subject(
                name=f"{name}-{axes}d-{size}",
                build=lambda build=build, axes=axes: build(axes),
                shape=(1, 1, *(size,) * axes),
                layer=layer,
                seconds=seconds * (size / _KNOWN[axes]) ** axes,
            )
            found[subject.name] = subject
    return found | {name: _shipped(name) for name in SHIPPED}


def _shipped(name: str) -> Subject:
    folder = PROJECT / "Resources" / "Classifiers" / name
    description = json.loads((folder / "configs" / "metadata.json").read_text())
    inputs = description["network_data_format"]["inputs"]["image"]

    def build() -> nn.Module:
        parser = ConfigParser()
        parser.read_config(folder / "configs" / "inference.json")
        network = parser.get_parsed_content("network_def")
        state = torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        return network

    modules = dict(build().named_modules())
    layer = [key for key, module in modules.items() if isinstance(module, (nn.Conv2d, nn.Conv3d))]
    return Subject(name, build, (1, 1, *inputs["spatial_shape"]), layer[-1], 0.02)


def image_of(subject: Subject, kind: str) -> Tensor | None:
    """The input ``(1, C, *S)``: noise, or a real MR image; None: that is not here.

    The real image is a T1 of the head, its background 0, stretched over the input with its
    voxels' proportions lost; in 2D its middle slice.
    """
    if kind == "random":
        return torch.randn(subject.shape, generator=torch.Generator().manual_seed(0))
    try:
        import nibabel
    except ImportError:
        return None
    if not MRI.is_file():
        return None
    values = torch.from_numpy(np.asarray(nibabel.load(MRI).dataobj, dtype=np.float32))
    sizes = subject.shape[2:]
    if len(sizes) == 2:
        values = values[:, :, values.shape[2] // 2]
    inside = values > 0
    values = (values - values[inside].mean()).div(values[inside].std()).mul(inside)
    # The nearest voxel: an interpolation would leave no background that is exactly 0.
    return nn.functional.interpolate(values[None, None], size=sizes, mode="nearest-exact")
