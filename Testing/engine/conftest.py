"""An engine in this process and one behind a real server; the same tests ask both."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import MENINGIOMA
from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.interface import ENDED, ClassifierInfo, Engine, JobStatus
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.server.auth import RequestAuth
from SaliencyExplain.engine.server.routes import make_application
from SaliencyExplain.engine.server.uploads import Uploads
from SaliencyExplain.engine.wire.request_base import Request
from SaliencyExplain.engine.wire.requests import ExplainRequest
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from SaliencyExplain.specification.target import Target
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.guarded_calls import LARGEST, TOKEN, Caller
from Testing.waiting import HUNG

COMMAND = [sys.executable, "-m", "SaliencyExplain.cli.main"]
#: Sixty thousand windows: minutes in which other things can happen; always cancelled.
LONG = MethodChoice("occlusion", {"window_mm": 20.0, "stride_mm": 5.0})
#: Some hundred windows: a second or so.
MIDDLE = MethodChoice("occlusion", {"window_mm": 50.0, "stride_mm": 30.0})
QUICK = MethodChoice("gradcam")
#: Makes requests for explanations of one image.
Explain = Callable[..., ExplainRequest]


def environment() -> dict[str, str]:
    """Of a server: one thread, so that its figures are those of this process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the engines' jobs may name."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[EngineProcess]:
    process = EngineProcess.start(COMMAND, environment=environment(), data=[str(data)])
    yield process
    process.stop()


@pytest.fixture(scope="session")
def local(data: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine("cpu", data=[data])
    yield engine
    engine.close()


@pytest.fixture
def opened_remotely(server: EngineProcess, bundle: Path) -> ClassifierInfo:
    return server.client.open_classifier(str(bundle))


@pytest.fixture
def call(tmp_path: Path, local: LocalEngine) -> Iterator[Caller]:
    places = tmp_path / "uploads"
    places.mkdir()
    uploads = Uploads(places, LARGEST)
    yield Caller(RequestAuth(make_application(local, uploads), TOKEN, "127.0.0.1", ["lab.example"]))
    assert not list(places.iterdir())


@pytest.fixture(params=["in this process", "over http"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Asks either engine; no test leaves jobs behind for the next."""
    if request.param == "in this process":
        asked: Engine = request.getfixturevalue("local")
    else:
        asked = request.getfixturevalue("server").client
    yield asked
    for status in asked.jobs():
        asked.cancel(status.job)
    for status in asked.jobs():
        ended(asked, status.job)


@pytest.fixture(scope="session")
def bundle() -> Path:
    return classifier_folder("phantom-3d-honest")


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    return load_classifier(bundle)


@pytest.fixture
def opened(engine: Engine, bundle: Path) -> ClassifierInfo:
    return engine.open_classifier(str(bundle))


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return draw_phantom(MENINGIOMA, STUDY_SEEDS + 5)


@pytest.fixture(scope="session")
def image(phantom: Phantom) -> Volume:
    return volume_of(phantom)


def volume_of(phantom: Phantom) -> Volume:
    return Volume(phantom.image.numpy(), phantom.image.affine.numpy().astype(np.float64))


@pytest.fixture
def explain(engine: Engine, opened: ClassifierInfo, image: Volume) -> Explain:
    """Makes requests for explanations of the phantom."""

    def make(
        *methods: MethodChoice, target: str = "predicted", image_name: str = "", **fields: Any
    ) -> ExplainRequest:
        spec = ExplainSpec(methods, Target.parse(target), **fields)
        return ExplainRequest(opened.key, engine.put(image), spec, image_name)

    return make


def ended(engine: Engine, job: str, seconds: float = HUNG) -> JobStatus:
    """The status of a job once it is over."""
    return until(engine, job, lambda status: status.state in ENDED, seconds)


def until(
    engine: Engine, job: str, wanted: Callable[[JobStatus], bool], seconds: float = HUNG
) -> JobStatus:
    """The first status of a job that is as wanted."""
    end = time.monotonic() + seconds
    status = engine.status(job)
    while not wanted(status):
        assert status.state not in ENDED, status
        assert time.monotonic() < end, status
        status = engine.status(job, seen=status.version, wait=5.0)
    return status


def done(engine: Engine, request: Request) -> object:
    """The result of a job that goes well."""
    job = engine.start(request)
    status = ended(engine, job)
    assert status.state == "done", status
    return engine.result(job)
