"""Cases from an nnU-Net data set: ``imagesTr``, ``labelsTr``, ``dataset.json``."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.case import Case, safe_name
from SaliencyExplain.studies.file_names import ambiguous, csv_advice, image_suffix, same_key, stem
from SaliencyExplain.studies.tree import visible


def is_nnunet(path: Path) -> bool:
    """Whether the folder is laid out as an nnU-Net data set."""
    return (path / "imagesTr").is_dir()


def nnunet_cases(path: Path, channels: Sequence[str]) -> list[Case]:
    """The cases of ``imagesTr``; a file without ``_0000`` is the only channel of its case.

    Channels are named by ``channel_names`` (or ``modality``) of ``dataset.json``, and
    put in the classifier's order where those are the classifier's names.

    Raises:
        InputError: No images, a channel that some cases lack, a segmentation that matches no
            image by name, or a ``dataset.json`` that cannot be read.
    """
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in visible(path / "imagesTr"):
        if image_suffix(file) and file.is_file():
            match = re.fullmatch(r"(.+)_(\d{4})", stem(file))
            key, channel = (match[1], int(match[2])) if match else (stem(file), 0)
            if channel in found[key]:
                raise InputError(
                    ErrorCode.NAME_DUPLICATE,
                    f"{path / 'imagesTr'}: {key} has two images for one channel.",
                )
            found[key][channel] = file
    if not found:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{path / 'imagesTr'}: no images (NAME_0000.nii.gz) are in this folder.",
        )
    every = sorted({channel for images in found.values() for channel in images})
    names = _channel_names(path / "dataset.json")
    labels = _labels(path / "labelsTr")
    cases = []
    for key, images in found.items():
        missing = [f"_{channel:04d}" for channel in every if channel not in images]
        if missing:
            raise InputError(
                ErrorCode.CHANNELS,
                f"{path / 'imagesTr'}: {key} lacks the channel {', '.join(missing)} that other "
                "cases have.",
            )
        named = {names.get(channel): images[channel] for channel in every}
        pairs = [(names.get(channel), images[channel]) for channel in every]
        if len(every) == 1:
            pairs = [(None, images[every[0]])]
        elif channels and None not in named:
            pairs = _in_order(path, named, channels)
        cases.append(Case(safe_name(key), tuple(pairs), labels.pop(same_key(key), None)))
    if labels:
        raise ambiguous(
            str(path / "labelsTr"), labels.values(), "no image matches the segmentation by name"
        )
    return cases


def _labels(folder: Path) -> dict[str, Path]:
    """The segmentations by name; empty if the folder does not exist."""
    labels: dict[str, Path] = {}
    for file in visible(folder) if folder.is_dir() else []:
        if image_suffix(file) and file.is_file():
            other = labels.setdefault(same_key(stem(file)), file)
            if other is not file:
                raise ambiguous(str(folder), [other, file], "two segmentations have the same name")
    return labels


def _in_order(
    path: Path, named: dict[str | None, Path], channels: Sequence[str]
) -> list[tuple[str | None, Path]]:
    lower = {str(name).casefold(): file for name, file in named.items()}
    if not all(channel.casefold() in lower for channel in channels):
        raise InputError(
            ErrorCode.CHANNELS,
            f"{path}: the classifier takes the channels {', '.join(channels)}, and dataset.json "
            f"names {', '.join(str(name) for name in named)}. {csv_advice(channels)}",
        )
    return [(channel, lower[channel.casefold()]) for channel in channels]


def _channel_names(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        named = content.get("channel_names") or content.get("modality") or {}
        return {int(number): str(name) for number, name in named.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            ErrorCode.FILE_FORMAT, f"{path}: cannot be read as nnU-Net's dataset.json ({error})."
        ) from None
