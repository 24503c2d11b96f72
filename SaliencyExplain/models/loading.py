"""Loading a classifier in any of its forms, as the untrusted input that it is."""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import nullcontext, suppress
from pathlib import Path

from monai.transforms import Compose
from torch import nn

from SaliencyExplain.confinement import confined
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.landlock import run_apart
from SaliencyExplain.models import metadata, preprocessing
from SaliencyExplain.models.assembly import assemble
from SaliencyExplain.models.building import building_limited
from SaliencyExplain.models.bundle import (
    INFERENCE,
    LARGEST_CONFIG_BYTES,
    METADATA,
    MODELS,
    BundleFiles,
    identity_of,
)
from SaliencyExplain.models.check_record import FILE, CheckRecord, read_record
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.configuration import Configuration, parse_text
from SaliencyExplain.models.file_kinds import kind_of_file
from SaliencyExplain.models.huggingface_folder import (
    is_huggingface_folder,
    load_huggingface_folder,
)
from SaliencyExplain.models.nnunet_folder import is_result_folder, load_result_folder
from SaliencyExplain.models.onnx_files import load_onnx
from SaliencyExplain.models.probe import convolution_dims
from SaliencyExplain.models.programs import load_exported, load_script, program_files
from SaliencyExplain.models.scripts import PACKAGE, importable
from SaliencyExplain.models.targets import without_pretrained
from SaliencyExplain.models.weights import format_of, load_into, read_weights

_NETWORK_KEYS = ("network_def", "network", "net", "model")
_ADD = "make a bundle of it with 'saliency-explain model add"


def load_classifier(path: Path, *, trust: bool = False, guess: bool = False) -> Classifier:
    """Loads a classifier, ready to predict on the CPU.

    Args:
        path: A MONAI bundle (folder or zip), a result folder of nnU-Net v2 or one of its folds, a
            folder of Hugging Face's Transformers, or a TorchScript or torch.export file that
            carries a bundle's metadata.json and inference.json as extra files.
        trust: Whether code that comes with the classifier may be run: Python expressions
            and scripts of a bundle, a TorchScript program (parts of which run while it is
            loaded), a torch.export program (which torch unpickles).
        guess: Whether a bundle that says no activation gets a softmax where its network gives
            logits of several classes; the settings say so.

    Returns:
        The classifier, its network in eval mode with frozen parameters.

    Raises:
        ClassifierError: There is no classifier, it is refused, or something is missing;
            one line that says what to do.
    """
    path = Path(path)
    # Trust is only recorded where the classifier needs it.
    with (
        suppress(ClassifierError) if trust else nullcontext(),
        reading(path, ClassifierError),
        building_limited(path.name),
        confined(f"The model {path.name}"),
    ):
        return run_apart(lambda: _load(path, trust=False, guess=guess))
    with reading(path, ClassifierError):
        return _load(path, trust=True, guess=guess)


def _load(path: Path, *, trust: bool, guess: bool) -> Classifier:
    if path.is_dir() and is_result_folder(path):
        return load_result_folder(path)
    if path.is_dir() and is_huggingface_folder(path):
        return load_huggingface_folder(path)
    if path.is_dir():
        return _load_bundle(BundleFiles(path), path, trust=trust, guess=guess)
    if not path.is_file():
        raise ClassifierError(
            ErrorCode.FILE_MISSING,
            f"The classifier {path} does not exist. Give the folder or zip of a MONAI bundle, a "
            "folder of Hugging Face's Transformers, or a TorchScript or torch.export file; on the "
            "command line demo:NAME is a shipped classifier.",
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(METADATA) and "/extra" not in name for name in archive.namelist()):
                return _load_bundle(BundleFiles(path), path, trust=trust, guess=guess)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ClassifierError(
            ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
        ) from error
    kind = format_of(content)
    if kind in ("TorchScript", "torch.export"):
        return _load_program(content, path, kind, trust=trust)
    if kind == "ONNX":
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{path} is an ONNX file, which does not describe classes, channels and "
            f"preprocessing: {_ADD} {path.name} --classes …'.",
        )
    if kind in ("weights", "safetensors"):
        read_weights(content, path.name, trust=trust)
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{path} holds weights without their network: {_ADD} {path.name} --network …'.",
        )
    found = kind_of_file(content)
    raise ClassifierError(
        found.code,
        f"{path} is not a classifier. Give a MONAI bundle (folder or zip), a TorchScript file or "
        f"a torch.export program. The file is {found.words}.",
    )


def _load_bundle(files: BundleFiles, path: Path, *, trust: bool, guess: bool) -> Classifier:
    if trust and path.is_file():
        with tempfile.TemporaryDirectory(prefix="saliency-explain-") as folder:
            files.unpack(Path(folder))
            return _assemble(files, path, trust=trust, guess=guess, folder=Path(folder))
    return _assemble(files, path, trust=trust, guess=guess, folder=path)


def _assemble(
    files: BundleFiles, path: Path, *, trust: bool, guess: bool, folder: Path
) -> Classifier:
    inference = files.first(INFERENCE)
    if inference is None:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{path} is not a complete bundle: the file {INFERENCE[0]} is missing.",
        )
    model = _model_file(files, path)
    read = {
        METADATA: files.read(METADATA, largest=LARGEST_CONFIG_BYTES),
        inference: files.read(inference, largest=LARGEST_CONFIG_BYTES),
        model: files.read(model),
    }
    content = parse_text(read[inference], inference)
    described = metadata.parse(parse_text(read[METADATA], METADATA))
    kind = format_of(read[model])
    kept = files.read(FILE, largest=LARGEST_CONFIG_BYTES) if FILE in files.names() else b""
    scripts = [name for name in files.names() if name.startswith(f"{PACKAGE}/")] if trust else []
    notes: tuple[str, ...] = ()
    with importable(folder if scripts else None):
        configuration = Configuration(content, trust=trust, bundle_root=str(folder))
        if kind == "TorchScript":
            network: nn.Module = load_script(read[model], model, trust=trust)
        elif kind == "torch.export":
            network = load_exported(read[model], model, trust=trust)
        elif kind == "ONNX":
            network = load_onnx(read[model], model)
        else:
            network = _built_network(configuration)
            notes = load_into(network, read_weights(read[model], model, trust=trust), model)
        read |= {name: files.read(name) for name in scripts}
        return _finish(
            network,
            configuration,
            described,
            path,
            identity_of(read),
            form="MONAI bundle",
            kind=kind,
            guess=guess,
            notes=notes,
            record=read_record(kept),
        )


def _load_program(content: bytes, path: Path, kind: str, *, trust: bool) -> Classifier:
    extra = program_files(content, path.name)
    if METADATA not in extra or INFERENCE[0] not in extra:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{path} is a {kind} file that does not describe classes, channels and preprocessing: "
            f"{_ADD} {path.name} --classes …'.",
        )
    described = metadata.parse(parse_text(extra[METADATA], METADATA))
    configuration = Configuration(parse_text(extra[INFERENCE[0]], INFERENCE[0]), trust=trust)
    load = load_script if kind == "TorchScript" else load_exported
    network = load(content, path.name, trust=trust)
    identity = identity_of({"models/model": content})
    return _finish(network, configuration, described, path, identity, form=kind, kind=kind)


def _finish(
    network: nn.Module,
    configuration: Configuration,
    described: metadata.Metadata,
    path: Path,
    identity: str,
    *,
    form: str,
    kind: str,
    guess: bool = False,
    notes: tuple[str, ...] = (),
    record: CheckRecord | None = None,
) -> Classifier:
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    spatial_dims = described.spatial_dims or convolution_dims(network)
    if spatial_dims is None:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{path.name} does not say whether it takes 2D or 3D images: add "
            f"network_data_format.inputs.image.spatial_shape to {METADATA}.",
        )
    steps: Compose = preprocessing.build_preprocessing(configuration, spatial_dims)
    return assemble(
        network,
        described,
        configuration.content,
        name=path.name.removesuffix(".zip") if form == "MONAI bundle" else path.stem,
        spatial_dims=spatial_dims,
        preprocessing=steps,
        identity=identity,
        source=path,
        form=form if kind in (form, "weights", "safetensors") else f"{form} ({kind})",
        trusted=configuration.trust,
        guess=guess,
        notes=notes,
        record=record,
    )


def _built_network(configuration: Configuration) -> nn.Module:
    key = next((name for name in _NETWORK_KEYS if name in configuration.content), None)
    if key is None:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            "The bundle's configuration has no 'network_def': add the network's class and "
            "arguments under that key.",
        )
    if configuration.trust:
        content = configuration.content
        content = {**content, key: without_pretrained(content[key])}
        configuration = Configuration(content, trust=True)
    network = configuration.build(key)
    if not isinstance(network, nn.Module):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"The bundle's '{key}' builds a {type(network).__name__}, not a network.",
        )
    return network


def _model_file(files: BundleFiles, path: Path) -> str:
    usual = files.first(MODELS)
    if usual:
        return usual
    models = [
        name
        for name in files.names()
        if name.startswith("models/")
        and name.endswith((".pt", ".pth", ".ts", ".pt2", ".safetensors", ".onnx"))
    ]
    if len(models) != 1:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{path} has {'no model file' if not models else 'several model files'}: "
            f"wanted is {MODELS[0]} or {MODELS[1]}"
            f"{' (large files of the model zoo are fetched apart)' if not models else ''}.",
        )
    return models[0]
