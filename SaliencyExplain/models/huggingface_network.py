"""Classification networks of Hugging Face's Transformers, built from a config.json and tensors.

The library's own loading translates the names of weights that older versions wrote. It is given
the tensors and no place: it reads no file and asks no server.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.confinement import raise_denied, unconfined
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.file_kinds import some
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.torchvision_operators import load_torchvision, with_torchvision

FILE = "config.json"
#: By the ``model_type`` of a config.json: what the names of the classification network's class
#: begin with, and the image processor that the library takes where none is named. These networks
#: are built from numbers, words and lists of them; none loads another network.
NETWORKS = {
    "beit": ("Beit", "BeitImageProcessor"),
    "bit": ("Bit", "BitImageProcessor"),
    "convnext": ("ConvNext", "ConvNextImageProcessor"),
    "convnextv2": ("ConvNextV2", "ConvNextImageProcessor"),
    "cvt": ("Cvt", "ConvNextImageProcessor"),
    "data2vec-vision": ("Data2VecVision", "BeitImageProcessor"),
    "deit": ("DeiT", "DeiTImageProcessor"),
    "dinov2": ("Dinov2", "BitImageProcessor"),
    "dinov2_with_registers": ("Dinov2WithRegisters", "BitImageProcessor"),
    "focalnet": ("FocalNet", "BitImageProcessor"),
    "hiera": ("Hiera", "BitImageProcessor"),
    "mobilenet_v1": ("MobileNetV1", "MobileNetV1ImageProcessor"),
    "mobilenet_v2": ("MobileNetV2", "MobileNetV2ImageProcessor"),
    "pvt": ("Pvt", "PvtImageProcessor"),
    "pvt_v2": ("PvtV2", "PvtImageProcessor"),
    "regnet": ("RegNet", "ConvNextImageProcessor"),
    "resnet": ("ResNet", "ConvNextImageProcessor"),
    "segformer": ("Segformer", "SegformerImageProcessor"),
    "swiftformer": ("SwiftFormer", "ViTImageProcessor"),
    "swin": ("Swin", "ViTImageProcessor"),
    "swinv2": ("Swinv2", "ViTImageProcessor"),
    "vit": ("ViT", "ViTImageProcessor"),
    "vit_msn": ("ViTMSN", "ViTImageProcessor"),
}
#: Endings of the classes' names; the second is DeiT's, with the mean of two heads.
_ENDINGS = ("ForImageClassification", "ForImageClassificationWithTeacher")
#: Keys of a config.json that would run code of the folder or change how weights are read.
_REFUSED = {
    "auto_map": "names Python code",
    "custom_pipelines": "names Python code",
    "quantization_config": "says that the weights are quantised",
    "compression_config": "says that the weights are compressed",
}
#: Numbers in a config.json, which may be lengths of lists that the library makes.
_LARGEST_NUMBER = 1_000_000
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class TransformersNetwork(nn.Module):
    """A network of Transformers as one that takes an image and returns logits.

    Args:
        network: Takes ``pixel_values`` ``(B, C, H, W)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The logits ``(B, K)``."""
        logits: Tensor = self.network(pixel_values=image).logits
        return logits


def architecture_of(content: Mapping[str, Any]) -> tuple[str, str]:
    """The network's class and its usual image processor, by name.

    Args:
        content: Of a config.json.

    Raises:
        ClassifierError: The network is not on the list, or the file asks for what is refused.
    """
    for key, why in _REFUSED.items():
        if content.get(key):
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED, f"{FILE} is refused: its {key} {why}. Nothing of it ran."
            )
    kind, named = content.get("model_type"), content.get("architectures")
    if not isinstance(kind, str) or not isinstance(named, list) or len(named) != 1:
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{FILE} does not say the network: it needs model_type and one name in architectures, "
            f"and has {shown(kind)} and {shown(named)}.",
        )
    start, processor = NETWORKS.get(kind, ("", ""))
    if not start or named[0] not in [start + ending for ending in _ENDINGS]:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{FILE} is refused: {shown(named[0])} of model_type {shown(kind)} is not on the list "
            f"of classification networks of Transformers, which has {', '.join(NETWORKS)}.",
        )
    return named[0], processor


def build(
    content: Mapping[str, Any], classes: Sequence[str], tensors: Mapping[str, Tensor], where: str
) -> nn.Module:
    """The network with its weights, in float32.

    Args:
        content: Of a config.json whose :func:`architecture_of` is known.
        classes: Names of the classes.
        tensors: The weights by name.
        where: Name of the folder, for messages.

    Raises:
        ClassifierError: A package is missing, a value does not make sense, or the weights do not
            fit exactly.
    """
    name, _ = architecture_of(content)
    library = _library(where)
    weights = {key: _as_float(key, tensor, where) for key, tensor in tensors.items()}
    try:
        with unconfined():
            kind = with_torchvision(lambda: getattr(library, name, None))
        if kind is None:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{FILE} is refused: transformers {library.__version__}, which is installed, has "
                f"no {name}.",
            )
        configuration = kind.config_class(
            **_arguments(content, kind.config_class, library),
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id={label: index for index, label in enumerate(classes)},
        )
        with _quiet(library):
            network, found = kind.from_pretrained(
                None,
                config=configuration,
                state_dict=weights,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                local_files_only=True,
            )
    except ClassifierError:
        raise
    except Exception as error:
        # The library's checks of a configuration, and those of torch, raise any exception.
        raise_denied(error)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"The network {name} of {where} cannot be built: {shown(lines[0])[1:-1]}",
        ) from error
    _check_fit(found, name, where)
    return TransformersNetwork(network.float())


def _library(where: str) -> ModuleType:
    try:
        # The packages are the program's own; they make folders when they are imported.
        with unconfined():
            with suppress(ImportError):
                load_torchvision()
            return with_torchvision(lambda: importlib.import_module("transformers"))
    except ImportError as error:
        raise ClassifierError(
            ErrorCode.PACKAGE_MISSING,
            f"{where} holds a network of Hugging Face's Transformers, which needs the package "
            "transformers: pip install 'saliency-explain[huggingface]'.",
        ) from error


def _arguments(content: Mapping[str, Any], kind: Any, library: ModuleType) -> dict[str, Any]:
    """The settings of the network itself; those of every configuration are left out."""
    common = inspect.signature(library.PretrainedConfig.__init__).parameters
    own = inspect.signature(kind.__init__).parameters.keys() - common.keys()
    own -= {"self", "kwargs", "num_labels", "out_features", "out_indices"}
    found = {key: value for key, value in content.items() if key in own and key[0] != "_"}
    for key, value in found.items():
        _check_plain(key, value)
    return found


def _check_plain(key: str, value: Any) -> None:
    """Refuses what is neither a number of a usual size, a word, nor a list of these."""
    if isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            _check_plain(key, one)
    elif isinstance(value, (int, float)) and not (
        math.isfinite(value) and abs(value) <= _LARGEST_NUMBER
    ):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{FILE} is refused: {key} is {shown(value)}; numbers are at most {_LARGEST_NUMBER:,}.",
        )


def _as_float(key: str, tensor: Tensor, where: str) -> Tensor:
    """A tensor in float32; counters and indices of a layer as they are."""
    if tensor.dtype in _FLOATS:
        return tensor.float()
    if tensor.dtype is torch.int64 or tensor.numel() == 1:
        return tensor
    raise ClassifierError(
        ErrorCode.MODEL_WEIGHTS,
        f"{where} has numbers of the type {str(tensor.dtype).removeprefix('torch.')} in "
        f"{shown(key)}, as quantised weights have. Save the weights as float32.",
    )


def _check_fit(found: Mapping[str, Any], name: str, where: str) -> None:
    """Refuses weights that are missing, left over or of another shape."""
    problems = []
    for title, what in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "not in the network"),
        ("mismatched_keys", "of another shape"),
    ):
        keys = sorted(one if isinstance(one, str) else one[0] for one in found[title])
        if keys:
            listed = some([shown(key)[1:-1] for key in keys])
            problems.append(f"{len(keys)} {what} ({listed})")
    problems += [shown(line)[1:-1] for line in found.get("error_msgs", [])[:1]]
    if problems:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"The weights in {where} do not fit the network {name}: {'; '.join(problems)}",
        )


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Without the library's progress bar and its remarks on weights, which are checked here."""
    messages = library.utils.logging
    level, bar = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(messages.CRITICAL)
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if bar:
            messages.enable_progress_bar()
