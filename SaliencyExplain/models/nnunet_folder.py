"""Loading a result folder of nnU-Net v2: plans.json, dataset.json and a checkpoint of a fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.assembly import assemble
from SaliencyExplain.models.bundle import LARGEST_CONFIG_BYTES, identity_of
from SaliencyExplain.models.bundle_metadata import activation_step
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.checkpoints import checkpoint_of
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.configuration import parse_text
from SaliencyExplain.models.metadata import Metadata
from SaliencyExplain.models.nnunet_plans import NnunetPlans, read_plans
from SaliencyExplain.models.nnunet_preprocessing import NnunetPreprocessing
from SaliencyExplain.models.torch_files import read_torch_file
from SaliencyExplain.models.weights import load_into

PLANS, DATASET = "plans.json", "dataset.json"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
_TRAINER = "nnUNetTrainer"
_FOLD = "fold_"


def is_result_folder(path: Path) -> bool:
    """Whether a folder is one of nnU-Net's, or that of one of its folds."""
    return _top(path) is not None


def load_result_folder(path: Path) -> Classifier:
    """A segmentation network of nnU-Net, with its preprocessing and windows.

    Nothing of the folder is run: the network is built of classes that are known by name, and the
    checkpoint is read with stand-ins.

    Args:
        path: The folder with plans.json, of which the first fold is taken, or one of its folds.

    Raises:
        ClassifierError: Something is missing, damaged or not supported.
    """
    folder = _top(path)
    if folder is None:
        raise ClassifierError(ErrorCode.MODEL_INCOMPLETE, f"{path} has no {PLANS} and {DATASET}.")
    fold = _fold(folder, path)
    file = next(fold / name for name in _CHECKPOINTS if (fold / name).is_file())
    read = {name: _read(folder / name) for name in (PLANS, DATASET)}
    content = read_torch_file(checkpoint := file.read_bytes(), file.name)
    weights = content.get("network_weights") if isinstance(content, Mapping) else None
    arguments = content.get("init_args") if isinstance(content, Mapping) else None
    named = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    if not isinstance(weights, Mapping) or not isinstance(named, str):
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{file} is not a checkpoint of nnU-Net v2: it has no network_weights or does not say "
            "its configuration.",
        )
    plans = read_plans(parse_text(read[PLANS], PLANS), parse_text(read[DATASET], DATASET), named)
    network = plans.build()
    notes = load_into(network, checkpoint_of(weights, file.name), file.name)
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    found = assemble(
        network,
        Metadata(plans.channels, plans.classes, plans.axes, plans.smallest, segmentation=True,
                 settings=_settings(plans)),
        _configuration(plans),
        name=f"{plans.dataset} {plans.configuration}",
        spatial_dims=plans.axes,
        preprocessing=NnunetPreprocessing(plans),
        identity=identity_of({**read, "checkpoint": checkpoint}),
        source=path,
        form="nnU-Net",
        trusted=False,
        notes=(*notes, *_notes(folder, file, str(content.get("trainer_name", _TRAINER)))),
    )  # fmt: skip
    return dataclasses.replace(found, spacing=plans.spacing)


def _top(path: Path) -> Path | None:
    """The folder with the plans, of itself or of one of its folds."""
    above = [path.resolve().parent] if path.resolve().name.startswith(_FOLD) else []
    both = ((one / PLANS).is_file() and (one / DATASET).is_file() for one in (path, *above))
    return next((one for one, has in zip((path, *above), both, strict=True) if has), None)


def _fold(folder: Path, path: Path) -> Path:
    """The folder of the fold whose checkpoint is read."""
    folds = _folds(folder)
    own = [one for one in folds if one.resolve() == path.resolve()]
    if not own and (not folds or path.resolve() != folder.resolve()):
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{path} has no fold with a checkpoint: wanted is fold_0/{_CHECKPOINTS[0]}.",
        )
    return (own or folds)[0]


def _folds(folder: Path) -> list[Path]:
    return [
        one
        for one in sorted(folder.glob(f"{_FOLD}*"))
        if any((one / name).is_file() for name in _CHECKPOINTS)
    ]


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > LARGEST_CONFIG_BYTES:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{path} has {size:,} bytes; at most {LARGEST_CONFIG_BYTES:,} are read.",
        )
    return path.read_bytes()


def _configuration(plans: NnunetPlans) -> dict[str, Any]:
    """What the plans mean, in the words of a MONAI bundle."""
    return {
        **activation_step("sigmoid" if plans.regions else "softmax"),
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(plans.patch),
            "overlap": 0.5,
            "mode": "gaussian",
            "sigma_scale": 0.125,
        },
    }


def _settings(plans: NnunetPlans) -> tuple[Setting, ...]:
    schemes = ", ".join(one.scheme for one in plans.normalisations)
    values = {
        "orientation": f"as in the file, axes z, y, x in the order {plans.transpose}",
        "spacing": " x ".join(f"{edge:g}" for edge in plans.spacing),
        "intensity": schemes,
    }
    return tuple(Setting(name, value, "given") for name, value in values.items())


def _notes(folder: Path, file: Path, trainer: str) -> list[str]:
    folds = len(_folds(folder))
    notes = [
        f"Of the folder's {folds} fold{'s' if folds > 1 else ''} {file.parent.name} "
        f"({file.name}) is explained. Without nnU-Net's mirrored passes, and with windows laid as "
        "MONAI lays them; predictions may differ at the borders of a region."
    ]
    if trainer != _TRAINER:
        notes.append(
            f"The network was trained by {trainer[:100]}; that its network is the planned one is "
            "known from the names and shapes of its weights alone."
        )
    return notes
