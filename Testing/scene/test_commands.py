"""``--scene`` on the command line."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from Testing.conftest import PROJECT
from Testing.study.conftest import bundle as bundle
from Testing.study.conftest import make_study


def saliency_explain(*words: object, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom SaliencyExplain.cli.main import main\nmain()\n"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, cwd=PROJECT
    )


@pytest.mark.slow
def test_explain_writes_a_scene_beside_its_other_files(bundle: Path, tmp_path: Path):
    data = make_study(tmp_path / "data", 1)
    words = ("explain", data / "P1_image.nii.gz", "-s", data / "P1_mask.nii.gz", "-c", bundle,
             "-m", "gradient", "-o", tmp_path / "out", "--scene", "--json")  # fmt: skip
    done = saliency_explain(*words)
    assert done.returncode == 0, done.stderr
    # One JSON document and nothing else.
    assert done.stdout.startswith("{")
    with zipfile.ZipFile(tmp_path / "out" / "P1_image" / "scene.mrb") as scene:
        text = scene.read("scene/scene.mrml").decode()
    assert 'name="P1_image"' in text
    assert str(tmp_path) not in text


@pytest.mark.slow
def test_without_slicers_libraries_a_study_ends_with_one_line(bundle: Path, tmp_path: Path):
    data = make_study(tmp_path / "data", 1)
    words = ("study", data, "-c", bundle, "-m", "gradient", "-o", tmp_path / "out", "--scene")
    done = saliency_explain(*words, before="sys.modules['slicer'] = None")
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "SE-PACKAGE-MISSING" in line
    assert "pip install '.[scene]'" in line
    assert not (tmp_path / "out").exists()
