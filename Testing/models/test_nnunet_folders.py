"""Result folders of nnU-Net v2, beside nnU-Net's own preprocessing and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("dynamic_network_architectures")
schemes = pytest.importorskip("nnunetv2.preprocessing.normalization.default_normalization_schemes")
resize = pytest.importorskip("skimage.transform").resize

from monai.data import MetaTensor  # noqa: E402
from scipy.ndimage import binary_fill_holes, map_coordinates  # noqa: E402

from SaliencyExplain.attribution.method_selection import select_methods  # noqa: E402
from SaliencyExplain.errors import ErrorCode  # noqa: E402
from SaliencyExplain.explanation.explain import explain  # noqa: E402
from SaliencyExplain.explanation.prepared_case import prepare  # noqa: E402
from SaliencyExplain.geometry import spacing_of  # noqa: E402
from SaliencyExplain.images.reading import to_image  # noqa: E402
from SaliencyExplain.models.class_maps import class_maps  # noqa: E402
from SaliencyExplain.models.loading import load_classifier  # noqa: E402
from Testing.expected_errors import error_with  # noqa: E402
from Testing.models.nnunet_folders import made_network, plans, result_folder  # noqa: E402

AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1.0, 0, -20], [0, 0, 4.0, 5], [0, 0, 0, 1]])


def image(shape: tuple[int, ...] = (20, 24, 9), affine: np.ndarray = AFFINE) -> MetaTensor:
    """Two channels, zero outside of a box."""
    values = np.zeros((2, *shape), np.float32)
    for channel, seed in zip(values, (5, 6), strict=True):
        inside = channel[tuple(slice(2, -1) for _ in shape)]
        inside[:] = np.random.default_rng(seed).random(inside.shape, dtype=np.float32)
    return to_image(values, affine, name="made")


def theirs(read: MetaTensor, axes: int = 3, spacing: list[float] | None = None) -> np.ndarray:
    """The steps of nnU-Net's ``DefaultPreprocessor.run_case_npy``, an image's axes as z, y, x.

    Its intensities by its own code; its crop and its resampling written out again, since those
    modules of it need packages that are rarely installed.
    """
    content = plans(axes)
    (configuration,) = content["configurations"].values()
    wanted = list(spacing or configuration["spacing"])
    values, sizes = read.numpy(), list(spacing_of(read.affine.numpy(), axes))
    if axes == 2:
        values, sizes = values[..., None], [*sizes, 999 * max(sizes)]
    forward = content["transpose_forward"]
    values = values.transpose(0, 3, 2, 1).transpose(0, *(axis + 1 for axis in forward))
    given = [sizes[::-1][axis] for axis in forward]
    # nnunetv2/preprocessing/cropping/cropping.py
    mask = binary_fill_holes((values[0] != 0) | (values[1] != 0))
    used = np.argwhere(mask)
    box = tuple(slice(a, b + 1) for a, b in zip(used.min(0), used.max(0), strict=True))
    values, mask = np.stack([one[box] for one in values]), mask[box]
    wanted = [given[0]] * (3 - len(wanted)) + wanted
    properties = content["foreground_intensity_properties_per_channel"]
    for number, name in enumerate(configuration["normalization_schemes"]):
        scheme = getattr(schemes, name)(
            configuration["use_mask_for_norm"][number], properties[str(number)]
        )
        values[number] = scheme.run(values[number], np.where(mask, 0, -1))
    shape = [round(i / j * k) for i, j, k in zip(given, wanted, mask.shape, strict=True)]
    found = np.stack([resampled(one, shape, given, wanted) for one in values])
    return found if axes == 3 else found[:, 0]


def resampled(
    values: np.ndarray, shape: list[int], given: list[float], wanted: list[float]
) -> np.ndarray:
    """As nnunetv2/preprocessing/resampling/default_resampling.py, with splines of order 3."""
    settings = {"order": 3, "mode": "edge", "anti_aliasing": False}
    apart = next((one for one in (given, wanted) if max(one) / min(one) > 3), None)
    lowest = [] if apart is None else np.flatnonzero(np.array(apart) == max(apart)).tolist()
    if list(values.shape) == shape:
        return values
    values = values.astype(float)
    if len(lowest) != 1:
        return resize(values, shape, **settings)
    plane = [size for axis, size in enumerate(shape) if axis != lowest[0]]
    slices = [resize(one, plane, **settings) for one in np.moveaxis(values, lowest[0], 0)]
    stacked = np.moveaxis(np.stack(slices), 0, lowest[0])
    cells = np.mgrid[tuple(slice(0, size) for size in shape)]
    scales = np.array(stacked.shape) / np.array(shape)
    places = scales[:, None, None, None] * (cells + 0.5) - 0.5
    return map_coordinates(stacked, places, order=0, mode="nearest")


@pytest.mark.parametrize(
    "spacing", [[3.0, 1.25, 1.5], [4.0, 1.0, 1.5], [1.1, 1.3, 1.2], [5.0, 1.0, 1.0]]
)
def test_the_preprocessing_is_nnunets(tmp_path: Path, spacing: list[float]) -> None:
    def change(content: dict[str, Any], _: dict[str, Any]) -> None:
        content["configurations"]["3d_fullres"]["spacing"] = spacing

    model = load_classifier(result_folder(tmp_path / "model", change))
    read = image()
    np.testing.assert_allclose(
        model.prepare(read).numpy(), theirs(read, spacing=spacing), atol=2e-5
    )


def test_a_picture_is_prepared_as_nnunet_does(tmp_path: Path) -> None:
    model = load_classifier(result_folder(tmp_path / "model", axes=2))
    read = image((20, 24))
    np.testing.assert_allclose(model.prepare(read).numpy(), theirs(read, axes=2), atol=2e-5)


def test_the_affine_of_the_prepared_image_is_true(tmp_path: Path) -> None:
    def smooth(content: dict[str, Any], _: dict[str, Any]) -> None:
        configuration = content["configurations"]["3d_fullres"]
        configuration["normalization_schemes"] = ["NoNormalization"] * 2
        configuration["spacing"] = [1.3, 1.25, 1.4]

    model = load_classifier(result_folder(tmp_path / "model", smooth))
    affine = np.array([[0, 0, 1.4, -9], [-1.2, 0, 0, 40], [0, -1.1, 0, 12], [0, 0, 0, 1]])
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 24, 18)), indexing="ij"), -1)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    # The world's own coordinates as intensities, none of them zero.
    read = to_image(np.stack([world[..., 0] + 100, world[..., 2] + 100]), affine, name="ramps")
    found = model.prepare(read)
    cells = np.stack(np.meshgrid(*map(np.arange, found.shape[1:]), indexing="ij"), -1)
    there = cells @ found.affine.numpy()[:3, :3].T + found.affine.numpy()[:3, 3]
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(found.numpy()[0][inner], there[..., 0][inner] + 100, atol=0.02)
    np.testing.assert_allclose(found.numpy()[1][inner], there[..., 2][inner] + 100, atol=0.02)


def test_the_prediction_is_nnunets(tmp_path: Path) -> None:
    folder = result_folder(tmp_path / "model")
    model = load_classifier(folder)
    assert model.classes == ("background", "organ", "tumour")
    assert model.channels == ("CT", "T1")
    (configuration,) = plans()["configurations"].values()
    read = image((10, 14, 5))
    # One window holds it; nnU-Net pads to that as here.
    prepared = model.prepare(read).as_tensor()
    assert all(a <= b for a, b in zip(prepared.shape[1:], (8, 16, 16), strict=True))
    gaps = [(b - a) for a, b in zip(prepared.shape[1:], (8, 16, 16), strict=True)]
    pads = [side for gap in reversed(gaps) for side in (gap // 2, gap - gap // 2)]
    padded = torch.nn.functional.pad(prepared, pads)
    with torch.no_grad():
        logits = made_network(configuration["architecture"])(padded[None])[0]
    for axis, (gap, size) in enumerate(zip(gaps, prepared.shape[1:], strict=True), start=1):
        logits = logits.narrow(axis, gap // 2, size)
    found = class_maps(model, model.prepare(read))
    torch.testing.assert_close(found.scores, logits, atol=1e-5, rtol=1e-4)


def test_a_point_of_a_folds_network_is_explained(tmp_path: Path) -> None:
    folder = result_folder(tmp_path / "model")
    point = ",".join(map(str, (AFFINE @ [10, 12, 4, 1])[:3]))
    case = prepare(image(), load_classifier(folder / "fold_0"), f"point:{point}@tumour")
    assert case.input.shape == (2, 8, 16, 16)
    found = explain(case, select_methods(["gradient", "gradcam"]))
    assert [one.values.shape for one in found] == [(20, 24, 9)] * 2
    assert any("fold_0" in note for note in case.classifier.notes)
    seen = case.field_of_view.seen((20, 24, 9))
    assert found[0].values[seen].any()
    assert not found[0].values[~seen].any()


def test_regions_are_classes_of_their_own(tmp_path: Path) -> None:
    def regions(_: dict[str, Any], dataset: dict[str, Any]) -> None:
        dataset["labels"] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 3}
        dataset["regions_class_order"] = [1, 2, 3]

    model = load_classifier(result_folder(tmp_path / "model", regions))
    assert model.classes == ("whole", "core", "rim")
    assert model.network.activation == "sigmoid"
    assert model.network.independent


def old_plans(content: dict[str, Any], _: dict[str, Any]) -> None:
    configuration = content["configurations"]["3d_fullres"]
    given = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "conv_kernel_sizes": given["kernel_sizes"],
        "pool_op_kernel_sizes": given["strides"],
        "n_conv_per_stage_encoder": given["n_conv_per_stage"],
        "n_conv_per_stage_decoder": given["n_conv_per_stage_decoder"],
    }


def test_plans_from_before_2024_name_the_same_network(tmp_path: Path) -> None:
    new = load_classifier(result_folder(tmp_path / "new"))
    old = load_classifier(result_folder(tmp_path / "old", old_plans))
    images = torch.randn(1, 2, 8, 16, 16)
    assert torch.equal(new.network(images), old.network(images))


def changed(key: str, value: Any) -> Any:
    def change(content: dict[str, Any], _: dict[str, Any]) -> None:
        content["configurations"]["3d_fullres"][key] = value

    return change


def foreign_layer(content: dict[str, Any], _: dict[str, Any]) -> None:
    described = content["configurations"]["3d_fullres"]["architecture"]
    described["arch_kwargs"]["conv_op"] = "os.system"


def foreign_network(content: dict[str, Any], _: dict[str, Any]) -> None:
    described = content["configurations"]["3d_fullres"]["architecture"]
    described["network_class_name"] = "my_package.Network"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed("previous_stage", "3d_lowres"), "cascade"),
        (changed("resampling_fn_data", "resample_torch_fornnunet"), "resample_torch_fornnunet"),
        (changed("normalization_schemes", ["My", "My"]), "normalization_schemes"),
        (changed("patch_size", "large"), "patch_size"),
        (foreign_layer, "os.system"),
        (foreign_network, "my_package.Network"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, change: Any, named: str) -> None:
    with error_with(ErrorCode.MODEL_CONFIGURATION, named):
        load_classifier(result_folder(tmp_path / "model", change))


def test_a_folder_without_a_checkpoint_says_what_is_wanted(tmp_path: Path) -> None:
    folder = result_folder(tmp_path / "model")
    (folder / "fold_0/checkpoint_final.pth").unlink()
    with error_with(ErrorCode.MODEL_INCOMPLETE, "checkpoint_final.pth"):
        load_classifier(folder)
