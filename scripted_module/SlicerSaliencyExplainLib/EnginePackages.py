"""The engine's packages for "this computer", in a folder that only the engine's process sees.

Slicer's own Python stays as it is: what it has and what fits is used from there, the rest goes
into a folder of its own, which is put in front of ``sys.path`` by the engine's start script and by
nothing else. No package of another extension can be up- or downgraded by that, no file that a
running Slicer has open is touched, and *remove* deletes the folder.

PyTorch is the exception: it is large and shared by several extensions, the right build depends on
the graphics card, and the extension "PyTorch" knows how to choose it. It is expected in Slicer's
Python, or the user is told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import SaliencyExplain
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, OutputError

from .PackagePlan import PackageToInstall, packages_of, pins
from .PipProcess import run_pip

#: The engine's requirements: those of the package, which a test compares.
REQUIREMENTS = Path(__file__).parents[1] / "Resources" / "requirements.txt"

#: Starts the engine. It lies in the folder of packages, because Python puts a script's own folder
#: first: Slicer's launcher puts Slicer's site-packages before all that PYTHONPATH says.
_START = "start_engine.py"
_START_CODE = """\
from SaliencyExplain.cli.main import main

# A study's worker processes import this file again.
if __name__ == "__main__":
    main()
"""
_INSTALLED = "installed.json"

#: Room needed as a multiple of the download: 160 MB of wheels were 730 MB unpacked and compiled,
#: and the wheels lie beside that for a while.
_ROOM = 6

_PIP = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    # Settings of the user's own that would send the packages elsewhere or refuse.
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_USER": "0",
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONNOUSERSITE": "1",
}


class TorchMissingError(InputError):
    """PyTorch is not in Slicer's Python: the extension "PyTorch" installs it."""


def slicer_python() -> Path:
    """The Python program of the running Slicer.

    Raises:
        InputError: It does not exist (a Slicer that was built without its launcher).
    """
    # Slicer has PythonSlicer on its PATH; its sys.executable names it in some versions only.
    found = shutil.which("PythonSlicer")
    if found is None and "python" in Path(sys.executable or "").name.lower():
        found = sys.executable
    if not found:
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            "This Slicer has no PythonSlicer program: name another Python's saliency-explain as "
            "the engine command.",
        )
    return Path(found)


class EnginePackages:
    """Installs and removes what the engine needs beyond Slicer's own Python.

    Attributes:
        folder: Where the packages are; one for each version of Python, because compiled packages
            of one do not load in another.
        python: The Python that runs the engine.
    """

    def __init__(
        self,
        place: Path,
        python: Path,
        *,
        base_environment: Mapping[str, str] | None = None,
        requirements: Path = REQUIREMENTS,
        pip_options: Sequence[str] = (),
    ) -> None:
        """Names the place; nothing is read, written or started.

        Args:
            place: A folder of the user's, in which ``folder`` will lie.
            python: The Python that runs the engine (see `slicer_python`), of this one's version.
            base_environment: Variables that its processes start with; None: those of this one.
            requirements: What the engine needs, a requirement a line.
            pip_options: Further options of ``pip install``, such as another index.
        """
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.folder = Path(place) / version
        self.python = Path(python)
        self._base = dict(os.environ if base_environment is None else base_environment)
        self._requirements = requirements
        self._pip_options = tuple(pip_options)

    def installed(self) -> bool:
        """Whether all is there for the requirements of this version; starts no process."""
        try:
            said = json.loads((self.folder / _INSTALLED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return said.get("requirements") == self._fingerprint()

    def command(self) -> list[str]:
        """The command that starts the engine, before its own arguments.

        Raises:
            InputError: The packages are not installed.
        """
        if not self.installed():
            raise InputError(
                ErrorCode.PACKAGE_MISSING,
                "The engine's packages are not installed: install them first.",
            )
        return [str(self.python), str(self.folder / _START)]

    def environment(self) -> dict[str, str]:
        """All variables that the engine is started with."""
        package = Path(SaliencyExplain.__file__).parents[1]
        paths = [str(package), str(self.folder), self._base.get("PYTHONPATH", "")]
        return {
            **self._base,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONNOUSERSITE": "1",
        }

    def plan(
        self,
        on_line: Callable[[str], None] = lambda line: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[PackageToInstall, ...]:
        """What would be installed; asks the package index and installs nothing.

        Args:
            on_line: Told what pip prints.
            cancelled: Asked now and then whether to stop.

        Raises:
            TorchMissingError: PyTorch is not in that Python.
            InputError: No network, no pip, or requirements that cannot be met together.
            Cancelled: ``cancelled`` was true.
        """
        torch = self._torch_version()
        with tempfile.TemporaryDirectory(prefix="saliency-explain-") as scratch:
            # PyTorch stays as it is: without this pip would fetch another one beside it as soon
            # as a package's newest version asked for that.
            constraints = Path(scratch) / "constraints.txt"
            constraints.write_text(f"torch=={torch}\n", encoding="utf-8")
            report = Path(scratch) / "report.json"
            try:
                self._pip(
                    "--dry-run", "--report", str(report),
                    "--requirement", str(self._requirements), "--constraint", str(constraints),
                    on_line=on_line, cancelled=cancelled,
                )  # fmt: skip
            except InputError as error:
                if "ResolutionImpossible" in str(error):
                    raise InputError(
                        ErrorCode.ENGINE_START,
                        f"The engine's packages do not go with PyTorch {torch} of Slicer's Python: "
                        "install a newer one in the module 'PyTorch Utils', or name another "
                        "engine command.",
                    ) from error
                raise
            found = json.loads(report.read_text(encoding="utf-8"))
        return packages_of(found)

    def install(
        self,
        plan: Sequence[PackageToInstall],
        on_line: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Installs exactly these packages; before it is done, and if it fails, all is as it was.

        Args:
            plan: What `plan` said.
            on_line: Told what pip prints.
            cancelled: Asked ten times a second whether to stop.

        Raises:
            OutputError: The disk is full, or the folder cannot be written or is in use.
            InputError: No network, or a package is not what was announced.
            Cancelled: ``cancelled`` was true; nothing is left behind.
        """
        building = self.folder.with_name(f".{self.folder.name}-installing")
        try:
            # Remains of a process that was killed.
            _delete(building)
            scratch = building / "scratch"
            scratch.mkdir(parents=True)
            self._check_space(plan)
            packages = building / "packages"
            packages.mkdir()
            if plan:
                pinned = scratch / "pins.txt"
                pinned.write_text(pins(plan), encoding="utf-8")
                self._pip(
                    "--target", str(packages), "--no-deps", "--no-cache-dir",
                    "--requirement", str(pinned),
                    on_line=on_line, cancelled=cancelled,
                    # pip unpacks there first: on the same disk, and gone with it when cancelled.
                    extra=dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)),
                )  # fmt: skip
            (packages / _START).write_text(_START_CODE, encoding="utf-8")
            said = {
                "requirements": self._fingerprint(),
                "packages": {package.name: package.version for package in plan},
            }
            (packages / _INSTALLED).write_text(json.dumps(said, indent=1), encoding="utf-8")
            if cancelled():
                raise Cancelled
            self._put_in_place(packages)
        except OSError as error:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{self.folder}: the packages cannot be installed there ({error.strerror}). "
                "Stop the engine, and see that the folder can be written and has room.",
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def remove(self) -> None:
        """Deletes the packages; what was never installed is no error.

        Raises:
            OutputError: The folder is in use or cannot be written; it stays whole.
        """
        try:
            _delete(self.folder.with_name(f".{self.folder.name}-installing"))
            _delete(self.folder)
        except OSError as error:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{self.folder} cannot be removed ({error.strerror}): stop the engine first.",
            ) from error

    def _put_in_place(self, packages: Path) -> None:
        """Renames the new folder to its name; an older one is there until it is."""
        before = packages.with_name("before")
        replaces = self.folder.exists()
        if replaces:
            self.folder.rename(before)
        try:
            packages.rename(self.folder)
        except OSError:
            if replaces:
                before.rename(self.folder)
            raise

    def _check_space(self, plan: Sequence[PackageToInstall]) -> None:
        needed = _ROOM * sum(package.bytes or 0 for package in plan)
        free = shutil.disk_usage(self.folder.parent).free
        if free < needed:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{self.folder.parent}: {needed / 1e9:.1f} GB are needed for the packages and "
                f"{free / 1e9:.1f} GB are free. Make room, or choose another folder.",
            )

    def _torch_version(self) -> str:
        """Version of PyTorch in that Python; asked there, for it need not be this one."""
        code = "import importlib.metadata as m; print(m.version('torch'))"
        try:
            asked = subprocess.run(
                [str(self.python), "-c", code],
                env={**self._base, **_PIP}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                ErrorCode.ENGINE_START, f"{self.python} cannot be started: {error.strerror}."
            ) from error
        if "PackageNotFoundError" in asked.stderr:
            raise TorchMissingError(
                ErrorCode.PACKAGE_MISSING,
                "PyTorch is not in Slicer's Python yet: install the extension 'PyTorch', open its "
                "module 'PyTorch Utils' and press Install, then try again. Or name another "
                "Python's saliency-explain as the engine command.",
            )
        if asked.returncode:
            last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(ErrorCode.ENGINE_START, f"{self.python} does not run: {last}")
        return asked.stdout.strip()

    def _pip(
        self,
        *arguments: str,
        on_line: Callable[[str], None],
        cancelled: Callable[[], bool],
        extra: Mapping[str, str] | None = None,
    ) -> None:
        # Wheels only: nothing is compiled on the user's machine, and no package's own set-up code
        # runs while it is installed.
        options = ["--only-binary", ":all:", "--progress-bar", "off", "--retries", "2"]
        run_pip(
            self.python,
            ["install", *options, *self._pip_options, *arguments],
            environment={**self._base, **_PIP, **(extra or {})},
            on_line=on_line,
            cancelled=cancelled,
        )

    def _fingerprint(self) -> str:
        return hashlib.sha256(self._requirements.read_bytes()).hexdigest()


def install_torch() -> None:
    """Lets the extension "PyTorch" install PyTorch into Slicer's Python; it asks the user first.

    For Slicer's main thread, on a press of a button.

    Raises:
        TorchMissingError: That extension is not installed.
        Cancelled: The user declined.
    """
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise TorchMissingError(
            ErrorCode.PACKAGE_MISSING,
            "The extension 'PyTorch' is not installed: install it in the Extensions Manager and "
            "restart Slicer, or name another Python's saliency-explain as the engine command.",
        ) from error
    wanted = re.search(
        r"^torch([<>=!~]\S*)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE
    )
    requirement = wanted.group(1) if wanted else ""
    logic = PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=True, torchVersionRequirement=requirement) is None:
        raise Cancelled


def _delete(folder: Path) -> None:
    """Deletes a folder; under its name it is there whole or not at all."""
    if not folder.exists():
        return
    aside = folder.with_name(f"{folder.name}-removing")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)
