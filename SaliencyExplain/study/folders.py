"""Cases from plain folders: flat pairs, a folder per case, a folder per class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.case import Case, csv_advice, safe_name
from SaliencyExplain.study.files import Name, ambiguous, image_suffix, parse_name, visible

Images = tuple[tuple[str | None, Path], ...]


def class_folder_cases(folders: Iterable[Path], *, split: str | None = None) -> list[Case]:
    """2D pictures in a folder per class: the folder's name is the label.

    Masks may lie beside the pictures, as in a flat folder.

    Args:
        folders: One for each class.
        split: The part of a split that they are for; the cases' names begin with it.
    """
    cases = []
    for folder in folders:
        files = [file for file in visible(folder) if image_suffix(file)]
        pairs = _pairs(str(folder), [parse_name(file) for file in files])
        for image, mask in pairs:
            words = (split, folder.name, image.key or folder.name)
            name = safe_name("-".join(word for word in words if word))
            cases.append(Case(name, ((None, image.path),), mask, label=folder.name, split=split))
    return cases


def flat_cases(folder: Path, files: Sequence[Path], channels: Sequence[str]) -> list[Case]:
    """Images and masks beside each other in one folder.

    ``NAME_image`` and ``NAME_mask`` of the same NAME are a case; an image without a
    mask is a case without one. A folder in which no mask has an image of its name is
    a single case. For a classifier of several channels, images whose names end in
    the channels' names are the channels of one case.
    """
    names = [parse_name(file) for file in files]
    masks = [name for name in names if name.is_mask]
    images = [name for name in names if not name.is_mask]
    if len(channels) > 1:
        return [
            Case(safe_name(key or folder.name), found, _case_mask(folder, key, found, masks))
            for key, found in _by_channel(folder, images, channels).items()
        ]
    if masks and not {m.key.casefold() for m in masks} & {i.key.casefold() for i in images}:
        return one_folder(folder, folder.name, names, channels)
    pairs = _pairs(str(folder), names)
    return [Case(safe_name(i.key or folder.name), ((None, i.path),), m) for i, m in pairs]


def folder_cases(root: Path, channels: Sequence[str]) -> list[Case]:
    """A folder per case, at any depth; the case is named by the folders above its files."""
    cases: list[Case] = []
    waiting = [folder for folder in reversed(visible(root)) if folder.is_dir()]
    while waiting:
        folder = waiting.pop()
        entries = visible(folder)
        files = [file for file in entries if file.is_file() and image_suffix(file)]
        if files:
            case = "-".join(folder.relative_to(root).parts)
            cases += one_folder(folder, case, [parse_name(file) for file in files], channels)
        waiting += [entry for entry in reversed(entries) if entry.is_dir()]
    return cases


def one_folder(
    folder: Path, case: str, names: Sequence[Name], channels: Sequence[str]
) -> list[Case]:
    """The cases of one case folder: one of them, or one for each pair of image and mask."""
    masks = [name for name in names if name.is_mask]
    images = [name for name in names if not name.is_mask]
    if not images:
        raise ambiguous(str(folder), [n.path for n in names], "there are masks but no image")
    if len(channels) > 1:
        return [
            Case(
                safe_name(case if len(groups) == 1 else f"{case}-{key}"),
                found,
                masks[0].path
                if len(groups) == len(masks) == 1
                else _case_mask(folder, key, found, masks),
            )
            for groups in [_by_channel(folder, images, channels)]
            for key, found in groups.items()
        ]
    keys = {mask.key.casefold() for mask in masks}
    paired = [image for image in images if image.key.casefold() in keys]
    if paired and len(paired) == len(images) == len(masks):
        pairs = _pairs(str(folder), names)
        if len(pairs) == 1:
            return [Case(safe_name(case), ((None, pairs[0][0].path),), pairs[0][1])]
        return [Case(safe_name(f"{case}-{i.key}"), ((None, i.path),), m) for i, m in pairs]
    if len(masks) > 1:
        raise ambiguous(
            str(folder), [m.path for m in masks], "which of the masks belongs to which image?"
        )
    mask = masks[0].path if masks else None
    if len(images) == 1:
        return [Case(safe_name(case), ((None, images[0].path),), mask)]
    return [Case(safe_name(case), _channels(folder, images, channels), mask)]


def channel_names(keys: Sequence[str]) -> list[str]:
    """Channel names of files: their names without what all of them begin with."""
    first, last = min(keys), max(keys)
    pairs = zip(first, last, strict=False)
    length = next((n for n, (a, b) in enumerate(pairs) if a != b), len(first))
    shared = first[:length]
    cut = max(shared.rfind(separator) for separator in "_-. ") + 1
    return [key[cut:] for key in keys]


def _channels(folder: Path, images: Sequence[Name], channels: Sequence[str]) -> Images:
    names = channel_names([image.key for image in images])
    found = dict(zip((name.casefold() for name in names), images, strict=True))
    if not channels:
        return tuple((name, image.path) for name, image in zip(names, images, strict=True))
    if channels[0].casefold() in found:
        return ((None, found[channels[0].casefold()].path),)
    raise _wrong_channels(folder, channels, names)


def _wrong_channels(folder: Path, channels: Sequence[str], names: Sequence[str]) -> InputError:
    return InputError(
        ErrorCode.CHANNELS,
        f"{folder}: the classifier wants {', '.join(channels)}, and the images here are named "
        f"{', '.join(names)}. {csv_advice(channels)}",
    )


def _by_channel(folder: Path, images: Sequence[Name], channels: Sequence[str]) -> dict[str, Images]:
    """Groups images whose names end in a channel's name.

    Returns:
        ``{what the names begin with: the images in the channels' order}``.

    Raises:
        InputError: No image is named by a channel, or a case lacks a channel.
    """
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for image in images:
        key = image.key.casefold()
        # Longest first: a channel 'T1' must not take the image of 'MR_T1'.
        for channel in sorted(channels, key=len, reverse=True):
            end = channel.casefold()
            if key == end or (key.endswith(end) and key[-len(end) - 1] in "_-. "):
                groups[image.key[: -len(end)].rstrip("_-. ")][channel] = image.path
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


def _case_mask(folder: Path, key: str, images: Images, masks: Sequence[Name]) -> Path | None:
    """The mask named as the case, else the one named as its first image, whose grid counts."""
    for wanted in (key, parse_name(images[0][1]).key):
        own = [mask.path for mask in masks if mask.key.casefold() == wanted.casefold()]
        if len(own) > 1:
            raise ambiguous(str(folder), own, f"{len(own)} masks belong to the same image")
        if own:
            return own[0]
    return None


def _pairs(where: str, names: Sequence[Name]) -> list[tuple[Name, Path | None]]:
    masks = [name for name in names if name.is_mask]
    images: dict[str, Name] = {}
    for name in names:
        if not name.is_mask:
            other = images.setdefault(name.key.casefold(), name)
            if other is not name:
                raise ambiguous(where, [other.path, name.path], "two images of the same name")
    own: dict[str, Path] = {}
    for mask in masks:
        key = mask.key.casefold()
        if key not in images:
            raise ambiguous(where, [mask.path], "a mask has no image of its name")
        if own.setdefault(key, mask.path) is not mask.path:
            raise ambiguous(where, [own[key], mask.path], "two masks belong to the same image")
    return [(image, own.get(key)) for key, image in images.items()]
