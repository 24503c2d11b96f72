"""The files of a study folder: its images, folder by folder, and all other files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.file_suffixes import suffix_of
from SaliencyExplain.studies.file_names import (
    Name,
    image_suffix,
    is_other_file,
    is_picture,
    natural,
    parse_name,
    stem,
)

#: A folder with one of these holds results of this program.
_RESULTS = ("journal.jsonl", "explanation.json")
#: What a study writes beside the folders of its cases.
_STUDY_FILES = frozenset(
    {"journal.jsonl", "report.html", "predictions.csv", "comparison.csv", "failures.csv"}
    | {"confusion.csv"}
)
#: Files of values in formats with a separate header file.
_COMPANIONS = (".raw", ".zraw", ".gz", ".img", ".bin")
_HEADERS = (".mhd", ".nhdr", ".hdr")
#: Limit of nested folders.
_DEEPEST = 60

HIDDEN = "hidden files and system files are not read"
UNREADABLE = "the folder cannot be opened"
LOOP = "a broken link, or one that leads back into the folder itself"
EMPTY = "the folder is empty"
NO_FILE = "neither a file nor a folder, or one that cannot be opened"
OTHER = "not an image, by its name"
NOT_NAMED = "read only if a table or a plugin's layout names it"


@dataclass(frozen=True)
class Folder:
    """The images of a folder, and the folders with images in it.

    Attributes:
        path: The folder.
        name: As cases are named by it.
        names: Its images and segmentations, in natural order.
        folders: The folders in it that hold images at any depth, in natural order.
    """

    path: Path
    name: str
    names: tuple[Name, ...] = ()
    folders: tuple[Folder, ...] = ()

    def walk(self) -> Iterator[Name]:
        """The images here and in all folders below."""
        yield from self.names
        for folder in self.folders:
            yield from folder.walk()


@dataclass
class Tree:
    """All files of a study folder.

    Attributes:
        root: Its images, folder by folder.
        files: All files that are looked at, whatever they are, folder by folder.
        unknown: Files that are DICOM by their first bytes, or none of these by their name.
        left_out: Why each other file, or a whole folder, is not read.
        allowed: See :func:`read_tree`.
    """

    root: Folder
    files: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    allowed: Callable[[Path], object] | None = None


def read_tree(path: Path, allowed: Callable[[Path], object] | None = None) -> Tree:
    """Lists all files of a folder by their names.

    Hidden and system files, folders that cannot be opened and links that lead back into the
    folder are left out and named; results of this program are passed over, because a
    study's output folder often lies in its input folder.

    Args:
        path: The folder.
        allowed: Called with each link before it is followed; raises if it is not allowed.

    Raises:
        InputError: The folder itself cannot be read.
    """
    tree = Tree(Folder(path, path.name), allowed=allowed)
    try:
        os.scandir(path).close()
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{path}: the folder cannot be read ({error.strerror})."
        ) from None
    tree.root = _read(path, tree, ()) or tree.root
    return tree


def visible(folder: Path) -> list[Path]:
    """The folder's entries in natural order, without hidden ones and results of this program.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        entries = [one for one in folder.iterdir() if not is_hidden(one) and not is_result(one)]
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{folder}: the folder cannot be read ({error.strerror})."
        ) from None
    return sorted(entries, key=natural)


def is_hidden(path: Path) -> bool:
    """Whether the name is that of a hidden or system file or folder."""
    return path.name.startswith((".", "__MACOSX", "$RECYCLE.BIN")) or path.name.lower() in (
        *("thumbs.db", "desktop.ini", "system volume information", "lost+found", "@eadir"),
    )


def is_result(path: Path) -> bool:
    """Whether it is a folder of this program's results, or a file that a study wrote."""
    try:
        if path.is_dir():
            return any((path / name).is_file() for name in _RESULTS)
        return path.name in _STUDY_FILES and (path.parent / _RESULTS[0]).is_file()
    except OSError:
        return False


def _read(path: Path, tree: Tree, above: Sequence[tuple[int, int]]) -> Folder | None:
    """Sorts a folder's files by kind; None where no image lies in it or below."""
    try:
        status = path.stat()
        entries = sorted(path.iterdir(), key=natural)
    except OSError:
        tree.left_out[path] = UNREADABLE
        return None
    identity = (status.st_dev, status.st_ino)
    if identity in above or len(above) > _DEEPEST:
        tree.left_out[path] = LOOP
        return None
    if not entries:
        tree.left_out[path] = EMPTY
    folders: list[Folder] = []
    files: list[Path] = []
    for entry in entries:
        if tree.allowed is not None and entry.is_symlink():
            tree.allowed(entry)
        if is_hidden(entry):
            if entry.name != ".lock":
                tree.left_out[entry] = HIDDEN
        elif is_result(entry):
            continue
        elif _is(Path.is_dir, entry) and _leads_back(entry, tree.root.path):
            tree.left_out[entry] = LOOP
        elif _is(Path.is_dir, entry):
            folder = _read(entry, tree, (*above, identity))
            if folder is not None:
                folders.append(folder)
        elif _is(Path.is_file, entry):
            files.append(entry)
        else:
            tree.left_out[entry] = LOOP if entry.is_symlink() else NO_FILE
    tree.files += files
    names = _sort(files, tree)
    if not names and not folders:
        return None
    return Folder(path, path.name, tuple(names), tuple(folders))


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a link leads to a folder that is read anyway, whose cases would be there twice."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return target.is_relative_to(root) and not any(
        is_hidden(Path(part)) for part in target.relative_to(root).parts
    )


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether it is one; not where that may not be asked."""
    try:
        return kind(path)
    except OSError:
        return False


def _sort(files: Sequence[Path], tree: Tree) -> list[Name]:
    headers = {stem(file) for file in files if file.name.lower().endswith(_HEADERS)}
    names: list[Name] = []
    for file in files:
        if _is(is_dicom, file):
            tree.unknown.append(file)
            continue
        suffix = image_suffix(file)
        # The values of a.hdr are in a.img, those of a.mhd in a.raw.
        companion = file.name.lower().endswith(_COMPANIONS) and suffix != ".nii.gz"
        if companion and _without_suffix(file) in headers:
            continue
        if suffix == ".img":
            tree.unknown.append(file)
        elif suffix:
            names.append(parse_name(file))
        elif is_other_file(file):
            tree.left_out[file] = NOT_NAMED if suffix_of(file) else OTHER
        else:
            tree.unknown.append(file)
    return names


def _without_suffix(file: Path) -> str:
    name = file.name[: -len(file.suffix)]
    return name.removesuffix(".raw")


def of_one_kind(folder: Folder, left_out: dict[Path, str]) -> Folder:
    """The folder without its pictures, where its images are volumes.

    Previews and overlays lie beside volumes; they are neither their channels nor their
    segmentations.

    Args:
        folder: The folder.
        left_out: Receives the pictures.
    """
    images = [name for name in folder.walk() if not name.is_mask or name.weak]
    if all(is_picture(name.path) for name in images):
        return folder
    for name in folder.walk():
        if is_picture(name.path):
            left_out[name.path] = "a picture beside volumes"
    return _without_pictures(folder)


def _without_pictures(folder: Folder) -> Folder:
    below = (_without_pictures(one) for one in folder.folders)
    return Folder(
        folder.path,
        folder.name,
        tuple(name for name in folder.names if not is_picture(name.path)),
        tuple(one for one in below if one.names or one.folders),
    )
