"""Bad input gives one clear line, exit status 2, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from Testing.cli.conftest import Command, Ended


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def is_one_line(ended: Ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.out == ""
    lines = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert lines == ended.err.splitlines(), ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word.lower() in lines[0].lower(), (word, lines[0])


@pytest.fixture
def explain(command: Command, honest_3d: Path, tmp_path: Path):
    def call(*words: object, method: str = "gradcam", classifier: Path = honest_3d) -> Ended:
        out = tmp_path / "out"
        ended = command("explain", *words, "-c", classifier, "-m", method, "--out", out, "--json")
        assert not out.exists(), sorted(out.rglob("*"))
        return ended

    return call


def test_a_missing_file(explain, tmp_path: Path):
    is_one_line(explain(tmp_path / "nowhere.nii.gz"), "nowhere.nii.gz")


def test_a_truncated_file(explain, phantoms: Path, tmp_path: Path):
    whole = (phantoms / "phantom-001_image.nii.gz").read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    is_one_line(explain(tmp_path / "half.nii.gz"), "half.nii.gz")


def test_a_folder_without_images(explain, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    is_one_line(explain(tmp_path / "empty"), "empty")


def test_too_many_channels(explain, phantoms: Path):
    image = phantoms / "phantom-001_image.nii.gz"
    is_one_line(explain(image, image), "channel")


def test_an_unknown_channel(explain, phantoms: Path):
    is_one_line(explain(f"flair={phantoms / 'phantom-001_image.nii.gz'}"), "channel", "flair")


def test_four_axes(explain, tmp_path: Path):
    path = nifti(tmp_path / "series.nii.gz", noise(10, 11, 12, 3))
    is_one_line(explain(path), "series.nii.gz", "3 volumes")


def test_voxels_that_are_not_finite(explain, tmp_path: Path):
    values = noise(20, 20, 20)
    values[3, 4, 5] = np.nan
    is_one_line(explain(nifti(tmp_path / "hole.nii.gz", values)), "hole.nii.gz", "not finite")


def test_a_constant_image(explain, tmp_path: Path):
    path = nifti(tmp_path / "flat.nii.gz", np.full((20, 20, 20), 7, np.float32))
    is_one_line(explain(path), "flat.nii.gz", "7")


def test_an_image_smaller_than_the_window(command: Command, pictures, honest_2d, tmp_path: Path):
    ended = command(
        *("explain", pictures / "phantom-001_image.png", "-c", honest_2d, "-m", "occlusion"),
        *("--set", "occlusion.window_mm=5000", "--out", tmp_path / "out"),
    )
    is_one_line(ended, "window", "occlusion.window_mm")
    assert not (tmp_path / "out").exists()


def test_a_mask_without_any_voxel_is_a_note(
    command: Command, honest_3d: Path, phantoms: Path, tmp_path: Path
):
    image = phantoms / "phantom-001_image.nii.gz"
    like = nibabel.load(image)
    empty = nifti(tmp_path / "none.nii.gz", np.zeros(like.shape, np.uint8), like.affine)
    ended = command(
        *("explain", image, "-s", empty, "-c", honest_3d, "-m", "gradcam"),
        *("--out", tmp_path / "out", "--json"),
    )
    assert ended.status == 0
    assert any("segmentation" in note and "voxel" in note for note in ended.document["notes"])
    assert ended.document["segments"] == []


def test_a_mask_beside_the_image(explain, phantoms: Path, tmp_path: Path):
    image = phantoms / "phantom-001_image.nii.gz"
    far = np.eye(4)
    far[:3, 3] = 10_000
    mask = nifti(tmp_path / "far.nii.gz", np.ones((9, 9, 9), np.uint8), far)
    is_one_line(explain(image, "-s", mask), "far.nii.gz", "overlap")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "gradcamm"), ("gradcamm", "did you mean 'gradcam'")),
        (("--target", "gliom-like"), ("gliom-like", "did you mean 'glioma-like'")),
        (("--target", "9"), ("class 9", "0 to 3")),
        (("--layer", "network.nolayer"), ("layer", "nolayer")),
        (("--set", "gradcam.layer=x"), ("parameter", "did you mean 'layers'")),
        (("--set", "smoothgrad.samples=4"), ("smoothgrad", "smoothgrad.samples=4")),
        (("--set", "nonsense"), ("method.parameter=value",)),
        (("--device", "cuda:77"), ("cuda:77",)),
        (("--seed", "x"), ("seed",)),
        (("--seed", "-3"), ("--seed", "-3", "SE-VALUE-RANGE")),
        (("--nonsense",), ("--nonsense",)),
    ],
)
def test_a_wrong_word(explain, phantoms: Path, words: tuple[str, ...], expected: tuple[str, ...]):
    is_one_line(explain(phantoms / "phantom-001_image.nii.gz", *words), *expected)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("smoothgrad.samples=many", ("smoothgrad.samples", "whole number")),
        ("smoothgrad.samples=0", ("smoothgrad.samples", "0")),
        ("smoothgrad.samples=-4", ("at least 1",)),
        ("smoothgrad.noise=nan", ("smoothgrad.noise",)),
        ("smoothgrad.noise=inf", ("smoothgrad.noise", "finite")),
    ],
)
def test_a_wrong_value(explain, phantoms: Path, setting: str, expected: tuple[str, ...]):
    image = phantoms / "phantom-001_image.nii.gz"
    is_one_line(explain(image, "--set", setting, method="smoothgrad"), *expected)


def test_a_picture_for_a_classifier_of_volumes(explain, pictures: Path):
    is_one_line(explain(pictures / "phantom-001_image.png"), "3D")


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_nothing_runs(
    explain, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    bundle = tmp_path / "evil"
    shutil.copytree(honest_3d, bundle)
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    is_one_line(explain(phantoms / "phantom-001_image.nii.gz", classifier=bundle), "model.pt")
    torch.save({"a": Payload(tmp_path / "ran")}, bundle / "models" / "model.pt")
    is_one_line(explain(phantoms / "phantom-001_image.nii.gz", classifier=bundle), "model.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit_name_the_keys(
    explain, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    bundle = tmp_path / "other"
    shutil.copytree(honest_3d, bundle)
    torch.save({"some.weight": torch.zeros(3)}, bundle / "models" / "model.pt")
    is_one_line(explain(phantoms / "phantom-001_image.nii.gz", classifier=bundle), "some.weight")


def test_a_classifier_that_is_no_classifier(explain, phantoms: Path, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not a model")
    image = phantoms / "phantom-001_image.nii.gz"
    is_one_line(explain(image, classifier=tmp_path / "notes.txt"), "notes.txt")


def test_an_output_folder_that_is_a_file(
    command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path
):
    (tmp_path / "file").write_text("x")
    ended = command(
        *("explain", phantoms / "phantom-001_image.nii.gz", "-c", honest_3d, "-m", "gradcam"),
        *("--out", tmp_path / "file" / "out"),
    )
    is_one_line(ended, "file")


def test_a_full_disk(command: Command, phantoms: Path, honest_3d: Path, tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        ended = command(
            *("explain", phantoms / "phantom-001_image.nii.gz", "-c", honest_3d, "-m", "gradient"),
            *("--out", small / "out"),
        )
        is_one_line(ended, "no space left")
        left = [path for path in (small / "out").rglob("*") if path.is_file()]
        assert not [path for path in left if path.suffix in {".gz", ".png", ".nrrd"}], left
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["explian"], "SE-NAME-UNKNOWN", "explain"),
        (["explain"], "SE-OPTION-MISSING", "saliency-explain explain --help"),
        (["explain", "x", "--outt", "y"], "SE-NAME-UNKNOWN", "--out"),
        (["explain", "x", "--seed", "y"], "SE-VALUE-FORM", "--seed"),
        (["compare"], "SE-OPTION-MISSING", "MAP"),
        (["study", "x", "-c", "y"], "SE-OPTION-MISSING", "--method"),
        (["evaluate", "study", "nothing"], "SE-FILE-MISSING", "nothing"),
        (["predict", "x", "-c", "nothing"], "SE-FILE-MISSING", "demo:"),
        (["serve", "--tls-key", "x"], "SE-OPTION-MISSING", "--tls-cert"),
    ],
)
def test_what_is_typed_wrong_is_one_line_with_its_code(command: Command, words, code, named):
    ended = command(*words)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.endswith(f"[{code}]")
    assert named in line
