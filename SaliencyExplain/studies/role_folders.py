"""Folders of images beside folders of masks: ``images`` and ``masks``, also with equal names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from SaliencyExplain.studies.file_names import (
    IMAGE_WORDS,
    MASK_WORDS,
    PART_NAMES,
    TWO_WORDS,
    WEAK_MASK_WORDS,
    Name,
    ambiguous,
    as_image,
    as_mask,
    same_key,
    stem,
    word_starts,
)
from SaliencyExplain.studies.tree import Folder

#: Words of folders of images, where one of masks lies beside it.
_IMAGE_FOLDERS = IMAGE_WORDS | {"data", "original", "originals", "raw", "photos", "pictures"}
_SPLIT = re.compile(r"[_\-. ]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
#: What nnU-Net and the Medical Segmentation Decathlon append.
_PARTS = {"tr": "tr", "ts": "ts", "val": "val"}


@dataclass(frozen=True)
class _Role:
    folder: Folder
    role: Literal["image", "mask", "annotation", ""]
    #: What is left of the folder's name without the word for its role, in lower case.
    rest: tuple[str, ...] = ()


def merge_roles(folder: Folder) -> Folder:
    """The folder with the masks of its mask folders beside the images that they belong to.

    A folder is one of masks by its name, and its files are masks then, whatever they are
    called: ``images/1.png`` and ``masks/1.png`` come out as an image and its mask in one
    folder. A folder of masks goes to the folder of images beside it of the same further words
    (``train_images`` and ``train_masks``), to the only one, to the images that lie beside it
    (``ct.nii.gz`` and ``segmentations``), or file by file to the folders beside it that hold
    an image of its name.

    Raises:
        InputError: The masks of a folder match no folder of images, or several.
    """
    below = [merge_roles(one) for one in folder.folders]
    roles = [_role(one) for one in below]
    masks = [one for one in roles if one.role == "mask"]
    images = [one for one in roles if one.role == "image"]
    if images:
        masks += [one for one in roles if one.role == "annotation"]
    others = [one.folder for one in roles if one not in masks and one not in images]
    here = any(not name.is_mask for name in folder.names)
    if not masks and len(roles) == len(images) == 1 and not images[0].rest and not folder.names:
        # The word 'images' is neither a class nor a part of a case's name.
        return replace(folder, names=images[0].folder.names, folders=images[0].folder.folders)
    # Classes may be called 'with mask' and 'without mask': then all images lie in them.
    if not masks or not (images or here or others):
        return replace(folder, folders=tuple(below))
    if images:
        return _beside_image_folders(folder, images, masks, others)
    if here:
        merged = replace(folder, folders=tuple(others))
        for one in masks:
            merged = _merged(merged, one.folder)
        return merged
    return _file_by_file(folder, masks, others)


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds segmentations."""
    return _role_of(name)[0] == "mask"


def are_masks_alone(root: Folder) -> bool:
    """Whether all files lie in a folder of masks, so that the images are somewhere else.

    Several folders of masks whose names have different further words are classes called
    'with mask' and 'without mask'; words for the parts of a split are none of these.

    Args:
        root: The study's folder, whose own name does not count.
    """
    names = list(root.walk())
    folders = {name.path.parent for name in names}
    roles = [_role_of(folder.name) for folder in folders]
    if root.path in folders or any(role != "mask" for role, _ in roles):
        return False
    further = {word for _, rest in roles for word in rest if word not in PART_NAMES}
    return bool(names) and (len(folders) == 1 or not further)


def _role(folder: Folder) -> _Role:
    return _Role(folder, *_role_of(folder.name))


def _role_of(name: str) -> tuple[Literal["image", "mask", "annotation", ""], tuple[str, ...]]:
    whole = TWO_WORDS.sub(lambda found: (found[1] + found[2]).lower(), name)
    words = [word.lower() for word in _SPLIT.split(whole) if word]
    for place in (len(words) - 1, 0):
        word = words[place] if words else ""
        rest = tuple(words[:place] + words[place + 1 :])
        # imagesTr is two words by its capital; so is imagestr to nnU-Net on some systems.
        for part in _PARTS:
            if word.endswith(part) and word[: -len(part)] in IMAGE_WORDS | MASK_WORDS:
                word, rest = word[: -len(part)], (*rest, part)
        if word in MASK_WORDS:
            return "mask", rest
        if word in _IMAGE_FOLDERS:
            return "image", rest
        if word in WEAK_MASK_WORDS:
            return "annotation", rest
    # ImageTr, Training_GroundTruth_2: the word may stand in the middle.
    inner = next((n for n, word in enumerate(words) if word in MASK_WORDS), None)
    if inner is not None:
        return "mask", tuple(words[:inner] + words[inner + 1 :])
    inner = next((n for n, word in enumerate(words) if word in _IMAGE_FOLDERS), None)
    if inner is not None:
        return "image", tuple(words[:inner] + words[inner + 1 :])
    return "", ()


def _beside_image_folders(
    folder: Folder, images: Sequence[_Role], masks: Sequence[_Role], others: Sequence[Folder]
) -> Folder:
    merged = {one.rest: one.folder for one in images}
    if len(merged) < len(images):
        raise ambiguous(
            str(folder.path),
            [one.folder.path for one in [*images, *masks]],
            "several folders of images match the same folders of masks",
        )
    for one in masks:
        home = one.rest if one.rest in merged else next(iter(merged)) if len(merged) == 1 else None
        if home is None:
            raise ambiguous(
                str(folder.path),
                [one.folder.path, *(image.folder.path for image in images)],
                "no folder of images matches the folder of masks by name",
            )
        merged[home] = _merged(merged[home], one.folder)
    if len(merged) == 1 and not folder.names:
        (only,) = merged.values()
        return replace(folder, names=only.names, folders=(*only.folders, *others))
    named = (replace(one, name=" ".join(rest) or one.name) for rest, one in merged.items())
    return replace(folder, folders=(*named, *others))


def _merged(images: Folder, masks: Folder) -> Folder:
    """The images with the masks of another folder, folder by folder."""
    stems = {same_key(stem(name.path)) for name in masks.names}
    names = [
        # Of two files of the same name, the one outside the folder of masks is the image.
        as_image(name)
        if name.is_mask and name.path.parent == images.path and same_key(stem(name.path)) in stems
        else name
        for name in images.names
    ]
    below = {same_key(one.name): one for one in images.folders}
    for one in masks.folders:
        key = same_key(one.name)
        below[key] = _merged(below[key], one) if key in below else _masks_only(one)
    return replace(
        images,
        names=(*names, *(as_mask(name) for name in masks.names)),
        folders=tuple(below.values()),
    )


def _masks_only(folder: Folder) -> Folder:
    return replace(
        folder,
        names=tuple(as_mask(name) for name in folder.names),
        folders=tuple(_masks_only(one) for one in folder.folders),
    )


def _file_by_file(folder: Folder, masks: Sequence[_Role], others: Sequence[Folder]) -> Folder:
    """Each mask goes to the folder that holds an image of its name, or has its name."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for number, other in enumerate(others):
        for name in other.names:
            if not name.is_mask:
                for key in name.keys:
                    by_key[key].append(number)
    by_name = {same_key(other.name): number for number, other in enumerate(others)}
    own: dict[int, list[Name]] = defaultdict(list)
    deeper: dict[int, list[Folder]] = defaultdict(list)
    own_name = False
    for one in masks:
        for name in one.folder.names:
            mask = as_mask(name)
            # IMAGE_attribute_globules belongs to IMAGE unless an image has its whole name.
            keys = [key for key in mask.keys if key in by_key] or [
                start for key in mask.keys for start in word_starts(key) if start in by_key
            ]
            homes = {number for key in keys for number in by_key[key]}
            named = [by_name[key] for key in mask.keys if key in by_name]
            if len(homes) != 1 and not (named and not homes):
                raise ambiguous(
                    str(folder.path),
                    [name.path, *(other.path for other in others)],
                    "no image, or more than one, matches the mask by name",
                )
            if homes:
                own[homes.pop()].append(mask)
            else:
                # Named as the folder of its case; the image's name does not matter.
                own[named[0]].append(replace(mask, key="", others=()))
                own_name = True
        for below in one.folder.folders:
            if same_key(below.name) not in by_name:
                raise ambiguous(
                    str(folder.path),
                    [below.path, *(other.path for other in others)],
                    "no folder of images matches the folder of masks by name",
                )
            deeper[by_name[same_key(below.name)]].append(below)
    merged = []
    for number, other in enumerate(others):
        whole = replace(other, names=(*other.names, *own[number]))
        for below in deeper[number]:
            whole = _merged(whole, below)
        merged.append(whole)
    if len(merged) == 1 and not folder.names and not any(deeper.values()) and not own_name:
        # A single folder of images: its name does not matter.
        return replace(folder, names=merged[0].names, folders=merged[0].folders)
    return replace(folder, folders=tuple(merged))
