"""The preprocessing of a bundle that is made of a network, its weights and a few settings."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

from SaliencyExplain.errors import ErrorCode, InputError, wrong_type
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.intensity import intensity_transforms, padding_value

Fit = Literal["resize", "crop"]
#: Of 2D networks as most 2D training code sees images, of 3D ones as MONAI does.
STANDARD_ORIENTATION = {2: "PL", 3: "RAS"}


def check_axes(spacing: Sequence[float] | None, size: Sequence[int] | None) -> None:
    """Raises InputError where the spacing or size is not a list of numbers, one for each axis."""
    for name, given in (("spacing", spacing), ("size", size)):
        if given is None:
            continue
        if not isinstance(given, (list, tuple)):
            raise wrong_type(name, "a list of numbers, one for each axis", given)
        for one in given:
            if isinstance(one, bool) or not isinstance(one, Real):
                raise wrong_type(name, "a list of numbers, one for each axis", one)


def preprocessing_steps(
    dims: int,
    channels: int,
    spacing: Sequence[float] | None,
    size: Sequence[int] | None,
    fit: Fit | None,
    intensity: str,
    orientation: str | None,
) -> list[dict[str, Any]]:
    """The configurations of MONAI's transforms from an image to the network's input.

    Args:
        dims: Spatial axes, 2 or 3.
        channels: Of the input.
        spacing: Voxel size in mm along each axis; None: the image's own.
        size: Voxels along each axis; None: the image's own.
        fit: How the size is reached; None: by cropping where there is a spacing, else by resizing.
        intensity: One of the kinds of :mod:`SaliencyExplain.models.intensity`.
        orientation: Letters such as ``RAS``, ``standard``, or None or ``none`` for the image's own.

    Raises:
        InputError: A number, the fit, the intensity or the orientation is not valid.
    """
    for name, values in (("spacing", spacing), ("size", size)):
        if values is not None and (len(values) != dims or not all(v > 0 for v in values)):
            raise InputError(
                ErrorCode.VALUE_FORM,
                f"The {name} of a {dims}D classifier has {dims} positive numbers, "
                f"not {', '.join(map(str, values))}.",
            )
    if fit not in (None, "resize", "crop"):
        raise InputError(ErrorCode.VALUE_RANGE, f"--fit is resize or crop, not '{fit}'.")
    steps: list[dict[str, Any]] = []
    if orientation is not None and orientation.lower() != "none":
        codes = STANDARD_ORIENTATION[dims] if orientation == "standard" else orientation.upper()
        _check_orientation(codes, dims)
        # Without labels newer versions of MONAI read the world from the image's header.
        labels = [["L", "R"], ["P", "A"], ["I", "S"]]
        steps.append(
            {"_target_": "Orientationd", "keys": "image", "axcodes": codes, "labels": labels}
        )
    interpolation = "trilinear" if dims == 3 else "bilinear"
    if spacing:
        steps.append(
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [float(value) for value in spacing],
                "mode": "bilinear",
            }
        )
    if size and (fit or ("crop" if spacing else "resize")) == "crop":
        steps.append(
            {
                "_target_": "ResizeWithPadOrCropd",
                "keys": "image",
                "spatial_size": [int(value) for value in size],
                "mode": "constant",
                "value": padding_value(intensity),
            }
        )
    elif size:
        steps.append(
            {
                "_target_": "Resized",
                "keys": "image",
                "spatial_size": [int(value) for value in size],
                "mode": interpolation,
            }
        )
    return steps + intensity_transforms(intensity, channels)


def preprocessing_settings(
    dims: int,
    channels: Sequence[str],
    spacing: Sequence[float] | None,
    size: Sequence[int] | None,
    fit: Fit | None,
    intensity: str | None,
    orientation: str | None,
    own_training: bool,
) -> list[Setting]:
    """The settings of the preprocessing, each with its source.

    Args:
        dims: As in :func:`preprocessing_steps`.
        channels: Names of the channels.
        spacing: As in :func:`preprocessing_steps`.
        size: As there.
        fit: As there.
        intensity: As there; None where it was not said.
        orientation: As there.
        own_training: Whether the network is trained with this preprocessing here.
    """

    def setting(name: str, value: str, given: object) -> Setting:
        source = "trained" if own_training else "given" if given else "guessed"
        return Setting(name, value, source)

    def numbers(values: Sequence[float]) -> str:
        return " x ".join(f"{value:g}" for value in values)

    standard = orientation == "standard"
    turned = orientation is not None and orientation.lower() != "none"
    codes = STANDARD_ORIENTATION[dims] if standard else str(orientation).upper()
    found = [
        setting("orientation", codes if turned else "as in the file", not standard),
        setting("channel order", ", ".join(channels), len(channels) > 1 or channels != ("image",)),
        setting("spacing", f"{numbers(spacing)} mm" if spacing else "as in the file", spacing),
        setting("size", f"{numbers(size)} voxels" if size else "as in the file", size),
    ]
    if size:
        reached = fit or ("crop" if spacing else "resize")
        found.append(setting("fit", reached, fit))
    if spacing or (size and reached == "resize"):
        linear = "trilinear" if dims == 3 else "bilinear"
        found.append(
            setting("interpolation", f"{linear}, align_corners false, no antialiasing", False)
        )
    scaling = intensity or "none"
    found.append(
        setting("intensity", "as in the file" if scaling == "none" else scaling, intensity)
    )
    return [*found, setting("order of steps", "orientation, spacing, size, intensity", False)]


def _check_orientation(codes: str, dims: int) -> None:
    pairs = ("LR", "PA", "IS")[:dims]
    if len(codes) != dims or any(sum(code in pair for code in codes) != 1 for pair in pairs):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The orientation of a {dims}D classifier is {dims} letters, one of each of "
            f"{', '.join('/'.join(pair) for pair in pairs)} "
            f"(such as {STANDARD_ORIENTATION[dims]}), not '{codes}'.",
        )
