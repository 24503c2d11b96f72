"""Which tensor Grad-CAM takes of public networks, and why: writes ``docs/FEATURE-MAPS.md``.

    python -m Testing.benchmarks.feature_tensors [--names tv:resnet18 monai:resnet18] [--out FILE]

Networks of torchvision, timm and MONAI with random weights and small inputs; nothing is
downloaded. One forward pass each.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks import nets
from torch import nn

from SaliencyExplain.attribution.graph.feature_tensors import Structure
from SaliencyExplain.attribution.graph.network_structure import analyse
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import SaliencyExplainError
from SaliencyExplain.models.torchvision_operators import load_torchvision

PAGE = Path(__file__).parents[2] / "docs" / "FEATURE-MAPS.md"

#: Name and edge of the input, in voxels.
TORCHVISION = {
    **dict.fromkeys(
        (
            *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
            *("googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf"),
            *("resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0"),
            *("vgg11", "vgg16_bn", "wide_resnet50_2"),
        ),
        96,
    ),
    "inception_v3": 128,
    "maxvit_t": 224,
    "swin_t": 224,
    "swin_v2_t": 256,
    "vit_b_32": 224,
}
TIMM = {
    **dict.fromkeys(
        (
            *("convmixer_768_32", "convnext_atto", "convnextv2_atto", "davit_tiny", "dla34"),
            *("dpn68", "edgenext_xx_small", "efficientnet_b0", "fastvit_t8", "focalnet_tiny_srf"),
            *("ghostnet_100", "hrnet_w18_small", "legacy_seresnet18", "legacy_xception"),
            *("mambaout_femto", "mobilenetv4_conv_small", "mobilevit_xxs", "nfnet_l0"),
            *("poolformer_s12", "pvt_v2_b0", "rdnet_tiny", "regnetx_002", "repvit_m0_9"),
            *("res2net50_26w_4s", "resnest14d", "resnet18", "resnetv2_50", "selecsls42"),
            *("skresnet18", "starnet_s1", "vovnet39a"),
        ),
        96,
    ),
    "inception_v4": 160,
    **dict.fromkeys(
        (
            *("beit_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "coatnet_nano_rw_224"),
            *("convit_tiny", "deit_tiny_distilled_patch16_224", "efficientformer_l1"),
            *("eva02_tiny_patch14_224", "gcvit_xxtiny", "gmixer_24_224", "hiera_tiny_224"),
            *("levit_128s", "maxvit_tiny_tf_224", "mixer_s32_224", "mvitv2_tiny", "nest_tiny"),
            *("pit_ti_224", "resmlp_12_224", "swin_tiny_patch4_window7_224", "tiny_vit_5m_224"),
            *("tnt_s_patch16_224", "twins_svt_small", "visformer_tiny", "vit_tiny_patch16_224"),
            *("vit_base_patch16_siglip_224", "volo_d1_224", "xcit_nano_12_p16_224"),
        ),
        224,
    ),
    "crossvit_tiny_240": 240,
    "swinv2_tiny_window8_256": 256,
}
#: Name, arguments, and edge of the input; all in 3D.
MONAI: Mapping[str, tuple[dict[str, Any], int]] = {
    "DenseNet121": ({"spatial_dims": 3, "in_channels": 1, "out_channels": 3}, 64),
    "EfficientNetBN": (
        {"model_name": "efficientnet-b0", "spatial_dims": 3, "in_channels": 1, "num_classes": 3},
        64,
    ),
    "ResNet18": ({"spatial_dims": 3, "n_input_channels": 1, "num_classes": 3}, 64),
    "ResNet50": ({"spatial_dims": 3, "n_input_channels": 1, "num_classes": 3}, 64),
    "SEResNet50": ({"spatial_dims": 3, "in_channels": 1, "num_classes": 3}, 64),
    "Classifier": (
        {"in_shape": (1, 32, 32, 32), "classes": 3, "channels": (4, 8), "strides": (2, 2)},
        32,
    ),
    "ViT": (
        {
            **{"in_channels": 1, "img_size": (48, 48, 48), "patch_size": (16, 16, 16)},
            **{"classification": True, "num_classes": 3, "num_layers": 4, "hidden_size": 48},
            **{"num_heads": 4, "mlp_dim": 96, "post_activation": ""},
        },
        48,
    ),
}


@dataclass(frozen=True)
class Row:
    """A network and what is taken of it.

    Attributes:
        network: Library and name.
        size: Voxels of the input.
        tensor: What is taken; empty: it is refused.
        why: The reason in words.
    """

    network: str
    size: str
    tensor: str
    why: str


def names() -> list[str]:
    """All networks as ``library:name``."""
    libraries = {"tv": TORCHVISION, "timm": TIMM, "monai": MONAI}
    return [f"{library}:{name}" for library, known in libraries.items() for name in known]


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network with random weights, in eval mode, and the shape of its input."""
    library, _, kind = name.partition(":")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "monai":
            arguments, edge = MONAI[kind]
            make = getattr(nets, kind.lower() if kind.startswith("ResNet") else kind)
            return make(**arguments).eval(), (1, 1, edge, edge, edge)
        torchvision = load_torchvision()
        if library == "tv":
            edge = TORCHVISION[kind]
            known = {"init_weights": False} if kind in ("googlenet", "inception_v3") else {}
            network = torchvision.models.get_model(kind, weights=None, num_classes=3, **known)
        else:
            import timm

            edge = TIMM[kind]
            network = timm.create_model(kind, num_classes=3)
    return network.eval(), (1, 3, edge, edge)


def why(structure: Structure) -> str:
    """The reason why these tensors are taken, in words."""
    first = structure.targets[0]
    if len(structure.targets) > 1:
        return "no single tensor lies on every path: one on each, their maps are summed"
    if first.layout.has_tokens:
        return "the last tensor whose tokens with a place reach what the classifier reads"
    what = f"{first.layout.kind}; the last tensor with a grid on every path to the scores"
    return f"{what}, no layer's output" if first.calls else what


def row(name: str) -> Row:
    """What is taken of a network."""
    network, shape = build(name)
    size = " x ".join(map(str, shape[2:]))
    try:
        structure = analyse(ScoreNetwork(network), torch.randn(shape))
    except SaliencyExplainError as error:
        return Row(name, size, "", f"no classifier: {str(error).splitlines()[0]}")
    if not structure.targets:
        return Row(
            name,
            size,
            "",
            "refused: no tensor with a grid lies on every path, as far as "
            "its layouts are understood",
        )
    told = "; ".join(
        f"`{spot.name}` ({' x '.join(map(str, spot.layout.counts))})" for spot in structure.targets
    )
    return Row(name, size, told, why(structure))


def page(rows: Sequence[Row]) -> str:
    """The page with a table of the rows."""
    lines = [
        "# Which tensor the class activation methods take",
        "",
        "Made by `python -m Testing.benchmarks.feature_tensors` with random weights: do not edit. "
        "`gradcam`, `gradcam++`, `cam`, `scorecam`, `respondcam` and `guided-gradcam` use it by "
        "default (`cam` only if its mean goes directly into the last linear layer). A name that "
        "ends in `()` is the result of a function in the forward method of that layer, not the "
        "output of a layer. For refused networks use occlusion and the gradient methods.",
        "",
        f"{len(rows)} networks, {sum(not one.tensor for one in rows)} of them refused.",
        "",
        "| network | input | tensor (cells) | why |",
        "|---|---|---|---|",
        *(f"| {r.network} | {r.size} | {r.tensor or '-'} | {r.why} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> list[Row]:
    """Analyses the networks and writes the page.

    Args:
        words: The command line; None: the process's own.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--names", nargs="+", choices=names(), default=names())
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args(words)
    rows = []
    for name in options.names:
        rows.append(row(name))
        print(f"{rows[-1].network}: {rows[-1].tensor or rows[-1].why}", flush=True)
    options.out.write_text(page(rows), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
