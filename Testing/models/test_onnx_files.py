"""Networks in ONNX files: they predict as the networks they were exported from, or are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import SaliencyExplain as se
from SaliencyExplain.errors import ClassifierError, ErrorCode, SaliencyExplainError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.onnx_files import load_onnx
from SaliencyExplain.models.wrapping import wrap
from Testing.models.conftest import small_network
from Testing.models.mutants import of_bytes

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def onnx(torchvision) -> Any:
    """The library onnx; tests skip without it and without what converts its files."""
    pytest.importorskip("onnx2torch")
    return pytest.importorskip("onnx")


def exported(network: nn.Module, *shape: int, any_batch: bool = True, opset: int = 17) -> bytes:
    stream = io.BytesIO()
    axes = {"dynamic_axes": {"image": {0: "batch"}}} if any_batch else {}
    torch.onnx.export(
        network.eval(),
        (torch.rand(1, *shape),),
        stream,
        dynamo=False,
        input_names=["image"],
        **axes,
    )
    return stream.getvalue()


def monai_network(name: str, **arguments: Any) -> nn.Module:
    from monai.networks import nets

    torch.manual_seed(1)
    return getattr(nets, name)(**arguments).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "small": (lambda: small_network(2), (1, 16, 16)),
    "DenseNet": (
        lambda: monai_network(
            "DenseNet", spatial_dims=3, in_channels=2, out_channels=3, block_config=(1, 1),
            init_features=4, growth_rate=2,
        ),
        (2, 24, 24, 24),
    ),
    "resnet10": (
        lambda: monai_network(
            "resnet10", spatial_dims=2, n_input_channels=1, num_classes=3, widen_factor=0.25
        ),
        (1, 32, 32),
    ),
    "SEResNet50": (
        lambda: monai_network(
            "SEResNet50", spatial_dims=2, in_channels=1, num_classes=3, layers=[1, 1, 1, 1]
        ),
        (1, 32, 32),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("any_batch", [True, False])
def test_a_bundle_of_it_predicts_as_the_network_does(name, any_batch, onnx, tmp_path) -> None:
    make, shape = NETWORKS[name]
    network = make()
    (tmp_path / "net.onnx").write_bytes(exported(network, *shape, any_batch=any_batch))
    bundle = wrap(
        None,
        tmp_path / "net.onnx",
        ["a", "b", "c"],
        tmp_path / "bundle",
        channels=[f"channel {number}" for number in range(shape[0])],
        size=shape[1:],
    )
    classifier = load_classifier(bundle)
    assert classifier.format == "MONAI bundle (ONNX)"
    assert not classifier.trusted
    images = torch.rand(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(images), network(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", [se.Gradient(), se.GradCAM(), se.IntegratedGradients()])
def test_its_maps_are_those_of_the_network(method, onnx) -> None:
    network, image = NETWORKS["resnet10"][0](), torch.rand(1, 1, 32, 32)
    converted = load_onnx(exported(network, 1, 32, 32), "net.onnx")
    maps = [se.attribute(one, image, method, target=2) for one in (network, converted)]
    assert maps[0].abs().max() > 0
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-4, atol=1e-5 * float(maps[0].abs().max()))


def test_names_in_the_file_do_not_become_code(onnx, torchvision, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = small_network(2)
    model = onnx.load_model_from_string(exported(network, 1, 16, 16))
    attack = 'x" if open("ran", "w") else "y'
    model.graph.node[0].name = attack
    for value in list(model.graph.node[0].output):
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [attack + "2" if one == value else one for one in names]
    content = model.SerializeToString()
    import onnx2torch

    with pytest.raises(AttributeError):
        onnx2torch.convert(onnx.load_model_from_string(content))(torch.rand(1, 1, 16, 16))
    assert Path("ran").exists(), "the attack must work where names are taken over"
    Path("ran").unlink()
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_onnx(content, "net.onnx")(images), network(images))
    assert not Path("ran").exists()


def test_a_value_with_the_name_of_a_node_is_not_taken_for_it(onnx) -> None:
    network = small_network(2)
    model = onnx.load_model_from_string(exported(network, 1, 16, 16))
    old = model.graph.input[0].name
    model.graph.input[0].name = model.graph.node[2].name = "same"
    for node in model.graph.node:
        node.input[:] = ["same" if one == old else one for one in node.input]
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        converted = load_onnx(model.SerializeToString(), "net.onnx")
        torch.testing.assert_close(converted(images), network(images))


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 18, 19, 20])
def test_every_opset_of_the_exporter_is_read(opset, onnx) -> None:
    network = NETWORKS["resnet10"][0]()
    converted = load_onnx(exported(network, 1, 32, 32, opset=opset), "net.onnx")
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(converted(images), network(images), atol=1e-6, rtol=0)


def as_pytorch_exports_today(onnx: Any, content: bytes) -> Any:
    """The same network in the form of the exporter of torch 2.9: opset 20, axes as inputs."""
    model = onnx.load_model_from_string(content)
    for node in model.graph.node:
        if node.op_type == "GlobalAveragePool":
            node.op_type = "ReduceMean"
            node.input.append("axes")
            node.attribute.append(onnx.helper.make_attribute("keepdims", 1))
            node.attribute.append(onnx.helper.make_attribute("noop_with_empty_axes", 0))
        if node.op_type == "Flatten":
            node.op_type = "Reshape"
            del node.attribute[:]
            node.input.append("shape")
            node.attribute.append(onnx.helper.make_attribute("allowzero", 1))
    for name, values in (("axes", [-1, -2]), ("shape", [-1, 6])):
        array = torch.tensor(values).numpy()
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model.opset_import[0].version = 20
    onnx.checker.check_model(model)
    return model


def test_the_form_of_todays_exporter_is_read(onnx, tmp_path) -> None:
    network = small_network(2)
    model = as_pytorch_exports_today(onnx, exported(network, 1, 16, 16))
    path = tmp_path / "net.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0
    )
    assert (tmp_path / "net.onnx.data").stat().st_size > 500
    bundle = wrap(None, path, ["a", "b", "c"], tmp_path / "bundle", size=[16, 16])
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        found = load_classifier(bundle).network(images)
        torch.testing.assert_close(found, network(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"location": "../secret"}, ErrorCode.MODEL_REFUSED),
        ({"location": "/etc/passwd"}, ErrorCode.MODEL_REFUSED),
        ({"location": "link"}, ErrorCode.MODEL_REFUSED),
        ({"location": ""}, ErrorCode.MODEL_REFUSED),
        ({"location": "missing"}, ErrorCode.FILE_UNREADABLE),
        ({"location": "data", "offset": "4", "length": "99"}, ErrorCode.MODEL_WEIGHTS),
        ({"location": "data", "offset": "-4"}, ErrorCode.MODEL_WEIGHTS),
        ({"location": "data", "length": "8"}, ErrorCode.FILE_DAMAGED),
    ],
)
def test_weights_in_other_files_are_read_from_the_files_folder_alone(
    told, code, onnx, tmp_path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(100))
    (folder / "data").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "secret")
    model = onnx.load_model_from_string(exported(small_network(2), 1, 16, 16))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in told.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SaliencyExplainError) as error:
        wrap(None, folder / "net.onnx", ["a", "b", "c"], tmp_path / "bundle", size=[16, 16])
    assert error.value.code is code, error.value
    assert not (tmp_path / "bundle").exists()


def unread_operator(onnx: Any, model: Any) -> None:
    model.graph.node[1].op_type = "Hardmax"


def other_domain(onnx: Any, model: Any) -> None:
    model.graph.node[1].domain = "com.microsoft"
    model.graph.node[1].op_type = "FusedConv"


def external(onnx: Any, model: Any) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")
    model.graph.initializer[0].data_location = 1


def second_input(onnx: Any, model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("age", 1, [1]))


def half(onnx: Any, model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def loop(onnx: Any, model: Any) -> None:
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("body", model.graph))


def constant(onnx: Any, model: Any) -> None:
    model.graph.output[0].name = model.graph.initializer[0].name


def no_weights(onnx: Any, model: Any) -> None:
    del model.graph.initializer[:]


def few_numbers(onnx: Any, model: Any) -> None:
    model.graph.initializer[0].dims[0] = 2**40


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (unread_operator, ErrorCode.MODEL_FORMAT, "Hardmax"),
        (other_domain, ErrorCode.MODEL_FORMAT, "FusedConv"),
        (external, ErrorCode.MODEL_REFUSED, "another file"),
        (second_input, ErrorCode.MODEL_INPUT, "age"),
        (half, ErrorCode.MODEL_INPUT, "float32"),
        (loop, ErrorCode.MODEL_FORMAT, "Softplus"),
        (constant, ErrorCode.MODEL_OUTPUT, "does not depend"),
        (no_weights, ErrorCode.MODEL_FORMAT, "converted"),
        (few_numbers, ErrorCode.MODEL_FORMAT, "converted"),
    ],
)
def test_what_is_not_converted_is_refused_by_name(change, code, named, onnx) -> None:
    model = onnx.load_model_from_string(exported(small_network(2), 1, 16, 16))
    change(onnx, model)
    with pytest.raises(ClassifierError) as error:
        load_onnx(model.SerializeToString(), "net.onnx")
    assert error.value.code is code, error.value
    assert "net.onnx" in str(error.value)
    assert named in str(error.value)


def test_a_damaged_file_is_refused(onnx) -> None:
    content = exported(small_network(2), 1, 16, 16)
    for damaged in (content[:500], b"\x08\x08\x12\x07pytorch" + bytes(50)):
        with pytest.raises(ClassifierError) as error:
            load_onnx(damaged, "net.onnx")
        assert error.value.code is ErrorCode.FILE_DAMAGED


def test_files_with_changed_bytes_are_read_or_refused(onnx) -> None:
    content = exported(small_network(2), 1, 16, 16)
    said = []
    for seed in range(150):
        try:
            load_onnx(of_bytes(content, seed), "net.onnx")
        except ClassifierError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all("\n" not in line and len(line) < 700 for line in said)


def test_a_file_alone_says_what_it_needs(onnx, tmp_path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(exported(small_network(2), 1, 16, 16))
    with pytest.raises(ClassifierError) as error:
        load_classifier(path)
    assert error.value.code is ErrorCode.MODEL_INCOMPLETE
    assert "--classes" in str(error.value)


def test_without_its_packages_a_file_names_them(onnx, monkeypatch) -> None:
    import sys

    content = exported(small_network(2), 1, 16, 16)
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(ClassifierError) as error:
        load_onnx(content, "net.onnx")
    assert error.value.code is ErrorCode.PACKAGE_MISSING
    assert "[onnx]" in str(error.value)
