"""A folder of Hugging Face's Transformers is a classifier as it is, or is refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import SaliencyExplain as se
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.huggingface_network import NETWORKS as LISTED
from SaliencyExplain.models.loading import load_classifier
from Testing.expected_errors import error_with

EDGE = 32
_TOKENS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": EDGE,
    "patch_size": 8,
}
_BLOCKS = {key: value for key, value in _TOKENS.items() if key != "intermediate_size"}
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_PYRAMID = {**_STAGES, "num_attention_heads": [1, 1, 2, 2]}
#: Small networks by the beginning of their classes' names, each with its image processor.
NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "ViT": (_TOKENS, "ViT"),
    "DeiT": (_TOKENS, "DeiT"),
    "Beit": ({**_TOKENS, "use_relative_position_bias": True, "out_indices": [1, 2]}, "Beit"),
    "Swin": (
        {
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
            "image_size": EDGE,
        },
        "ViT",
    ),
    "ConvNext": (_STAGES, "ConvNext"),
    "ResNet": ({**_STAGES, "embedding_size": 8, "layer_type": "basic"}, "ConvNext"),
    "Bit": (
        {
            "embedding_size": 8,
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_groups": 4,
        },
        "Bit",
    ),
    "ConvNextV2": (_STAGES, "ConvNext"),
    "Cvt": (
        {"embed_dim": [8, 16, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3]},
        "ConvNext",
    ),
    "Data2VecVision": ({**_TOKENS, "use_relative_position_bias": True}, "Beit"),
    "Dinov2": ({**_BLOCKS, "use_swiglu_ffn": True}, "Bit"),
    "Dinov2WithRegisters": (_BLOCKS, "Bit"),
    "FocalNet": (
        {
            "embed_dim": 8,
            "depths": [1, 1],
            "focal_levels": [2, 2],
            "focal_windows": [3, 3],
            "image_size": EDGE,
        },
        "Bit",
    ),
    "Hiera": (
        {
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
            "image_size": [EDGE, EDGE],
        },
        "Bit",
    ),
    "MobileNetV1": ({"depth_multiplier": 0.25, "image_size": EDGE}, "MobileNetV1"),
    "MobileNetV2": ({"depth_multiplier": 0.35, "image_size": EDGE}, "MobileNetV2"),
    "Pvt": ({**_PYRAMID, "image_size": EDGE, "num_labels": 3}, "Pvt"),
    "PvtV2": ({**_PYRAMID, "image_size": EDGE}, "Pvt"),
    "RegNet": ({**_STAGES, "embedding_size": 8, "groups_width": 8}, "ConvNext"),
    "Segformer": ({**_PYRAMID, "decoder_hidden_size": 16}, "Segformer"),
    "SwiftFormer": (
        {"image_size": EDGE, "embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
        "ViT",
    ),
    "Swinv2": (
        {
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
            "image_size": EDGE,
        },
        "ViT",
    ),
    "ViTMSN": (_TOKENS, "ViT"),
}
_SQUARE = {"size": {"height": EDGE, "width": EDGE}}
_SHORTEST = {
    "size": {"shortest_edge": EDGE},
    "crop_size": {"height": EDGE, "width": EDGE},
}
#: Sizes that fit these networks, by the processor.
SIZES: dict[str, dict[str, Any]] = {
    "ViT": _SQUARE,
    "Beit": {**_SQUARE, "do_center_crop": False},
    "DeiT": {
        "size": {"height": 40, "width": 40},
        "crop_size": {"height": EDGE, "width": EDGE},
    },
    "Pvt": _SQUARE,
    "Segformer": _SQUARE,
    "ConvNext": {"size": {"shortest_edge": EDGE}},
    "Bit": _SHORTEST,
    "MobileNetV1": _SHORTEST,
    "MobileNetV2": _SHORTEST,
}
CLASSES = {0: "glioma", 1: "meningioma", 2: "pituitary"}


@pytest.fixture(scope="session")
def transformers(torchvision: ModuleType) -> ModuleType:
    """The library transformers; tests skip without it."""
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def saved(
    transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Makes the folder of a small random network, once for each kind."""
    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("huggingface") / kind
            save(transformers, kind, made[kind])
        return made[kind]

    return folder_of


def save(transformers: ModuleType, kind: str, folder: Path, **changes: Any) -> None:
    settings, processor = NETWORKS[kind]
    names = {"id2label": CLASSES, "label2id": {name: index for index, name in CLASSES.items()}}
    configuration = getattr(transformers, f"{kind}Config")(**{**settings, **names, **changes})
    torch.manual_seed(3)
    network = getattr(transformers, f"{kind}ForImageClassification")(configuration).eval()
    for parameter in network.parameters():
        # As initialised, biases and some scales are 0 and hide what is not loaded.
        parameter.data += 0.05 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    made = getattr(transformers, f"{processor}ImageProcessor")(**SIZES[processor])
    made.save_pretrained(folder)


@pytest.fixture
def folder(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder with a small ViT that the test may change."""
    return Path(shutil.copytree(saved("ViT"), tmp_path / "vit"))


def change(folder: Path, name: str, **values: Any) -> None:
    """Sets keys of a JSON file; None takes one away."""
    content = {**json.loads((folder / name).read_text()), **values}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / name).write_text(json.dumps(content))


def picture(path: Path, height: int, width: int) -> Path:
    """A smooth colour picture with some noise, as PNG."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    smooth = 120 + 80 * np.sin(rows / 11) * np.cos(columns / 17)
    noisy = smooth[..., None] + random.normal(scale=20, size=(height, width, 3))
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_are_those_of_the_library(transformers, saved, kind) -> None:
    classifier = load_classifier(saved(kind))
    plain = getattr(transformers, f"{kind}ForImageClassification").from_pretrained(saved(kind))
    images = torch.randn((2, 3, EDGE, EDGE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain.eval()(images).logits
        found = classifier.network(images)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert float(expected.std()) > 1e-3
    assert classifier.classes == tuple(CLASSES.values())
    assert classifier.channels == ("red", "green", "blue")
    assert classifier.input_size == (EDGE, EDGE)
    assert not classifier.trusted


#: Settings of a preprocessor_config.json by the processor; what is not there is its default.
PREPARED: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {}),
    ("ViT", {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": [50.0] * 3}),
    ("ViT", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
    ("Beit", {"size": {"height": 224, "width": 224}, "do_center_crop": False}),
    ("Beit", {"size": {"height": 256, "width": 240}, "do_center_crop": True}),
    ("DeiT", {}),
    ("Pvt", {"resample": 3}),
    ("Segformer", {"size": {"height": 96, "width": 128}}),
    ("ConvNext", {"resample": 2}),
    ("ConvNext", {"resample": 3, "size": {"shortest_edge": 224}}),
    ("Bit", {}),
    ("CLIP", {"size": {"shortest_edge": 97}, "crop_size": {"height": 90, "width": 121}}),
    ("MobileNetV1", {}),
    ("MobileNetV2", {"do_normalize": False}),
]


@pytest.mark.parametrize(("processor", "settings"), PREPARED)
def test_the_prepared_picture_is_the_processors_up_to_its_eight_bits(
    transformers, saved, tmp_path, processor, settings
) -> None:
    folder = Path(shutil.copytree(saved("ResNet"), tmp_path / "resnet"))
    name = f"{processor}ImageProcessor"
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": name, **settings})
    )
    path = picture(tmp_path / "p.png", 301, 412)
    library = getattr(transformers, name)(**settings)
    expected = library(Image.open(path), return_tensors="pt")["pixel_values"][0].float()
    found = load_classifier(folder).prepare(read_image(path, colour=True))
    assert found.shape == expected.shape
    # The library rounds to whole grey levels after it has resized.
    level = float(expected.amax() - expected.amin()) / 255
    difference = (found.as_tensor() - expected).abs()
    assert float(difference.flatten().quantile(0.999)) < 1.5 * level
    assert float(difference.mean()) < 0.5 * level


@pytest.mark.parametrize(
    "content", [{"size": 24, "resample": 2}, {"feature_extractor_type": "ViTFeatureExtractor"}]
)
def test_files_of_older_versions_are_read_as_the_library_does(saved, tmp_path, content) -> None:
    folder = Path(shutil.copytree(saved("ResNet"), tmp_path / "resnet"))
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    loaded = load_classifier(folder)
    path = picture(tmp_path / "p.png", 50, 80)
    edge = 224 if "size" not in content else 24
    assert loaded.prepare(read_image(path, colour=True)).shape == (3, edge, edge)


@pytest.mark.parametrize("kind", ["ViT", "ResNet", "Data2VecVision"])
def test_maps_come_out(saved, tmp_path, kind) -> None:
    path = picture(tmp_path / "p.png", 60, 84)
    result = se.explain(path, saved(kind), ["gradcam", "occlusion"])
    assert len(result) == 2
    for found in result:
        values = np.asarray(found.values)
        assert sorted(edge for edge in values.shape if edge > 1) == [60, 84]
        assert np.isfinite(values).all()
        assert values.std() > 0


def test_settings_say_their_file(saved) -> None:
    settings = {one.name: one for one in load_classifier(saved("DeiT")).settings}
    assert "preprocessor_config.json" in settings["preprocessing"].value
    assert (settings["size"].value, settings["size"].source) == ("40 x 40 voxels", "given")
    assert settings["centre crop"].value == "32 x 32 voxels"
    assert settings["intensity"].source == "given"
    # The library's own code takes a softmax where config.json does not say the problem.
    assert (settings["activation"].value, settings["activation"].source) == ("softmax", "preset")


def test_several_labels_at_once_get_a_sigmoid(folder) -> None:
    change(folder, "config.json", problem_type="multi_label_classification")
    loaded = load_classifier(folder)
    assert loaded.network.activation == "sigmoid"
    assert {one.name: one.source for one in loaded.settings}["activation"] == "given"


def test_one_channel(transformers, tmp_path) -> None:
    save(transformers, "ResNet", tmp_path / "grey", num_channels=1)
    change(tmp_path / "grey", "preprocessor_config.json", image_mean=[0.5], image_std=[0.5])
    assert load_classifier(tmp_path / "grey").channels == ("image",)


def test_classes_of_the_same_name_are_told_apart(folder) -> None:
    change(folder, "config.json", id2label={"0": "crane", "1": "crane", "2": "heron"})
    loaded = load_classifier(folder)
    assert loaded.classes == ("crane (0)", "crane (1)", "heron")
    assert any("crane" in note for note in loaded.notes)


def test_shards_and_a_pickle_of_tensors_hold_the_same_network(folder) -> None:
    expected = load_classifier(folder).network.state_dict()
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    found = load_classifier(folder).network.state_dict()
    (folder / "pytorch_model.bin").unlink()
    keys = sorted(tensors)
    index = {}
    for number, part in enumerate((keys[::2], keys[1::2])):
        name = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({key: tensors[key] for key in part}, folder / name)
        index |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    sharded = load_classifier(folder).network.state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value)
        assert torch.equal(sharded[key], value)
    (folder / name).unlink()
    with error_with(ErrorCode.MODEL_INCOMPLETE, name):
        load_classifier(folder)


def test_a_snapshot_of_the_hubs_cache_is_read_and_named_by_its_repository(folder, tmp_path) -> None:
    repository = tmp_path / "models--clinic--tumour-net"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    loaded = load_classifier(snapshot)
    assert loaded.name == "tumour-net"
    assert loaded.identity == load_classifier(folder).identity


def test_any_changed_file_makes_another_identity(folder) -> None:
    found = {load_classifier(folder).identity}
    change(folder, "preprocessor_config.json", image_mean=[0.4, 0.5, 0.5])
    found.add(load_classifier(folder).identity)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] += 1e-3
    save_file(tensors, folder / "model.safetensors")
    found.add(load_classifier(folder).identity)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("values", "code", "named"),
    [
        ({"auto_map": {"AutoConfig": "code.Config"}}, ErrorCode.MODEL_REFUSED, "auto_map"),
        ({"architectures": ["Owned"]}, ErrorCode.MODEL_REFUSED, "Owned"),
        ({"architectures": ["ViTModel"]}, ErrorCode.MODEL_REFUSED, "ViTModel"),
        ({"model_type": "timm_wrapper"}, ErrorCode.MODEL_REFUSED, "timm_wrapper"),
        ({"architectures": None}, ErrorCode.MODEL_CONFIGURATION, "architectures"),
        ({"quantization_config": {"bits": 4}}, ErrorCode.MODEL_REFUSED, "quantization_config"),
        ({"hidden_size": 10**12}, ErrorCode.MODEL_REFUSED, "hidden_size"),
        ({"image_size": 10**6}, ErrorCode.MODEL_CONFIGURATION, "ViTForImageClassification"),
        ({"num_hidden_layers": 10**5}, ErrorCode.MODEL_REFUSED, "20000"),
        ({"hidden_size": 24}, ErrorCode.MODEL_WEIGHTS, "of another shape"),
        ({"num_hidden_layers": 3}, ErrorCode.MODEL_WEIGHTS, "missing"),
        ({"num_hidden_layers": 1}, ErrorCode.MODEL_WEIGHTS, "not in the network"),
        ({"hidden_act": "os.system"}, ErrorCode.MODEL_CONFIGURATION, "ViTForImageClassification"),
        ({"num_channels": 2}, ErrorCode.MODEL_CONFIGURATION, "num_channels"),
        ({"problem_type": "regression"}, ErrorCode.MODEL_OUTPUT, "regression"),
        ({"problem_type": "ranking"}, ErrorCode.MODEL_CONFIGURATION, "ranking"),
        ({"id2label": {"0": "age"}}, ErrorCode.MODEL_OUTPUT, "regression"),
        ({"id2label": None}, ErrorCode.MODEL_INCOMPLETE, "id2label"),
        ({"id2label": {"0": "a", "1": "b"}}, ErrorCode.MODEL_WEIGHTS, "classifier.weight"),
        ({"id2label": {"0": "a\u202e", "1": "b"}}, ErrorCode.MODEL_CONFIGURATION, "id2label"),
    ],
)
def test_a_configuration_is_refused_by_name(folder, values, code, named) -> None:
    change(folder, "config.json", **values)
    with error_with(code, named):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("values", "code", "named"),
    [
        ({"auto_map": {"AutoImageProcessor": "x.P"}}, ErrorCode.MODEL_REFUSED, "auto_map"),
        ({"image_processor_type": "Own"}, ErrorCode.MODEL_PREPROCESSING, "Own"),
        ({"resample": 1}, ErrorCode.MODEL_PREPROCESSING, "resample"),
        ({"do_pad": True}, ErrorCode.MODEL_PREPROCESSING, "do_pad"),
        ({"do_flip_channel_order": True}, ErrorCode.MODEL_PREPROCESSING, "do_flip_channel_order"),
        ({"size": {"shortest_edge": 32}}, ErrorCode.MODEL_PREPROCESSING, "shortest_edge"),
        ({"size": {"longest_edge": 32}}, ErrorCode.MODEL_PREPROCESSING, "longest_edge"),
        ({"size": 10**9}, ErrorCode.MODEL_CONFIGURATION, "size"),
        ({"do_resize": "yes"}, ErrorCode.MODEL_CONFIGURATION, "do_resize"),
        ({"image_std": [0.5, 0.0, 0.5]}, ErrorCode.MODEL_CONFIGURATION, "image_std"),
        ({"rescale_factor": -1}, ErrorCode.MODEL_CONFIGURATION, "rescale_factor"),
    ],
)
def test_a_processor_is_refused_by_name(folder, values, code, named) -> None:
    change(folder, "preprocessor_config.json", **values)
    with error_with(code, named):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("processor", "left_out"), [("Beit", "size"), ("ConvNext", "resample"), ("Pvt", "resample")]
)
def test_a_setting_whose_default_has_changed_must_be_said(folder, processor, left_out) -> None:
    changes = {"image_processor_type": f"{processor}ImageProcessor", left_out: None}
    change(folder, "preprocessor_config.json", **changes)
    with error_with(ErrorCode.MODEL_INCOMPLETE, left_out):
        load_classifier(folder)


def test_every_network_of_the_list_is_tried() -> None:
    assert sorted(NETWORKS) == sorted(start for start, _ in LISTED.values())


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name) -> None:
    (folder / name).unlink()
    with error_with(ErrorCode.MODEL_INCOMPLETE, name):
        load_classifier(folder)


def test_a_link_that_leads_out_of_the_folder_is_refused(folder, tmp_path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with error_with(ErrorCode.MODEL_REFUSED, "model.safetensors"):
        load_classifier(folder)


def test_weights_that_are_quantised_or_not_finite_are_refused(folder) -> None:
    tensors = load_file(folder / "model.safetensors")
    key = "classifier.weight"
    save_file({**tensors, key: tensors[key].to(torch.int8)}, folder / "model.safetensors")
    with error_with(ErrorCode.MODEL_WEIGHTS, key):
        load_classifier(folder)
    save_file({**tensors, key: tensors[key] * torch.nan}, folder / "model.safetensors")
    with error_with(ErrorCode.MODEL_NOT_FINITE, key):
        load_classifier(folder)


def test_without_the_package_it_is_named(folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with error_with(ErrorCode.PACKAGE_MISSING, "saliency-explain[huggingface]"):
        load_classifier(folder)
