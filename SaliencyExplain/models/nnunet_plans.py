"""What the plans and the dataset description of an nnU-Net v2 result folder say of its network."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.targets import shown

_PACKAGE = "dynamic_network_architectures.architectures.unet"
#: The networks that nnU-Net plans by itself, each with its argument for the encoder's layers.
_NETWORKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_LAYERS = (
    *("Conv2d", "Conv3d", "InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d"),
    *("Dropout2d", "Dropout3d", "LeakyReLU", "ReLU", "ELU", "GELU", "SiLU"),
)
_ARGUMENTS = (
    *("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "conv_bias"),
    *("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder", "norm_op"),
    *("norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs"),
    *("nonlin_first", "stem_channels"),
)
_OPERATIONS = ("conv_op", "norm_op", "dropout_op", "nonlin")
_RESAMPLING = "resample_data_or_seg_to_shape"
_SCHEMES = (
    *("ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization"),
    "RGBTo01Normalization",
)
_BOUNDS = ("mean", "std", "percentile_00_5", "percentile_99_5")


@dataclass(frozen=True)
class Normalisation:
    """How the intensities of one channel are scaled.

    Attributes:
        scheme: nnU-Net's name of it.
        in_mask: Whether mean and deviation are those of the voxels that are not zero.
        properties: For CT mean, std, percentile_00_5 and percentile_99_5 of the training's
            foreground.
    """

    scheme: str
    in_mask: bool
    properties: Mapping[str, float]


@dataclass(frozen=True)
class NnunetPlans:
    """One configuration of the plans.

    Attributes:
        configuration: Its name, such as ``3d_fullres``.
        dataset: Name of the data set.
        axes: The network's spatial axes, 2 or 3.
        transpose: Order of the axes z, y, x.
        spacing: Voxel size in mm along the network's axes.
        patch: Voxels of the network's window along its axes.
        normalisations: One for each channel.
        order: Of the splines for resampling.
        separate: Whether the axis of the largest spacing is resampled by itself; None: where the
            spacing is anisotropic.
        channels: Names of the channels.
        classes: Names of the classes in the order of the network's output.
        regions: Whether classes overlap, with a sigmoid each.
        network: Name of the network's class.
        arguments: Of that.
    """

    configuration: str
    dataset: str
    axes: int
    transpose: tuple[int, ...]
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    normalisations: tuple[Normalisation, ...]
    order: int
    separate: bool | None
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    regions: bool
    network: str
    arguments: Mapping[str, Any]

    @property
    def smallest(self) -> tuple[int, ...]:
        """Voxels per axis of a small image that the network takes."""
        found = []
        for axis, edge in enumerate(self.patch):
            stride = 1
            for one in self.arguments["strides"]:
                stride *= int(one if isinstance(one, int) else one[axis])
            found.append(min(edge, 2 * stride))
        return tuple(found)

    def build(self) -> nn.Module:
        """The network, with random weights.

        Raises:
            ClassifierError: The package dynamic_network_architectures is missing, or the plans'
                arguments make no network.
        """
        try:
            classes = importlib.import_module(_PACKAGE)
        except ImportError as error:
            raise ClassifierError(
                ErrorCode.PACKAGE_MISSING,
                "An nnU-Net result folder needs the package dynamic_network_architectures: "
                "pip install 'saliency-explain[nnunet]'.",
            ) from error
        try:
            network: nn.Module = getattr(classes, self.network)(
                input_channels=len(self.channels),
                num_classes=len(self.classes),
                deep_supervision=False,
                **self.arguments,
            )
        except (TypeError, ValueError, AssertionError, KeyError, IndexError) as error:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"plans.json: no {self.network} can be built of its arch_kwargs: {error}",
            ) from error
        return network


def read_plans(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> NnunetPlans:
    """The configuration of the plans that a checkpoint was trained with.

    Args:
        plans: The content of plans.json.
        dataset: The content of dataset.json.
        configuration: Its name.

    Raises:
        ClassifierError: Something is missing, or not of a kind that is understood here.
    """
    found = _configuration(plans, configuration, ())
    if found.get("previous_stage"):
        raise _refused(
            f"{configuration} is the second stage of a cascade, which takes the first stage's "
            "segmentation as input; choose a result folder of another configuration"
        )
    patch = _numbers(found, "patch_size", int)
    axes = len(patch)
    transpose = tuple(_numbers(plans, "transpose_forward", int))
    if axes not in (2, 3) or sorted(transpose) != [0, 1, 2]:
        raise _refused(f"patch_size {shown(patch)} or transpose_forward {shown(transpose)}")
    shape = plans.get("original_median_shape_after_transp")
    flat = isinstance(shape, Sequence) and bool(shape) and shape[0] == 1
    if axes == 2 and not flat:
        raise _refused(
            f"{configuration} is a 2D network for the slices of volumes; choose a result folder "
            "of a 3D configuration"
        )
    classes, regions = _classes(dataset)
    names = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(names, Mapping) or not names:
        raise _refused("no channel_names", "dataset.json")
    channels = tuple(str(names[key]) for key in sorted(names, key=int))
    if len(set(channels)) != len(channels):
        channels = tuple(f"{name} {number}" for number, name in enumerate(channels))
    kwargs = found.get("resampling_fn_data_kwargs") or {}
    resampling = found.get("resampling_fn_data", _RESAMPLING)
    order, order_z = kwargs.get("order", 3), kwargs.get("order_z", 0)
    if resampling != _RESAMPLING or order not in range(6) or order_z != 0:
        raise _refused(f"resampling_fn_data {shown(resampling)} with {shown(kwargs)}")
    if found.get("preprocessor_name", "DefaultPreprocessor") != "DefaultPreprocessor":
        raise _refused(f"preprocessor_name {shown(found['preprocessor_name'])}")
    network, arguments = _architecture(found, axes)
    return NnunetPlans(
        configuration=configuration,
        dataset=str(plans.get("dataset_name", "nnU-Net"))[:200],
        axes=axes,
        transpose=transpose,
        spacing=tuple(_numbers(found, "spacing", float)),
        patch=tuple(patch),
        normalisations=_normalisations(plans, found, len(channels)),
        order=order,
        separate=kwargs.get("force_separate_z"),
        channels=channels,
        classes=classes,
        regions=regions,
        network=network,
        arguments=arguments,
    )


def _configuration(plans: Mapping[str, Any], name: str, visited: tuple[str, ...]) -> dict[str, Any]:
    """A configuration with what it inherits."""
    known = plans.get("configurations")
    own = known.get(name) if isinstance(known, Mapping) else None
    if not isinstance(own, Mapping) or name in visited:
        raise _refused(f"no configuration {shown(name)}")
    parent = own.get("inherits_from")
    before = _configuration(plans, str(parent), (*visited, name)) if parent else {}
    return {**before, **own}


def _numbers(content: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values = content.get(key)
    if not isinstance(values, list) or not 0 < len(values) <= 3:
        raise _refused(f"{key} {shown(values)}")
    for value in values:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not plain or not 0 <= value < 1e5:
            raise _refused(f"{key} {shown(values)}")
    return [kind(value) for value in values]


def _classes(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Names of the classes in the order of the output, and whether they are regions."""
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or "background" not in labels:
        raise _refused("no labels with a background", "dataset.json")
    named = {str(name): value for name, value in labels.items() if name != "ignore"}
    regions = any(isinstance(value, list) and len(value) > 1 for value in named.values())
    if regions:
        # The background is no region of its own; the others come in the order of the file.
        return tuple(name for name in named if name != "background"), True
    numbers = {
        name: value[0] if isinstance(value, list) else value for name, value in named.items()
    }
    if sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
        raise _refused(f"labels that are not numbered from 0: {shown(numbers)}", "dataset.json")
    return tuple(sorted(numbers, key=lambda name: int(numbers[name]))), False


def _normalisations(
    plans: Mapping[str, Any], found: Mapping[str, Any], channels: int
) -> tuple[Normalisation, ...]:
    schemes, masks = found.get("normalization_schemes"), found.get("use_mask_for_norm")
    properties = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality"
    )
    if not isinstance(schemes, list) or not isinstance(masks, list):
        raise _refused(f"normalization_schemes {shown(schemes)}")
    if not len(schemes) == len(masks) == channels or set(schemes) - set(_SCHEMES):
        raise _refused(f"normalization_schemes {shown(schemes)} for {channels} channels")
    normalisations = []
    for number, (scheme, mask) in enumerate(zip(schemes, masks, strict=True)):
        bounds: dict[str, float] = {}
        if scheme == "CTNormalization":
            one = properties.get(str(number)) if isinstance(properties, Mapping) else None
            if not isinstance(one, Mapping) or not all(
                isinstance(one.get(key), (int, float)) for key in _BOUNDS
            ):
                raise _refused(f"no intensity properties of channel {number}")
            bounds = {key: float(one[key]) for key in _BOUNDS}
        normalisations.append(Normalisation(scheme, bool(mask), bounds))
    return tuple(normalisations)


def _architecture(found: Mapping[str, Any], axes: int) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the network; of plans before 2024, too, which name its parts apart."""
    described = found.get("architecture")
    if isinstance(described, Mapping):
        named = str(described.get("network_class_name", ""))
        given = described.get("arch_kwargs")
    else:
        named = str(found.get("UNet_class_name", ""))
        given = _old_arguments(found, named, axes)
    name = named.rpartition(".")[2]
    if name not in _NETWORKS or not isinstance(given, Mapping):
        raise _refused(f"the network {shown(named)}, not one of {', '.join(_NETWORKS)}")
    arguments = {key: value for key, value in given.items() if key != "deep_supervision"}
    if set(arguments) - set(_ARGUMENTS) or "strides" not in arguments:
        raise _refused(f"arch_kwargs {shown(sorted(set(arguments) - set(_ARGUMENTS)))}")
    for key in _OPERATIONS:
        value = arguments.get(key)
        layer = str(value).rpartition(".")[2]
        if value is not None and layer not in _LAYERS:
            raise _refused(f"{key} {shown(value)}")
        arguments[key] = None if value is None else getattr(nn, layer)
    return name, arguments


def _old_arguments(found: Mapping[str, Any], name: str, axes: int) -> dict[str, Any] | None:
    layers = found.get("n_conv_per_stage_encoder")
    if name not in _NETWORKS or not isinstance(layers, list):
        return None
    first, most = found.get("UNet_base_num_features"), found.get("unet_max_num_features")
    if not isinstance(first, int) or not isinstance(most, int):
        return None
    return {
        "n_stages": len(layers),
        "features_per_stage": [min(first * 2**stage, most) for stage in range(len(layers))],
        "conv_op": f"Conv{axes}d",
        "kernel_sizes": found.get("conv_kernel_sizes"),
        "strides": found.get("pool_op_kernel_sizes"),
        _NETWORKS[name]: layers,
        "n_conv_per_stage_decoder": found.get("n_conv_per_stage_decoder"),
        "conv_bias": True,
        "norm_op": f"InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _refused(why: str, file: str = "plans.json") -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_CONFIGURATION, f"{file} of the nnU-Net folder is not supported: {why}."
    )
