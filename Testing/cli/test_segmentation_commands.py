"""Commands on a segmentation network: sizes, the maps of a region, the click of a point."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.wrapping import wrap
from Testing.cli.conftest import Command

AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])
ARGUMENTS = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmentation")
    torch.manual_seed(0)
    wrap(
        "monai.networks.nets.UNet",
        UNet(**ARGUMENTS).state_dict(),
        ["background", "tumour", "edema"],
        folder / "unet",
        network_args=ARGUMENTS,
        activation="softmax",
        window=(16, 16, 16),
    )
    voxels = np.random.default_rng(0).random((24, 20, 16)).astype("f4")
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), folder / "image.nii.gz")
    mask = np.zeros((24, 20, 16), "u1")
    mask[6:10, 6:10, 6:10] = 1
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), folder / "mask.nii.gz")
    return folder


def test_predict_gives_the_size_of_each_class(command: Command, folder: Path) -> None:
    ended = command("predict", folder / "image.nii.gz", "-c", folder / "unet", "--json")
    assert ended.status == 0, ended.err
    sizes = ended.document["sizes"]
    assert sum(one["voxels"] for one in sizes.values()) == 24 * 20 * 16
    assert sizes["tumour"]["size"] == pytest.approx(sizes["tumour"]["voxels"] * 9 / 1000)
    assert sizes["tumour"]["unit"] == "ml"


def test_explain_writes_the_maps_of_a_segments_region(command: Command, folder: Path) -> None:
    out = folder / "explained"
    ended = command(
        "explain", folder / "image.nii.gz", "-c", folder / "unet", "-m", "gradient,gradcam",
        "-s", folder / "mask.nii.gz", "--target", "region:tumour@label 1", "--out", out, "--json",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert ended.document["target"]["name"] == "region:tumour@label 1"
    assert len(list((out / "image").glob("gradient-*.nii.gz"))) == 1
    assert any("16x16x16" in note for note in ended.document["notes"])


def test_probe_tells_the_mean_logit_of_a_point(command: Command, folder: Path) -> None:
    ended = command(
        "probe", folder / "image.nii.gz", "-c", folder / "unet", "--at", "16,12,24",
        "--target", "point:16,12,24@tumour", "--radius", "5", "--json",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    (removal,) = ended.document["removals"]
    assert removal["output"] == "score"
    assert removal["scores"]["tumour"] != ended.document["scores_before"]["tumour"]


def test_maps_of_a_region_are_evaluated(command: Command, folder: Path) -> None:
    ended = command(
        "evaluate", "image", folder / "image.nii.gz", "-c", folder / "unet", "-m", "gradient",
        "--target", "region:tumour", "--cost-tier", "reduced", "--out", folder / "evaluated",
        "--json",
    )  # fmt: skip
    assert ended.status == 0, ended.err


def test_a_study_explains_the_region_of_each_case(command: Command, folder: Path) -> None:
    (folder / "cases.csv").write_text("case,image,segmentation\none,image.nii.gz,mask.nii.gz\n")
    call = ["study", folder / "cases.csv", "-c", folder / "unet", "-m", "gradient"]
    ended = command(*call, "--target", "region:tumour", "--out", folder / "study")
    assert ended.status == 0, ended.err
    record = json.loads((folder / "study/one/explanation.json").read_text())
    assert record["target"] == {"index": 1, "name": "region:tumour"}
    ended = command(*call, "--target", "region:tumor", "--out", folder / "other")
    assert ErrorCode.NAME_UNKNOWN.value in ended.err
    assert not (folder / "other/one").exists()


def test_a_class_target_of_no_region_is_refused_by_name(command: Command, folder: Path) -> None:
    ended = command(
        "explain", folder / "image.nii.gz", "-c", folder / "unet", "-m", "gradient",
        "--target", "difference:tumour|edema", "--out", folder / "refused",
    )  # fmt: skip
    assert ended.status != 0
    assert ErrorCode.TARGET_KIND.value in ended.err
    assert "difference:tumour|edema" in ended.err
