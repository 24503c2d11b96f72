"""What the guard and the routes of a server refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.wire.volume_format import encode
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.guarded_calls import LARGEST, SMALL, TOKEN, Caller

pytestmark = pytest.mark.server


ROUTES = [
    ("GET", "/about"),
    ("GET", "/methods"),
    ("GET", "/jobs"),
    ("GET", "/jobs/0"),
    ("PUT", "/jobs/0"),
    ("GET", "/volumes/0"),
    ("PUT", "/volumes/0"),
    ("POST", "/classifiers"),
    ("PUT", "/classifiers/0"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/redoc"),
    ("OPTIONS", "/about"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize(("verb", "path"), ROUTES)
def test_no_route_answers_without_the_token(call: Caller, verb: str, path: str):
    for wrong in (
        "",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        TOKEN,
    ):
        answer = call(verb, path, Authorization=wrong)
        assert answer.status_code == 401
        assert TOKEN not in answer.text
        assert "saliency" not in answer.text.lower()


def test_with_the_token_it_answers_and_shows_no_documentation(call: Caller):
    assert call("GET", "/about").json()["device"].startswith("cpu")
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert call("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8123", 200),
        ("localhost:9999", 200),
        ("LOCALHOST", 200),
        ("[::1]:8123", 200),
        ("lab.example:8123", 200),
        ("evil.example", 403),
        ("evil.example:8123", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[::1", 403),
        ("127.0.0.1:x", 403),
        ("", 403),
    ],
)
def test_only_its_own_names_are_answered(call: Caller, host: str, status: int):
    assert call("GET", "/about", Host=host).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8123", 200),
        ("https://127.0.0.1:8123", 403),
        ("http://127.0.0.1:8124", 403),
        ("http://localhost:8123", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_origins_are_not_answered(call: Caller, origin: str, status: int):
    answer = call("GET", "/about", Origin=origin)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_too_large_uploads_are_refused_before_and_while_they_come(call: Caller):
    key = "0" * 64
    assert call("GET", f"/volumes/{key}/known?size={LARGEST + 1}").status_code == 413
    announced = call("PUT", f"/volumes/{key}", content=b"", **{"Content-Length": str(10**12)})
    assert announced.status_code == 413
    assert "--max-upload" in announced.json()["error"]
    job = call("PUT", f"/jobs/{'0' * 32}", content=b"{}", **{"Content-Length": str(10**19)})
    assert job.status_code == 413
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * LARGEST:
            sent += 65536
            yield bytes(65536)

    # Without an announced length it is counted as it comes.
    for path in (f"/volumes/{key}", f"/classifiers/{key}?name=a.zip", "/jobs/" + "0" * 32):
        sent = 0
        assert call("PUT", path, content=endless()).status_code == 413
        assert sent < 4 * LARGEST
    assert call("PUT", f"/volumes/{key}", content=b"").status_code == 400


def test_client_is_told_what_is_too_large_before_it_sends(server: EngineProcess):
    with pytest.raises(InputError, match="--max-upload"):
        server.client._ask("GET", f"classifiers/{'0' * 64}", asked={"size": str(2**40)})


def test_volume_under_a_wrong_hash_is_refused(call: Caller, local: LocalEngine):
    assert call("PUT", f"/volumes/{'0' * 64}", content=encode(SMALL)).status_code == 400
    assert call("PUT", f"/volumes/{SMALL.hash}", content=encode(SMALL)).status_code == 200
    back = call("GET", f"/volumes/{SMALL.hash}")
    assert back.content == encode(SMALL)
    assert call("GET", f"/volumes/{'0' * 64}").status_code == 400


@pytest.mark.parametrize(
    "content", [b"SEV1", b"\x00" * 1000, encode(SMALL)[:-1], encode(SMALL) + b"x", b"PK\x03\x04"]
)
def test_malformed_volumes_are_told_in_one_line(call: Caller, content: bytes):
    answer = call("PUT", f"/volumes/{SMALL.hash}", content=content)
    assert answer.status_code == 400
    assert answer.json()["kind"] == "InputError"
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("0" * 32, b"{", "not valid JSON"),
        ("0" * 32, b"[]", "kind"),
        ("0" * 32, b'{"kind": "destroy", "request": {}}', "destroy"),
        ("0" * 32, b'{"kind": "predict", "request": {"volume": "v"}}', "classifier"),
        ("0" * 32, b'{"kind": "predict", "request": {"classifier": 3, "volume": "v"}}', "text"),
        ("0" * 32, b'{"kind": "predict"}', "request"),
        ("..%2F..%2Fetc", b"{}", "address"),
        ("x" * 32, b"{}", "address"),
    ],
)
def test_malformed_requests_are_told_in_one_line(
    call: Caller, name: str, content: bytes, told: str
):
    answer = call("PUT", f"/jobs/{name}", content=content)
    assert answer.status_code in (400, 404)
    if answer.status_code == 400:
        assert told in answer.json()["error"]


def test_a_jobs_name_is_that_of_one_request(call: Caller, local: LocalEngine, bundle: Path):
    key = local.open_classifier(str(bundle)).key
    volume = local.put(SMALL)
    other = local.put(Volume(SMALL.values + 1, SMALL.affine))

    def jobs() -> int:
        return sum(status.job == "a" * 32 for status in local.jobs())

    def start(which: str) -> httpx.Response:
        request = {"classifier": key, "volume": which}
        content = json.dumps({"kind": "predict", "request": request}).encode()
        return call("PUT", f"/jobs/{'a' * 32}", content=content)

    assert start(volume).status_code == 200
    # Said twice, as a client does whose first answer was lost: one job.
    assert start(volume).status_code == 200
    assert jobs() == 1
    refused = start(other)
    assert refused.status_code == 400
    assert refused.json()["code"] == ErrorCode.ENGINE_REQUEST.value
    assert "a" * 32 in refused.json()["error"]
    assert jobs() == 1


def test_strange_numbers_in_the_address_do_no_harm(call: Caller):
    for query in ("wait=nan", "wait=-5", "wait=x", "seen=1e9", "seen=99999999999999999999"):
        assert call("GET", f"/jobs/{'0' * 32}?{query}").status_code == 400
