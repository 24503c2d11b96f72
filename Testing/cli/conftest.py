"""A command line that runs in this process, and a study of phantoms to run it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from SaliencyExplain.cli.main import application
from SaliencyExplain.cli.messages import run
from SaliencyExplain.demo.study import classifier_folder, write_phantom_study


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*words: object) -> Ended:
        capfd.readouterr()
        status = run(application, [str(word) for word in words])
        out, err = capfd.readouterr()
        return Ended(status, out, err)

    return call


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_study(folder, dimensions=3, cases=3, seed=77, marker=False)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_phantom_study(folder, dimensions=2, cases=2, seed=78, marker=False)
    return folder


@pytest.fixture(scope="session")
def honest_3d() -> Path:
    return classifier_folder("phantom-3d-honest")


@pytest.fixture(scope="session")
def honest_2d() -> Path:
    return classifier_folder("phantom-2d-honest")
