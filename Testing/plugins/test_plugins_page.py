"""The package of docs/PLUGINS.md, installed by pip, works in every interface."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

import SaliencyExplain as se
from SaliencyExplain.attribution.method_selection import describe_methods
from SaliencyExplain.cli.completion import method_names
from SaliencyExplain.cli.main import application
from SaliencyExplain.cli.messages import run
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.viewer.methods_form import rows
from Testing.conftest import PROJECT
from Testing.plugins.conftest import as_ini, found_in

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (PROJECT / "docs" / "PLUGINS.md").read_text(encoding="utf-8")
#: The files of the page's package: the first line of each block has the name.
FILES = dict(re.findall(r"```(?:toml|python)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
METHOD, PACKAGE = "gradient-power", "tumour-lab 1.0"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the page's package into."""
    folder = tmp_path_factory.mktemp("tumour_lab")
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    information = "tumour_lab-1.0.dist-info"
    assert (project["name"], project["version"]) == ("tumour-lab", "1.0")
    contents = {
        **{name: text for name, text in FILES.items() if name.endswith(".py")},
        f"{information}/METADATA": "Metadata-Version: 2.1\nName: tumour-lab\nVersion: 1.0\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": as_ini(project["entry-points"]),
        f"{information}/RECORD": "",
    }
    wheel = folder / "tumour_lab-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", folder / "site", wheel], check=True, capture_output=True)
    return folder / "site"


@pytest.fixture
def tumour_lab(installed: Path) -> Iterator[Path]:
    """The same folder, its plugins found by this process."""
    with found_in(installed):
        yield installed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three phantoms as the page's layout and reader have them."""
    folder = tmp_path / "study"
    folder.mkdir()
    labels = {}
    for number, label in enumerate(("glioma-like", "meningioma-like", "none")):
        phantom = se.draw_phantom(label, seed=number, dimensions=2)
        affine = phantom.image.affine.numpy()
        np.savez(folder / f"p{number}.npz", values=phantom.image[0].numpy(), affine=affine)
        if "tumour" in phantom.masks:
            mask = phantom.masks["tumour"].astype(np.uint8)
            np.savez(folder / f"p{number}_mask.npz", values=mask, affine=affine)
        labels[f"p{number}.npz"] = label
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("tumour_lab")
def test_the_method_is_in_every_interface(folder, monkeypatch):
    monkeypatch.delitem(vars(se), "GradientPower", raising=False)
    image = read_image(folder / "p0.npz")
    result = se.explain(image, "demo:phantom-2d-honest", [se.GradientPower(power=1), se.Gradient])
    np.testing.assert_allclose(result[0].values, result[1].values, rtol=1e-5, atol=1e-9)
    assert "GradientPower" in dir(se)
    monkeypatch.delitem(vars(se), "GradientPower")
    engine = LocalEngine()
    described = {one["name"]: one for one in engine.methods()}
    engine.close()
    assert described == {one["name"]: one for one in describe_methods()}
    assert [one for one in described.values() if one["package"]] == [described[METHOD]]
    assert described[METHOD]["package"] == PACKAGE
    (row,) = [row for row in rows(described.values(), [], []) if row["name"] == METHOD]
    assert PACKAGE in row["source"]
    assert METHOD in method_names()


@pytest.mark.usefixtures("tumour_lab")
def test_the_reader_reads_images_and_segmentations(folder):
    phantom = se.draw_phantom("glioma-like", seed=0, dimensions=2)
    image = read_image(folder / "p0.npz")
    np.testing.assert_array_equal(image.numpy(), phantom.image.numpy())
    np.testing.assert_array_equal(image.affine.numpy(), phantom.image.affine.numpy())
    (segment,) = read_segmentation(folder / "p0_mask.npz", image).segments
    np.testing.assert_array_equal(segment.mask, phantom.masks["tumour"])


@pytest.mark.usefixtures("tumour_lab")
def test_the_layout_finds_the_cases(folder):
    cases = discover(folder)
    assert [(case.case, case.label) for case in cases] == [
        ("p0", "glioma-like"),
        ("p1", "meningioma-like"),
        ("p2", "none"),
    ]
    assert [case.segmentation and case.segmentation.name for case in cases] == [
        "p0_mask.npz",
        "p1_mask.npz",
        None,
    ]


@pytest.mark.usefixtures("tumour_lab")
def test_the_list_of_methods_says_where_the_method_is_from(capsys):
    assert run(application, ["methods"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if METHOD in line]
    assert PACKAGE in line
    assert run(application, ["methods", METHOD]) == 0
    assert PACKAGE in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_on_the_command_line_uses_all_three(installed, folder, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(installed)])}
    study = ["study", folder, "-c", "demo:phantom-2d-honest", "-m", METHOD, "-o", "out"]
    subprocess.run(
        [sys.executable, "-m", "SaliencyExplain.cli.main", *study],
        capture_output=True, text=True, check=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    explained = json.loads((tmp_path / "out" / "p0" / "explanation.json").read_text())
    assert explained["provenance"]["versions"]["tumour-lab"] == "1.0"
    found = nibabel.load(next((tmp_path / "out" / "p0").glob(f"*{METHOD}*.nii.gz")))
    assert np.asarray(found.dataobj).min() >= 0
    assert np.asarray(found.dataobj).max() > 0


def test_help_imports_no_plugin(installed):
    code = (
        "import sys; from SaliencyExplain.cli.main import application; import SaliencyExplain\n"
        "from SaliencyExplain.cli.messages import run\n"
        "for words in (['--help'], ['methods', '--help'], ['study', '--help']):\n"
        "    run(application, words)\n"
        "print([m for m in sys.modules if m.startswith(('tumour_lab', 'torch'))])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(installed)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[]"
