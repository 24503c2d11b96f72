"""What loading an untrusted bundle does beside reading it: an audit hook sees it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.loading import load_classifier
from Testing.models.conftest import make_bundle

UNTRUSTED, REFUSED = ErrorCode.MODEL_UNTRUSTED, ErrorCode.MODEL_REFUSED
WRONG = ErrorCode.MODEL_CONFIGURATION
STARTED = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn")
CONNECTED = ("socket.", "urllib.Request", "http.client")
CHANGED = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "shutil.")

_seen: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and bool(set(str(arguments[1])) & set("wax+"))
    if _seen is not None and (writes or event.startswith(STARTED + CONNECTED + CHANGED)):
        _seen.append(f"{event} {arguments}")


# It cannot be taken away again, so it is there once and listens where a test asks for it.
sys.addaudithook(_audit)


def listen() -> None:
    """Starts to note what is started, connected to, written or changed."""
    global _seen
    _seen = []


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to be copied: to make one takes longer than the tests."""
    return make_bundle(tmp_path_factory.mktemp("original") / "small-densenet")


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / original.name)


@pytest.fixture
def nothing_happens(tmp_path: Path) -> Iterator[Path]:
    """A file that must not appear; no file is written and no address asked meanwhile."""
    global _seen
    mark = tmp_path / "code-was-run"
    yield mark
    seen, _seen = _seen, None
    assert not seen
    assert not mark.exists()


def refusal(path: Path) -> ClassifierError:
    """The error that loading gives; what happens while it loads is listened to."""
    listen()
    with pytest.raises(ClassifierError) as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return caught.value
