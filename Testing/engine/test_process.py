"""An engine in a process of its own: killed, left alone, found again, kept private."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from SaliencyExplain.engine.client import engine_process as process_module
from SaliencyExplain.engine.client.engine_process import STATE, EngineProcess, find_engine
from SaliencyExplain.engine.client.http_client import RemoteEngine
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.server.auth import RequestAuth
from SaliencyExplain.engine.server.server_process import Watch, _Server
from SaliencyExplain.engine.server.tokens import make_token, token_in
from SaliencyExplain.engine.wire.requests import StudyRequest
from SaliencyExplain.errors import EngineLostError, InputError, OutputError
from SaliencyExplain.specification.spec import ExplainSpec
from SaliencyExplain.voxel_volume import Volume
from Testing.conftest import PROJECT
from Testing.engine.conftest import COMMAND, LONG, QUICK, environment, until
from Testing.waiting import HUNG
from Testing.waiting import until as holds

pytestmark = pytest.mark.server


def test_killed_server_is_noticed_in_one_line_and_can_be_started_again(
    bundle: Path, image: Volume, tmp_path: Path
):
    from SaliencyExplain.engine.wire.requests import ExplainRequest

    state = tmp_path / "state"
    log = tmp_path / "engine.log"
    process = EngineProcess.start(COMMAND, environment=environment(), log=log, state=state)
    client = process.client
    found = find_engine(state)
    assert found is not None
    assert found.address == client.address
    info = client.open_classifier(str(bundle))
    job = client.start(ExplainRequest(info.key, client.put(image), ExplainSpec((LONG,))))
    until(client, job, lambda status: status.done > 0)
    asks, told = threading.Event(), threading.Event()

    def wait_for_news() -> None:
        asks.set()
        # Nothing but the loss ends this: the job sends no word, and cannot end.
        with pytest.raises(EngineLostError):
            client.status(job, seen=10**9, wait=HUNG)
        told.set()

    waiting = threading.Thread(target=wait_for_news)
    waiting.start()
    assert asks.wait(HUNG)
    process._process.send_signal(signal.SIGKILL)
    process._process.wait()
    with pytest.raises(EngineLostError, match="start it again") as raised:
        client.jobs()
    assert "\n" not in str(raised.value)
    for ask in (client.about, client.methods, lambda: client.put(image)):
        with pytest.raises(EngineLostError):
            ask()
    assert told.wait(HUNG / 2)
    waiting.join()
    assert not process.alive
    assert find_engine(state) is None
    process.stop()
    if Path("/proc").is_dir():
        assert not Path(f"/proc/{process.pid}").exists()


def test_orphan_finishes_its_study_and_ends(data: Path, bundle: Path, tmp_path: Path):
    from SaliencyExplain.demo.study import write_phantom_study

    cases = tmp_path / "cases"
    write_phantom_study(cases, dimensions=3, cases=2, seed=4, marker=False)
    log = tmp_path / "engine.log"
    process = EngineProcess.start(
        COMMAND,
        environment=environment(),
        data=[str(tmp_path), str(bundle)],
        log=log,
    )
    client = process.client
    assert [Path(folder) for folder in client.about().data] == [tmp_path, bundle]
    request = StudyRequest(str(cases), str(bundle), ExplainSpec((QUICK,)), str(tmp_path / "out"))
    client.start(request)
    address = client.address
    process.let_go()
    process._process.wait(timeout=HUNG)
    assert process._process.returncode == 0
    assert (tmp_path / "out" / "report.html").is_file()
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) > 3
    assert "Traceback" not in process.log_tail()
    with pytest.raises(EngineLostError):
        RemoteEngine(address, "x" * 40).about()
    process.stop()


def test_idle_server_goes_with_the_process_that_started_it(tmp_path: Path):
    code = (
        "import sys\n"
        "from SaliencyExplain.engine.client.engine_process import EngineProcess\n"
        f"process = EngineProcess.start({COMMAND!r})\n"
        "print(process.pid, process.client.address, flush=True)\n"
        "sys.stdin.read()\n"
    )
    # A process that dies without a word, as a crashed Slicer does.
    starter = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
        env=environment(),
        text=True,
    )
    assert starter.stdout is not None
    pid, address = starter.stdout.readline().split()
    assert RemoteEngine(address, "x" * 40)
    starter.kill()
    starter.communicate()
    host, port = address.removeprefix("http://").split(":")

    def is_gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    holds(is_gone, f"the end of the engine {pid}", pause=0.1)


def test_server_with_certificate_and_open_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate of this test, is not here")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    token_file = tmp_path / "token"
    token = make_token(token_file)
    words = [*COMMAND, "serve", "--host", "0.0.0.0", "--token-file", str(token_file)]
    words += ["--tls-cert", str(certificate), "--tls-key", str(key), "--end-with-stdin"]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        port = said["address"].rsplit(":", 1)[1]
        assert said == {"address": f"https://0.0.0.0:{port}", "token_file": str(token_file)}
        address = f"https://localhost:{port}"
        assert RemoteEngine(address, token, verify=str(certificate)).about().version
        with pytest.raises(EngineLostError, match="certificate"):
            RemoteEngine(address, token).about()
        with monkeypatch.context() as trusting:
            trusting.setenv("REQUESTS_CA_BUNDLE", str(certificate))
            assert RemoteEngine(address, token).about().version
        with pytest.raises(EngineLostError):
            RemoteEngine(address.replace("https", "http"), token).about()
        context = ssl.create_default_context(cafile=certificate)
        with (
            socket.create_connection(("localhost", int(port))) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET /about HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert tls.recv(4096).startswith(b"HTTP/1.1 403")
        # The one line is all that it says, and a token that was there stays.
        _, errors = process.communicate(b"stop\n", timeout=HUNG)
        assert process.returncode == 0
        assert errors == b""
    assert token_in(token_file) == token


def test_command_that_fails_says_its_own_last_words(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be started"):
        EngineProcess.start([str(tmp_path / "nothing")])
    with pytest.raises(EngineLostError, match="nowhere"):
        EngineProcess.start(COMMAND, data=[str(tmp_path / "nowhere")])
    with pytest.raises(EngineLostError, match="did not start"):
        EngineProcess.start([sys.executable, "-c", "print('hello')"])
    # It is ended, not waited for: it would sleep for longer than a test may take.
    sleeper = f"import time; time.sleep({2 * HUNG})"
    with pytest.raises(EngineLostError, match=r"within 0\.5 s"):
        EngineProcess.start([sys.executable, "-c", sleeper], timeout=0.5)


def test_terminated_server_ends_cleanly(tmp_path: Path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    log = tmp_path / "log"
    process = EngineProcess.start(
        COMMAND, environment={**environment(), "TMPDIR": str(folder)}, log=log
    )
    assert len(list(folder.iterdir())) == 1
    process._process.terminate()
    assert process._process.wait(timeout=HUNG) > 0
    assert "Fatal" not in process.log_tail()
    assert not list(folder.iterdir())


def test_look_after_standard_input_does_not_take_back_a_signal(
    local: LocalEngine, monkeypatch: pytest.MonkeyPatch
):
    async def nothing(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
    watch = Watch()
    auth = RequestAuth(nothing, "x" * 22, "127.0.0.1")
    server = _Server(uvicorn.Config(auth), local, auth, watch, lambda: None)

    async def look() -> None:
        looking = asyncio.create_task(server._look(watch))
        await asyncio.sleep(0)  # lets the look begin
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.wait_for(looking, HUNG)

    asyncio.run(look())
    assert watch.orphaned_at is None
    os.close(writing)


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process' files")
def test_full_disk_of_the_server_is_told_and_costs_the_upload_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import resource

    # An engine that is killed because it takes long to end keeps its log.
    monkeypatch.setattr(process_module, "_POLITE", HUNG)
    process = EngineProcess.start(COMMAND, environment=environment())
    noise = np.random.default_rng(0).random((64, 64, 64), dtype=np.float32)
    volume = Volume(noise, np.eye(4))
    weights = tmp_path / "weights.pt"
    weights.write_bytes(noise.tobytes())
    limit = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (65536, limit[1]))
    with pytest.raises(OutputError, match="to its disk"):
        process.client.put(volume)
    with pytest.raises(OutputError, match="to its disk"):
        process.client.open_classifier(str(weights))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
    assert process.client.put(volume) == volume.hash
    log = process.log
    assert log.is_file()
    process.stop()
    assert not log.exists()


def test_token_that_no_header_takes_is_refused():
    for token in ("", "a" * 30 + "\n" + "b" * 30, "ä" * 30):
        with pytest.raises(InputError, match="token"):
            RemoteEngine("http://127.0.0.1:1", token)


def test_token_is_made_private_and_kept(tmp_path: Path):
    path = tmp_path / "new" / "token"
    token = make_token(path)
    assert len(token) >= 43
    assert token_in(path) == token
    assert make_token(tmp_path / "other") != token
    with pytest.raises(OutputError, match="cannot be made"):
        make_token(path)
    assert token_in(path) == token
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "target")
        with pytest.raises(OutputError):
            make_token(link)
        assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no such modes")
def test_token_that_others_may_read_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "token"
    make_token(path)
    path.chmod(mode)
    with pytest.raises(InputError, match="chmod 600") as raised:
        token_in(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40, b"two words, each rather long"])
def test_file_without_a_token_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InputError, match="no token"):
        token_in(path)
    with pytest.raises(InputError, match="cannot be read"):
        token_in(tmp_path / "nowhere")


def test_broken_state_finds_nothing(tmp_path: Path):
    for content in ("", "[]", "{}", '{"address": "http://127.0.0.1:1", "token_file": "x"}'):
        (tmp_path / STATE).write_text(content)
        assert find_engine(tmp_path) is None


def test_watch_without_standard_input_sees_an_orphan(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", None)
    watch = Watch()
    holds(lambda: watch.orphaned_at is not None, "the look after standard input")
    assert not watch.stop
