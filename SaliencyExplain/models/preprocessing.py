"""The transforms from an image to the network's input, and whether they can be undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, RandomizableTrait, Transform
from numpy.typing import NDArray

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.geometry import is_invertible
from SaliencyExplain.models.checked import followed
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.picture_steps import (
    AntialiasedResized,
    CenterCropd,
    ShortestResized,
)
from SaliencyExplain.models.targets import shown

IMAGE = "image"
# Reading the file and bringing its channels first is done before: images come in as
# (C, *S) with their affine. Devices are chosen when the network runs.
_DONE_ELSEWHERE = {
    "LoadImage",
    "EnsureChannelFirst",
    "AddChannel",
    "AsChannelFirst",
    "ToDevice",
}
# The tests check their affines against planted coordinates, in 2D and 3D.
TRUE_AFFINE: tuple[type[Transform], ...] = (
    transforms.Orientationd,
    transforms.Spacingd,
    transforms.CropForegroundd,
    transforms.CenterSpatialCropd,
    transforms.CenterScaleCropd,
    transforms.SpatialCropd,
    transforms.SpatialPadd,
    transforms.BorderPadd,
    transforms.DivisiblePadd,
    transforms.ResizeWithPadOrCropd,
    transforms.Flipd,
    transforms.Rotate90d,
    transforms.CastToTyped,
)


def build_preprocessing(configuration: Configuration, spatial_dims: int) -> Compose:
    """Builds a bundle's ``preprocessing`` without the reading of files.

    Args:
        configuration: The bundle's configuration.
        spatial_dims: 2 or 3.

    Returns:
        Transforms on ``{"image": MetaTensor}``.

    Raises:
        ClassifierError: It is missing or random, or a transform moves voxels without updating the
            affine, so that maps cannot be brought back.
    """
    content = followed(configuration.content, configuration.content.get("preprocessing"))
    if content is None:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            "The bundle's configuration has no 'preprocessing'. Add a Compose of MONAI's "
            "dictionary transforms on 'image' (with an empty list where images go in as they are).",
        )
    listed = (
        followed(configuration.content, content.get("transforms"))
        if isinstance(content, Mapping)
        else None
    )
    if isinstance(content, Mapping) and isinstance(listed, list):
        steps: Any = listed
        rest = {name: value for name, value in content.items() if name != "transforms"}
    elif isinstance(content, list):
        steps, rest = content, {"_target_": "Compose"}
    else:
        steps, rest = None, {}
    if steps is not None:
        steps = [followed(configuration.content, step) for step in steps]
        rest["transforms"] = _steps_for_image(steps)
        configuration = Configuration(
            {**configuration.content, "preprocessing": rest}, trust=configuration.trust
        )
    built = configuration.build("preprocessing")
    steps_left = steps_for_images(built)
    for step in steps_left:
        check_step(step, spatial_dims)
    lazy = built.lazy if isinstance(built, Compose) else False
    return Compose(steps_left, lazy=lazy)


def steps_for_images(built: Any) -> list[Callable[[Any], Any]]:
    """The transforms that an image goes through which is read already, one after another.

    Args:
        built: A Compose or a list of transforms.

    Raises:
        ClassifierError: It is neither.
    """
    flat = _flat(built.transforms) if isinstance(built, Compose) else built
    if not isinstance(flat, list) or not all(callable(step) for step in flat):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            "The bundle's 'preprocessing' is not a Compose of transforms. Change it to a Compose.",
        )
    return [step for step in flat if not _is_done_elsewhere_object(step)]


def spacing_of(preprocessing: Compose, spatial_dims: int) -> tuple[float, ...] | None:
    """Voxel size in mm on the network's grid where it is always the same, else None."""
    spacing: tuple[float, ...] | None = None
    for step in preprocessing.transforms:
        if isinstance(step, transforms.Spacingd):
            spacing = _along_axes(step, "pixdim", step.spacing_transform.pixdim, spatial_dims)
        elif isinstance(
            step, transforms.Resized | transforms.Zoomd | AntialiasedResized | ShortestResized
        ):
            spacing = None
    return spacing


def size_of(preprocessing: Compose, spatial_dims: int) -> tuple[int, ...] | None:
    """Voxels along each axis of the network's input where a transform fixes them."""
    size: tuple[int, ...] | None = None
    for step in preprocessing.transforms:
        if isinstance(step, transforms.Resized) and step.resizer.size_mode == "all":
            wanted = step.resizer.spatial_size
        elif isinstance(step, transforms.ResizeWithPadOrCropd):
            wanted = step.padder.padder.spatial_size
        elif isinstance(step, CenterCropd):
            wanted = step.size
        elif isinstance(step, AntialiasedResized) and step.spatial_size:
            wanted = step.spatial_size
        else:
            continue
        given = _along_axes(step, "spatial_size", wanted, spatial_dims)
        values = tuple(map(int, given))
        size = values if all(value > 0 for value in values) else None
    return size


def _along_axes(step: Any, argument: str, given: Any, spatial_dims: int) -> tuple[float, ...]:
    """One finite number for each axis."""
    try:
        values = np.broadcast_to(np.asarray(given, dtype=float), (spatial_dims,))
        if not np.isfinite(values).all():
            raise ValueError
    except (ValueError, TypeError, OverflowError) as error:
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"The preprocessing step {type(step).__name__} has {argument} "
            f"{shown(given)}: name one number, or one for each of the {spatial_dims} axes.",
        ) from error
    return tuple(float(value) for value in values)


def _name_of(step: Any) -> str:
    target = step.get("_target_", "") if isinstance(step, Mapping) else ""
    return str(target).rpartition(".")[2]


def _is_done_elsewhere(step: Any) -> bool:
    return _is_done_elsewhere_name(_name_of(step))


def _is_done_elsewhere_object(step: Any) -> bool:
    return _is_done_elsewhere_name(type(step).__name__)


def _is_done_elsewhere_name(name: str) -> bool:
    return name.removesuffix("Dict").removesuffix("D").removesuffix("d") in _DONE_ELSEWHERE


def _steps_for_image(steps: list[Any]) -> list[Any]:
    """The configurations of the transforms that an image goes through, one after another.

    Those of a Compose within the list stand in its place.
    """
    kept: list[Any] = []
    for step in steps:
        inner = step.get("transforms") if _name_of(step) == "Compose" else None
        if isinstance(inner, list):
            kept += _steps_for_image(inner)
        elif not _is_done_elsewhere(step):
            kept.append(_for_image(step))
    return [step for step in kept if step is not None]


def _flat(steps: Iterable[Any]) -> list[Any]:
    """The transforms, those of a Compose among them in its place."""
    flat: list[Any] = []
    for step in steps:
        # OneOf, SomeOf and RandomOrder are kinds of Compose that choose at random.
        flat += _flat(step.transforms) if type(step) is Compose else [step]
    return flat


def _for_image(step: Any) -> Any:
    """A transform's configuration for the image alone; None where it is not meant for it.

    Training configurations often send label and image through the same transforms, with
    a mode for each; devices are chosen when the network runs.
    """
    if not isinstance(step, Mapping) or "_target_" not in step:
        return step
    if _name_of(step).startswith("Rand"):
        raise _random(_name_of(step))
    result = {name: value for name, value in step.items() if name != "device"}
    if _name_of(step).removesuffix("Dict").removesuffix("D").removesuffix("d") == "EnsureType":
        result.pop("track_meta", None)
    keys = step.get("keys")
    if isinstance(keys, list) and len(keys) > 1 and all(isinstance(key, str) for key in keys):
        if IMAGE not in keys:
            return None
        place = keys.index(IMAGE)
        for name in ("mode", "padding_mode", "align_corners", "dtype", "method"):
            value = result.get(name)
            if isinstance(value, list) and len(value) == len(keys):
                result[name] = value[place]
        result["keys"] = [IMAGE]
    elif keys in ("label", ["label"]):
        return None
    return result


def _random(name: str) -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_PREPROCESSING,
        f"The preprocessing has the random transform {shown(name)[1:-1]}: the same image "
        "would give another map each time. Leave it out for inference.",
    )


def check_not_random(step: Any) -> None:
    """Raises ClassifierError where a transform draws at random."""
    if isinstance(step, RandomizableTrait):
        raise _random(type(step).__name__)


def check_step(step: Any, spatial_dims: int) -> None:
    """Checks that maps can be brought back through a dictionary transform.

    Args:
        step: A transform on ``{"image": MetaTensor}``.
        spatial_dims: 2 or 3.

    Raises:
        ClassifierError: It is random, has another key, or does not update the affine.
    """
    name = type(step).__name__
    check_not_random(step)
    if isinstance(step, MapTransform) and IMAGE not in step.keys:
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            f"The preprocessing step {name} works on "
            f"{', '.join(map(str, step.keys))}; name the input 'image'.",
        )
    if isinstance(step, TRUE_AFFINE) or type(step).__module__.startswith(
        "monai.transforms.intensity."
    ):
        return
    error = affine_error(step, spatial_dims)
    if not error <= 0.5:
        found = "is lost" if error == np.inf else f"is wrong by {error:.1f} voxels"
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            f"The preprocessing step {name} cannot be undone: the image's affine {found} "
            "after it. Use transforms that track it (Orientationd, Flipd, Rotate90d, Resized, …).",
        )


def affine_error(step: Callable[[dict[str, Any]], Any], spatial_dims: int) -> float:
    """Distance between a transform's affine and the positions to which it moves the voxels.

    Images whose intensities are their own coordinates, an axis each, go through the
    transform; a least-squares fit says where the voxels went, and the affine should say
    the same.

    Args:
        step: A transform on ``{"image": MetaTensor}``.
        spatial_dims: 2 or 3.

    Returns:
        Mean distance between the two over the voxels that lie inside the image, in voxels
        of the coarser grid; infinity where there is no affine or no voxel left.
    """
    return max(_error_along(step, axis, spatial_dims) for axis in range(spatial_dims))


def _error_along(step: Callable[[dict[str, Any]], Any], axis: int, spatial_dims: int) -> float:
    shape = (29, 34, 25)[:spatial_dims]
    affine = np.diag([-1.1, -1.4, 1.2 if spatial_dims == 3 else 1.0, 1.0])
    affine[:spatial_dims, 3] = (40.0, 70.0, 20.0)[:spatial_dims]
    planted = torch.from_numpy(_coordinates(shape, np.eye(4))[axis : axis + 1] + 1.0).float()
    image = MetaTensor(planted, affine=torch.from_numpy(affine))
    try:
        moved = step({IMAGE: image})[IMAGE]
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ClassifierError(
            ErrorCode.MODEL_PREPROCESSING,
            f"The preprocessing step {type(step).__name__} fails: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}",
        ) from error
    if not isinstance(moved, MetaTensor) or moved.ndim != spatial_dims + 1:
        return float(np.inf)
    after = moved.affine.numpy().astype(float)
    if after.shape != (4, 4) or not is_invertible(after):
        return float(np.inf)
    said = np.linalg.inv(affine) @ after
    places = _coordinates(tuple(moved.shape[1:]), said).reshape(spatial_dims, -1)
    inside = np.all((places >= 2) & (places <= np.array(shape)[:, None] - 3), axis=0)
    if inside.sum() < 2 ** (spatial_dims + 1):
        return float(np.inf)
    true = moved.as_tensor()[0].numpy().reshape(-1)[inside] - 1.0
    # The fit takes out the jumps of nearest-neighbour sampling and keeps its shift.
    design = np.concatenate([places[:, inside], np.ones((1, int(inside.sum())))]).T
    fitted = design @ np.linalg.lstsq(design, true, rcond=None)[0]
    step_size = max(1.0, float(np.abs(said[axis, :spatial_dims]).max()))
    return float(np.abs(fitted - places[axis, inside]).mean() / step_size)


def _coordinates(shape: tuple[int, ...], affine: NDArray[Any]) -> NDArray[np.float64]:
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")).astype(float)
    axes = len(shape)
    return np.tensordot(affine[:axes, :axes], grid, axes=1) + affine[:axes, 3].reshape(
        -1, *[1] * axes
    )
