"""A copy of a bundle with the settings that a check found."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.bundle import INFERENCE, METADATA
from SaliencyExplain.models.bundle_metadata import activation_step
from SaliencyExplain.models.bundle_settings import KEY, Setting
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.model_check import Attempt
from SaliencyExplain.models.new_bundle import new_bundle
from SaliencyExplain.models.preprocessing_words import WORDS


def corrected_bundle(classifier: Classifier, found: Attempt, out: Path) -> Path:
    """Writes a copy of a model's bundle with other settings.

    Args:
        classifier: Loaded from a folder that was made of a preprocessing in words.
        found: The settings.
        out: Folder of the copy; it must not exist.

    Returns:
        The folder.

    Raises:
        InputError: The model is not such a bundle.
        OutputError: The folder exists or cannot be written.
    """
    source, words = classifier.source, found.words or classifier.words
    if source is None or not (source / INFERENCE[0]).is_file() or words is None:
        raise InputError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{classifier.name}: only the folder of a bundle whose preprocessing was given in "
            "words (model add) can be written with other settings. Change its configuration by "
            "hand.",
        )
    if found.channels is not None and classifier.colour:
        raise InputError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{classifier.name}: pictures are read as red, green, blue, and a network that takes "
            "the colours in another order cannot be written. Turn the input's colours in the "
            "network's own code.",
        )
    with new_bundle(out) as bundle:
        shutil.copytree(source, bundle, ignore=shutil.ignore_patterns("__pycache__"))
        inference = _read(bundle / INFERENCE[0])
        steps = words.steps(classifier.spatial_dims, len(classifier.channels))
        # The first step reads the file.
        reading = inference["preprocessing"]["transforms"][0]
        inference["preprocessing"]["transforms"] = [reading, *steps]
        inference |= activation_step(found.activation)
        metadata = _read(bundle / METADATA)
        metadata[WORDS] = words.as_json()
        metadata[KEY] = [dataclasses.asdict(one) for one in _settings(classifier, found)]
        if found.channels is not None:
            names = [classifier.channels[index] for index in found.channels]
            image = metadata["network_data_format"]["inputs"]["image"]
            image["channel_def"] = {str(index): name for index, name in enumerate(names)}
        _write(bundle / INFERENCE[0], inference)
        _write(bundle / METADATA, metadata)
    return out


def _settings(classifier: Classifier, found: Attempt) -> list[Setting]:
    """The bundle's settings, those that the check found in their place."""
    dims, words = classifier.spatial_dims, found.words or classifier.words
    assert words is not None
    order = found.channels or range(len(classifier.channels))
    names = [classifier.channels[index] for index in order]
    before = {one.name: one for one in classifier.settings}
    described = {one.name: one for one in words.settings(dims, names, {}, "checked")}
    described["activation"] = Setting("activation", found.activation, "checked")
    after = []
    for name, new in described.items():
        old = before.get(name)
        after.append(old if old is not None and old.value == new.value else new)
    others = [one for name, one in before.items() if name not in described and name != "checked"]
    return after + others


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
