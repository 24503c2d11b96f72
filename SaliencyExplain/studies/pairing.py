"""Which segmentations belong to which image, among the files of one folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from SaliencyExplain.images.two_values import has_two_values
from SaliencyExplain.studies.file_names import (
    SEPARATORS,
    Name,
    ambiguous,
    as_image,
    same_key,
    stem,
    word_starts,
)
from SaliencyExplain.studies.role_folders import is_mask_folder

#: Limit of segmentations per image; beyond it the user chooses. A whole-body segmentation
#: has a file for each organ.
MOST_SEGMENTATIONS = 16
#: How many files are opened to test whether images are masks.
_LOOKED_INTO = 3

Masks = tuple[Path, ...]


def settled(where: str, names: Sequence[Name]) -> list[Name]:
    """Decides which files are masks if their names also fit images.

    ``X_tumour`` is a segmentation beside ``X`` or ``X_t1``, and ``tumour`` alone beside any
    image of its folder; in a folder of ``tumour_1``, ``tumour_2`` all are images. Files
    named as an image with a word added, such as ``X_zone`` beside ``X``, are refused if their
    values are those of a mask, or if at least half of the images have such a file.

    Raises:
        InputError: Only some of the possible masks match an image by name, or files look like
            masks but are not named as masks.
    """
    images = [name for name in names if not name.is_mask]
    keys = {start for name in images for key in name.keys for start in (key, *word_starts(key))}
    weak = [name for name in names if name.weak]
    masks = [name for name in weak if _stands_beside(name, keys)]
    if masks and len(masks) < len(weak):
        others = [name.path for name in weak if name not in masks]
        raise ambiguous(
            where, others, "some masks match no image by name, or these files are images"
        )
    if not masks:
        names = [as_image(name) if name.weak else name for name in names]
    _check_unnamed_masks(where, [name for name in names if not name.is_mask])
    return [replace(name, weak=False) for name in names]


def _stands_beside(mask: Name, keys: set[str]) -> bool:
    if not mask.key:
        return bool(keys)
    return any(own in keys for own in mask.keys)


def _check_unnamed_masks(where: str, images: Sequence[Name]) -> None:
    stems = {same_key(stem(name.path)) for name in images}
    behind: dict[str, list[Name]] = defaultdict(list)
    for name in images:
        own = same_key(stem(name.path))
        start = next((start for start in word_starts(own) if start in stems), None)
        if start is not None and any(letter.isalpha() for letter in own[len(start) :]):
            behind[own[len(start) :]].append(name)
    plain = len(images) - sum(map(len, behind.values()))
    for word, same in behind.items():
        many = len(same) > 1 and 2 * len(same) >= plain
        if many or all(has_two_values(name.path) for name in same[:_LOOKED_INTO]):
            raise ambiguous(
                where,
                [name.path for name in same],
                f"files named as an image with '{word.strip(SEPARATORS)}' added may be "
                "segmentations, channels or separate cases. Name segmentations IMAGE_mask, or put "
                "them into a folder 'masks' beside a folder 'images'",
            )


def pairs(where: str, names: Sequence[Name]) -> list[tuple[Name, Masks]]:
    """Each image with its segmentations.

    Raises:
        InputError: Two images or two segmentations share a name, or a segmentation matches no
            image by name.
    """
    names = settled(where, names)
    images: dict[str, Name] = {}
    for name in names:
        if not name.is_mask:
            other = images.setdefault(same_key(name.key), name)
            if other is not name:
                raise ambiguous(where, [other.path, name.path], "two images have the same name")
    others: dict[str, list[str]] = defaultdict(list)
    for key, name in images.items():
        for further in name.keys[1:]:
            others[further].append(key)
    own: dict[str, list[Name]] = defaultdict(list)
    for mask in (name for name in names if name.is_mask):
        own[_image_of(where, mask, images, others)].append(mask)
    return [(image, together(where, own.get(key, []))) for key, image in images.items()]


def _image_of(where: str, mask: Name, images: dict[str, Name], others: dict[str, list[str]]) -> str:
    """The key of the image that a mask belongs to; the longest name that fits."""
    for key in sorted(mask.keys, key=len, reverse=True):
        if key in images:
            return key
        if len(others.get(key, [])) == 1:
            return others[key][0]
    # In a folder of masks, IMAGE_attribute_globules belongs to IMAGE, and IMAGE_2 does not.
    longest = ""
    for key in images if is_mask_folder(mask.path.parent.name) else ():
        for own in mask.keys:
            behind = own[len(key) :]
            fits = own.startswith(key) and behind[:1] in SEPARATORS and behind[1:2].isalpha()
            if key and fits and len(key) > len(longest):
                longest = key
    if not longest:
        raise ambiguous(where, [mask.path], "no image matches the mask by name")
    return longest


def together(where: str, masks: Sequence[Name]) -> Masks:
    """The segmentations of one image, in their order.

    Several files are parts of one segmentation if they are numbered or lie in a folder of
    masks. ``X_mask`` and ``X_seg`` beside each other, or the masks of several raters, are
    alternatives, and the choice between them is ambiguous.

    Raises:
        InputError: The masks are alternatives, or there are too many.
    """
    if len(masks) > 1 and not _are_parts([mask.path for mask in masks]):
        raise ambiguous(where, [m.path for m in masks], "two masks belong to the same image")
    if len(masks) > MOST_SEGMENTATIONS:
        raise ambiguous(
            where,
            [m.path for m in masks],
            f"{len(masks)} segmentations belong to one image, and the limit is "
            f"{MOST_SEGMENTATIONS}. Choose those to compare the maps with (several in one cell "
            "are separated by ';')",
        )
    return tuple(mask.path for mask in masks)


def _are_parts(paths: Sequence[Path]) -> bool:
    if all(is_mask_folder(path.parent.name) for path in paths):
        return True
    bare = {same_key(stem(path)).rstrip("0123456789").rstrip(SEPARATORS + "(") for path in paths}
    return len(bare) == 1
