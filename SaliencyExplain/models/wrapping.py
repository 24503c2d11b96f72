"""Making a MONAI bundle of a network and its weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.models.allowed import NETWORK_CHANGES
from SaliencyExplain.models.bundle import METADATA
from SaliencyExplain.models.bundle_metadata import (
    activation_step,
    bundle_metadata,
    check_names,
    described_as_segmentation,
)
from SaliencyExplain.models.bundle_settings import KEY, Setting
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.finite_weights import check_finite, check_onnx_finite
from SaliencyExplain.models.given_transforms import transforms_of
from SaliencyExplain.models.given_weights import Reading, Weights, gather, read_bytes
from SaliencyExplain.models.library_presets import chosen_words, preset_dims
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.network_code import copy_code
from SaliencyExplain.models.network_fitting import adapt
from SaliencyExplain.models.networks import build_network, network_definition
from SaliencyExplain.models.new_bundle import new_bundle
from SaliencyExplain.models.onnx_side_files import with_weights_inside
from SaliencyExplain.models.preprocessing_words import WORDS, PreprocessingWords
from SaliencyExplain.models.probe import convolution_dims
from SaliencyExplain.models.programs import load_exported, load_script
from SaliencyExplain.models.scripts import PACKAGE, importable
from SaliencyExplain.models.sliding_window import described_inferer
from SaliencyExplain.models.weights import format_of, load_into

#: Kinds of files that contain their network, with the suffixes of their names.
_PROGRAM_SUFFIXES = {"TorchScript": "ts", "torch.export": "pt2", "ONNX": "onnx"}


def wrap(
    network: str | None,
    weights: Weights,
    classes: Sequence[str],
    out: Path,
    *,
    network_args: Mapping[str, Any] | None = None,
    channels: Sequence[str] = ("image",),
    spatial_dims: int | None = None,
    like: str | None = None,
    transforms: str | Path | None = None,
    activation: str | None = None,
    output: str | None = None,
    window: Sequence[int] | None = None,
    own_training: bool = False,
    description: str = "",
    eval_metrics: Mapping[str, Any] | None = None,
    documents: Mapping[str, bytes] | None = None,
    ensemble: bool = False,
    state_key: str | None = None,
    strip_prefix: str | None = None,
    trust: bool = False,
    **words: Any,
) -> Path:
    """Writes a MONAI bundle and loads it again, which runs its network on synthetic images.

    What was given, what was guessed and what was found by running the network stands in the
    bundle's metadata (:mod:`SaliencyExplain.models.bundle_settings`). That its predictions are
    those of the network's own code is not checked.

    Args:
        network: ``DenseNet121`` and the like of monai, ``timm.NAME``, the dotted name of a
            network of monai, torchvision or timm, or ``file.py:Class`` or
            ``file.py:factory`` (with trust; the file is copied into the bundle's ``scripts``
            with its package and the modules beside it that it imports); None where the weights
            are a TorchScript or torch.export program or an ONNX file.
        weights: A weight file; several as ``submodule=file``; or the tensors themselves.
        classes: Names of the classes in the order of the network's scores; one or two for
            a network with a single logit.
        out: Folder of the bundle; it must not exist.
        network_args: Arguments of the network's class; what is said elsewhere (channels,
            classes, axes) is filled in where they leave it out.
        channels: Names of the input's channels; ``red, green, blue`` for colour pictures.
        spatial_dims: 2 or 3; where None, the network's convolutions say it.
        like: A library whose own preprocessing it is, one of
            :data:`SaliencyExplain.models.library_presets.PRESETS`.
        transforms: A file with the preprocessing as MONAI's dictionary transforms on ``image``,
            instead of words: see :func:`SaliencyExplain.models.given_transforms.transforms_of`.
        activation: ``softmax``, ``sigmoid``, or ``none`` where the network ends in one; where
            None, none for outputs that are probabilities for all synthetic images, else softmax.
        output: Path of the class scores where the network returns several outputs: an index, a
            key, or several with dots between them. Where None, the only one that fits.
        window: Of a segmentation network the voxels per axis of the windows in which it is run
            over an image (MONAI's ``SlidingWindowInferer``). Where None, whole images.
        own_training: Whether the network is trained with this preprocessing, so that nothing
            of it is guessed.
        description: A sentence for people.
        eval_metrics: How well it does, for the key of that name in MONAI's metadata.
        documents: Further files by name, for the bundle's ``docs``.
        ensemble: Whether each weight file is a member of its own, all of the same network, whose
            scores are averaged.
        state_key: Key of the weights in a weight file, several with dots between them. Where
            None, they are looked for under the usual ones.
        strip_prefix: What the names of the weights in the file begin with and those of the
            network do not, such as ``model.``; all other names are left out. Where None, it is
            found.
        trust: Whether code of the user's own may be run.
        **words: The preprocessing in words: spacing, size, intensity and what else
            :class:`~SaliencyExplain.models.preprocessing_words.PreprocessingWords` has.

    Returns:
        The bundle's folder.

    Raises:
        InputError: An argument does not make sense.
        ClassifierError: The weights do not fit or are not finite, or the network is no
            classifier.
        OutputError: The folder exists or cannot be written.
    """
    postprocessing = activation_step(activation)
    check_names(classes, channels)
    given = PreprocessingWords.of(words)
    if transforms is not None and (like or given != PreprocessingWords()):
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            f"{transforms} is the whole preprocessing: leave out the preset and the settings of "
            "the preprocessing.",
        )
    out = Path(out)
    with new_bundle(out) as bundle:
        (bundle / "configs").mkdir(parents=True)
        (bundle / "models").mkdir()
        said = spatial_dims or given.dims or preset_dims(like)
        if ensemble and network is None:
            raise InputError(
                ErrorCode.OPTION_MISSING,
                "Name the network of the ensemble's members (network).",
            )
        if network is None:
            definition, dims = _write_program(bundle, weights, trust=trust)
            notes: tuple[str, ...] = ()
        else:
            arguments = network_args or {}
            if ".py:" in network:
                target = copy_code(network, bundle, trust=trust)
                described = {"_target_": target, **arguments}
            else:
                described = network_definition(
                    network,
                    arguments,
                    channels=len(channels),
                    classes=len(classes),
                    spatial_dims=said,
                    size=chosen_words(words, like, said)[0].size if said else given.size,
                    trust=trust,
                )
            reading = Reading(state_key, strip_prefix, trust)
            members = [
                _fitted(
                    bundle,
                    described,
                    one,
                    reading,
                    channels=len(channels),
                    activation=activation,
                )
                for one in _members(weights, ensemble=ensemble)
            ]
            fitted = _mean_of(members) if ensemble else members[0]
            _write_weights(bundle, fitted)
            definition = {"network_def": fitted.definition, "network": "@network_def"}
            dims, notes = fitted.dims, fitted.notes
        dims = spatial_dims or dims or said
        if dims not in (2, 3):
            raise InputError(
                ErrorCode.OPTION_MISSING,
                "Give the number of axes of the images (spatial_dims, on the command line "
                "--dimensions): the network does not define it.",
            )
        chosen, sources = chosen_words(words, like, dims)
        reader = {"reader": "ITKReader"} if dims == 2 else {}
        loading = {
            "_target_": "LoadImaged",
            "keys": "image",
            "ensure_channel_first": True,
            **reader,
        }
        if transforms is None:
            listed = [loading, *chosen.steps(dims, len(channels))]
            steps: Any = {"_target_": "Compose", "transforms": listed}
            otherwise = "trained" if own_training else "guessed"
            settings = chosen.settings(dims, channels, {} if own_training else sources, otherwise)
        else:
            steps = transforms_of(Path(transforms), bundle, trust=trust)
            settings = [Setting("preprocessing", Path(transforms).name, "given")]
        inference = {
            **definition,
            "preprocessing": steps,
            "inferer": described_inferer(window, dims),
        }
        content = bundle_metadata(classes, channels, dims, chosen.size, description or out.name)
        if transforms is None:
            content[WORDS] = chosen.as_json()
        settings += [Setting("weights", note, "guessed") for note in notes]
        if ensemble:
            settings.append(
                Setting("ensemble", f"mean of the scores of {len(members)} networks", "given")
            )
        if eval_metrics is not None:
            content["eval_metrics"] = dict(eval_metrics)
        for name, document in (documents or {}).items():
            (bundle / "docs").mkdir(exist_ok=True)
            (bundle / "docs" / name).write_bytes(document)
        _write_configurations(bundle, inference, content, settings, postprocessing, output)
        found = load_classifier(bundle, trust=trust, guess=activation is None)
        if found.windows is not None:
            described_as_segmentation(content)
        settings += _found(found, output, own_training)
        postprocessing = activation_step(found.network.activation)
        _write_configurations(
            bundle, inference, content, settings, postprocessing, found.network.output
        )
        for cache in bundle.rglob("__pycache__"):
            shutil.rmtree(cache)
    return out


def _write_configurations(
    bundle: Path,
    inference: Mapping[str, Any],
    content: dict[str, Any],
    settings: Sequence[Setting],
    postprocessing: Mapping[str, Any],
    output: str | None,
) -> None:
    """Writes inference.json and metadata.json, with the activation and output where known."""
    _write_json(bundle / "configs" / "inference.json", {**inference, **postprocessing})
    if output:
        content["network_data_format"]["outputs"]["pred"]["network_output"] = output
    content[KEY] = [dataclasses.asdict(setting) for setting in settings]
    _write_json(bundle / METADATA, content)


def _found(classifier: Classifier, output: str | None, own_training: bool) -> list[Setting]:
    """What was found of the network's outputs while the bundle was loaded."""
    found = {one.name: one for one in classifier.settings if one.name in ("activation", "output")}
    if output is not None:
        found["output"] = Setting("output", output, "given")
    if own_training:
        return [dataclasses.replace(one, source="trained") for one in found.values()]
    return list(found.values())


def _write_program(
    bundle: Path, weights: Weights, *, trust: bool
) -> tuple[dict[str, Any], int | None]:
    parts = [weights] if isinstance(weights, (str, Path)) else weights
    if isinstance(parts, Mapping) or len(parts) != 1:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            "Name the network's class, or one TorchScript, torch.export or ONNX file.",
        )
    path = Path(parts[0])
    content = read_bytes(path)
    kind = format_of(content)
    if kind not in _PROGRAM_SUFFIXES:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            f"{path} holds only weights: name the network's class (--network).",
        )
    if kind == "ONNX":
        content = with_weights_inside(content, path)
        check_onnx_finite(content, path.name)
    else:
        load = load_script if kind == "TorchScript" else load_exported
        check_finite(load(content, path.name, trust=trust), path.name)
    (bundle / "models" / f"model.{_PROGRAM_SUFFIXES[kind]}").write_bytes(content)
    return {}, None


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """A network with its weights.

    Attributes:
        definition: Its configuration.
        tensors: Its parameters and buffers by name.
        dims: 2 or 3, where its convolutions say it.
        notes: What a user must be told.
    """

    definition: dict[str, Any]
    tensors: dict[str, Tensor]
    dims: int | None
    notes: tuple[str, ...]


def _fitted(
    bundle: Path,
    definition: dict[str, Any],
    weights: Weights,
    reading: Reading,
    *,
    channels: int,
    activation: str | None,
) -> _Fitted:
    """The network of a definition with the weights of one or several files."""
    target = definition["_target_"]
    with importable(bundle if target.startswith(f"{PACKAGE}.") else None):
        built = build_network(definition, trust=reading.trust)
        given, notes = gather(weights, built.state_dict(), reading)
        adapted = adapt(
            definition,
            built,
            given,
            channels=channels,
            activation=activation,
            build=lambda changed: build_network(changed, trust=reading.trust),
        )
    built = adapted.network
    notes += adapted.notes + load_into(built, adapted.checkpoint, given.name)
    check_finite(built, given.name)
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in built.state_dict().items()
    }
    return _Fitted(adapted.definition, tensors, convolution_dims(built), notes)


def _mean_of(members: Sequence[_Fitted]) -> _Fitted:
    """The ensemble of several networks."""
    definition = {
        "_target_": f"{NETWORK_CHANGES}.mean_of",
        "networks": [one.definition for one in members],
    }
    tensors = {
        f"members.{number}.{key}": value
        for number, one in enumerate(members)
        for key, value in one.tensors.items()
    }
    notes = tuple(dict.fromkeys(note for one in members for note in one.notes))
    return _Fitted(definition, tensors, members[0].dims, notes)


def _members(weights: Weights, *, ensemble: bool) -> list[Weights]:
    """The weights of each member of an ensemble; else all of them together."""
    if not ensemble:
        return [weights]
    if isinstance(weights, (str, Path, Mapping)) or len(weights) < 2:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            "An ensemble has a weight file for each of two or more members: name them all.",
        )
    return list(weights)


def _write_weights(bundle: Path, fitted: _Fitted) -> None:
    try:
        torch.save(fitted.tensors, bundle / "models" / "model.pt")
    except RuntimeError as error:
        # torch's writer does not report a full disk, the usual cause of this failure.
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"The weights cannot be written next to {bundle.name}. Check that the disk is not "
            "full.",
        ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            ErrorCode.VALUE_FORM, f"The network's arguments cannot be written as JSON: {error}"
        ) from error
    path.write_text(text + "\n", encoding="utf-8")
