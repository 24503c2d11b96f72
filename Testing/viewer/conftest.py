"""A viewer in a process of its own, and a page of it in a real browser.

Shared by all tests of a process, because each takes seconds to make: the phantom, its files, the
finished study, the browser and ``server``, a viewer with that phantom and its classifier. Fresh in
each test: ``page``, with a context of its own, so without cookies, storage or errors of an earlier
one. A page finds the maps that earlier tests computed in the shared viewer. A test must therefore
choose the map that it is about, and not count maps; one that needs an empty scene starts its own
viewer with :func:`start_viewer`. ``xdist_group`` keeps the tests of one viewer in one process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from playwright.sync_api import Browser, sync_playwright

from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.images.image_writing import SegmentLabel, write_label_map, write_volume
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of
from Testing.waiting import HUNG

from .pages import Page


@dataclass
class Server:
    """A running viewer.

    Attributes:
        address: The whole address, with its key.
        process: Its process.
    """

    address: str
    process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        return self.address.split("/#")[0]

    @property
    def key(self) -> str:
        return self.address.split("#")[1]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(HUNG)


def start_viewer(words: Sequence[object]) -> Server:
    """Starts ``saliency-explain view`` and waits until it says its address."""
    command = [sys.executable, "-m", "SaliencyExplain.cli.main", "view", "--no-browser"]
    # A file: a pipe that nobody reads fills up.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(HUNG)
            said.seek(0)
            pytest.fail(f"the viewer ended without saying its address: {said.read()[-2000:]}")
    return Server(json.loads(line)["address"], process)


@pytest.fixture(scope="session", autouse=True)
def _draws_in_3d(opengl: None) -> None:
    """A viewer cannot be started where nothing draws in 3D."""


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A head with a meningioma-like tumour, which the honest classifier sees."""
    return draw_phantom("meningioma-like", STUDY_SEEDS + 1)


@pytest.fixture(scope="session")
def tumour(phantom: Phantom) -> NDArray[np.float64]:
    """The middle of the tumour, RAS mm."""
    index = np.argwhere(phantom.masks["tumour"]).mean(axis=0)
    return (phantom.image.affine.numpy() @ [*index, 1.0])[:3]


@pytest.fixture(scope="session")
def case_folder(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Path:
    folder = tmp_path_factory.mktemp("data") / "cases"
    folder.mkdir()
    affine = phantom.image.affine.numpy().astype(np.float64)
    write_volume(folder / "head_image.nii.gz", phantom.image[0].numpy(), affine, "phantom")
    labels = [SegmentLabel(1, "tumour", (0.9, 0.3, 0.3))]
    tumour = phantom.masks["tumour"].astype(np.uint8)
    write_label_map(folder / "head_mask.seg.nrrd", tumour, affine, labels)
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, case_folder: Path) -> Path:
    """A finished study whose case is also there as a scene."""
    out = tmp_path_factory.mktemp("study") / "out"
    run_study(
        discover(case_folder),
        config_of(
            classifier_folder("phantom-3d-honest"),
            out,
            "gradient",
            "gradcam",
            target="meningioma-like",
            scene=True,
        ),
    )
    return out


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as play:
        # A section that unfolds moves what is below it: a click that aims while it does, misses.
        arguments = (
            "--no-sandbox --disable-gpu --disable-dev-shm-usage --force-prefers-reduced-motion"
        )
        browser = play.chromium.launch(executable_path=chromium, args=arguments.split())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(case_folder: Path) -> Iterator[Server]:
    """A viewer with the phantom, its tumour and the honest classifier."""
    found = start_viewer(
        [
            case_folder / "head_image.nii.gz",
            *("--segmentation", case_folder / "head_mask.seg.nrrd"),
            *("--classifier", classifier_folder("phantom-3d-honest")),
            *("--data", case_folder.parent),
        ]
    )
    yield found
    found.stop()


@pytest.fixture(scope="session")
def session(server: Server) -> requests.Session:
    """Someone without a browser who came with the key."""
    session = requests.Session()
    answer = session.post(f"{server.origin}/enter", data=server.key)
    assert answer.status_code == 200
    return session


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A fresh page of the viewer, which keeps what earlier pages have made."""
    yield from open_page(browser, server)


def open_page(browser: Browser, server: Server, **more: Any) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, **more)
    page = Page(context.new_page())
    page.open(server.address)
    yield page
    context.close()
    assert page.errors == []
