"""What an image processor of Hugging Face's Transformers does, as transforms with a true affine.

The settings are those of a preprocessor_config.json; those that it leaves out are the defaults of
the processor's class. The prepared picture differs from the library's by the rounding to whole
grey levels that the library does after it has resized.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.allowed import PICTURE_STEPS
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.intensity import intensity_transforms
from SaliencyExplain.models.preprocessing_words import INTERPOLATIONS, PreprocessingWords
from SaliencyExplain.models.targets import shown

FILE = "preprocessor_config.json"
#: Pillow's numbers of the interpolations, with our words for them.
_RESAMPLE = {2: "linear", 3: "cubic"}
_LARGEST_EDGE = 10_000
_LARGEST_GREY = 255.0

# ImageNet's mean and deviation in the library's two conventions, and those of CLIP.
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


@dataclass(frozen=True)
class _Processor:
    """A class of image processors.

    Attributes:
        defaults: Settings that a file may leave out.
        square: Whether a size of one number is that of both edges; else of the shortest.
        crop_pct: Whether a small size is cut out of a picture that is larger by ``crop_pct``.
        changed: Settings whose defaults differ between versions 4 and 5 of the library, so that a
            file must have them.
    """

    defaults: Mapping[str, Any]
    square: bool = True
    crop_pct: bool = False
    changed: tuple[str, ...] = ()
    common: Mapping[str, Any] = field(
        default_factory=lambda: {
            "do_resize": True,
            "do_center_crop": False,
            "do_rescale": True,
            "do_normalize": True,
            "rescale_factor": 1 / 255,
        }
    )


_SHORTEST_224 = {"size": 224, "resample": 3, "do_center_crop": True, "crop_size": 224}
_SHORTEST_256 = {"size": 256, "resample": 2, "do_center_crop": True, "crop_size": 224}
#: The processors by name, without the endings that say how they compute.
_PROCESSORS = {
    "ViTImageProcessor": _Processor({"size": 224, "resample": 2, **_HALF}),
    "BeitImageProcessor": _Processor(
        {"resample": 3, "crop_size": 224, **_HALF}, changed=("size", "do_center_crop")
    ),
    "DeiTImageProcessor": _Processor(
        {"size": 256, "resample": 3, "do_center_crop": True, "crop_size": 224, **_HALF}
    ),
    "PvtImageProcessor": _Processor({"size": 224, **_IMAGENET}, changed=("resample",)),
    "SegformerImageProcessor": _Processor({"size": 512, "resample": 2, **_IMAGENET}),
    "ConvNextImageProcessor": _Processor(
        {"size": 384, "crop_pct": 224 / 256, **_HALF},
        square=False,
        crop_pct=True,
        changed=("resample",),
    ),
    "BitImageProcessor": _Processor({**_SHORTEST_224, **_CLIP}, square=False),
    "CLIPImageProcessor": _Processor({**_SHORTEST_224, **_CLIP}, square=False),
    "MobileNetV1ImageProcessor": _Processor({**_SHORTEST_256, **_HALF}, square=False),
    "MobileNetV2ImageProcessor": _Processor({**_SHORTEST_256, **_HALF}, square=False),
}
#: Settings that say nothing about what is done to a picture, or only how it is computed.
_WITHOUT_EFFECT = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "transformers_version"),
    *("do_convert_rgb", "do_reduce_labels", "reduce_labels", "data_format", "input_data_format"),
    *("default_to_square", "return_tensors", "device", "disable_grouping", "model_input_names"),
    *("_valid_processor_keys", "_valid_kwargs_names", "name_or_path", "_name_or_path"),
    *("image_seq_length", "num_channels", "crop_size"),
}


@dataclass(frozen=True)
class LibraryPreprocessing:
    """The preprocessing of a folder.

    Attributes:
        steps: Configurations of the transforms on ``image``.
        settings: The settings in words, with their sources.
    """

    steps: list[dict[str, Any]]
    settings: tuple[Setting, ...]


def library_preprocessing(
    content: Mapping[str, Any], usual: str, channels: Sequence[str]
) -> LibraryPreprocessing:
    """The transforms that do what an image processor does.

    Args:
        content: Of a preprocessor_config.json.
        usual: The processor of networks of this kind, where the file names none.
        channels: Names of the input's channels.

    Raises:
        ClassifierError: The processor or one of its settings cannot be expressed, or a value is
            not valid; it is named.
    """
    name, processor = _processor_of(content, usual)
    said = {key: value for key, value in content.items() if value is not None}
    for key in processor.changed:
        if key not in said:
            raise ClassifierError(
                ErrorCode.MODEL_INCOMPLETE,
                f"{FILE} does not say {key}, for which versions 4 and 5 of Transformers have "
                f"different defaults in {name}: add it as the network was trained.",
            )
    known = {**dict.fromkeys(processor.changed), **processor.common, **processor.defaults}
    for key, value in said.items():
        if key == "auto_map":
            raise _refused(f"has {key}, which names Python code of the folder")
        if key not in known and key not in _WITHOUT_EFFECT and value not in (False, [], {}):
            raise _unsupported(f"{shown(key)[1:-1]} of {shown(value)}")
    merged = {**known, **said}

    def words(key: str) -> str:
        return "given" if key in said else "preset"

    sizing, about = _sizing(merged, processor, said.get("default_to_square"))
    intensity = _intensity(merged)
    described = PreprocessingWords(intensity=intensity)
    scaled = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
    sources = {"intensity": "given" if set(scaled) & set(said) else "preset"}
    settings = [Setting("preprocessing", f"{FILE} ({name})", "given")]
    for one in described.settings(2, channels, sources, "preset"):
        if one.name != "size":
            settings.append(one)
            continue
        for title, value, key in about:
            settings.append(Setting(title, value, words(key)))
    orientation = PreprocessingWords().steps(2, len(channels))
    scaling = intensity_transforms(intensity, len(channels))
    return LibraryPreprocessing([*orientation, *sizing, *scaling], tuple(settings))


def _processor_of(content: Mapping[str, Any], usual: str) -> tuple[str, _Processor]:
    """The processor's name, and what is known of it."""
    said = content.get("image_processor_type") or content.get("feature_extractor_type") or usual
    name = re.sub(r"(Fast|Pil)$", "", str(said)).replace("FeatureExtractor", "ImageProcessor")
    if name not in _PROCESSORS:
        raise _unsupported(f"the image processor {shown(said)}", f"; known are {_known()}")
    return name, _PROCESSORS[name]


def _known() -> str:
    return ", ".join(sorted(_PROCESSORS))


def _sizing(
    merged: Mapping[str, Any], processor: _Processor, square: Any
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """The steps that change the size, and each setting's title, value and key in the file."""
    steps: list[dict[str, Any]] = []
    about: list[tuple[str, str, str]] = []
    if _truth(merged, "do_resize"):
        mode = _RESAMPLE.get(merged["resample"]) if type(merged["resample"]) is int else None
        if mode is None:
            raise _unsupported(f"resample of {shown(merged['resample'])}", "; known are 2 and 3")
        square = processor.square if square is None else square is True
        edges = _size_of(merged["size"], square)
        cut: tuple[int, ...] | None = None
        if processor.crop_pct:
            if len(edges) != 1:
                raise _unsupported("size without shortest_edge")
            cut = edges * 2
            edges = (_larger(edges[0], merged["crop_pct"]),) if edges[0] < 384 else cut
            cut = None if edges == cut else cut
        interpolation = INTERPOLATIONS[mode][2]
        to = {"shortest": edges[0]} if len(edges) == 1 else {"spatial_size": list(edges)}
        steps.append(_step("AntialiasedResized", mode=interpolation, **to))
        if len(edges) == 1:
            about.append(("size", f"shortest side {edges[0]} voxels", "size"))
        else:
            about.append(("size", f"{_times(edges)} voxels", "size"))
        about.append(("interpolation", f"{interpolation}, antialiasing", "resample"))
        if cut:
            steps.append(_crop(cut))
            about.append(("centre crop", f"{_times(cut)} voxels", "crop_pct"))
        elif len(edges) == 1 and not _truth(merged, "do_center_crop"):
            raise _unsupported(
                "size with shortest_edge and without do_center_crop, which gives each picture a "
                "size of its own"
            )
    if _truth(merged, "do_center_crop"):
        if "crop_size" not in merged:
            raise _invalid("crop_size", None)
        cut = _size_of(merged["crop_size"], square=True)
        if len(cut) != 2:
            raise _invalid("crop_size", merged["crop_size"])
        steps.append(_crop(cut))
        about.append(("centre crop", f"{_times(cut)} voxels", "crop_size"))
    return steps, about or [("size", "as in the file", "do_resize")]


def _crop(size: Sequence[int]) -> dict[str, Any]:
    return _step("CenterCropd", size=list(size), half_down=True)


def _step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{PICTURE_STEPS}.{name}", "keys": "image", **arguments}


def _size_of(value: Any, square: bool) -> tuple[int, ...]:
    """Rows and columns, or the shortest edge alone."""
    edges: tuple[Any, ...]
    if isinstance(value, Mapping):
        given = {key: one for key, one in value.items() if one is not None}
        if set(given) == {"height", "width"}:
            edges = (given["height"], given["width"])
        elif set(given) == {"shortest_edge"}:
            edges = (given["shortest_edge"],)
        else:
            raise _unsupported(f"size of {shown(value)}")
    elif isinstance(value, list) and len(value) == 2:
        edges = (value[0], value[1])
    else:
        edges = (value, value) if square else (value,)
    if not all(type(edge) is int and 0 < edge <= _LARGEST_EDGE for edge in edges):
        raise _invalid("size", value)
    return edges


def _larger(edge: int, share: Any) -> int:
    if not _is_number(share) or not 0.01 <= share <= 1:
        raise _invalid("crop_pct", share)
    return int(edge / share)


def _intensity(merged: Mapping[str, Any]) -> str:
    """The scaling of 8-bit grey levels in words."""
    factor = merged["rescale_factor"]
    if not _is_number(factor) or factor <= 0:
        raise _invalid("rescale_factor", factor)
    high = _LARGEST_GREY * factor
    if not _truth(merged, "do_rescale"):
        scaling = f"clip:0,{_LARGEST_GREY:g}"
    elif math.isclose(high, 1.0):
        scaling = f"window:0,{_LARGEST_GREY:g}"
    else:
        scaling = f"window:0,{_LARGEST_GREY:g},0,{high!r}"
    if not _truth(merged, "do_normalize"):
        return scaling
    mean, deviation = (_numbers(merged, key) for key in ("image_mean", "image_std"))
    return f"{scaling}+fixed:{mean}/{deviation}"


def _numbers(merged: Mapping[str, Any], key: str) -> str:
    values = merged[key] if isinstance(merged[key], list) else [merged[key]]
    if not values or not all(_is_number(one) for one in values):
        raise _invalid(key, merged[key])
    if key == "image_std" and min(values) <= 0:
        raise _invalid(key, merged[key])
    return ",".join(repr(float(one)) for one in values)


def _truth(merged: Mapping[str, Any], key: str) -> bool:
    value = merged[key]
    if not isinstance(value, bool):
        raise _invalid(key, value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _times(edges: Sequence[int]) -> str:
    return " x ".join(map(str, edges))


def _invalid(key: str, value: Any) -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_CONFIGURATION, f"{FILE}: the value {shown(value)} of {key} is not valid."
    )


def _unsupported(what: str, more: str = "") -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_PREPROCESSING,
        f"{FILE} has {what}, which cannot be expressed as a preprocessing whose maps come back to "
        f"the image{more}.",
    )


def _refused(why: str) -> ClassifierError:
    return ClassifierError(ErrorCode.MODEL_REFUSED, f"{FILE} is refused: it {why}.")
