"""Classifiers that are uploaded: nothing of them leads out of its folder or runs as code."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import pytest
import requests
import torch

from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.client.http_client import RemoteEngine
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.wire.packing import Packed
from SaliencyExplain.errors import ClassifierError
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.guarded_calls import LARGEST, Caller

pytestmark = pytest.mark.server


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
    assert f"'{name}'" in answer.json()["error"]
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
