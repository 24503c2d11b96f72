"""What a server refuses, and what it stands."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import pytest
import requests
import torch

from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.client.http_client import RemoteEngine
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.server import routes as engine_server
from SaliencyExplain.engine.server.auth import Guard
from SaliencyExplain.engine.server.routes import make_application
from SaliencyExplain.engine.server.uploads import Uploads
from SaliencyExplain.engine.wire.packing import Packed
from SaliencyExplain.engine.wire.requests import PredictRequest, StudyRequest
from SaliencyExplain.engine.wire.volume_format import encode
from SaliencyExplain.engine.wire.wire_volumes import Volume
from SaliencyExplain.errors import ClassifierError, EngineLostError, ErrorCode, InputError
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from Testing.comparing import assert_same
from Testing.engine.conftest import QUICK, done, ended
from Testing.waiting import HUNG

pytestmark = pytest.mark.server

TOKEN = "a-token-of-a-test-that-is-long-enough"
LARGEST = 2 * 1024**2
SMALL = Volume(np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4), np.eye(4))


class Caller:
    """Asks the real application, guarded, without a socket between."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(
        self, verb: str, path: str, *, content: object = None, **headers: str
    ) -> httpx.Response:
        given = {"Authorization": f"Bearer {TOKEN}"} | headers

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._guard, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8123"
            ) as client:
                return await client.request(verb, path, content=content, headers=given)

        return asyncio.run(ask())


@pytest.fixture
def call(tmp_path: Path, local: LocalEngine) -> Iterator[Caller]:
    places = tmp_path / "uploads"
    places.mkdir()
    uploads = Uploads(places, LARGEST)
    yield Caller(Guard(make_application(local, uploads), TOKEN, "127.0.0.1", ["lab.example"]))
    assert not list(places.iterdir())


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
        ("0" * 32, b"{", "no JSON"),
        ("0" * 32, b"[]", "kind"),
        ("0" * 32, b'{"kind": "destroy", "request": {}}', "destroy"),
        ("0" * 32, b'{"kind": "predict", "request": {"volume": "v"}}', "classifier"),
        ("0" * 32, b'{"kind": "predict", "request": {"classifier": 3, "volume": "v"}}', "text"),
        ("0" * 32, b'{"kind": "predict"}', "request"),
        ("..%2F..%2Fetc", b"{}", "form"),
        ("x" * 32, b"{}", "form"),
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


def sent(call: Caller, path: Path, name: str = "a.zip") -> httpx.Response:
    content = path.read_bytes()
    return call("PUT", f"/classifiers/{sha256(content).hexdigest()}?name={name}", content=content)


def bundle_zip(path: Path, bundle: Path, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(bundle).as_posix())
        for name, content in more.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name", ["../evil.py", "configs/../../evil.py", "/etc/evil", "C:/evil", "..\\evil.py"]
)
def test_archive_that_leads_out_of_its_folder_is_refused(
    call: Caller, bundle: Path, tmp_path: Path, name: str
):
    slip = bundle_zip(tmp_path / "slip.zip", bundle, **{name: b"evil"})
    answer = sent(call, slip)
    assert answer.status_code == 400
    assert "leads out" in answer.json()["error"]
    assert not list(tmp_path.rglob("evil*"))


def test_archive_bomb_is_refused_unopened(call: Caller, bundle: Path, tmp_path: Path):
    bomb = bundle_zip(tmp_path / "bomb.zip", bundle, **{"models/more.pt": bytes(LARGEST)})
    assert bomb.stat().st_size < LARGEST
    answer = sent(call, bomb)
    assert answer.status_code == 400
    assert "unpacks" in answer.json()["error"]


def test_pickle_in_weights_is_not_run(call: Caller, bundle: Path, tmp_path: Path):
    mark = tmp_path / "was run"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (mark,))

    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((bundle / "configs").iterdir()):
            archive.write(file, f"configs/{file.name}")
        archive.writestr("models/model.pt", pickle.dumps({"weights": Evil()}, protocol=2))
    answer = sent(call, path)
    assert answer.status_code == 400
    assert answer.json()["kind"] == "ClassifierError"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"_disabled_": "$CODE"}, "SE-MODEL-UNTRUSTED"),
        ({"act": "$'''$CODE'''"}, "SE-MODEL-UNTRUSTED"),
        ({"act": "$[{'_target_': 'os.system', 'command': 'touch MARK'}]"}, "SE-MODEL-UNTRUSTED"),
        ({"_target_": "os.system", "command": "touch MARK"}, "SE-MODEL-REFUSED"),
        ({"_target_": "HoVerNet", "pretrained_url": "file://MARK"}, "SE-MODEL-REFUSED"),
    ],
)
def test_code_in_an_uploaded_configuration_is_not_run(
    call: Caller, bundle: Path, tmp_path: Path, change: dict[str, str], code: str
):
    mark = tmp_path / "was-run"
    content = json.loads((bundle / "configs/inference.json").read_text())
    run = f"__import__('os').system('touch {mark}')"
    for name, value in change.items():
        value = value.replace("CODE", run).replace("MARK", str(mark))
        content["network_def"][name] = value
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("configs/inference.json", json.dumps(content))
        archive.write(bundle / "configs/metadata.json", "configs/metadata.json")
        archive.write(bundle / "models/model.pt", "models/model.pt")
    answer = sent(call, path)
    assert answer.status_code == 400
    assert answer.json()["code"] == code
    assert not mark.exists()


def test_an_uploaded_torchscript_program_is_not_loaded(call: Caller, bundle: Path, tmp_path: Path):
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), script)
    path = tmp_path / "program.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((bundle / "configs").iterdir()):
            archive.write(file, f"configs/{file.name}")
        archive.writestr("models/model.ts", script.getvalue())
    answer = sent(call, path)
    assert answer.status_code == 400
    assert answer.json()["code"] == "SE-MODEL-UNTRUSTED"
    assert "model.ts" in answer.json()["error"]


def test_trust_needs_the_server_and_the_request(
    tmp_path: Path, bundle: Path, local: LocalEngine, call: Caller
):
    scripted = tmp_path / "scripted"
    import shutil

    shutil.copytree(bundle, scripted)
    configuration = json.loads((scripted / "configs/inference.json").read_text())
    mark = tmp_path / "was run"
    configuration["touch"] = f"$__import__('pathlib').Path({str(mark)!r}).touch()"
    configuration["network_def"]["spatial_dims"] = "$3 if @touch is None else 3"
    (scripted / "configs/inference.json").write_text(json.dumps(configuration))
    trusting = LocalEngine("cpu", trust=True)
    try:
        for engine, trust, told in [
            (local, True, "--trust"),
            (local, False, "trust"),
            (trusting, False, "trust"),
        ]:
            with pytest.raises(ClassifierError, match=told):
                engine.open_classifier(str(scripted), trust=trust)
            assert not mark.exists()
        trusting.open_classifier(str(scripted), trust=True)
        assert mark.exists()
    finally:
        trusting.close()
    with Packed(bundle) as packed:
        answer = call("GET", f"/classifiers/{packed.digest}?trust=true")
    assert answer.status_code == 400


def test_uploaded_classifier_is_known_by_its_hash_and_not_sent_again(
    server: EngineProcess, bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    client = server.client
    verbs = []
    send = RemoteEngine._send

    def watch(self: RemoteEngine, verb: str, path: str, *rest: object) -> requests.Response:
        verbs.append((verb, path.split("/")[0]))
        return send(self, verb, path, *rest)

    first = client.open_classifier(str(bundle))
    volume = Volume(np.full((2, 3, 4), 5, np.uint8), np.eye(4))
    client.put(volume)
    monkeypatch.setattr(RemoteEngine, "_send", watch)
    assert client.open_classifier(str(bundle)) == first
    client.put(volume)
    assert verbs == [("GET", "classifiers"), ("GET", "volumes")]
    client.put(Volume(np.full((2, 3, 4), 6, np.uint8), np.eye(4)))
    assert verbs[-1] == ("PUT", "volumes")


def test_packing_depends_on_content_alone(bundle: Path, tmp_path: Path):
    import os
    import shutil

    copied = tmp_path / "elsewhere"
    shutil.copytree(bundle, copied)
    for file in copied.rglob("*"):
        os.utime(file, (10**9, 10**9))
    with Packed(bundle) as one, Packed(copied) as other:
        assert one.digest == other.digest
        assert (one.name, other.name) == ("phantom-3d-honest.zip", "elsewhere.zip")
        place = one._file
        assert place.exists()
    assert not place.exists()
    weights = copied / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes() + b"x")
    with Packed(copied) as third:
        assert third.digest != one.digest


def study(data: Path, bundle: Path) -> StudyRequest:
    return StudyRequest(
        folder=str(data / "cases"),
        classifier=str(data / "own classifier"),
        spec=ExplainSpec((QUICK,)),
        out=str(data / "out"),
    )


def test_paths_outside_the_data_folders_are_refused(
    engine: Engine, data: Path, bundle: Path, tmp_path: Path
):
    (data / "cases").mkdir(exist_ok=True)
    link = data / "leads out"
    if not link.is_symlink():
        link.symlink_to(tmp_path)
    good = study(data, bundle)
    for path in (
        "/etc",
        "/etc/passwd",
        str(tmp_path),
        str(data / ".." / "elsewhere"),
        str(link),
        str(link / "deeper"),
        "cases",
        "../cases",
        str(data) + "-beside",
        f"{data}/cases\0/etc",
        "~",
        "",
    ):
        for field in ("folder", "classifier", "out"):
            with pytest.raises(InputError, match="outside the folders"):
                engine.start(replace(good, **{field: path}))
    with pytest.raises(ClassifierError, match="--trust"):
        engine.start(replace(good, trust=True))


def test_what_a_table_of_cases_names_must_lie_inside_too(
    engine: Engine, data: Path, bundle: Path, tmp_path: Path
):
    import shutil

    from SaliencyExplain.demo.study import write_phantom_study

    outside = tmp_path / "outside"
    write_phantom_study(outside, dimensions=3, cases=1, seed=1, marker=False)
    if not (data / "own classifier").exists():
        shutil.copytree(bundle, data / "own classifier")
    table = data / "cases.csv"
    table.write_text(f"case,image\none,{outside / 'phantom-001_image.nii.gz'}\n")
    linked = data / "linked"
    linked.mkdir(exist_ok=True)
    image = linked / "a_image.nii.gz"
    image.unlink(missing_ok=True)
    image.symlink_to(outside / "phantom-001_image.nii.gz")
    # Whether a file is there is not told either.
    absent = data / "absent.csv"
    absent.write_text(f"case,image\none,{outside / 'nobody.nii.gz'}\ntwo,../nobody.nii.gz\n")
    for folder in (table, linked, absent):
        request = replace(study(data, bundle), folder=str(folder), out=str(data / "refused"))
        status = ended(engine, engine.start(request))
        assert status.state == "failed"
        assert "outside the folders" in status.error
    absent.unlink()
    assert not (data / "refused").exists()


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


@pytest.fixture
def opened_remotely(server: EngineProcess, bundle: Path) -> ClassifierInfo:
    return server.client.open_classifier(str(bundle))


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
        with pytest.raises(InputError, match="no address"):
            RemoteEngine(wrong, "x")
    with pytest.raises(InputError, match="token"):
        RemoteEngine(address, " ")
    assert asdict(server.client.about())["version"]
