"""Cases from a BIDS data set: ``sub-*/[ses-*/]anat`` with masks in ``derivatives``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.case import Case, csv_advice, safe_name
from SaliencyExplain.study.files import ambiguous, image_suffix, natural, stem

_MASK_SUFFIXES = frozenset({"dseg", "mask", "lesion", "roi", "seg", "label"})
#: Of several masks of a case the one that says lesion or tumour is meant.
_TUMOUR = re.compile(r"lesion|tumou?r|glioma|gtv", re.IGNORECASE)
#: Masks of the whole brain or head are no segmentation of a finding.
_BRAIN = re.compile(r"(desc|label)-(brain|head|bet|skull)", re.IGNORECASE)


def is_bids(path: Path) -> bool:
    """Whether the folder has subjects with an ``anat`` folder."""
    return any(True for _ in _anat_folders(path))


def _anat_folders(path: Path) -> list[Path]:
    found = [*path.glob("sub-*/anat"), *path.glob("sub-*/ses-*/anat")]
    return sorted((folder for folder in found if folder.is_dir()), key=lambda p: natural(p.parent))


def bids_cases(path: Path, channels: Sequence[str]) -> list[Case]:
    """A case for each subject and session (and run, where there are several).

    The images of a session (``T1w``, ``T2w``, ``FLAIR`` …) are channels by their
    suffix, in the classifier's order. A classifier of one channel takes the image
    of the channel's name, or the only image.

    Raises:
        InputError: The channels are not there, or several masks could be the case's.
    """
    masks = _masks(path)
    cases = []
    for anat in sorted(_anat_folders(path), key=str):
        for entities, images in _images(anat).items():
            where = str(anat.relative_to(path.parent))
            found = _channels(where, images, channels)
            cases.append(Case(safe_name(entities), found, _mask(where, entities, masks)))
    if not cases:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{path}: the BIDS subjects have no images (sub-*_T1w.nii.gz) in anat.",
        )
    return sorted(cases, key=lambda case: natural(Path(case.case)))


def _images(anat: Path) -> dict[str, dict[str, Path]]:
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(anat.iterdir()):
        entities, _, suffix = stem(file).rpartition("_")
        if image_suffix(file) and entities and suffix not in _MASK_SUFFIXES:
            if suffix in images[entities]:
                raise ambiguous(str(anat), [images[entities][suffix], file], "which is the image?")
            images[entities][suffix] = file
    return images


def _channels(
    where: str, images: dict[str, Path], channels: Sequence[str]
) -> tuple[tuple[str | None, Path], ...]:
    if len(images) == 1 and len(channels) < 2:
        return ((None, next(iter(images.values()))),)
    # A classifier says 'T1' or 't1w', BIDS says 'T1w'.
    lower = {suffix.casefold(): file for suffix, file in images.items()}
    lower |= {suffix.removesuffix("w"): file for suffix, file in lower.items()}
    wanted = channels or list(images)
    if not all(channel.casefold() in lower for channel in wanted):
        raise InputError(
            ErrorCode.CHANNELS,
            f"{where}: the classifier wants {', '.join(channels)}, and the images here are "
            f"{', '.join(images)}. {csv_advice(channels)}",
        )
    return tuple((channel, lower[channel.casefold()]) for channel in wanted)


def _masks(path: Path) -> dict[str, list[Path]]:
    masks: dict[str, list[Path]] = defaultdict(list)
    for folder in [*path.glob("derivatives"), *_anat_folders(path)]:
        for file in sorted(folder.rglob("sub-*")):
            if (
                image_suffix(file)
                and stem(file).rpartition("_")[2] in _MASK_SUFFIXES
                and not _BRAIN.search(file.name)
            ):
                masks[file.name.partition("_")[0]].append(file)
    return masks


def _mask(where: str, entities: str, masks: Mapping[str, list[Path]]) -> Path | None:
    wanted = dict(part.split("-", 1) for part in entities.split("_") if "-" in part)
    own = []
    for mask in masks.get(entities.partition("_")[0], []):
        has = dict(part.split("-", 1) for part in stem(mask).split("_") if "-" in part)
        # A mask may say more (label, space, desc) and less (no run) than its image,
        # but nothing else about the session.
        same_session = has.get("ses") == wanted.get("ses")
        same_run = has.get("run", wanted.get("run")) == wanted.get("run")
        if same_session and same_run:
            own.append(mask)
    if len(own) > 1:
        own = [mask for mask in own if _TUMOUR.search(mask.name)] or own
    if len(own) > 1:
        raise ambiguous(where, own, f"{len(own)} masks could be the segmentation of {entities}")
    return own[0] if own else None
