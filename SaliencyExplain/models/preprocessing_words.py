"""The preprocessing of a network in a few words: orientation, spacing, size, intensity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name, wrong_type
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.intensity import intensity_transforms, padding_value

#: Of 2D networks as most 2D training code sees images, of 3D ones as MONAI does.
STANDARD_ORIENTATION = {2: "PL", 3: "RAS"}
#: How the size of the network's input is reached, each with what it means.
FITS = {
    "resize": "the whole field of view becomes that size",
    "crop": "cut off or padded about the centre, the voxel size as it is",
    "shortest": "the shortest side is resized, then the centre is cut out",
    "pad-square": "padded to equal sides about the centre, then resized",
    "crop-square": "cut to equal sides about the centre, then resized",
}
#: The interpolations of a size, each with the mode of the transform in 2D and 3D.
INTERPOLATIONS = {
    "linear": {2: "bilinear", 3: "trilinear"},
    "cubic": {2: "bicubic", 3: "bicubic"},
    "area": {2: "area", 3: "area"},
    "nearest": {2: "nearest", 3: "nearest"},
}
#: What comes first, the spatial steps or those of the intensities.
ORDERS = ("spatial-first", "intensity-first")
#: Key of the words in a bundle's metadata.json.
WORDS = "preprocessing_words"
_STEPS = "SaliencyExplain.models.picture_steps"


@dataclass(frozen=True)
class PreprocessingWords:
    """What is done to an image before it goes into a network.

    Attributes:
        orientation: Axis codes that the network was trained with, such as ``RAS``. ``standard``
            is RAS in 3D and PL in 2D (rows downwards, columns to the patient's left, as
            torchvision and most 2D training code see a picture). ``none``: as in the file.
        spacing: Voxel size in mm to resample to, one number for each axis; None: the image's own.
        size: Voxels along each axis of the network's input; None: the image's own.
        fit: How the size is reached, one of :data:`FITS`; None: ``crop`` with a spacing and
            ``resize`` without.
        shortest: Voxels of the shortest side before the centre is cut out; only for the fit
            ``shortest``, where None means the largest edge of the size.
        interpolation: Of a size, one of :data:`INTERPOLATIONS`.
        antialias: Whether a picture is low-pass filtered where it gets smaller, as Pillow and
            torchvision do; 2D, linear or cubic.
        align_corners: Whether the centres of the corner voxels stay where they are; linear or
            cubic.
        foreground: Whether the image is cut to the box of its voxels above 0 first.
        intensity: One of the kinds of :mod:`SaliencyExplain.models.intensity`, several with
            ``+`` between them; None: as in the file.
        order: One of :data:`ORDERS`: whether intensities are scaled after the spatial steps or
            before them.

    Raises:
        InputError: A value is of another type or unknown.
    """

    orientation: str = "standard"
    spacing: Sequence[float] | None = None
    size: Sequence[int] | None = None
    fit: str | None = None
    shortest: int | None = None
    interpolation: str = "linear"
    antialias: bool = False
    align_corners: bool = False
    foreground: bool = False
    intensity: str | None = None
    order: str = ORDERS[0]

    def __post_init__(self) -> None:
        for name, given in (("spacing", self.spacing), ("size", self.size)):
            _check_numbers(name, given)
        for name, value, known in (
            ("fit", self.fit, FITS),
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("order of steps", self.order, ORDERS),
        ):
            if value is not None and value not in known:
                raise unknown_name(name, str(value), known)
        if self.shortest is not None and (self.fit != "shortest" or self.shortest < 1):
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                "shortest is a number of voxels, and is for the fit 'shortest' only.",
            )
        if self.fit not in (None, "crop") and not self.size:
            raise InputError(
                ErrorCode.OPTION_MISSING, f"The fit '{self.fit}' needs the size in voxels."
            )
        if (self.antialias or self.align_corners) and self.interpolation not in ("linear", "cubic"):
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"The interpolation '{self.interpolation}' has neither antialiasing nor aligned "
                "corners: use linear or cubic.",
            )
        if self.antialias and self.align_corners:
            raise InputError(
                ErrorCode.OPTION_CONFLICT, "Antialiasing and aligned corners exclude each other."
            )

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> PreprocessingWords:
        """The words by name; None counts as not given.

        Raises:
            InputError: A name is unknown; the message has the nearest one.
        """
        known = [one.name for one in dataclasses.fields(cls)]
        for name in words:
            if name not in known:
                raise unknown_name("preprocessing setting", name, known)
        return cls(**{name: value for name, value in words.items() if value is not None})

    @classmethod
    def read(cls, content: Any) -> PreprocessingWords | None:
        """The words in a metadata.json; None where there are none or they make no sense."""
        if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
            return None
        try:
            return cls.of(content)
        except (InputError, TypeError, ValueError, AttributeError):
            return None

    def as_json(self) -> dict[str, Any]:
        """What :meth:`read` reads: the words that are not the default."""
        plain = PreprocessingWords()
        return {
            one.name: value
            for one in dataclasses.fields(self)
            if (value := getattr(self, one.name)) != getattr(plain, one.name)
        }

    @property
    def dims(self) -> int | None:
        """How many axes the size or spacing has; None where neither is given."""
        return len(self.size) if self.size else len(self.spacing) if self.spacing else None

    @property
    def reached(self) -> str:
        """How the size is reached."""
        return self.fit or ("crop" if self.spacing else "resize")

    def steps(self, dims: int, channels: int) -> list[dict[str, Any]]:
        """The configurations of the transforms from an image to the network's input.

        Args:
            dims: Spatial axes, 2 or 3.
            channels: How many the input has.

        Raises:
            InputError: A number, the intensity or the orientation is not valid.
        """
        for name, values in (("spacing", self.spacing), ("size", self.size)):
            if values is not None and (len(values) != dims or not all(v > 0 for v in values)):
                raise InputError(
                    ErrorCode.VALUE_FORM,
                    f"The {name} of a {dims}D classifier has {dims} positive numbers, "
                    f"not {', '.join(map(str, values))}.",
                )
        spatial = [*self._orientation(dims), *self._foreground(), *self._spacing()]
        spatial += self._sizing(dims)
        scaling = intensity_transforms(self.intensity or "none", channels)
        return scaling + spatial if self.order == ORDERS[1] else spatial + scaling

    def _codes(self, dims: int) -> str:
        """The axis codes; empty: as in the file."""
        if self.orientation == "standard":
            return STANDARD_ORIENTATION[dims]
        return "" if self.orientation.lower() == "none" else self.orientation.upper()

    def _orientation(self, dims: int) -> list[dict[str, Any]]:
        codes = self._codes(dims)
        if not codes:
            return []
        _check_orientation(codes, dims)
        # Without labels newer versions of MONAI read the world from the image's header.
        labels = [["L", "R"], ["P", "A"], ["I", "S"]]
        return [_step("Orientationd", axcodes=codes, labels=labels)]

    def _foreground(self) -> list[dict[str, Any]]:
        return [_step("CropForegroundd", source_key="image")] if self.foreground else []

    def _spacing(self) -> list[dict[str, Any]]:
        if not self.spacing:
            return []
        pixdim = [float(value) for value in self.spacing]
        return [_step("Spacingd", pixdim=pixdim, mode="bilinear")]

    def _sizing(self, dims: int) -> list[dict[str, Any]]:
        if not self.size:
            return []
        size = [int(value) for value in self.size]
        # Before the intensities are scaled the padding is a raw intensity.
        raw = self.order == ORDERS[0]
        padding = padding_value(self.intensity or "none") if raw else 0.0
        if self.reached == "crop":
            return [
                _step("ResizeWithPadOrCropd", spatial_size=size, mode="constant", value=padding)
            ]
        if self.reached == "shortest":
            shortest = self.shortest or max(size)
            if shortest < max(size):
                raise InputError(
                    ErrorCode.VALUE_RANGE,
                    f"The shortest side is resized to {shortest} voxels, and {max(size)} are to "
                    "be cut out: give at least as many.",
                )
            return [self._resizing(dims, shortest=shortest), _own("CenterCropd", size=size)]
        squared = {
            "pad-square": [_own("SquarePadd", value=padding)],
            "crop-square": [_own("SquareCropd")],
        }.get(self.reached, [])
        return [*squared, self._resizing(dims, spatial_size=size)]

    def _resizing(self, dims: int, **to: Any) -> dict[str, Any]:
        mode = INTERPOLATIONS[self.interpolation][dims]
        if self.antialias or "shortest" in to:
            if dims != 2 and (self.antialias or self.interpolation == "cubic"):
                raise InputError(
                    ErrorCode.OPTION_CONFLICT,
                    "Antialiasing and cubic interpolation are for 2D images only.",
                )
            return _own(
                "AntialiasedResized" if self.antialias else "ShortestResized",
                mode=mode,
                **({"align_corners": True} if self.align_corners else {}),
                **to,
            )
        aligned = {"align_corners": True} if self.align_corners else {}
        return _step("Resized", mode=mode, **aligned, **to)

    def settings(
        self,
        dims: int,
        channels: Sequence[str],
        sources: Mapping[str, str],
        otherwise: str = "guessed",
    ) -> list[Setting]:
        """The settings in words, each with its source.

        Args:
            dims: Spatial axes, 2 or 3.
            channels: Names of the channels.
            sources: Of the words that were given or are those of a preset, by name.
            otherwise: Of all others.
        """

        def setting(title: str, value: str, *names: str) -> Setting:
            known = [sources[name] for name in names if name in sources]
            return Setting(title, value, known[0] if known else otherwise)

        def or_file(values: Sequence[float] | None, unit: str) -> str:
            return f"{_numbers(values)} {unit}" if values else "as in the file"

        named = len(channels) > 1 or tuple(channels) != ("image",)
        channel_source = "given" if named and otherwise == "guessed" else otherwise
        scaling = self.intensity or "none"
        found = [
            setting("orientation", self._codes(dims) or "as in the file", "orientation"),
            Setting("channel order", ", ".join(channels), channel_source),
            setting("spacing", or_file(self.spacing, "mm"), "spacing"),
            setting("size", or_file(self.size, "voxels"), "size"),
        ]
        if self.size:
            shortest = f" {self.shortest or max(self.size)}" if self.fit == "shortest" else ""
            found.append(setting("fit", f"{self.reached}{shortest}", "fit"))
        if self.foreground:
            found.append(setting("foreground", "the box of the voxels above 0", "foreground"))
        if self.spacing or (self.size and self.reached != "crop"):
            ways = ", ".join(
                (
                    INTERPOLATIONS[self.interpolation][dims],
                    f"align_corners {'true' if self.align_corners else 'false'}",
                    "antialiasing" if self.antialias else "no antialiasing",
                )
            )
            found.append(
                setting("interpolation", ways, "interpolation", "antialias", "align_corners")
            )
        found.append(
            setting("intensity", "as in the file" if scaling == "none" else scaling, "intensity")
        )
        names = "orientation, spacing, size"
        order = f"{names}, intensity" if self.order == ORDERS[0] else f"intensity, {names}"
        return [*found, setting("order of steps", order, "order")]


def _step(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "keys": "image", **arguments}


def _own(target: str, **arguments: Any) -> dict[str, Any]:
    return _step(f"{_STEPS}.{target}", **arguments)


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _check_numbers(name: str, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, (list, tuple)):
        raise wrong_type(name, "a list of numbers, one for each axis", given)
    for one in given:
        if isinstance(one, bool) or not isinstance(one, Real):
            raise wrong_type(name, "a list of numbers, one for each axis", one)


def _check_orientation(codes: str, dims: int) -> None:
    pairs = ("LR", "PA", "IS")[:dims]
    if len(codes) != dims or any(sum(code in pair for code in codes) != 1 for pair in pairs):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The orientation of a {dims}D classifier is {dims} letters, one of each of "
            f"{', '.join('/'.join(pair) for pair in pairs)} "
            f"(such as {STANDARD_ORIENTATION[dims]}), not '{codes}'.",
        )
