"""Installing the engine beside Slicer's own Python: exactly what was said, or nothing at all."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
import venv
import zipfile
from pathlib import Path

import psutil
import pytest
from SlicerSaliencyExplainLib.EnginePackages import (
    REQUIREMENTS,
    EnginePackages,
    PackageToInstall,
    install_torch,
)

from SaliencyExplain.errors import Cancelled, ErrorCode, InputError
from Testing.conftest import PROJECT
from Testing.expected_errors import error_with

from .conftest import make_wheel

pytestmark = pytest.mark.slow

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "torch", "2.5.0")
    make_wheel(folder, "torch", "9.0.0")
    make_wheel(folder, "alpha", "1.0", "beta")
    make_wheel(folder, "alpha", "2.0", "beta", "torch>=9")
    make_wheel(folder, "beta", "0.3")
    make_wheel(folder, "shared", "1.2")
    make_wheel(folder, "shared", "2.0")
    return folder


def pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def slicers_python(tmp_path_factory, wheels) -> Path:
    """A Python of its own with pip, PyTorch and a package that other extensions use."""
    folder = tmp_path_factory.mktemp("slicer") / "python"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    found = ["--no-index", "--find-links", str(wheels)]
    pip(python, "install", *found, "torch==2.5.0", "shared==1.2")
    return python


@pytest.fixture
def packages(tmp_path, wheels, slicers_python):
    def build(
        *requirements: str, python: Path = slicers_python, index=(), environment=None
    ) -> EnginePackages:
        file = tmp_path / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in requirements))
        return EnginePackages(
            tmp_path / "place",
            python,
            base_environment=environment,
            requirements=file,
            pip_options=index or ["--no-index", "--find-links", str(wheels)],
        )

    return build


def install(engine: EnginePackages) -> list[str]:
    lines: list[str] = []
    engine.install(engine.plan(), lines.append, lambda: False)
    return lines


def all_files(folder: Path) -> set[tuple[str, int]]:
    return {
        (str(file.relative_to(folder)), file.stat().st_size)
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def site_packages(python: Path) -> Path:
    return next(python.parents[1].rglob("site-packages"))


def test_plan_names_what_is_missing_with_its_version_and_size(packages, wheels):
    plan = packages("torch>=2.4", "shared>=1", "alpha").plan()
    assert {(package.name, package.version) for package in plan} == {
        ("alpha", "1.0"),
        ("beta", "0.3"),
    }, "what is there stays, and no other PyTorch is fetched for alpha 2.0"
    for package in plan:
        file = wheels / f"{package.name}-{package.version}-py3-none-any.whl"
        assert package.bytes == file.stat().st_size


def test_asking_changes_nothing(packages, slicers_python, tmp_path):
    before = all_files(site_packages(slicers_python))
    engine = packages("torch", "alpha")
    assert not engine.installed()
    engine.plan()
    assert not (tmp_path / "place").exists()
    assert all_files(site_packages(slicers_python)) == before


def test_installing_leaves_slicers_own_python_as_it_is(packages, slicers_python):
    before = all_files(site_packages(slicers_python))
    engine = packages("torch", "shared>=2", "alpha")
    lines = install(engine)
    assert any("alpha" in line for line in lines)
    assert engine.installed()
    assert (engine.folder / "alpha.py").is_file()
    assert (engine.folder / "beta.py").is_file()
    assert not list(engine.folder.glob("torch*"))
    assert [path.name for path in engine.folder.parent.iterdir()] == [engine.folder.name]
    assert all_files(site_packages(slicers_python)) == before
    own = subprocess.run(
        [slicers_python, "-c", "import shared; print(shared.version)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert own.stdout.strip() == "1.2"


def test_engine_starts_and_prefers_the_folder_to_what_slicers_launcher_puts_first(
    packages, tmp_path
):
    launcher = tmp_path / "launcher"
    launcher.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(launcher)}
    engine = packages("torch", "alpha<2", python=Path(sys.executable), environment=environment)
    install(engine)
    # Runs in every Python that starts there, and says at its end where it has looked.
    (launcher / "sitecustomize.py").write_text(
        "import atexit, json, sys\natexit.register(lambda: print(json.dumps(sys.path)))\n"
    )
    started = subprocess.run(
        [*engine.command(), "methods"],
        env=engine.environment(), capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    *said, path = started.stdout.strip().splitlines()
    assert "occlusion" in "\n".join(said)
    looked = [Path(place) for place in json.loads(path)]
    assert looked[0] == engine.folder
    assert looked.index(PROJECT) < looked.index(launcher)


def test_changed_requirements_are_not_installed_until_they_are(packages):
    engine = packages("torch", "beta")
    install(engine)
    changed = packages("torch", "beta", "shared>=2")
    assert changed.folder == engine.folder
    assert not changed.installed()
    with error_with(ErrorCode.PACKAGE_MISSING):
        changed.command()
    install(changed)
    assert changed.installed()
    assert not (changed.folder / "alpha.py").exists()
    assert "2.0" in (changed.folder / "shared.py").read_text()


def test_nothing_missing_needs_no_download(packages):
    engine = packages("torch", "shared")
    assert engine.plan() == ()
    assert install(engine) == []
    assert engine.installed()


def test_cancelling_ends_pip_and_leaves_nothing(packages, tmp_path):
    engine = packages("torch", "alpha<2", "shared>=2")
    plan = engine.plan()
    lines: list[str] = []
    running: list[psutil.Process] = []
    # Other tests' servers run on.
    before = set(psutil.Process().children(recursive=True))

    def cancelled() -> bool:
        if lines:
            running.extend(set(psutil.Process().children(recursive=True)) - before)
        return bool(lines)

    with pytest.raises(Cancelled):
        engine.install(plan, lines.append, cancelled)
    assert running, "pip was at work when it was cancelled"
    assert not any(process.is_running() for process in running)
    assert not engine.installed()
    assert list((tmp_path / "place").iterdir()) == []
    install(engine)
    assert engine.installed()


def test_failed_installation_keeps_the_one_before(packages):
    engine = packages("torch", "beta")
    install(engine)
    before = all_files(engine.folder)
    forged = [PackageToInstall("alpha", "1.0", 100, sha256="0" * 64)]
    with error_with(ErrorCode.FILE_DAMAGED):
        engine.install(forged, lambda line: None, lambda: False)
    assert all_files(engine.folder) == before
    assert engine.installed()
    assert [path.name for path in engine.folder.parent.iterdir()] == [engine.folder.name]


def test_what_a_killed_installation_left_is_cleared_away(packages):
    engine = packages("torch", "beta")
    left = engine.folder.with_name(f".{engine.folder.name}-installing") / "packages"
    left.mkdir(parents=True)
    (left / "half.py").write_text("")
    assert not engine.installed()
    install(engine)
    assert not (engine.folder / "half.py").exists()
    assert not left.exists()


def test_removing_takes_all_of_it(packages, tmp_path):
    engine = packages("torch", "beta")
    install(engine)
    engine.remove()
    assert not engine.installed()
    assert list((tmp_path / "place").iterdir()) == []
    engine.remove()


def test_too_little_room_is_said_before_anything_is_fetched(packages, tmp_path):
    engine = packages("torch", "beta")
    huge = [PackageToInstall("beta", "0.3", 10**15)]
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "6000000.0 GB"):
        engine.install(huge, lambda line: None, lambda: False)
    assert list((tmp_path / "place").iterdir()) == []


def test_python_without_pytorch_is_told_where_to_get_it(packages, tmp_path):
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    engine = packages("torch", "beta", python=bare / "bin" / "python")
    with error_with(ErrorCode.PACKAGE_MISSING, "'PyTorch'", "engine command"):
        engine.plan()
    with error_with(ErrorCode.PACKAGE_MISSING, "'PyTorch'"):
        install_torch()


def test_python_without_pip_is_named(packages, tmp_path, wheels):
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    with zipfile.ZipFile(wheels / "torch-2.5.0-py3-none-any.whl") as archive:
        archive.extractall(site_packages(bare / "bin" / "python"))
    engine = packages("torch", "beta", python=bare / "bin" / "python")
    with error_with(ErrorCode.PACKAGE_MISSING, "bare/bin/python"):
        engine.plan()


def test_python_that_is_not_there_is_named(packages, tmp_path):
    with error_with(ErrorCode.ENGINE_START, "nowhere", "No such file"):
        packages("torch", python=tmp_path / "nowhere").plan()


def test_no_network_is_said_in_one_line(packages):
    attempts = []

    class Closing(socketserver.BaseRequestHandler):
        """A server that ends each connection without an answer."""

        def handle(self) -> None:
            attempts.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), Closing) as index:
        threading.Thread(target=index.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{index.server_address[1]}/simple"
        engine = packages("torch", "beta", index=["--index-url", address])
        with pytest.raises(InputError, match=r"^pip reaches no package index[^\n]*$"):
            engine.plan()
        index.shutdown()
    assert 1 <= len(attempts) <= 3, "pip tries again for minutes"


def test_packages_that_do_not_go_together_are_said_to_be(packages):
    with error_with(ErrorCode.ENGINE_START, "PyTorch 2.5.0"):
        packages("torch", "alpha>=2").plan()
    with error_with(ErrorCode.ENGINE_START, "gamma"):
        packages("torch", "gamma").plan()


def test_requirements_are_those_of_the_package():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    assert listed == project["dependencies"], (
        "scripted_module/Resources/requirements.txt and pyproject.toml say different things"
    )
