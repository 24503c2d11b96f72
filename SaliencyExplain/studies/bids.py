"""Cases from a BIDS data set: ``sub-*/[ses-*/]anat`` with masks in ``derivatives``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.case import Case, safe_name
from SaliencyExplain.studies.file_names import (
    ambiguous,
    csv_advice,
    image_suffix,
    natural,
    same_key,
    stem,
)
from SaliencyExplain.studies.tree import visible

_MASK_SUFFIXES = frozenset({"dseg", "mask", "lesion", "roi", "seg", "label", "probseg", "labels"})
#: Of several masks of a case, the one named as a lesion or tumour is used.
_TUMOUR = re.compile(r"lesion|tumou?r|glioma|gtv", re.IGNORECASE)
#: Masks of the whole brain or head do not outline a finding.
_BRAIN = re.compile(r"(desc|label)-(brain|head|bet|skull)", re.IGNORECASE)
#: Entities that only masks have: they describe what is outlined, and how.
_OF_MASKS = frozenset({"label", "desc", "atlas", "seg", "res", "den", "hemi", "from", "mode"})
#: Spaces in which a mask lies on its image as the scanner made it.
_OWN_SPACES = frozenset({"orig", "native", "individual", "t1w", "t2w", "flair", "anat", "scanner"})

BRAIN_MASK = "a mask of the brain or head, not of a finding"
OTHER_SPACE = "a mask in another space than the image"


def is_bids(path: Path) -> bool:
    """Whether the folder has subjects with an ``anat`` folder, also under ``rawdata``."""
    return bool(_anat_folders(path))


def _anat_folders(path: Path) -> list[Path]:
    """The ``anat`` folders with the images: raw data before what was derived from them."""
    derived = path if path.name == "derivatives" else path / "derivatives"
    for roots in ([path, path / "rawdata"], [derived, *_folders(derived)]):
        found = [
            folder
            for root in roots
            for pattern in ("sub-*/anat", "sub-*/ses-*/anat")
            for folder in root.glob(pattern)
            if folder.is_dir()
        ]
        if any(_images(folder) for folder in found):
            return sorted(found, key=lambda one: natural(one.parent))
    return []


def _folders(path: Path) -> list[Path]:
    return [one for one in visible(path) if one.is_dir()] if path.is_dir() else []


def bids_cases(
    path: Path, channels: Sequence[str], left_out: dict[Path, str] | None = None
) -> list[Case]:
    """A case for each subject and session (and run, where there are several).

    The images of a session (``T1w``, ``T2w``, ``FLAIR`` …) are channels by their
    suffix, in the classifier's order, also where only some of them have an entity such as
    ``acq``. A classifier of one channel takes the image of the channel's name, or the only
    image. A mask belongs to an image of its subject and session whose entities it does not
    contradict.

    Args:
        path: The data set, or the folder of a derivative.
        channels: The classifier's channels.
        left_out: Receives the masks that belong to no case, with the reason.

    Raises:
        InputError: The channels are not there, or several masks could be the case's.
    """
    passed_over = {} if left_out is None else left_out
    masks = _masks(path, passed_over)
    cases = []
    used: set[Path] = set()
    for anat in _anat_folders(path):
        for name, images in _sessions(_images(anat), channels).items():
            where = str(anat.relative_to(path.parent))
            found = _channels(where, images, channels)
            mask = _mask(where, name, found, masks, passed_over)
            used |= set(mask)
            cases.append(Case(safe_name(name), found, mask[0] if mask else None))
    if not cases:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{path}: the BIDS subjects have no images (sub-*_T1w.nii.gz) in anat.",
        )
    for mask_path in [one for own in masks.values() for one in own]:
        if mask_path not in used:
            passed_over.setdefault(mask_path, "a mask that belongs to no case")
    return sorted(cases, key=lambda case: natural(Path(case.case)))


def _images(anat: Path) -> dict[str, dict[str, Path]]:
    """``{entities: {suffix: file}}`` of the images of one folder."""
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in visible(anat):
        entities, _, suffix = stem(file).rpartition("_")
        if image_suffix(file) and entities and suffix not in _MASK_SUFFIXES and file.is_file():
            if suffix in images[entities]:
                raise ambiguous(
                    str(anat),
                    [images[entities][suffix], file],
                    "two images have the same entities and suffix",
                )
            images[entities][suffix] = file
    return images


def _sessions(
    images: Mapping[str, dict[str, Path]], channels: Sequence[str]
) -> dict[str, dict[str, Path]]:
    """The images of a folder by case.

    ``acq``, ``ce``, ``rec`` and the like often belong to the one image that has them, so that
    images of different suffixes are one case for a classifier of several channels.
    """
    if len(channels) < 2:
        return dict(images)
    merged: dict[str, dict[str, Path]] = defaultdict(dict)
    for entities, files in images.items():
        parts = _entities(entities)
        name = "_".join(f"{key}-{parts[key]}" for key in ("sub", "ses", "run") if key in parts)
        for suffix, file in files.items():
            if suffix in merged[name]:
                # Two T1w of one session: only the entities distinguish them.
                return dict(images)
            merged[name][suffix] = file
    return dict(merged)


def _channels(
    where: str, images: dict[str, Path], channels: Sequence[str]
) -> tuple[tuple[str | None, Path], ...]:
    if len(images) == 1 and len(channels) < 2:
        return ((None, next(iter(images.values()))),)
    # Classifiers name the channel 'T1' or 't1w', BIDS names it 'T1w'.
    lower = {suffix.casefold(): file for suffix, file in images.items()}
    lower |= {suffix.removesuffix("w"): file for suffix, file in lower.items()}
    wanted = channels or list(images)
    if not all(channel.casefold() in lower for channel in wanted):
        raise InputError(
            ErrorCode.CHANNELS,
            f"{where}: the classifier takes the channels {', '.join(channels)}, and the images "
            f"here are {', '.join(images)}. {csv_advice(channels)}",
        )
    return tuple((channel, lower[channel.casefold()]) for channel in wanted)


def _entities(text: str) -> dict[str, str]:
    return dict(part.split("-", 1) for part in text.split("_") if "-" in part)


def _masks(path: Path, left_out: dict[Path, str]) -> dict[str, list[Path]]:
    """``{sub-NAME: its masks}`` of the data set and its derivatives, without repetition."""
    masks: dict[str, list[Path]] = defaultdict(list)
    homes = [path / "derivatives", path / "rawdata" / "derivatives", *_anat_folders(path)]
    files = dict.fromkeys(file for home in homes for file in sorted(home.rglob("sub-*")))
    for file in files:
        if not image_suffix(file) or stem(file).rpartition("_")[2] not in _MASK_SUFFIXES:
            continue
        if _BRAIN.search(file.name):
            left_out[file] = BRAIN_MASK
        else:
            masks[file.name.partition("_")[0]].append(file)
    return masks


def _mask(
    where: str,
    name: str,
    images: Sequence[tuple[str | None, Path]],
    masks: Mapping[str, list[Path]],
    left_out: dict[Path, str],
) -> tuple[Path, ...]:
    """The mask of a case, if there is one.

    Raises:
        InputError: Several could be.
    """
    own = []
    every = [_entities(stem(path)) for _, path in images]
    for mask in masks.get(name.partition("_")[0], []):
        has = _entities(stem(mask))
        fits = [image for image in every if _agree(has, image)]
        if not fits:
            continue
        if not any(_same_space(has.get("space"), image.get("space")) for image in fits):
            left_out[mask] = OTHER_SPACE
            continue
        own.append(mask)
    if len(own) > 1:
        own = [mask for mask in own if _TUMOUR.search(mask.name)] or own
    if len(own) > 1:
        # The mask that shares the most entities with its image.
        shared = [max(len(_entities(stem(m)).items() & i.items()) for i in every) for m in own]
        own = [mask for mask, count in zip(own, shared, strict=True) if count == max(shared)]
    if len(own) > 1:
        raise ambiguous(where, own, f"{len(own)} masks could be the segmentation of {name}")
    for mask in own:
        left_out.pop(mask, None)
    return tuple(own)


def _agree(mask: Mapping[str, str], image: Mapping[str, str]) -> bool:
    """Whether a mask could be that of an image: of its session, and nothing else contradicts.

    A mask may say more (label, desc) and less (no run, no acq) than its image. What both say
    must be the same, but for what says how each was made.
    """
    if mask.get("ses") != image.get("ses"):
        return False
    for entity in mask.keys() - _OF_MASKS - {"space"}:
        if entity in image and same_key(image[entity]) != same_key(mask[entity]):
            return False
        if entity not in image and entity in ("acq", "run", "ce", "rec", "echo"):
            return False
    return True


def _same_space(mask: str | None, image: str | None) -> bool:
    def shared(space: str | None) -> str:
        return "" if space is None or space.casefold() in _OWN_SPACES else space.casefold()

    return shared(mask) == shared(image)
