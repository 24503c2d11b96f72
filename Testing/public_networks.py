"""Public classification networks with random weights; nothing is downloaded."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.models.torchvision_operators import load_torchvision

#: Names of the classes that each network tells apart.
CLASSES = ("first", "second", "third")

# Names and edge of the input, in voxels.
_TORCHVISION = {
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
_TIMM = {
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
# Name, network, arguments without channels and classes, and shape of the input.
_MONAI: tuple[tuple[str, str, dict[str, Any], tuple[int, ...]], ...] = (
    ("DenseNet121", "DenseNet121", {}, (64, 64, 64)),
    (
        "EfficientNetBN",
        "EfficientNetBN",
        {"model_name": "efficientnet-b0", "pretrained": False},
        (64, 64, 64),
    ),
    ("ResNet18", "resnet18", {}, (64, 64, 64)),
    ("ResNet50", "resnet50", {}, (64, 64, 64)),
    ("SEResNet50", "SEResNet50", {}, (64, 64, 64)),
    (
        "Classifier",
        "Classifier",
        {"in_shape": [1, 32, 32, 32], "channels": [4, 8], "strides": [2, 2]},
        (32, 32, 32),
    ),
    (
        "ViT",
        "ViT",
        {
            **{"img_size": [48, 48, 48], "patch_size": [16, 16, 16], "num_layers": 4},
            **{"hidden_size": 48, "num_heads": 4, "mlp_dim": 96, "post_activation": ""},
        },
        (48, 48, 48),
    ),
)
# As above; only in the table of models.
_MORE_MONAI: tuple[tuple[str, str, dict[str, Any], tuple[int, ...]], ...] = (
    ("DenseNet169-2D", "DenseNet169", {}, (96, 96)),
    ("DenseNet264", "DenseNet264", {}, (64, 64, 64)),
    ("ResNet10", "resnet10", {}, (64, 64, 64)),
    ("ResNet18-2D", "resnet18", {}, (96, 96)),
    ("SENet154-2D", "SENet154", {}, (96, 96)),
    ("SEResNext50-2D", "SEResNext50", {}, (96, 96)),
    (
        "EfficientNetBN-2D",
        "EfficientNetBN",
        {"model_name": "efficientnet-b0", "pretrained": False},
        (96, 96),
    ),
    # The form in which the weights of MedicalNet were published.
    (
        "MedicalNet-ResNet18",
        "resnet18",
        {"shortcut_type": "A", "bias_downsample": False, "conv1_t_size": 7, "conv1_t_stride": 2},
        (48, 64, 64),
    ),
    (
        "MedicalNet-ResNet50",
        "resnet50",
        {"shortcut_type": "B", "bias_downsample": False, "conv1_t_size": 7, "conv1_t_stride": 2},
        (48, 64, 64),
    ),
)


_TOKENS = {
    **{"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"intermediate_size": 96, "image_size": 64, "patch_size": 8},
}
_STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
_WINDOWS = {
    **{"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4},
    **{"image_size": 64},
}
# Networks of Transformers by the beginning of their classes' names, with small configurations.
_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Beit": {**_TOKENS, "use_relative_position_bias": True, "out_indices": [1, 2]},
    "ConvNext": _STAGES,
    "ConvNextV2": _STAGES,
    "DeiT": _TOKENS,
    "Dinov2": {key: value for key, value in _TOKENS.items() if key != "intermediate_size"},
    "RegNet": {**_STAGES, "embedding_size": 16, "groups_width": 8},
    "ResNet": {**_STAGES, "embedding_size": 16, "layer_type": "basic"},
    "Swin": _WINDOWS,
    "Swinv2": _WINDOWS,
    "ViT": _TOKENS,
}


@dataclass(frozen=True)
class PublicNetwork:
    """A network of a library.

    Attributes:
        name: ``library:name``.
        shape: Voxels along each axis of the input.
        channels: Channels of the input.
        make: Builds it.
        definition: Its name and arguments for a bundle; None: it does not come in as one.
        save: Writes a network of Transformers as a folder of its library; None: of another one.
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    make: Callable[[], nn.Module]
    definition: tuple[str, Mapping[str, Any]] | None = None
    save: Callable[[nn.Module, Path], None] | None = None

    def build(self) -> nn.Module:
        """The network in eval mode, its weights random and always the same.

        Weights that the library sets to zero, as those of the last layer, are random too: the
        scores would not depend on the image.
        """
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = self.make().eval()
        for name, weights in network.named_parameters():
            if name.endswith("weight") and not weights.any():
                nn.init.normal_(weights, std=0.1)
        return network


class EncoderWithHead(nn.Module):
    """An encoder of nnU-Net and a linear layer on the mean of its last feature map."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(features, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, K)`` of images ``(B, C, *S)``."""
        scores: Tensor = self.head(self.encoder(images).flatten(2).mean(dim=2))
        return scores


class Logits(nn.Module):
    """A network of Transformers that returns its scores alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, K)`` of images ``(B, C, *S)``."""
        scores: Tensor = self.network(pixel_values=images).logits
        return scores


def _transformers(kind: str) -> nn.Module:
    load_torchvision()
    library = importlib.import_module("transformers")
    names = dict(enumerate(CLASSES))
    configuration = getattr(library, f"{kind}Config")(
        **_TRANSFORMERS[kind],
        id2label=names,
        label2id={name: index for index, name in names.items()},
        attn_implementation="eager",
    )
    return Logits(getattr(library, f"{kind}ForImageClassification")(configuration))


def _save_transformers(network: nn.Module, folder: Path) -> None:
    """Writes the network and a processor that only makes 0 to 1 of 0 to 255."""
    assert isinstance(network, Logits)
    saved: Any = network.network
    saved.save_pretrained(folder)
    processor = importlib.import_module("transformers").ViTImageProcessor(
        size={"height": 64, "width": 64}, do_normalize=False
    )
    processor.save_pretrained(folder)


def _torchvision(name: str) -> nn.Module:
    known = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    models = load_torchvision().models
    made: nn.Module = models.get_model(name, weights=None, num_classes=len(CLASSES), **known)
    return made


def _timm(name: str) -> nn.Module:
    load_torchvision()
    made: nn.Module = importlib.import_module("timm").create_model(name, num_classes=len(CLASSES))
    return made


def _monai(kind: str, arguments: Mapping[str, Any], dims: int) -> nn.Module:
    nets = importlib.import_module("monai.networks.nets")
    if kind == "Classifier":
        return nets.Classifier(classes=len(CLASSES), **arguments)  # type: ignore[no-any-return]
    if kind.startswith("resnet"):
        counts = {"n_input_channels": 1, "num_classes": len(CLASSES)}
    elif kind.startswith("DenseNet"):
        counts = {"in_channels": 1, "out_channels": len(CLASSES)}
    else:
        counts = {"in_channels": 1, "num_classes": len(CLASSES)}
    mode = {"classification": True} if kind == "ViT" else {}
    made: nn.Module = getattr(nets, kind)(spatial_dims=dims, **counts, **mode, **arguments)
    return made


def _xray_vision() -> nn.Module:
    load_torchvision()
    models = importlib.import_module("torchxrayvision.models")
    # Without weights it has no thresholds of its own.
    made: nn.Module = models.DenseNet(num_classes=len(CLASSES), in_channels=1, weights=None)
    return made


def _nnunet_encoder(kind: str) -> nn.Module:
    package = "dynamic_network_architectures.building_blocks"
    features = (8, 16, 32, 64)
    shared: dict[str, Any] = {
        **{"input_channels": 1, "n_stages": 4, "features_per_stage": features},
        **{"conv_op": nn.Conv3d, "kernel_sizes": 3, "strides": (1, 2, 2, 2), "conv_bias": True},
        **{"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}},
        **{"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}},
    }
    if kind == "PlainConvEncoder":
        module = importlib.import_module(f"{package}.plain_conv_encoder")
        encoder = module.PlainConvEncoder(n_conv_per_stage=2, **shared)
    else:
        module = importlib.import_module(f"{package}.residual_encoders")
        encoder = module.ResidualEncoder(n_blocks_per_stage=(1, 2, 2, 2), **shared)
    return EncoderWithHead(encoder, features[-1])


def _monai_networks(
    table: tuple[tuple[str, str, dict[str, Any], tuple[int, ...]], ...],
) -> list[PublicNetwork]:
    return [
        PublicNetwork(
            f"monai:{name}",
            shape,
            1,
            partial(_monai, kind, arguments, len(shape)),
            (f"monai.networks.nets.{kind}", arguments),
        )
        for name, kind, arguments, shape in table
    ]


def _known() -> dict[str, PublicNetwork]:
    networks = [
        PublicNetwork(
            f"tv:{name}",
            (edge, edge),
            3,
            partial(_torchvision, name),
            (f"torchvision.models.{name}", {}),
        )
        for name, edge in _TORCHVISION.items()
    ]
    networks += [
        PublicNetwork(f"timm:{name}", (edge, edge), 3, partial(_timm, name), (f"timm.{name}", {}))
        for name, edge in _TIMM.items()
    ]
    networks += _monai_networks(_MONAI)
    return {one.name: one for one in networks}


def _more() -> dict[str, PublicNetwork]:
    networks = _monai_networks(_MORE_MONAI)
    networks += [
        PublicNetwork(
            f"tv:video.{name}",
            (16, 64, 64),
            3,
            partial(_torchvision, name),
            (f"torchvision.models.video.{name}", {}),
        )
        for name in ("r3d_18", "mc3_18", "r2plus1d_18")
    ]
    networks += [
        PublicNetwork(
            f"transformers:{kind}",
            (64, 64),
            3,
            partial(_transformers, kind),
            save=_save_transformers,
        )
        for kind in _TRANSFORMERS
    ]
    networks.append(PublicNetwork("torchxrayvision:DenseNet", (224, 224), 1, _xray_vision))
    networks += [
        PublicNetwork(f"nnunet:{kind}", (32, 32, 32), 1, partial(_nnunet_encoder, kind))
        for kind in ("PlainConvEncoder", "ResidualEncoder")
    ]
    return {one.name: one for one in networks}


_NETWORKS = _known()
#: Names of the networks whose feature tensors are in ``docs/FEATURE-MAPS.md``.
STRUCTURE_TABLE = tuple(_NETWORKS)
_NETWORKS |= _more()
#: Names of all networks.
NAMES = tuple(_NETWORKS)


def public_network(name: str) -> PublicNetwork:
    """The network ``library:name``."""
    return _NETWORKS[name]
