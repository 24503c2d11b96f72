"""The Slicer extension is whole: each file is where an installed Slicer looks for it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

from Testing.conftest import PROJECT

MODULES = "lib/Slicer-5.10/qt-scripted-modules"


def files_of_the_project() -> list[Path]:
    """What git tracks or would track, without folders of builds and caches."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True, cwd=PROJECT,
    )  # fmt: skip
    names = [Path(name) for name in listed.stdout.split("\0") if name]
    return sorted({name for name in names if (PROJECT / name).is_file()})


FILES = files_of_the_project()


def configure(source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    cmake = shutil.which("cmake", path=sysconfig.get_path("scripts")) or shutil.which("cmake")
    assert cmake, "cmake comes with the extra 'test'"
    stand_in = PROJECT / "Testing" / "house" / "slicer_stand_in"
    command = [cmake, "-S", source, "-B", build, f"-DSlicer_DIR={stand_in}", "-DBUILD_TESTING=ON"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The tree that building the extension makes."""
    build = tmp_path_factory.mktemp("extension")
    done = configure(PROJECT, build)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CMake Warning" not in done.stderr, done.stderr
    return build


@pytest.mark.slow
def test_every_file_of_module_and_package_is_installed(installed):
    wanted = {
        name.relative_to("scripted_module") if name.parts[0] == "scripted_module" else name
        for name in FILES
        if name.parts[0] in ("scripted_module", "SaliencyExplain")
        or name.parts[:2] == ("Resources", "Classifiers")
    } - {Path("CMakeLists.txt")} | {Path("SaliencyExplain/pyproject.toml")}
    there = {
        file.relative_to(installed / MODULES)
        for file in (installed / MODULES).rglob("*")
        if file.is_file()
    }
    assert wanted - there == set(), "missing in scripted_module/CMakeLists.txt"
    assert there - wanted == set(), "installed, but no file of the project"
    assert Path("SlicerSaliencyExplain.py") in there


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["scripted_module/Resources/requirements.txt"])
def test_listed_file_that_is_not_there_is_an_error(missing, tmp_path):
    source = tmp_path / "source"
    for name in (
        "CMakeLists.txt",
        "pyproject.toml",
        "scripted_module",
        "SaliencyExplain/errors.py",
    ):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copyfile
        copy(PROJECT / name, target)
    assert configure(source, tmp_path / "whole").returncode == 0
    (source / missing).unlink()
    done = configure(source, tmp_path / "broken")
    assert done.returncode != 0
    assert "requirements.txt is listed and is no file" in done.stderr


def test_engine_starts_from_the_installed_tree(installed):
    where = installed / MODULES
    # -S leaves out the editable installation, whose path could come first.
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "SaliencyExplain.cli.main", "serve", "--help"],
        capture_output=True, text=True, check=True, cwd=installed,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(where), *packages])},
    )  # fmt: skip
    assert "--token-file" in done.stdout


def test_the_installed_tree_knows_the_plugins_that_are_shipped(installed):
    code = (
        f"import sys; sys.path.insert(0, {str(installed / MODULES)!r})\n"
        "from SaliencyExplain.plugins import IMAGE_READERS, plugins; print(*plugins(IMAGE_READERS))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True, text=True, check=True, cwd=installed,
    )  # fmt: skip
    assert done.stdout.split() == [".mat"]


@pytest.mark.slow
def test_module_is_imported_with_nothing_but_slicers_own_packages(installed):
    """numpy, vtk and requests: Slicer's Python has no torch, and an import starts no engine."""
    code = f"""
import subprocess, sys, tempfile
from pathlib import Path
import slicer
from Testing.scripted_module import slicer_app
slicer_app.install(Path(tempfile.mkdtemp()), slicer.vtkMRMLScene())
class OnlySlicers:
    absent = "torch monai scipy SimpleITK nibabel pydicom matplotlib PIL fastapi uvicorn typer rich"
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.absent.split():
            raise ModuleNotFoundError(name + " is not in Slicer's Python")
sys.meta_path.insert(0, OnlySlicers())
def refuse(*arguments, **keywords):
    raise AssertionError("a process was started")
subprocess.Popen.__init__ = refuse
sys.path.insert(0, {str(installed / MODULES)!r})
import SlicerSaliencyExplain, SaliencyExplain
import SlicerSaliencyExplainLib.Panel
from SlicerSaliencyExplainLib.ClassifierSection import demo_classifiers
print(*demo_classifiers(), sep="\\n")
print(SlicerSaliencyExplain.__file__, SaliencyExplain.__file__, sep="\\n")
"""
    pytest.importorskip("slicer")
    pytest.importorskip("PySide6")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    where = installed / MODULES
    found = [Path(line) for line in done.stdout.splitlines()]
    assert all(where in path.parents for path in found)
    assert "phantom-3d-honest" in {path.name for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12)])
def test_all_scripts_are_of_slicers_pythons(version):
    scripts = [PROJECT / name for name in FILES if name.suffix == ".py"]
    assert scripts
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        ast.parse(text, filename=str(script), feature_version=version)


def test_icon_and_screenshots_are_where_the_description_says(installed):
    lines = (installed / "described.txt").read_text(encoding="utf-8").splitlines()
    described = dict(line.split("|", 1) for line in lines)
    addresses = [described["ICONURL"], *described["SCREENSHOTURLS"].split()]
    repository = described["HOMEPAGE"].removeprefix("https://github.com/")
    raw = f"https://raw.githubusercontent.com/{repository}/main/"
    for address in addresses:
        assert address.startswith(raw)
        with Image.open(PROJECT / address.removeprefix(raw)) as picture:
            assert picture.format == "PNG"
    icon = Image.open(PROJECT / addresses[0].removeprefix(raw))
    assert icon.size == (256, 256)
    assert icon.mode == "RGBA"

    draft = json.loads(
        (PROJECT / "Resources" / f"{described['NAME']}.json").read_text(encoding="utf-8")
    )
    assert draft["scm_url"] == described["HOMEPAGE"] + ".git"
    assert draft["category"] == described["CATEGORY"]
    assert draft["build_dependencies"] == described["DEPENDS"].split()
    # The Index wants the extension's name without "Slicer" and the repository's with it.
    assert not described["NAME"].startswith("Slicer")
    assert repository.split("/")[1] == f"Slicer{described['NAME']}"
    assert (PROJECT / "LICENSE").is_file()


def test_addresses_stand_in_the_file_as_the_index_reads_them():
    """Its check reads CMakeLists.txt with these patterns and does not expand variables."""
    text = (PROJECT / "CMakeLists.txt").read_text(encoding="utf-8")
    for key in ("ICONURL", "SCREENSHOTURLS"):
        (address,) = re.findall(rf'set\s*\(EXTENSION_{key}\s*"([^"]+)"[ ]*\)', text)
        assert address.startswith("https://")
        assert "${" not in address
