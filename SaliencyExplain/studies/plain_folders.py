"""Cases from plain folders: flat pairs, a folder per case, a folder per class."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.plain_text import some_of, visible
from SaliencyExplain.studies.case import Case, safe_name
from SaliencyExplain.studies.file_names import (
    PART_NAMES,
    Name,
    ambiguous,
    csv_advice,
    is_picture,
    parse_name,
    same_key,
)
from SaliencyExplain.studies.pairing import Masks, pairs, settled, together
from SaliencyExplain.studies.tree import Folder

Images = tuple[tuple[str | None, Path], ...]


def layout_cases(top: Folder, channels: Sequence[str]) -> list[Case]:
    """The cases of a folder of images, whichever of the plain layouts it has.

    Args:
        top: The folder, its masks beside their images
            (:func:`SaliencyExplain.studies.role_folders.merge_roles`).
        channels: The classifier's channels.

    Raises:
        InputError: The file names do not show which files belong together.
    """
    if top.names and top.folders:
        raise ambiguous(
            str(top.path),
            [name.path for name in top.names[:3]] + [folder.path for folder in top.folders[:3]],
            "images lie both in the folder itself and in folders below it",
        )
    if top.names:
        return flat_cases(top, channels)
    if all(is_picture(name.path) for name in top.walk()):
        home = top
        while len(home.folders) == 1 and not home.folders[0].names:
            home = home.folders[0]
        if _are_parts(home.folders):
            return [case for part in home.folders for case in _part_cases(part, channels)]
        if _are_classes(home.folders):
            return class_folder_cases(home.folders)
    return folder_cases(top, channels)


def class_folder_cases(folders: Iterable[Folder], *, split: str | None = None) -> list[Case]:
    """2D pictures in a folder per class: the folder's name is the label.

    Masks may lie beside the pictures, as in a flat folder.

    Args:
        folders: One for each class.
        split: The part of a split that they are for; the cases' names begin with it.
    """
    cases = []
    for folder in folders:
        for image, masks in pairs(str(folder.path), folder.names):
            words = (split, folder.name, image.key or folder.name)
            name = safe_name("-".join(word for word in words if word))
            label = visible(folder.name)
            cases.append(_case(name, ((None, image.path),), masks, label, split))
    return cases


def _part_cases(part: Folder, channels: Sequence[str]) -> list[Case]:
    """The cases of one part of a split: a folder per class, or images without labels."""
    if part.folders:
        return class_folder_cases(part.folders, split=part.name)
    return [
        _case(
            safe_name(f"{part.name}-{case.case}"),
            case.images,
            case.segmentations,
            None,
            part.name,
        )
        for case in flat_cases(part, channels)
    ]


def _are_parts(folders: Sequence[Folder]) -> bool:
    """Whether these are the parts of a split, with images or a folder per class in each."""
    return len(folders) > 1 and all(
        folder.name.casefold() in PART_NAMES
        and not (folder.names and folder.folders)
        and all(not one.folders for one in folder.folders)
        for folder in folders
    )


def _are_classes(folders: Sequence[Folder]) -> bool:
    """Whether these are a folder per class, rather than a folder per case."""
    if len(folders) < 2 or any(folder.folders for folder in folders):
        return False
    return not all(_is_one_case(folder) for folder in folders)


def _is_one_case(folder: Folder) -> bool:
    """Whether a folder's only image has no distinct name: ``P1/image.png``, ``P1/P1.png``."""
    images = [name for name in folder.names if not name.is_mask]
    return len(images) == 1 and same_key(images[0].key) in ("", same_key(folder.name))


def flat_cases(folder: Folder, channels: Sequence[str]) -> list[Case]:
    """Images and masks beside each other in one folder.

    ``NAME_image`` and ``NAME_mask`` of the same NAME are a case; an image without a
    mask is a case without one. A folder in which no mask matches an image by name is a single
    case. For a classifier of several channels, images whose names end in
    the channels' names are the channels of one case.
    """
    where = str(folder.path)
    names = settled(where, folder.names)
    masks = [name for name in names if name.is_mask]
    images = [name for name in names if not name.is_mask]
    if len(channels) > 1:
        return _cases_by_channel(folder, "", names, channels)
    keys = {key for image in images for key in image.keys}
    alone = masks and not any(key in keys for mask in masks for key in mask.keys)
    if alone and not (len(images) > 1 and is_picture(images[0].path)):
        return _told_apart(one_folder(folder, folder.name, channels), images, masks)
    return [
        _case(safe_name(image.key or folder.name), ((None, image.path),), own)
        for image, own in pairs(where, names)
    ]


def _told_apart(cases: list[Case], images: Sequence[Name], masks: Sequence[Name]) -> list[Case]:
    """The only case of a folder, with a note where its mask is named as another image's."""
    odd = [mask for mask in masks if mask.key and all(image.key for image in images)]
    if not odd or len(cases) != 1:
        return cases
    note = (
        f"the segmentation {odd[0].path.name} matches no image by name; it is assigned to "
        f"{images[0].path.name}, the only image"
    )
    return [dataclasses.replace(cases[0], notes=(note,))]


def folder_cases(root: Folder, channels: Sequence[str]) -> list[Case]:
    """A folder per case, at any depth; the case is named after the folders above its files."""
    cases: list[Case] = []
    waiting = [(folder, folder.name) for folder in reversed(root.folders)]
    while waiting:
        folder, case = waiting.pop()
        if folder.names:
            cases += one_folder(folder, case, channels)
        waiting += [(below, f"{case}-{below.name}") for below in reversed(folder.folders)]
    return cases


def one_folder(folder: Folder, case: str, channels: Sequence[str]) -> list[Case]:
    """The cases of one case folder: one of them, or one for each pair of image and mask."""
    where = str(folder.path)
    names = settled(where, folder.names)
    masks = [name for name in names if name.is_mask]
    images = [name for name in names if not name.is_mask]
    if not images:
        raise ambiguous(where, [n.path for n in names], "there are masks but no images")
    if len(channels) > 1:
        return _cases_by_channel(folder, case, names, channels)
    if len(images) == 1:
        return [_case(safe_name(case), ((None, images[0].path),), together(where, masks))]
    keys = {key for mask in masks for key in mask.keys}
    paired = [image for image in images if keys & set(image.keys)]
    if paired and len(paired) == len(images):
        return [
            _case(safe_name(f"{case}-{image.key}"), ((None, image.path),), own)
            for image, own in pairs(where, names)
        ]
    if len(masks) > 1:
        raise ambiguous(
            where, [m.path for m in masks], "the masks cannot be matched to the images by name"
        )
    mask = together(where, masks)
    return [_case(safe_name(case), _channels(folder, images, channels), mask)]


def _cases_by_channel(
    folder: Folder, case: str, names: Sequence[Name], channels: Sequence[str]
) -> list[Case]:
    """The cases of a classifier of several channels, whose names end the images' names.

    Args:
        folder: The folder.
        case: What the cases' names begin with; empty in a flat folder.
        names: Its images and masks.
        channels: The classifier's channels.
    """
    where = str(folder.path)
    masks = [name for name in names if name.is_mask]
    images = [name for name in names if not name.is_mask]
    if not images:
        raise ambiguous(where, [mask.path for mask in masks], "there are masks but no images")
    groups = _by_channel(folder.path, images, channels)
    used: set[Path] = set()
    cases = []
    for key, found in groups.items():
        own = _case_masks(where, key, found, masks)
        if not own and len(groups) == 1:
            own = together(where, masks)
        used |= set(own)
        several = len(groups) > 1
        name = (f"{case}-{key}" if several else case) if case else key or folder.name
        cases.append(_case(safe_name(name), found, own))
    # A mask of a channel other than the first belongs to an image, on another grid.
    known = {key for image in images for key in image.keys}
    orphans = [mask.path for mask in masks if mask.path not in used and not known & set(mask.keys)]
    if orphans:
        raise ambiguous(where, orphans, "no image matches the mask by name")
    return cases


def channel_names(keys: Sequence[str]) -> list[str]:
    """Channel names of files: their names without what all of them begin with."""
    first, last = min(keys), max(keys)
    letters = zip(first, last, strict=False)
    length = next((n for n, (a, b) in enumerate(letters) if a != b), len(first))
    shared = first[:length]
    cut = max(shared.rfind(separator) for separator in "_-. ") + 1
    return [key[cut:] for key in keys]


def _channels(folder: Folder, images: Sequence[Name], channels: Sequence[str]) -> Images:
    names = channel_names([image.key for image in images])
    found = dict(zip((same_key(name) for name in names), images, strict=True))
    if not channels:
        if is_picture(images[0].path):
            raise ambiguous(
                str(folder.path),
                [image.path for image in images],
                "several pictures lie in a folder that is neither a class nor a flat list of cases",
            )
        return tuple((name, image.path) for name, image in zip(names, images, strict=True))
    if same_key(channels[0]) in found:
        return ((None, found[same_key(channels[0])].path),)
    raise _wrong_channels(folder.path, channels, names)


def _wrong_channels(folder: Path, channels: Sequence[str], names: Sequence[str]) -> InputError:
    return InputError(
        ErrorCode.CHANNELS,
        f"{folder}: the classifier takes {', '.join(channels)}, and the images here are named "
        f"{some_of(names, 10)}. {csv_advice(channels)}",
    )


def _by_channel(folder: Path, images: Sequence[Name], channels: Sequence[str]) -> dict[str, Images]:
    """Groups images whose names end in a channel's name.

    Returns:
        ``{what the names begin with: the images in the channels' order}``.

    Raises:
        InputError: No image is named by a channel, a case lacks a channel, or has one twice.
    """
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for image in images:
        key = same_key(image.key)
        # Longest first: a channel 'T1' must not take the image of 'MR_T1'.
        for channel in sorted(channels, key=len, reverse=True):
            end = same_key(channel)
            if key == end or (key.endswith(end) and key[-len(end) - 1] in "_-. "):
                group = groups[image.key[: len(image.key) - len(channel)].rstrip("_-. ")]
                if channel in group:
                    raise ambiguous(
                        str(folder), [group[channel], image.path], "two images have the same name"
                    )
                group[channel] = image.path
                break
    if not groups:
        raise _wrong_channels(folder, channels, [image.key for image in images])
    for key, found in groups.items():
        missing = [channel for channel in channels if channel not in found]
        if missing:
            raise InputError(
                ErrorCode.CHANNELS,
                f"{folder}: {key or folder.name} lacks an image for {', '.join(missing)}. "
                f"{csv_advice(channels)}",
            )
    return {k: tuple((c, found[c]) for c in channels) for k, found in groups.items()}


def _case_masks(where: str, key: str, images: Images, masks: Sequence[Name]) -> Masks:
    """The masks named as the case, else those named as its first image, whose grid counts."""
    for wanted in (key, parse_name(images[0][1]).key):
        own = [mask for mask in masks if same_key(wanted) in mask.keys]
        if own:
            return together(where, own)
    return ()


def _case(
    name: str,
    images: Images,
    masks: Masks,
    label: str | None = None,
    split: str | None = None,
) -> Case:
    first = masks[0] if masks else None
    return Case(name, images, first, label=label, split=split, further_segmentations=masks[1:])
