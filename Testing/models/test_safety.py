"""A model file is untrusted input: nothing in it runs without the user's word."""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models import bundle as bundle_module
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.programs import load_script
from SaliencyExplain.models.targets import resolve_target, without_downloads
from SaliencyExplain.models.wrapping import wrap
from Testing.expected_errors import error_with
from Testing.models.bundles import INFERENCE, METADATA, zip_of
from Testing.models.conftest import one_line


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code-was-run"


def _as_torch_file(content: object, path: Path) -> None:
    torch.save(content, path)


def _as_bare_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def _as_legacy_file(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [_as_torch_file, _as_bare_pickle, _as_legacy_file])
@pytest.mark.parametrize("trust", [False, True])
def test_a_pickle_with_code_is_refused_and_nothing_runs(
    bundle, tmp_path, mark, save, trust
) -> None:
    save(Payload(mark), tmp_path / "proof.pt")
    if save is _as_bare_pickle:
        pickle.loads((tmp_path / "proof.pt").read_bytes())
    else:
        torch.load(tmp_path / "proof.pt", weights_only=False)
    assert mark.exists(), "the payload must work where it is run, or this test proves nothing"
    mark.unlink()

    weights = torch.load(bundle / "models/model.pt", weights_only=True)
    save({"state_dict": weights, "hook": Payload(mark)}, bundle / "models/model.pt")
    message = one_line(bundle, trust=trust)
    assert "refused" in message
    save(Payload(mark), tmp_path / "weights.pth")
    assert "refused" in one_line(tmp_path / "weights.pth", trust=trust)
    with pytest.raises(ClassifierError, match="refused"):
        wrap(
            "monai.networks.nets.DenseNet121",
            tmp_path / "weights.pth",
            ["a", "b"],
            tmp_path / "out",
            network_args={"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        )
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


class Loud(nn.Sequential):
    """A network that must not be made when its file is read."""

    def __setstate__(self, state) -> None:
        raise AssertionError("code of the file was run")


def test_of_a_whole_pickled_network_only_the_weights_are_taken(bundle) -> None:
    model = bundle / "models/model.pt"
    before = load_classifier(bundle).network.state_dict()
    torch.save(Loud(load_classifier(bundle).network.network), model)
    with pytest.raises(AssertionError, match="was run"):
        torch.load(model, weights_only=False)
    loaded = load_classifier(bundle)
    after = loaded.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert any("Loud" in note for note in loaded.notes)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "torch.os.system",
        "torch.nn.functional.os.system",
        "torch.nn.modules.module.torch.hub.load",
        "torch.nn.modules.utils.importlib.import_module",
        "torch.nn.init.normal_",
        "torch.utils.cpp_extension.load",
        "torch.utils.data.DataLoader",
        "monai.bundle.run",
        "monai.bundle.__main__",
        "monai.bundle.ConfigParser",
        "monai.apps.download_url",
        "monai.apps.utils.download_url",
        "monai.transforms.SaveImaged",
        "SaveImaged",
        "monai.transforms.LoadImaged",
        "monai.transforms.io.array.SaveImage",
        "monai.transforms.utils.np",
        "monai.networks.nets.get_pretrained_resnet_medicalnet",
        "monai.networks.nets.Transchex",
        "monai.networks.utils.convert_to_onnx",
        "monai.utils.optional_import",
        "monai.utils.run_cmd",
        "scripts.network.Network",
        "numpy.load",
        "",
        ["os.system"],
        {"_target_": "os.system"},
    ],
)
def test_a_target_that_could_do_more_than_build_layers_is_refused(target) -> None:
    with pytest.raises(ClassifierError, match=r"is refused|does not exist"):
        resolve_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "DenseNet121",
        "monai.networks.nets.DenseNet121",
        "monai.networks.nets.resnet18",
        "monai.networks.nets.senet.SEResNet50",
        "torch.nn.Sequential",
        "torch.nn.modules.linear.Linear",
        "Compose",
        "Spacingd",
        "monai.transforms.NormalizeIntensityd",
    ],
)
def test_layers_networks_and_transforms_are_allowed(target) -> None:
    assert callable(resolve_target(target))


def test_networks_are_built_without_fetching_other_weights() -> None:
    from monai.networks.nets import EfficientNetBN, resnet18

    assert without_downloads(EfficientNetBN, {"model_name": "efficientnet-b0"}) == {
        "model_name": "efficientnet-b0",
        "pretrained": False,
    }
    assert without_downloads(resnet18, {"pretrained": "/some/file.pt"})["pretrained"] is False
    with pytest.raises(ClassifierError, match="loads a file"):
        without_downloads(resnet18, {"checkpoint_path": "/some/file.pt"})
    with pytest.raises(ClassifierError, match="downloaded"):
        without_downloads(resnet18, {"model_name": "hf-hub:someone/net"})


LINEAR = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 2}


def expressions(mark: Path) -> list[dict]:
    run = f"__import__('os').system('touch {mark}')"
    system = {"_target_": "os.system", "command": f"touch {mark}"}
    uncalled = {"_target_": "os.system", "_mode_": "callable"}
    step = {"_target_": "Lambdad", "keys": "image"}
    return [
        {"network_def": f"${run}"},
        {"network_def": "@helper", "helper": f"${run}"},
        {"network_def": LINEAR | {"in_features": f"${run}"}},
        {"network_def": LINEAR | {"_requires_": f"${run}"}, "network": f"${run}"},
        {"network_def": {"_target_": f"${run}"}},
        {"network_def": system},
        {"network_def": uncalled},
        {"network_def": LINEAR | {"_mode_": "debug"}},
        {"network_def": [system]},
        {"imports": [f"${run}"], "network_def": "$os.getcwd()"},
        {"preprocessing": {"_target_": "Compose", "transforms": f"$[{run}]"}},
        {"preprocessing": step | {"func": f"$lambda x: {run}"}},
        {"preprocessing": [step | {"func": uncalled}]},
        {"preprocessing": [{"_target_": "Spacingd", "keys": "image", "pixdim": f"$[{run}]"}]},
    ]


@pytest.mark.parametrize("number", range(14))
def test_code_in_a_configuration_never_runs_without_trust(bundle, mark, edit_json, number) -> None:
    edit_json(bundle / INFERENCE, lambda content: content.update(expressions(mark)[number]))
    one_line(bundle)
    assert not mark.exists()


def test_a_yaml_tag_builds_nothing(bundle, mark) -> None:
    (bundle / INFERENCE).unlink()
    (bundle / "configs/inference.yaml").write_text(
        f"network_def: !!python/object/apply:os.system ['touch {mark}']\n"
    )
    assert "cannot be parsed" in one_line(bundle)
    assert not mark.exists()


def test_expressions_run_with_trust(bundle, edit_json) -> None:
    edit_json(bundle / INFERENCE, lambda c: c["network_def"].update(growth_rate="$4 // 2"))
    assert "network_def::growth_rate" in one_line(bundle)
    classifier = load_classifier(bundle, trust=True)
    assert classifier.trusted
    assert len(classifier.classes) == 3


def test_trust_that_nobody_needs_is_not_used(bundle) -> None:
    trusting, plain = load_classifier(bundle, trust=True), load_classifier(bundle)
    assert not trusting.trusted
    assert trusting.identity == plain.identity


def test_a_macro_does_not_read_other_files(bundle, tmp_path, edit_json) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"network": {"_target_": "os.getcwd"}}))
    edit_json(bundle / INFERENCE, lambda c: c.update(network_def=f"%{other}::network"))
    assert "only with --trust" in one_line(bundle)


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/tmp/outside.txt", "a/../../b", "c:\\x", "..\\x"]
)
def test_a_zip_that_leads_outside_is_refused(bundle, tmp_path, name) -> None:
    path = zip_of(bundle, tmp_path / "evil.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    for trust in (False, True):
        assert f"'{name}'" in one_line(path, trust=trust)


def test_a_link_that_leads_out_of_the_folder_is_refused(bundle, tmp_path) -> None:
    model = bundle / "models" / "model.pt"
    model.symlink_to(model.rename(tmp_path / "elsewhere.pt"))
    for trust in (False, True):
        assert "model.pt" in one_line(bundle, trust=trust)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(bundle, tmp_path, monkeypatch) -> None:
    path = zip_of(bundle, tmp_path / "large.zip")
    monkeypatch.setattr(bundle_module, "LARGEST_BYTES", 1000)
    assert "unpacked it holds" in one_line(path)


def test_a_configuration_of_endless_size_is_refused(bundle) -> None:
    with (bundle / METADATA).open("ab") as file:
        file.truncate(17 * 1024**2)
    assert str(17 * 1024**2) in one_line(bundle)


class Writer(nn.Module):
    """A TorchScript program that writes a file as soon as it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.training = state
        torch.save(torch.zeros(1), self.path)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=[2, 3])


def test_a_torchscript_program_wants_trust_because_loading_it_runs_it(tmp_path, mark) -> None:
    path = tmp_path / "writer.pt"
    torch.jit.script(Writer(str(mark))).save(str(path))
    torch.jit.load(str(path))
    assert mark.exists(), "the program must write where it is loaded, or this test proves nothing"
    mark.unlink()
    with pytest.raises(ClassifierError) as error:
        wrap(None, path, ["a", "b"], tmp_path / "out", channels=["x", "y"], size=[8, 8])
    assert error.value.code is ErrorCode.MODEL_UNTRUSTED
    with pytest.raises(ClassifierError) as error:
        load_script(path.read_bytes(), "writer.pt", trust=False)
    assert error.value.code is ErrorCode.MODEL_UNTRUSTED
    assert "writer.pt" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize("again", [METADATA, f"./{METADATA}", "configs/Metadata.json"])
def test_a_zip_with_the_same_file_twice_is_refused(again, bundle, tmp_path) -> None:
    path = zip_of(bundle, tmp_path / "twice.zip")
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(again, (bundle / METADATA).read_bytes())
    with error_with(ErrorCode.MODEL_REFUSED, "twice.zip", again):
        load_classifier(path)


def test_an_empty_file_and_a_zip_that_is_cut_off_are_damaged(bundle, tmp_path) -> None:
    (tmp_path / "empty.pt").write_bytes(b"")
    whole = zip_of(bundle, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "part.zip").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.pt", "part.zip"):
        with error_with(ErrorCode.FILE_DAMAGED, name):
            load_classifier(tmp_path / name)
