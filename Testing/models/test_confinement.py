"""Listed components that reach for files or addresses all the same, because they were changed.

The components are those of the libraries, with a line in them that a model has no need of.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.networks.nets as nets
import monai.transforms
import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.confinement import confined, lifted, unconfined
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.landlock import run_apart, version
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from Testing.models.conftest import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small-densenet")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that must stay as it is, in a folder in which nothing must appear."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "kept").write_text("keep me")
    return folder


@pytest.fixture
def listener():
    """A port that notes whether anybody connects."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server.getsockname()[1], heard
        try:
            server.accept()
            heard.append("somebody")
        except TimeoutError:
            pass
    assert not heard


#: What a component might try; each is called with a folder and a port.
ATTEMPTS: dict[str, Callable[[Path, int], Any]] = {
    "write": lambda folder, _: (folder / "new").write_text("x"),
    "append": lambda folder, _: (folder / "kept").open("a"),
    "update": lambda folder, _: (folder / "kept").open("r+b"),
    "create": lambda folder, _: (folder / "new").open("x"),
    "write by number": lambda folder, _: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
    "save an array": lambda folder, _: np.save(folder / "new.npy", np.ones(2)),
    "remove": lambda folder, _: (folder / "kept").unlink(),
    "rename": lambda folder, _: (folder / "kept").rename(folder / "other"),
    "replace": lambda folder, _: os.replace(folder / "kept", folder / "other"),
    "a folder": lambda folder, _: (folder / "new").mkdir(),
    "remove a folder": lambda folder, _: shutil.rmtree(folder),
    "copy": lambda folder, _: shutil.copy(folder / "kept", folder / "new"),
    "link": lambda folder, _: (folder / "new").symlink_to(folder / "kept"),
    "hard link": lambda folder, _: os.link(folder / "kept", folder / "new"),
    "truncate": lambda folder, _: os.truncate(folder / "kept", 0),
    "permissions": lambda folder, _: (folder / "kept").chmod(0o777),
    "times": lambda folder, _: os.utime(folder / "kept"),
    "temporary file": lambda folder, _: tempfile.NamedTemporaryFile(dir=folder),  # noqa: SIM115
    "shell": lambda folder, _: os.system(f"touch {folder}/new"),
    "program": lambda folder, _: subprocess.run(["touch", folder / "new"], check=False),
    "spawn": lambda folder, _: os.posix_spawn("/bin/touch", ["touch", f"{folder}/new"], {}),
    "fork": lambda _folder, _: os.fork() or os._exit(0),
    "signal": lambda _folder, _: os.kill(os.getpid(), 0),
    "environment": lambda _folder, _: os.putenv("SALIENCY", "x"),
    "connect": lambda _, port: socket.create_connection(("127.0.0.1", port), timeout=1),
    "datagram": lambda _, port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
        b"x", ("127.0.0.1", port)
    ),
    "name look-up": lambda _folder, _: socket.getaddrinfo("localhost", 80),
    "fetch": lambda _, port: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1),
    "fetch a file": lambda folder, _: urllib.request.urlopen(f"file://{folder}/kept"),
    "unpickle": lambda _folder, _: pickle.loads(pickle.dumps(pathlib.PurePosixPath("x"))),
}


#: What C++ does, of which Python does not hear.
NATIVE: dict[str, Callable[[Path, int], Any]] = {
    "save tensors": lambda folder, _: torch.save({}, folder / "new"),
    "write by C": lambda folder, _: _of_c("open", f"{folder}/new".encode(), 0o101, 0o600),
    "remove by C": lambda folder, _: _of_c("unlink", f"{folder}/kept".encode()),
    "run by C": lambda folder, _: _of_c("system", f"touch {folder}/new".encode()),
    "connect by C": lambda _, port: _of_c(
        "connect",
        socket.socket.fileno(_made_before),
        b"\x02\x00" + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8),
        16,
    ),
}
_made_before = socket.socket()


def _of_c(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None), name)(*arguments) != 0:
        raise RuntimeError("the kernel refuses")


def assert_untouched(folder: Path) -> None:
    assert [one.name for one in folder.iterdir()] == ["kept"]
    assert (folder / "kept").read_text() == "keep me"
    assert (folder / "kept").stat().st_mode & 0o777 != 0o777
    assert os.environ.get("SALIENCY") is None


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_network_that_reaches_out_is_refused(bundle, victim, listener, monkeypatch, name) -> None:
    port, _ = listener
    original = nets.DenseNet.__init__
    reached = []

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        reached.append(name)
        ATTEMPTS[name](victim, port)
        original(self, *arguments, **named)

    monkeypatch.setattr(nets.DenseNet, "__init__", init)
    with pytest.raises(ClassifierError) as error:
        load_classifier(bundle)
    assert reached
    assert error.value.code is ErrorCode.MODEL_REFUSED
    assert bundle.name in str(error.value)
    assert "--trust" in str(error.value)
    assert_untouched(victim)


@pytest.mark.skipif(version() < 4, reason="this kernel has no Landlock that closes connections")
@pytest.mark.parametrize("name", NATIVE)
def test_while_it_is_loaded_the_kernel_refuses_what_python_does_not_hear_of(
    bundle, victim, listener, monkeypatch, name
) -> None:
    port, _ = listener
    original = nets.DenseNet.__init__
    reached = []

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        reached.append(name)
        NATIVE[name](victim, port)
        original(self, *arguments, **named)

    monkeypatch.setattr(nets.DenseNet, "__init__", init)
    with pytest.raises(ClassifierError):
        load_classifier(bundle)
    assert reached
    assert_untouched(victim)


def test_what_runs_apart_gives_its_result_or_its_error() -> None:
    assert run_apart(lambda: threading.current_thread().name) in ("confined", "MainThread")
    with pytest.raises(KeyError, match="x"):
        run_apart(lambda: {}["x"])


def runs_of(classifier: Classifier, image: Any) -> dict[str, Callable[[], Any]]:
    """All ways in which a loaded model runs."""
    occlusion = find_method("occlusion")(window_mm=16.0, stride_mm=16.0)
    return {
        "prediction": lambda: classifier.predict(image),
        "map": lambda: explain(prepare(image, classifier), [occlusion]),
        "gradient": lambda: explain(prepare(image, classifier), [find_method("gradient")()]),
        "class activation": lambda: explain(prepare(image, classifier), [find_method("gradcam")()]),
        "click": lambda: Prober(prepare(image, classifier)).at(
            image.affine[:3, :3].numpy() @ [15, 14, 6] + image.affine[:3, 3].numpy(), [9.0]
        ),
    }


@pytest.mark.parametrize("run", ["prediction", "map", "gradient", "class activation", "click"])
def test_a_loaded_network_and_its_preprocessing_stay_confined(
    bundle, image, victim, monkeypatch, run
) -> None:
    classifier = load_classifier(bundle)
    runs_of(classifier, image)[run]()
    part = next(one for one in classifier.network.modules() if isinstance(one, torch.nn.Conv3d))
    forward, written = part.forward, []

    def reaching(values: torch.Tensor) -> torch.Tensor:
        try:
            (victim / "new").write_text("x")
        except PermissionError as error:
            written.append(str(error))
        return forward(values)

    monkeypatch.setattr(part, "forward", reaching)
    runs_of(classifier, image)[run]()
    assert written
    assert_untouched(victim)

    step = classifier.preprocessing.transforms[-1]
    monkeypatch.setattr(type(step), "__call__", lambda self, data: (victim / "new").write_text("x"))
    with pytest.raises(ClassifierError) as error:
        runs_of(classifier, image)[run]()
    assert error.value.code is ErrorCode.MODEL_REFUSED
    assert_untouched(victim)


def test_whoever_is_told_of_the_progress_may_write(bundle, image, tmp_path) -> None:
    classifier = load_classifier(bundle)
    occlusion = find_method("occlusion")(window_mm=16.0, stride_mm=16.0)
    found = explain(
        prepare(image, classifier),
        [occlusion],
        progress=lambda done, total: (tmp_path / "progress").write_text(f"{done}"),
        publish=lambda attribution, share: (tmp_path / "partial").write_text(f"{share}"),
    )
    assert found.attributions
    assert (tmp_path / "progress").read_text()
    assert (tmp_path / "partial").read_text()


def test_a_trusted_model_may_do_what_it_does(bundle, edit_json, tmp_path) -> None:
    own = shutil.copytree(bundle, tmp_path / "trusted")
    mark = tmp_path / "written-by-the-model"
    run = f"$bool(0 * __import__('pathlib').Path('{mark}').write_text('x'))"
    edit_json(
        own / "configs/inference.json",
        lambda content: content["network_def"].update({"_disabled_": run}),
    )
    with pytest.raises(ClassifierError):
        load_classifier(own)
    assert not mark.exists()
    load_classifier(own, trust=True)
    assert mark.read_text() == "x"


def test_only_the_thread_is_confined_and_files_may_be_read(victim, tmp_path) -> None:
    done = []
    with confined("The model x"):
        assert (victim / "kept").read_text() == "keep me"
        assert np.load is not None
        with pytest.raises(PermissionError):
            (tmp_path / "one").write_text("x")
        other = threading.Thread(target=lambda: done.append((tmp_path / "two").write_text("x")))
        other.start()
        other.join()
        with unconfined():
            (tmp_path / "three").write_text("x")
        lifted((tmp_path / "four").write_text)("x")
        with pytest.raises(PermissionError):
            (tmp_path / "five").write_text("x")
    (tmp_path / "six").write_text("x")
    assert done == [1]
    assert {one.name for one in tmp_path.iterdir()} == {"victim", "two", "three", "four", "six"}


def test_a_library_may_do_without_its_cache(tmp_path) -> None:
    module = tmp_path / "lazy_part.py"
    module.write_text("value = 3\n")
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        with confined("The model x"):
            import lazy_part  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    assert lazy_part.value == 3
    assert not (tmp_path / "__pycache__").exists()
    assert monai.transforms is not None


def test_the_program_tidies_up_after_itself_meanwhile() -> None:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name)
    with confined("The model x"):
        del folder
    assert not path.exists()


def test_a_garbage_collection_while_the_block_ends_does_not_keep_it_closed() -> None:
    """In a process of its own: the value that CPython would keep is freed memory."""
    program = """
import contextvars, gc, os
from SaliencyExplain.confinement import confined, is_confined

others = [contextvars.ContextVar(str(number)) for number in range(5)]
for other in others:
    other.set(1)
gc.callbacks.append(lambda phase, info: open(os.devnull).close())
gc.set_threshold(1)
for number in range(200):
    with confined(f"The model {number}"):
        assert is_confined()
    assert not is_confined()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
