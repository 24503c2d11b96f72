"""What an untrusted bundle's configuration must not do: run code, touch files, connect.

Each case would leave a file behind, or is seen by an audit hook, if anything of it ran.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.checked import CheckedBuilder
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.networks import build_network
from SaliencyExplain.models.targets import resolve_target
from Testing.models.bundles import INFERENCE
from Testing.models.listening import REFUSED, UNTRUSTED, WRONG, listen, refusal
from Testing.models.listening import bundle as bundle
from Testing.models.listening import nothing_happens as nothing_happens
from Testing.models.listening import original as original

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 2}
RELU = {"_target_": "torch.nn.ReLU"}


def nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def configurations(mark: Path) -> dict[str, tuple[ErrorCode, dict[str, Any]]]:
    """Changes of a bundle's configuration by name, with the code of the refusal."""
    run = f"__import__('os').system('touch {mark}')"
    code = f"${run}"
    system = {"_target_": "os.system", "command": f"touch {mark}"}
    flip = {"_target_": "Flipd", "keys": "image"}

    def net(**arguments: Any) -> dict[str, Any]:
        return {"network_def": LINEAR | arguments}

    def steps(*transforms: Any) -> dict[str, Any]:
        return {"preprocessing": {"_target_": "Compose", "transforms": list(transforms)}}

    return {
        "disabled by code": (UNTRUSTED, net(_disabled_=code)),
        "disabled by a component": (UNTRUSTED, net(_disabled_=system)),
        "disabled by a reference": (UNTRUSTED, net(_disabled_="@x") | {"x": code}),
        "disabled by a list": (UNTRUSTED, net(_disabled_=[code])),
        "disabled by a literal text": (UNTRUSTED, net(_disabled_=f"$'''{code}'''")),
        "disabled step": (UNTRUSTED, steps(flip | {"_disabled_": code})),
        "disabled compose": (
            UNTRUSTED,
            {"preprocessing": {"_target_": "Compose", "transforms": [flip], "_disabled_": code}},
        ),
        "mode": (UNTRUSTED, net(_mode_="callable")),
        "mode by a literal": (UNTRUSTED, net(_mode_="$'callable'")),
        "mode by a reference": (UNTRUSTED, net(_mode_="@m") | {"m": "debug"}),
        "literal that is code": (UNTRUSTED, net(act=f"$'''{code}'''")),
        "literal in double marks": (UNTRUSTED, net(act=f"$'''$'{code}' '''")),
        "literal that is a component": (UNTRUSTED, net(act=f"${system!r}")),
        "literal list of code": (UNTRUSTED, net(act=f"$[1, ['''{code}''']]")),
        "literal tuple of code": (UNTRUSTED, net(act=f"$('x', ('''{code}''',))")),
        "literal list of a component": (UNTRUSTED, net(act=f"$[[{system!r}]]")),
        "literal dictionary of code": (UNTRUSTED, net(act=f"${{'a': {{'b': '''{code}'''}}}}")),
        "literal key of code": (UNTRUSTED, net(act=f"${{'''{code}''': 1}}")),
        "literal reference": (UNTRUSTED, net(act="$'@x'") | {"x": code}),
        "literal macro": (UNTRUSTED, net(act="$'%x'") | {"x": code}),
        "literal by bytes escapes": (UNTRUSTED, net(act=f"$'\\x24{run[:-1]})'".replace("\n", ""))),
        "joined literals": (UNTRUSTED, net(act=f"$'$' '''{run}'''")),
        "formatted literal": (UNTRUSTED, net(act=f"$f'{{{run}}}'")),
        "literal behind blanks": (UNTRUSTED, net(act=f"$   '''{code}'''")),
        "code in a list": (UNTRUSTED, net(act=[1, [code]])),
        "code in a dictionary": (UNTRUSTED, net(act={"a": {"b": code}})),
        "code behind references": (UNTRUSTED, net(act="@a") | {"a": "@b::1", "b": [0, code]}),
        "code behind a place": (UNTRUSTED, net(act="@b#1") | {"b": [0, code]}),
        "code behind a device": (UNTRUSTED, {"network_def": "$@x.to(@y)", "x": code, "y": code}),
        "reference with code": (UNTRUSTED, net(act=f"$@x.to(@y) or {run}") | {"x": 1, "y": 2}),
        "reference and a line": (UNTRUSTED, net(act="@x\n") | {"x": 1}),
        "reference to an attribute": (UNTRUSTED, net(act="$@x.__class__") | {"x": 1}),
        "relative reference": (UNTRUSTED, net(act="@##x") | {"x": code}),
        "macro": (UNTRUSTED, net(act=f"%{mark}::x")),
        "type with code": (UNTRUSTED, net(dtype=f"$torch.float32 if {run} else 0")),
        "type and a line": (UNTRUSTED, net(dtype="$torch.hub")),
        "step with code": (UNTRUSTED, steps(flip | {"spatial_axis": f"$'''{code}'''"})),
        "step by code": (UNTRUSTED, steps(code)),
        "steps by code": (UNTRUSTED, {"preprocessing": code}),
        "target by code": (REFUSED, {"network_def": {"_target_": code}}),
        "target by a literal": (REFUSED, {"network_def": system | {"_target_": "$'os.system'"}}),
        "target by a reference": (REFUSED, {"network_def": {"_target_": "@t"}, "t": "os.system"}),
        "target by a component": (REFUSED, {"network_def": {"_target_": system}}),
        "target by a list": (REFUSED, {"network_def": {"_target_": ["os.system"]}}),
        "target": (REFUSED, {"network_def": system}),
        "target in a list": (REFUSED, net(act=[[system]])),
        "target in a dictionary": (REFUSED, net(act={"a": [system]})),
        "target of one that fits": (REFUSED, steps(flip | {"spatial_axis": system})),
        "target in wide letters": (REFUSED, {"network_def": {"_target_": "ｏs.system"}}),
        "network in wide letters": (REFUSED, {"network_def": {"_target_": "ＤenseNet121"}}),
        "network in Cyrillic": (REFUSED, {"network_def": {"_target_": "torch.nn.Lineаr"}}),
        "attribute of a class": (
            REFUSED,
            {"network_def": {"_target_": "torch.nn.Linear.__class__"}},
        ),
        "module of a module": (
            REFUSED,
            {"network_def": {"_target_": "torch.nn.modules.torch.load"}},
        ),
        "argument __class__": (REFUSED, net(__class__="x")),
        "argument _requires": (REFUSED, net(_x=1)),
        "argument in wide letters": (REFUSED, net(**{"ｂias": True})),
        "build key in data": (REFUSED, net(act={"_mode_": "callable"})),
        "itself": (WRONG, {"network_def": "@network_def"}),
        "a circle": (WRONG, net(act="@a") | {"a": ["@b"], "b": {"c": "@a"}}),
        "its own inside": (WRONG, net(act="@network_def")),
        "nothing": (WRONG, net(act="@x::y::9") | {"x": {"y": [1]}}),
        "a long chain": (REFUSED, net(act="@a0") | {f"a{n}": f"@a{n + 1}" for n in range(999)}),
        "lists of lists": (
            REFUSED,
            net(act="@a0") | {f"a{n}": [f"@a{n + 1}"] * 9 for n in range(30)} | {"a30": 1},
        ),
        "deep": (REFUSED, net(act=nested(1, 200))),
        "a deep literal": (REFUSED, net(act=f"${'[' * 90}{']' * 90}")),
        "a deeper literal": (UNTRUSTED, net(act=f"${'[' * 900}{']' * 900}")),
        "signs": (UNTRUSTED, net(act=f"${'-' * 15000}1")),
        "a long literal": (UNTRUSTED, net(act=f"$[{'0,' * 40000}]")),
        "a huge integer": (REFUSED, net(in_features=10**40)),
        "a huge literal": (REFUSED, net(in_features=f"${10**40}")),
        "a large power": (UNTRUSTED, net(in_features="$9**9**9")),
        "bytes": (REFUSED, net(act="$b'x'")),
        "a complex number": (REFUSED, net(act="$1+2j")),
    }


def reaching(mark: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Components that would reach files or the network, with what the refusal names."""
    mark.with_name("kept").write_text("keep me")
    kept = str(mark.with_name("kept"))

    def net(target: str, **arguments: Any) -> dict[str, Any]:
        return {"network_def": {"_target_": target, **arguments}}

    def step(target: str, **arguments: Any) -> dict[str, Any]:
        return {"preprocessing": [{"_target_": target, "keys": "image", **arguments}]}

    address = "http://127.0.0.1:9/weights.pth"
    return {
        "hovernet": ("HoVerNet", net("HoVerNet", pretrained_url=address)),
        "hovernet file": (
            "HoVerNet",
            net("monai.networks.nets.HoVerNet", pretrained_url=f"file://{kept}"),
        ),
        "inside of another": (
            "HoverNet",
            net("NetAdapter", model={"_target_": "HoverNet", "pretrained_url": address}),
        ),
        "weights of MedicalNet": (
            "get_pretrained_resnet_medicalnet",
            net("monai.networks.nets.get_pretrained_resnet_medicalnet", resnet_depth=10),
        ),
        "transchex": ("Transchex", net("monai.networks.nets.transchex.Transchex")),
        "segment anything": (
            "CellSamWrapper",
            net("monai.networks.nets.cell_sam_wrapper.CellSamWrapper", checkpoint=kept),
        ),
        "encoder by name": ("FlexibleUNet", net("FlexibleUNet", backbone="resnet18")),
        "features": ("ResNetFeatures", net("ResNetFeatures", model_name="resnet18")),
        "segmentation": (
            "deeplabv3_resnet50",
            net("torchvision.models.segmentation.deeplabv3_resnet50"),
        ),
        "detection": (
            "fasterrcnn_resnet50_fpn",
            net("torchvision.models.detection.fasterrcnn_resnet50_fpn"),
        ),
        "detection by module": (
            "retinanet_resnet50_fpn",
            net("torchvision.models.detection.retinanet.retinanet_resnet50_fpn"),
        ),
        "quantized": ("resnet18", net("torchvision.models.quantization.resnet18", quantize=True)),
        "by torchvision's name": (
            "get_model",
            net("torchvision.models.get_model", name="fcn_resnet50"),
        ),
        "wrapped by name": (
            "get_model",
            net("TorchVisionFCModel", model_name="get_model", name="fcn_resnet50"),
        ),
        "wrapped with arguments": (
            "'name'",
            net("TorchVisionFCModel", model_name="resnet18", name="fcn_resnet50"),
        ),
        "timm from a hub": (
            "hf-hub:",
            net("timm.create_model", model_name="hf-hub:timm/resnet18.a1_in1k"),
        ),
        "timm from a folder": (
            "local-dir:",
            net("timm.create_model", model_name=f"local-dir:{mark.parent}"),
        ),
        "timm by a literal": (
            "hf_hub",
            net("timm.create_model", model_name="$'hf_hub:timm/resnet18'"),
        ),
        "timm by a reference": (
            "hf-hub:",
            net("timm.create_model", model_name="@name") | {"name": "hf-hub:timm/resnet18"},
        ),
        "timm by a path": ("timm", net("timm.create_model", model_name="timm/resnet18")),
        "timm without a name": ("None", net("timm.create_model")),
        "timm by a list": ("resnet18", net("timm.create_model", model_name=["resnet18"])),
        "timm with a checkpoint": (
            "checkpoint_path",
            net("timm.create_model", model_name="resnet18", checkpoint_path=kept),
        ),
        "timm with a cache": (
            "cache_dir",
            net("timm.create_model", model_name="resnet18", cache_dir=str(mark.parent)),
        ),
        "timm with weights of a file": (
            "pretrained_cfg",
            net("timm.models.resnet18", pretrained=True, pretrained_cfg={"file": kept}),
        ),
        "timm with weights over": (
            "pretrained_cfg_overlay",
            net(
                "timm.create_model",
                model_name="resnet18",
                pretrained=True,
                pretrained_cfg_overlay={"url": address},
            ),
        ),
        "timm's loader": ("load_checkpoint", net("timm.models.load_checkpoint")),
        "saved classes": ("SaveClassificationd", step("SaveClassificationd", filename=kept)),
        "saved images": ("SaveImaged", step("SaveImaged", output_dir=str(mark))),
        "written mapping": (
            "WriteFileMappingd",
            step("WriteFileMappingd", mapping_file_path=str(mark)),
        ),
        "a function": ("Lambdad", step("Lambdad", func="print")),
        "a function by name": ("TorchVisiond", step("TorchVisiond", name="Lambda")),
        "a package by name": ("TorchIOd", step("TorchIOd", name="RandomFlip")),
        "cuda by name": ("CuCIMd", step("CuCIMd", name="x")),
        "a pause": ("SimulateDelayd", step("SimulateDelayd", delay_time=9)),
        "in a list of steps": (
            "SaveClassificationd",
            step("Compose", transforms=[{"_target_": "SaveClassificationd", "keys": "image"}]),
        ),
        "an undoing": ("Invertd", step("Invertd", transform=RELU)),
    }


CONFIGURATIONS = list(configurations(Path("/x")))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_code_is_refused_and_never_run(bundle, edit_json, nothing_happens, name) -> None:
    code, change = configurations(nothing_happens)[name]
    edit_json(bundle / INFERENCE, lambda content: content.update(change))
    error = refusal(bundle)
    assert error.code is code, error
    if code is UNTRUSTED:
        assert "--trust" in str(error)


REACHING = [
    *("hovernet", "hovernet file", "inside of another", "weights of MedicalNet", "transchex"),
    *("segment anything", "encoder by name", "features", "segmentation", "detection"),
    *("detection by module", "quantized", "by torchvision's name", "wrapped by name"),
    *("wrapped with arguments", "timm from a hub", "timm from a folder", "timm by a literal"),
    *("timm by a reference", "timm by a path", "timm without a name", "timm by a list"),
    *("timm with a checkpoint", "timm with a cache", "timm with weights of a file"),
    *("timm with weights over", "timm's loader", "saved classes", "saved images"),
    *("written mapping", "a function", "a function by name", "a package by name", "cuda by name"),
    *("a pause", "in a list of steps", "an undoing"),
]


@pytest.mark.parametrize("name", REACHING)
def test_components_that_reach_out_are_refused_by_name(
    bundle, edit_json, nothing_happens, name, timm, torchvision
) -> None:
    cases = reaching(nothing_happens)
    assert list(cases) == REACHING
    told, change = cases[name]
    edit_json(bundle / INFERENCE, lambda content: content.update(change))
    error = refusal(bundle)
    assert error.code is REFUSED, error
    assert told in str(error)
    assert nothing_happens.with_name("kept").read_text() == "keep me"


@pytest.mark.parametrize(
    ("definition", "module"),
    [
        ({"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}, "torchvision"),
        (
            {"_target_": "torchvision.models.resnet.resnet18", "weights_backbone": "DEFAULT"},
            "torchvision",
        ),
        ({"_target_": "torchvision.models.resnet18", "pretrained": True}, "torchvision"),
        ({"_target_": "torchvision.models.video.r3d_18", "weights": "$A.DEFAULT"}, "torchvision"),
        (
            {"_target_": "timm.create_model", "model_name": "test_resnet", "pretrained": True},
            "timm",
        ),
        (
            {"_target_": "timm.models.test_resnet", "pretrained": True, "drop_path_rate": 0.1},
            "timm",
        ),
        (
            {
                "_target_": "EfficientNetBN",
                "model_name": "efficientnet-b0",
                "spatial_dims": 2,
                "pretrained": "@network_def",
            },
            "monai",
        ),
        (
            {"_target_": "NetAdapter", "model": {"_target_": "torchvision.models.resnet18"}},
            "monai",
        ),
    ],
)
def test_networks_are_built_with_random_weights_and_fetch_none(
    nothing_happens, definition, module, timm, torchvision
) -> None:
    listen()
    network = build_network(definition)
    assert type(network).__module__.startswith(module)


def test_what_the_zoo_writes_is_built_as_monai_builds_it() -> None:
    from monai.bundle import ConfigParser

    content = {
        "edge": "$[64, 32]",
        "twice": "@edge",
        "pair": "$(1, 2.5)",
        "sizes": {"first": "@edge::0", "names": ["a", "@label"]},
        "label": "plain $ text @ home",
        "type": "$torch.float32",
        "number": "$-1e-3",
        "nothing": "$None",
        "layer": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": "@count"},
        "count": "$3",
        "same": ["@layer", "$@layer"],
        "steps": [
            {"_target_": "Flipd", "keys": "image", "_disabled_": True},
            {"_target_": "Flipd", "keys": "image", "_disabled_": "false", "_desc_": "$text"},
            {"_target_": "Flipd", "keys": "image", "_disabled_": "$False", "_mode_": "default"},
        ],
    }
    content["sizes"]["first"] = "@plain::0"
    content["plain"] = [64, 32]
    parser = ConfigParser(content | {"imports": ["$import torch"]}, globals={"torch": torch})
    content["steps"][1]["_desc_"] = "text"
    builder = CheckedBuilder(content)
    for key in ("edge", "twice", "pair", "sizes", "label", "type", "number", "nothing"):
        assert builder.build(key) == parser.get_parsed_content(key), key
    assert builder.build("layer").weight.shape == (3, 2)
    assert builder.build("same")[0] is builder.build("same")[1] is builder.build("layer")
    assert len(builder.build("steps")) == 2


def test_a_good_bundle_loads_and_writes_and_asks_nothing(bundle, image, nothing_happens) -> None:
    expected = load_classifier(bundle).predict(image)
    listen()
    np.testing.assert_array_equal(load_classifier(bundle).predict(image), expected)


def test_a_refusal_names_the_target_and_says_what_trust_means() -> None:
    with pytest.raises(ClassifierError) as error:
        resolve_target("monai.networks.nets.HoVerNet")
    assert error.value.code is REFUSED
    assert "monai.networks.nets.HoVerNet" in str(error.value)
    assert "--trust" in str(error.value)
