"""A folder of Hugging Face's Transformers as a classifier: configuration, processor and weights.

The folder is an untrusted input. No code of it runs, and nothing is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models import huggingface_network, huggingface_preprocessing
from SaliencyExplain.models.assembly import assemble
from SaliencyExplain.models.bundle import (
    LARGEST_BYTES,
    LARGEST_CONFIG_BYTES,
    METADATA,
    check_inside,
    identity_of,
)
from SaliencyExplain.models.bundle_metadata import activation_step
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.configuration import Configuration, parse_text
from SaliencyExplain.models.finite_weights import check_finite
from SaliencyExplain.models.metadata import Metadata, numbered_names
from SaliencyExplain.models.preprocessing import build_preprocessing
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.weights import read_weights

FORM = "Hugging Face folder"
_CONFIGURATION = huggingface_network.FILE
_PROCESSOR = huggingface_preprocessing.FILE
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")
_MOST_SHARDS = 1000
_CHANNELS = {1: ("image",), 3: ("red", "green", "blue")}
_ACTIVATIONS = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid"}


def is_huggingface_folder(folder: Path) -> bool:
    """Whether a folder has a config.json and is no MONAI bundle."""
    return (folder / _CONFIGURATION).is_file() and not (folder / METADATA).exists()


def load_huggingface_folder(folder: Path) -> Classifier:
    """The classifier in a folder with config.json, preprocessor_config.json and weights.

    The weights are ``model.safetensors``, the files of a ``model.safetensors.index.json``, or
    ``pytorch_model.bin``.

    Args:
        folder: As the library's ``save_pretrained`` or the cache of the hub has it.

    Raises:
        ClassifierError: A file is missing or damaged, the network or a setting of the processor
            is not supported, or the weights do not fit.
    """
    read = {
        name: _read(folder, name, LARGEST_CONFIG_BYTES) for name in (_CONFIGURATION, _PROCESSOR)
    }
    content = parse_text(read[_CONFIGURATION], _CONFIGURATION)
    _, processor = huggingface_network.architecture_of(content)
    classes, notes = _classes(content)
    channels = _channels(content)
    activation, said = _activation(content, len(classes))
    prepared = huggingface_preprocessing.library_preprocessing(
        parse_text(read[_PROCESSOR], _PROCESSOR), processor, channels
    )
    steps = build_preprocessing(
        Configuration(
            {"preprocessing": {"_target_": "Compose", "transforms": prepared.steps}}, trust=False
        ),
        2,
    )
    tensors, files = _weights(folder)
    network = huggingface_network.build(content, classes, tensors, folder.name)
    check_finite(network, folder.name)
    network.eval().requires_grad_(False)
    settings = (*prepared.settings, Setting("activation", activation, said))
    return assemble(
        network,
        Metadata(channels, classes, 2, None, None, settings),
        activation_step(activation),
        name=_name_of(folder),
        spatial_dims=2,
        preprocessing=steps,
        identity=identity_of({**read, **files}),
        source=folder,
        form=FORM,
        trusted=False,
        notes=notes,
    )


def _name_of(folder: Path) -> str:
    """The folder's name; in the cache of the hub, whose folders are hashes, the repository's."""
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.rpartition("--")[2]
    return folder.name


def _read(folder: Path, name: str, largest: int) -> bytes:
    path = folder / name
    if not path.is_file():
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE, f"{folder} is not complete: the file {name} is missing."
        )
    check_inside(path, folder)
    size = path.stat().st_size
    if size > largest:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{name} in {folder} holds {size} bytes; at most {largest} are read.",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClassifierError(
            ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
        ) from error


def _weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, bytes]]:
    """The tensors by name, and the files that hold them."""
    single = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    files: dict[str, bytes] = {}
    if single is not None:
        names = [single]
    elif (folder / _INDEX).is_file():
        files[_INDEX] = _read(folder, _INDEX, LARGEST_CONFIG_BYTES)
        names = _shards(parse_text(files[_INDEX], _INDEX))
    else:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{folder} has no weights: wanted is {_WEIGHTS[0]}, {_INDEX} with its files, or "
            f"{_WEIGHTS[1]}.",
        )
    tensors: dict[str, Tensor] = {}
    left = LARGEST_BYTES
    for name in names:
        files[name] = _read(folder, name, left)
        left -= len(files[name])
        groups = read_weights(files[name], name).groups
        found = groups[""].tensors if "" in groups else {}
        if not found or len(groups) > 1:
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{name} in {folder} holds something else than tensors by name.",
            )
        twice = tensors.keys() & found.keys()
        if twice:
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{folder} has the tensor {shown(min(twice))} in two files of weights.",
            )
        tensors |= found
    return tensors, files


def _shards(index: Mapping[str, Any]) -> list[str]:
    """The files of weights that an index names."""
    places = index.get("weight_map")
    names = set(map(str, places.values())) if isinstance(places, Mapping) else set()
    if not names or len(names) > _MOST_SHARDS or not all(map(_SHARD.fullmatch, names)):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{_INDEX} does not say in its weight_map in which safetensors files of this folder "
            "the tensors are.",
        )
    return sorted(names)


def _classes(content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, all different, and a note where their numbers were added."""
    names = numbered_names(content.get("id2label"), f"{_CONFIGURATION}: id2label")
    if not names:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{_CONFIGURATION} does not name the classes: add id2label.",
        )
    times = Counter(names)
    several = [name for name in times if times[name] > 1]
    if not several:
        return names, ()
    numbered = tuple(
        f"{name} ({index})" if times[name] > 1 else name for index, name in enumerate(names)
    )
    if len(set(numbered)) < len(numbered):
        raise ClassifierError(
            ErrorCode.MODEL_CLASSES, f"{_CONFIGURATION}: id2label has the same name twice."
        )
    return numbered, (
        f"Several classes have the same name ({', '.join(map(shown, several[:3]))}): their numbers "
        "in id2label were added.",
    )


def _channels(content: Mapping[str, Any]) -> tuple[str, ...]:
    count = content.get("num_channels", 3)
    if isinstance(count, bool) or count not in _CHANNELS:
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{_CONFIGURATION} says num_channels {shown(count)}: networks of 1 channel (grey) and "
            "of 3 (red, green, blue) are supported.",
        )
    return _CHANNELS[count]


def _activation(content: Mapping[str, Any], classes: int) -> tuple[str, str]:
    """What makes probabilities of the logits, and where that is from."""
    problem = content.get("problem_type")
    if problem == "regression" or (problem is None and classes == 1):
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT,
            f"{_CONFIGURATION} describes a regression (problem_type {shown(problem)}, {classes} "
            f"output{'s' if classes > 1 else ''}), whose outputs are not scores of classes. Where "
            "it is a classifier, set problem_type to multi_label_classification (binary "
            "cross-entropy) or single_label_classification.",
        )
    if problem is None:
        # As the library's pipeline for image classification does.
        return "softmax", "preset"
    if problem not in _ACTIVATIONS:
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{_CONFIGURATION}: the value {shown(problem)} of problem_type is not valid; known are "
            f"{', '.join(_ACTIVATIONS)}.",
        )
    return _ACTIVATIONS[problem], "given"
