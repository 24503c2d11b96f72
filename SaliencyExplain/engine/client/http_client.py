"""An engine in another process or on another machine.

Needs only the standard library, numpy and requests, which 3D Slicer's own Python has.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from SaliencyExplain import errors
from SaliencyExplain.engine.interface import (
    ENDED,
    About,
    ClassifierInfo,
    Engine,
    JobStatus,
)
from SaliencyExplain.engine.wire.packing import Packed
from SaliencyExplain.engine.wire.request_base import Request, Result
from SaliencyExplain.engine.wire.requests import find_request_kind
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.engine.wire.volume_format import decode, encode
from SaliencyExplain.errors import EngineLostError, ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.voxel_volume import Volume

_Made = TypeVar("_Made")
#: Seconds to connect and to wait for an answer. A killed server on this machine is noticed at
#: once; these are for machines that vanish from the network.
_CONNECT, _READ = 5.0, 60.0
#: A classifier of some GB is read and tested before the answer.
_LOADING = 900.0
#: Seconds of one request for news; longer waits send further requests.
_NEWS = 20.0
#: Most bytes of a volume that is taken from a server.
_LARGEST = 16 * 1024**3
_RAISED: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        errors.InputError,
        errors.ClassifierError,
        errors.OutputError,
        errors.DeviceMemoryError,
    )
}


class RemoteEngine(Engine):
    """Sends requests to a server; may be used from any thread.

    Attributes:
        address: Such as ``http://127.0.0.1:8123``.
    """

    def __init__(self, address: str, token: str, *, verify: bool | str | None = None) -> None:
        """Sends no request yet.

        Args:
            address: Of the server, with ``http://`` or ``https://``.
            token: That stands in the server's token file.
            verify: For https: path of the certificate to trust, False for none; None: the one
                that the environment variable REQUESTS_CA_BUNDLE names, else the authorities
                that requests knows.

        Raises:
            InputError: The address or token is not valid.
        """
        self.address = address.strip().rstrip("/")
        if not self.address.startswith(("http://", "https://")):
            raise InputError(
                ErrorCode.VALUE_FORM, f"'{address}' is not an address. Give http://host:port."
            )
        secret = token.strip()
        if not secret or not secret.isascii() or not secret.isprintable():
            raise InputError(
                ErrorCode.ENGINE_ACCESS,
                "The engine's token is empty or not plain ASCII text. Copy it from the engine's "
                "token file.",
            )
        self._token = secret
        # requests reads the environment only where it also takes proxies from it.
        named = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._verify = named if verify is None else verify
        # Sessions of ended threads are released with them.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._local = threading.local()
        self._lock = threading.Lock()

    def about(self) -> About:
        """Version, device, memory and permissions."""
        return self._read(About, "about")

    def methods(self) -> list[dict[str, Any]]:
        """All methods with their parameters."""
        return self._read(list[dict[str, Any]], "methods")

    def open_classifier(
        self, path: str, *, trust: bool = False, on_server: bool = False
    ) -> ClassifierInfo:
        """Loads a classifier, or finds it loaded; see :class:`Engine`."""
        if on_server:
            body = to_json({"path": path, "trust": trust})
            return self._parsed(ClassifierInfo, self._ask("POST", "classifiers", body, _LOADING))
        with Packed(Path(path)) as packed:
            place = f"classifiers/{packed.digest}"
            asked = {"trust": str(trust).lower(), "size": str(packed.size)}
            found = self._read(dict[str, Any], place, asked)["classifier"]
            if found is not None:
                return made(ClassifierInfo, found)
            asked = {"trust": str(trust).lower(), "name": packed.name}
            with packed.open() as file:
                return self._parsed(ClassifierInfo, self._ask("PUT", place, file, _LOADING, asked))

    def put(self, volume: Volume) -> str:
        """Sends a volume; one that the engine holds is not sent again."""
        key = volume.hash
        asked = {"size": str(volume.values.nbytes)}
        if not self._read(dict[str, bool], f"volumes/{key}/known", asked)["known"]:
            self._ask("PUT", f"volumes/{key}", encode(volume))
        return key

    def get(self, volume: str) -> Volume:
        """The volume of that hash."""
        return decode(self._ask("GET", f"volumes/{volume}"), largest=_LARGEST)

    def start(self, request: Request) -> str:
        """Puts a job in the queue and returns its name."""
        # Named here, so that a repeated request after a lost answer starts it only once.
        name = uuid.uuid4().hex
        self._ask("PUT", f"jobs/{name}", to_json({"kind": request.kind, "request": request}))
        return name

    def status(self, job: str, *, seen: int = -1, wait: float = 0.0) -> JobStatus:
        """The progress of a job; see :class:`Engine`."""
        until = time.monotonic() + wait
        while True:
            left = min(max(0.0, until - time.monotonic()), _NEWS)
            asked = {"seen": str(seen), "wait": f"{left:.3f}"}
            status = self._read(JobStatus, f"jobs/{job}", asked)
            if status.version > seen or status.state in ENDED or left < _NEWS:
                return status

    def partial(self, job: str) -> Result | None:
        """The newest partial result of a job; None where there is none yet."""
        return self._result(f"jobs/{job}/partial")

    def result(self, job: str) -> Result:
        """The result of a job that is done; see :class:`Engine`."""
        found = self._result(f"jobs/{job}/result")
        assert found is not None
        return found

    def cancel(self, job: str) -> None:
        """Requests that a job stops."""
        self._ask("POST", f"jobs/{job}/cancel")

    def jobs(self) -> list[JobStatus]:
        """All jobs that the engine lists, the oldest first."""
        return made(list[JobStatus], self._read(dict[str, Any], "jobs")["jobs"])

    def close(self) -> None:
        """Closes the connection; the engine and its jobs continue."""
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def _read(self, kind: type[_Made], path: str, asked: Mapping[str, str] | None = None) -> _Made:
        return self._parsed(kind, self._ask("GET", path, asked=asked))

    def _result(self, path: str) -> Result | None:
        said = self._read(dict[str, Any], path)
        with self._of_this_version():
            kind = find_request_kind(said["kind"])
            return (
                None
                if said["result"] is None
                else made(kind.result_type, said["result"], volumes=self.get)
            )

    def _parsed(self, kind: type[_Made], content: bytes) -> _Made:
        with self._of_this_version():
            return made(kind, parse_json(content))

    @contextmanager
    def _of_this_version(self) -> Iterator[None]:
        """Raises EngineLostError where an answer cannot be read."""
        try:
            yield
        except (InputError, KeyError) as error:
            raise EngineLostError(
                ErrorCode.ENGINE_LOST,
                f"{self.address} is not an engine of this version: {error}",
            ) from error

    def _ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        seconds: float = _READ,
        asked: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request and its answer; everything except opening on the server may be repeated."""
        try:
            try:
                answer = self._send(verb, path, body, seconds, asked)
            except requests.ConnectionError:
                if verb == "POST" or hasattr(body, "read"):
                    raise
                # A kept connection that the server had closed meanwhile.
                answer = self._send(verb, path, body, seconds, asked)
        except requests.RequestException as error:
            raise EngineLostError(
                ErrorCode.ENGINE_LOST,
                f"The engine at {self.address} does not answer ({_reason(error)}): start it "
                "again, or check that its machine can be reached.",
            ) from error
        if answer.ok:
            return answer.content
        raise self._refusal(answer)

    def _send(
        self, verb: str, path: str, body: Any, seconds: float, asked: Mapping[str, str] | None
    ) -> requests.Response:
        return self._session().request(
            verb,
            f"{self.address}/{path}",
            data=body,
            params=asked,
            timeout=(_CONNECT, seconds),
            verify=self._verify,
            # The token goes to this address and no other.
            allow_redirects=False,
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # No proxy for a loopback address, no .netrc in place of the token.
            session.trust_env = False
            session.auth = _Bearer(self._token)
            session.mount("http://", HTTPAdapter(max_retries=0))
            session.mount("https://", HTTPAdapter(max_retries=0))
            self._local.session = session
            with self._lock:
                self._sessions.add(session)
        return session

    def _refusal(self, answer: requests.Response) -> Exception:
        try:
            said = made(dict[str, str], parse_json(answer.content))
            return _raised(said)
        except (InputError, KeyError):
            return EngineLostError(
                ErrorCode.ENGINE_LOST,
                f"{self.address} answers with {answer.status_code} and is not an engine of this "
                "version. Check the address.",
            )


def _raised(said: Mapping[str, str]) -> Exception:
    """The error that the server named, of the same type and with the same code."""
    if said["kind"] == errors.Cancelled.__name__:
        return errors.Cancelled(said["error"])
    kind = _RAISED.get(said["kind"], SaliencyExplainError)
    return kind(ErrorCode.of(said["code"]), said["error"])


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "no connection"
