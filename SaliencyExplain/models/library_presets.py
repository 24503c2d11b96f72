"""The preprocessing that the inference code of public libraries has, by the library's name.

Each is what that library's own code does to an image by default; words that are given replace
those of the preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.models.preprocessing_words import PreprocessingWords


@dataclass(frozen=True)
class Preset:
    """The preprocessing of a library.

    Attributes:
        source: Whose code it is.
        words: Of 2D and 3D images, as in
            :class:`~SaliencyExplain.models.preprocessing_words.PreprocessingWords`; a number of
            axes that is not there has no preset.
    """

    source: str
    words: Mapping[int, Mapping[str, Any]]


_PICTURE = {"size": (224, 224), "fit": "resize", "antialias": True}

#: The presets by the name of the library.
PRESETS = {
    "monai": Preset(
        "MONAI's classification tutorials: LoadImage, ScaleIntensity, then Resize by area; 2D "
        "pictures as MONAI's reader turns them, first axis to the left",
        {
            2: {
                "orientation": "LP",
                "intensity": "scale",
                "interpolation": "area",
                "order": "intensity-first",
            },
            3: {
                "orientation": "none",
                "intensity": "scale",
                "interpolation": "area",
                "order": "intensity-first",
            },
        },
    ),
    "torchvision": Preset(
        "the transforms of torchvision's weights: shortest side 256, centre 224, antialiased",
        {2: {**_PICTURE, "fit": "shortest", "shortest": 256, "intensity": "imagenet"}},
    ),
    "timm": Preset(
        "timm's create_transform: crop_pct 0.875, bicubic, mean and deviation of ImageNet",
        {
            2: {
                **_PICTURE,
                "fit": "shortest",
                "shortest": 256,
                "interpolation": "cubic",
                "intensity": "imagenet",
            }
        },
    ),
    "huggingface": Preset(
        "the ViT image processor of Transformers: 224 x 224, bilinear, mean and deviation 0.5",
        {2: {**_PICTURE, "intensity": "window:0,255+fixed:0.5/0.5"}},
    ),
    "torchxrayvision": Preset(
        "torchxrayvision's XRayCenterCrop, XRayResizer(224) and normalize(255)",
        {2: {**_PICTURE, "fit": "crop-square", "intensity": "window:0,255,-1024,1024"}},
    ),
    "medmnist": Preset(
        "MedMNIST's ToTensor and Normalize([.5], [.5]) on pictures of 28 x 28",
        {2: {"size": (28, 28), "fit": "resize", "intensity": "window:0,255,-1,1"}},
    ),
}


def chosen_words(
    given: Mapping[str, Any], like: str | None, dims: int
) -> tuple[PreprocessingWords, dict[str, str]]:
    """The words of a preset, with those that are given in their place, and their sources.

    Args:
        given: Words by name; None counts as not given.
        like: One of :data:`PRESETS`; None: only the given words.
        dims: Spatial axes, 2 or 3.

    Returns:
        The words, and by name whether each is ``given`` or of the ``preset``.

    Raises:
        InputError: There is no such preset, or none for this number of axes, or a word is wrong.
    """
    words = {name: value for name, value in given.items() if value is not None}
    known: dict[str, Any] = {}
    if like is not None:
        preset = _preset(like)
        if dims not in preset.words:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"The preset '{like}' is for {' and '.join(f'{n}D' for n in preset.words)} "
                f"images, and the network takes {dims}D images: give the settings in words.",
            )
        known = dict(preset.words[dims])
        if "fit" in words or "size" in words:
            # The side that is resized before the crop belongs to the preset's own size.
            known.pop("shortest", None)
    sources = {**dict.fromkeys(known, "preset"), **dict.fromkeys(words, "given")}
    return PreprocessingWords.of({**known, **words}), sources


def preset_dims(like: str | None) -> int | None:
    """The only number of axes that a preset is for; None where there are several.

    Raises:
        InputError: There is no such preset.
    """
    dims = [] if like is None else list(_preset(like).words)
    return dims[0] if len(dims) == 1 else None


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
