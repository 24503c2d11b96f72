"""Many clients of one server, and what a client says of a wrong address."""

from __future__ import annotations

import threading
from dataclasses import asdict

import numpy as np
import pytest

from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.client.http_client import RemoteEngine
from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.engine.server import routes as engine_server
from SaliencyExplain.engine.wire.requests import PredictRequest
from SaliencyExplain.errors import EngineLostError, InputError
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from SaliencyExplain.voxel_volume import Volume
from Testing.comparing import assert_same
from Testing.engine.conftest import done, ended
from Testing.waiting import HUNG

pytestmark = pytest.mark.server


def test_fifty_clients_at_once_are_all_answered(
    server: EngineProcess, opened_remotely: ClassifierInfo, image: Volume
):
    token = server.client._token
    address = server.client.address
    server.client.put(image)
    answers: list[tuple[float, ...]] = []

    def one(number: int) -> None:
        client = RemoteEngine(address, token)
        own = Volume(np.full((3, 4, 5), number, np.float32), np.eye(4))
        assert client.get(client.put(own)).values[0, 0, 0] == number
        result = done(client, PredictRequest(opened_remotely.key, image.hash))
        client.about()
        answers.append(result.probabilities)
        client.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=HUNG)
    assert len(answers) == 50
    for answer in answers:
        assert_same(answer, answers[0])


def test_fifty_that_wait_for_news_keep_nobody_from_asking(
    server: EngineProcess, opened_remotely: ClassifierInfo, image: Volume
):
    client = server.client
    from SaliencyExplain.engine.wire.requests import ExplainRequest

    long = MethodChoice("occlusion", {"window_mm": 20.0, "stride_mm": 5.0})
    running = client.start(
        ExplainRequest(opened_remotely.key, client.put(image), ExplainSpec((long,)))
    )
    waiting = client.start(
        ExplainRequest(opened_remotely.key, image.hash, ExplainSpec((long,), seed=1))
    )
    heard: list[str] = []
    news = engine_server.LONGEST_WAIT

    def wait() -> None:
        own = RemoteEngine(client.address, client._token)
        status = own.status(waiting)
        while status.state == "waiting":
            status = own.status(waiting, seen=status.version, wait=news)
        heard.append(status.state)
        own.close()

    threads = [threading.Thread(target=wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    # While they wait, for half a minute each, others are answered.
    assert client.about().jobs >= 1
    assert heard == []
    client.cancel(waiting)
    for thread in threads:
        thread.join(timeout=HUNG)
    assert heard == ["cancelled"] * 50
    client.cancel(running)
    ended(client, running)


def test_wrong_token_and_wrong_address_are_told_in_one_line(server: EngineProcess):
    address = server.client.address
    with pytest.raises(InputError, match="token"):
        RemoteEngine(address, "x" * 40).about()
    with pytest.raises(EngineLostError, match="does not answer") as raised:
        RemoteEngine("http://127.0.0.1:1", "x" * 40).about()
    assert "\n" not in str(raised.value)
    for wrong in ("127.0.0.1:80", "ftp://a", ""):
        with pytest.raises(InputError, match="http://host:port"):
            RemoteEngine(wrong, "x")
    with pytest.raises(InputError, match="token"):
        RemoteEngine(address, " ")
    assert asdict(server.client.about())["version"]
