"""Fixtures of all tests."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import OutputError
from SaliencyExplain.models.torchvision_operators import load_torchvision
from Testing.builders import make_task
from Testing.networks import Linear

PROJECT = Path(__file__).resolve().parents[1]

#: Bytes of a process from which on it gives back what it does not need after each module of tests.
LARGE_PROCESS = 1.2e9

#: Reasons of skipped tests that an installation would take away.
NOT_HERE = re.compile(r"not installed|is not here|could not import")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public images, where there is one; tests skip without it."""
    folder = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the folder of real images is not here (SALIENCY_EXPLAIN_DATA names it)")
    return folder


@pytest.fixture(scope="session")
def opengl() -> None:
    """OpenGL that draws off screen; tests skip without it."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from SaliencyExplain.scene.opengl import check_opengl

    try:
        check_opengl()
    except OutputError:
        pytest.skip("OpenGL is not installed: apt install libegl1 libgl1 libgl1-mesa-dri")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser Chromium; tests skip without it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    return path


#: The fixtures that start a server in a process of its own.
SERVERS = {"server", "scene_server", "study_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they use; ``slow`` alone is written at the tests.

    ``browser`` and ``server`` come from the fixtures, and ``benchmark`` from the folder.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "chromium" in fixtures:
            item.add_marker(pytest.mark.browser)
        if fixtures & SERVERS or parameters.get("engine") == "over http":
            item.add_marker(pytest.mark.server)
        if item.path.is_relative_to(PROJECT / "Testing" / "benchmarks"):
            item.add_marker(pytest.mark.benchmark)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seeds torch and numpy before the fixtures of each test, of whatever scope.

    A network with random weights then is the same whichever tests ran before.
    """
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says at the end, and loudly, which tests were skipped because something is not here."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    missing = [reason for reason in reasons if NOT_HERE.search(reason)]
    if missing:
        count = sum(reasons[reason] for reason in missing)
        title = f"{count} TESTS WERE SKIPPED: SOMETHING IS NOT INSTALLED"
        terminalreporter.section(title, sep="!", red=True, bold=True)
        for reason in sorted(missing, key=reasons.__getitem__, reverse=True):
            terminalreporter.line(f"{reasons[reason]:5} x {reason}", red=True)


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """The library torchvision; tests skip without it."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    return load_torchvision()


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """The library timm; tests skip without it."""
    return pytest.importorskip("timm")


@pytest.fixture
def task() -> Callable[..., Task]:
    """Makes attribution inputs: :func:`make_task`."""
    return make_task


@pytest.fixture
def linear() -> Callable[[Tensor], ScoreNetwork]:
    """Makes a network whose scores are a weighted sum of the voxels, exact to the digit."""
    return lambda weights: ScoreNetwork(Linear(weights), "none").eval()


@pytest.fixture(scope="module", autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    """Ends what a module of tests leaves in memory.

    glibc keeps freed memory for later: after tests with large networks a process would hold
    several gigabytes, and there is one process per core.
    """
    yield
    if psutil.Process().memory_info().rss > LARGE_PROCESS:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
