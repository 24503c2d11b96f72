"""The commands as a user calls them, on phantoms, with the shipped classifiers."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai.networks.nets import DenseNet

from SaliencyExplain.explanation import prepared_case
from SaliencyExplain.explanation.prepared_case import PreparedCase, prepare
from SaliencyExplain.images.segmentation import EMPTY_NOTE
from SaliencyExplain.records.agreement_row import COLUMNS
from Testing.cli.conftest import Command

pytestmark = pytest.mark.slow


def test_methods_are_listed_with_units_and_sources(command: Command):
    listed = {method["name"]: method for method in command("methods", "--json").document}
    assert {
        "occlusion",
        "gradcam",
        "gradcam++",
        "cam",
        "gradient",
        "smoothgrad",
        "guided-backprop",
        "guided-smoothgrad",
        "random",
        "centre",
    } <= set(listed)
    window = {p["name"]: p for p in listed["occlusion"]["parameters"]}["window_mm"]
    assert window["unit"] == "mm"
    assert all(method["source"] for method in listed.values())
    shown = command("methods")
    assert shown.status == 0
    assert all(name in shown.out for name in listed)
    assert "occlusion.window_mm" not in shown.out
    one = command("methods", "occlusion", "lrp")
    assert "occlusion.window_mm" in one.out
    assert "lrp.epsilon" in one.out
    assert "gradcam" not in one.out
    assert "Did you mean 'gradcam'" in command("methods", "gradcm").err


def test_predict_prints_probabilities_that_sum_to_one(
    command: Command, phantoms: Path, honest_3d: Path
):
    ended = command("predict", phantoms / "phantom-001_image.nii.gz", "-c", honest_3d, "--json")
    assert ended.status == 0
    assert sum(ended.document["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert ended.document["predicted"] == "glioma-like"
    shown = command("predict", phantoms / "phantom-001_image.nii.gz", "-c", honest_3d)
    assert "glioma-like" in shown.out
    assert "█" in shown.out


def test_explain_leaves_maps_bands_pictures_and_figures(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    image = phantoms / "phantom-001_image.nii.gz"
    ended = command(
        "explain",
        image,
        "-c",
        honest_3d,
        "-m",
        "gradcam",
        "-m",
        "gradient",
        "-s",
        phantoms / "phantom-001_mask.seg.nrrd",
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert ended.status == 0, ended.err
    folder = Path(ended.document["folder"])
    stem = next(p.name[: -len(".nii.gz")] for p in folder.glob("gradcam@*.nii.gz"))
    assert stem.endswith("-glioma-like")
    for suffix in (".nii.gz", ".seg.nrrd", ".png"):
        assert (folder / f"{stem}{suffix}").stat().st_size > 200
    # The map is on the image's grid, whoever reads it.
    mine, theirs = nibabel.load(folder / f"{stem}.nii.gz"), nibabel.load(image)
    assert mine.shape == theirs.shape
    assert mine.get_data_dtype() == np.float32
    np.testing.assert_allclose(mine.affine, theirs.affine, atol=1e-4)
    one = SimpleITK.ReadImage(str(folder / f"{stem}.nii.gz"))
    other = SimpleITK.ReadImage(str(image))
    assert one.GetSize() == other.GetSize()
    np.testing.assert_allclose(one.GetOrigin(), other.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(one.GetDirection(), other.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(one.GetSpacing(), other.GetSpacing(), rtol=1e-5)
    with (tmp_path / "out" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["method"] for row in rows} >= {"gradient", "random", "centre"}
    assert (tmp_path / "out" / "report.html").is_file()
    assert json.loads((folder / "explanation.json").read_text())["prediction"]


def test_explain_never_replaces_the_results_of_another_image(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    options = ("-c", honest_3d, "-m", "gradient", "--out", tmp_path, "--case", "one")
    first = command("explain", phantoms / "phantom-001_image.nii.gz", *options)
    assert first.status == 0, first.err
    before = (tmp_path / "one" / "explanation.json").read_bytes()
    other = command("explain", phantoms / "phantom-002_image.nii.gz", *options)
    assert other.status == 2
    assert "another image" in other.err
    assert (tmp_path / "one" / "explanation.json").read_bytes() == before


def test_the_same_image_and_seed_have_the_same_map_under_any_name(
    command: Command, pictures: Path, honest_2d: Path, tmp_path: Path
):
    maps = []
    for name in ("one", "two"):
        options = ("-c", honest_2d, "-m", "smoothgrad", "--out", tmp_path, "--case", name)
        assert command("explain", pictures / "phantom-001_image.png", *options).status == 0
        maps.append(next((tmp_path / name).glob("smoothgrad-*.nii.gz")).read_bytes())
    assert maps[0] == maps[1]


def test_small_energies_are_per_cent(command: Command, phantoms: Path):
    mask = phantoms / "phantom-001_mask.seg.nrrd"
    shown = command("compare", phantoms / "phantom-001_image.nii.gz", "-s", mask)
    assert shown.status == 0, shown.err
    assert "%" in shown.out
    assert " 0.00 " not in shown.out.split("random")[0]


def test_compare_gives_the_figures_that_the_table_has(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    mask = phantoms / "phantom-001_mask.seg.nrrd"
    image = phantoms / "phantom-001_image.nii.gz"
    options = ("-c", honest_3d, "-m", "gradient", "-s", mask, "--out", tmp_path)
    folder = Path(command("explain", image, *options, "--json").document["folder"])
    written = next(folder.glob("gradient-*.nii.gz"))
    ended = command("compare", written, "--segmentation", mask, "--json")
    assert ended.status == 0, ended.err
    row = next(row for row in ended.document["rows"] if row["method"] == "map")
    with (tmp_path / "comparison.csv").open() as file:
        table = next(r for r in csv.DictReader(file) if r["method"] == "gradient")
    for figure in ("auroc", "energy_inside", "dice_equal_volume", "centre_distance_mm"):
        assert row[figure] == pytest.approx(float(table[figure]), rel=1e-4)


def test_compare_takes_a_constant_map_and_says_so(command: Command, phantoms: Path, tmp_path: Path):
    mask = phantoms / "phantom-001_mask.seg.nrrd"
    flat = nibabel.load(phantoms / "phantom-001_image.nii.gz")
    path = tmp_path / "constant.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones(flat.shape, np.float32), flat.affine), path)
    rows = command("compare", path, "-s", mask, "--json").document["rows"]
    row = next(row for row in rows if row["method"] == "map")
    assert row["auroc"] == pytest.approx(0.5)
    assert row["energy_inside"] == pytest.approx(row["energy_chance"], rel=1e-3)


def test_compare_with_an_empty_mask_says_so_and_has_no_rows(
    command: Command, phantoms: Path, tmp_path: Path
):
    image = nibabel.load(phantoms / "phantom-001_image.nii.gz")
    path = tmp_path / "empty.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    ended = command("compare", phantoms / "phantom-001_image.nii.gz", "-s", path, "--json")
    assert ended.status == 0, ended.err
    assert ended.document["rows"] == []
    assert EMPTY_NOTE in ended.document["notes"]
    assert command("compare", phantoms / "phantom-001_image.nii.gz", "-s", path).status == 0


def test_compare_says_how_far_a_mask_lies_from_where_it_was_drawn(
    command: Command, phantoms: Path, tmp_path: Path
):
    image = nibabel.load(phantoms / "phantom-001_image.nii.gz")
    mask = np.zeros(image.shape, np.uint8)
    mask[tuple(size // 2 for size in image.shape)] = 1
    moved = image.affine.copy()
    moved[:3, 3] += image.affine[:3, 0] * 3
    path = tmp_path / "moved.nii.gz"
    nibabel.save(nibabel.Nifti1Image(mask, moved), path)
    ended = command("compare", phantoms / "phantom-001_image.nii.gz", "-s", path, "--json")
    assert any("(3, 0, 0) voxels" in note for note in ended.document["notes"])


def test_a_study_with_a_bad_case_ends_with_three_and_says_why(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    table = tmp_path / "cases.csv"
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b no image")
    table.write_text(
        "case,image,segmentation,label\n"
        f"good,{phantoms}/phantom-002_image.nii.gz,{phantoms}/phantom-002_mask.seg.nrrd,"
        "meningioma-like\n"
        "bad,broken.nii.gz,,none\n"
    )
    out = tmp_path / "out"
    words = ("study", table, "-c", honest_3d, "-m", "gradcam", "--out", out, "--json")
    ended = command(*words)
    assert ended.status == 3
    assert ended.document["failed"] == 1
    with (out / "failures.csv").open() as file:
        (failure,) = csv.DictReader(file)
    assert failure["case"] == "bad"
    assert "broken.nii.gz" in failure["reason"]
    with (out / "predictions.csv").open() as file:
        (prediction,) = csv.DictReader(file)
    assert prediction["predicted"] == prediction["label"] == "meningioma-like"
    again = command(*words)
    assert again.document["resumed"] == 1


def test_a_study_can_explain_each_case_for_its_own_label(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    table = tmp_path / "cases.csv"
    image = f"{phantoms}/phantom-002_image.nii.gz"
    table.write_text(f"case,image,label\nmeant,{image},Pituitary-like\nunlabelled,{image},\n")
    out = tmp_path / "out"
    words = ("study", table, "-c", honest_3d, "-m", "gradient", "--out", out)
    assert command(*words, "--target", "label").status == 0
    # What it is asked for, not what it says: this image is predicted to be meningioma-like.
    assert (out / "meant" / "gradient-pituitary-like.nii.gz").is_file()
    assert (out / "unlabelled" / "gradient-meningioma-like.nii.gz").is_file()
    words = ("explain", image, "-c", honest_3d, "-m", "gradient", "--out", tmp_path / "alone")
    alone = command(*words, "--target", "label")
    assert alone.status == 2
    assert "no label" in alone.err


def test_dry_run_lists_cases_and_writes_nothing(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    ended = command("study", phantoms, "-c", honest_3d, "--dry-run", "--out", tmp_path / "out")
    assert ended.status == 0
    assert ended.out.count("phantom-00") == 3
    assert not (tmp_path / "out").exists()


def test_wrap_makes_a_bundle_that_predicts(command: Command, pictures: Path, tmp_path: Path):
    torch.manual_seed(0)
    arguments = {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "init_features": 4,
        "growth_rate": 4,
        "block_config": [2],
    }
    network = DenseNet(**arguments).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    ended = command(
        "model",
        "add",
        tmp_path / "weights.pt",
        "--network",
        "monai.networks.nets.DenseNet",
        "--network-args",
        json.dumps(arguments),
        "--classes",
        "no,yes",
        "--size",
        "64,64",
        "--intensity",
        "scale",
        "--out",
        tmp_path / "bundle",
        "--json",
    )
    assert ended.status == 0, ended.err
    assert ended.document["classes"] == ["no", "yes"]
    inspected = command("model", "inspect", tmp_path / "bundle", "--json").document
    assert inspected["parameters"] == sum(p.numel() for p in network.parameters())
    assert inspected["candidate_layers"]
    image = pictures / "phantom-001_image.png"
    assert command("predict", image, "-c", tmp_path / "bundle", "--json").status == 0


def test_the_installed_command_answers():
    done = subprocess.run(
        [sys.executable, "-m", "SaliencyExplain.cli.main", "methods", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)


def test_a_list_with_commas_is_several_methods_and_demo_names_a_shipped_classifier(
    command: Command, pictures: Path, tmp_path: Path
):
    ended = command(
        "explain", pictures / "phantom-001_image.png", "-c", "demo:phantom-2d-honest",
        "-m", "gradcam,gradient", "-m", "centre", "--json", "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert [one["method"] for one in ended.document["attributions"]] == [
        "gradcam", "gradient", "centre",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("probe", "-s", "MASK"),
        ("evaluate", "image", "-m", "centre", "--part", "sanity", "--cost-tier", "least"),
    ],
)
def test_the_limits_of_the_options_are_those_of_the_computation(
    command: Command,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
):
    prepared = []

    def recorded(*arguments: Any, **named: Any) -> PreparedCase:
        prepared.append(prepare(*arguments, **named))
        return prepared[-1]

    monkeypatch.setattr(prepared_case, "prepare", recorded)
    mask = str(pictures / "phantom-001_mask.seg.nrrd")
    given = [mask if word == "MASK" else word for word in words]
    given += ["-o", str(tmp_path / "out")] if "evaluate" in words else []
    ended = command(
        *given, pictures / "phantom-001_image.png", "-c", "demo:phantom-2d-honest",
        "--memory", "1GB", "--batch-size", "2",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    (one,) = prepared
    assert (one.compute.limits.memory, one.compute.limits.batch_size) == (1024**3, 2)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("-c", "demo:phantom-3d"), "SE-NAME-UNKNOWN", "phantom-3d-honest"),
        (("-c", "demo:phantom-2d-honest", "--memory", "4"), "SE-VALUE-FORM", "4GB"),
        (("-c", "demo:phantom-2d-honest", "--seconds", "2kg"), "SE-VALUE-FORM", "'2kg'"),
        (("-c", "demo:phantom-2d-honest", "--passes", "0"), "SE-VALUE-RANGE", "--passes"),
    ],
)
def test_a_number_with_a_wrong_or_missing_unit_is_refused_by_name(
    command: Command, pictures: Path, tmp_path: Path, words, code, named
):
    image = pictures / "phantom-001_image.png"
    ended = command("explain", image, "-m", "gradient", "--out", tmp_path / "out", *words)
    assert ended.status == 2
    assert code in ended.err
    assert named in ended.err
    assert not (tmp_path / "out").exists()
