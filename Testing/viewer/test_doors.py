"""Who is let in, and what comes in: origins, hosts, keys and files."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
import requests

from .conftest import Server

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer")


def test_with_the_key_the_page_is_served(session: requests.Session, server: Server) -> None:
    answer = session.get(f"{server.origin}/index.html")
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    cookie = next(iter(session.cookies))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"


@pytest.mark.parametrize(
    "path", ["index.html", "vue.global.js", "alive", "scene.mrb", "screenshot.png", "clicks.csv"]
)
def test_without_the_key_nothing_is_served(server: Server, path: str) -> None:
    answer = requests.get(f"{server.origin}/{path}")
    assert answer.status_code == 403
    assert "key" in answer.text


def test_a_wrong_key_is_refused(server: Server) -> None:
    answer = requests.post(f"{server.origin}/enter", data=server.key[:-1] + "!")
    assert answer.status_code == 403
    assert not answer.cookies


@pytest.mark.parametrize("origin", ["https://example.org", "http://127.0.0.1:1", "null"])
def test_pages_of_another_origin_are_refused(
    session: requests.Session, server: Server, origin: str
) -> None:
    for answer in (
        session.get(f"{server.origin}/index.html", headers={"Origin": origin}),
        session.post(f"{server.origin}/upload", headers={"Origin": origin}, files={"f": b"x"}),
        requests.post(f"{server.origin}/enter", data=server.key, headers={"Origin": origin}),
    ):
        assert answer.status_code == 403
        assert "origin" in answer.text


def test_a_name_that_was_pointed_at_this_machine_is_refused(
    session: requests.Session, server: Server
) -> None:
    port = server.origin.rpartition(":")[2]
    for host in (f"example.org:{port}", f"localhost.example.org:{port}"):
        answer = session.get(f"{server.origin}/index.html", headers={"Host": host})
        assert answer.status_code == 403
        assert "--allow-host" in answer.text


@pytest.mark.parametrize("came", ["without a key", "from another origin", "with a wrong cookie"])
def test_the_websocket_is_refused(server: Server, session: requests.Session, came: str) -> None:
    cookies = {cookie.name: cookie.value for cookie in session.cookies}
    headers = {"Origin": server.origin}
    if came == "without a key":
        cookies = {}
    elif came == "with a wrong cookie":
        cookies = {name: "x" * len(value) for name, value in cookies.items()}
    else:
        headers = {"Origin": "https://example.org"}

    async def connect() -> None:
        async with (
            aiohttp.ClientSession(cookies=cookies) as client,
            client.ws_connect(f"{server.origin}/ws", headers=headers),
        ):
            pass

    # The browser's own loop may run in this thread.
    with (
        ThreadPoolExecutor(1) as thread,
        pytest.raises(aiohttp.WSServerHandshakeError) as refused,
    ):
        thread.submit(asyncio.run, connect()).result()
    assert refused.value.status == 403


def test_only_this_machine_reaches_it(server: Server) -> None:
    port = int(server.origin.rpartition(":")[2])
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in own - {"127.0.0.1"}:
        if address.startswith("127."):
            continue
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
            pass


def test_a_malformed_upload_is_answered_with_a_line(
    session: requests.Session, server: Server
) -> None:
    address = f"{server.origin}/upload"
    plain = session.post(address, data=b"voxels")
    empty = session.post(address, files={"file": ("", b"")})
    torn = session.post(
        address,
        data=b"--x\r\nnonsense",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    for answer in (plain, empty, torn):
        assert answer.status_code == 400
        assert 10 < len(answer.text) < 300
        assert answer.text.count("\n") == 1


def test_an_archive_that_leads_out_of_its_folder_is_refused(
    session: requests.Session, server: Server, tmp_path: Path
) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil", "x")
    with (tmp_path / "evil.zip").open("rb") as file:
        answer = session.post(f"{server.origin}/upload", files={"file": ("evil.zip", file)})
    assert answer.status_code == 400
    assert "../../evil" in answer.text


def test_an_archive_that_cannot_be_unpacked_is_refused_in_one_line(
    session: requests.Session, server: Server, tmp_path: Path
) -> None:
    import zipfile

    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.nii", "x" * 100)
    content = bytearray(path.read_bytes())
    # The bit that says "encrypted", of the file and in the directory.
    for flags in (6, content.index(b"PK\1\2") + 8):
        content[flags] |= 1
    answer = session.post(f"{server.origin}/upload", files={"file": ("locked.zip", bytes(content))})
    assert answer.status_code == 400
    assert answer.text.startswith("locked.zip: ")
    assert answer.text.count("\n") == 1
