"""Scenes as Slicer's bundles, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import slicer

from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.private_folder import PrivateFolder
from SaliencyExplain.scene.nodes import grey_table, new_scene, register_classes
from SaliencyExplain.scene.segmentations import register_conversions
from SaliencyExplain.zip_errors import DAMAGED_ZIP

_BEGINNING = (1980, 1, 1, 0, 0, 0)
#: Share of the free disk that an unpacked bundle may take.
_SHARE_OF_DISK = 0.5


def save_mrb(scene: slicer.vtkMRMLScene, path: Path) -> None:
    """Saves a scene as a bundle; the same scene made anew gives the same bytes.

    The scene stays as it is. The bundle appears under its name when it is complete; it holds
    no path of this machine and no time.

    Args:
        scene: The scene.
        path: Ends in ``.mrb``; its folder is made where it does not exist.

    Raises:
        InputError: The path does not end in ``.mrb``.
        OutputError: It cannot be written, or a node cannot be saved.
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise InputError(ErrorCode.FILE_FORMAT, f"{path}: a scene's bundle ends in .mrb.")
    temporary = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: temporary folders of the system may be small. Always the same
        # name: what a killed run left behind goes with the next one.
        with _empty(path.with_name(f".part-{path.stem}")) as folder:
            _save_into(scene, folder.absolute() / path.stem, path)
            _pack(folder, temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE, f"{path}: cannot be written ({error.strerror or error})."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def open_mrb(path: Path) -> slicer.vtkMRMLScene:
    """Opens a bundle as a scene of its own.

    Raises:
        InputError: It is missing or damaged, or holds no scene.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(ErrorCode.FILE_MISSING, f"{path}: there is no such file.")
    scene = new_scene()
    # Slicer's own table of greys is in no bundle: every application has it.
    grey_table(scene)
    register_conversions()
    with PrivateFolder("scene") as folder:
        try:
            with zipfile.ZipFile(path) as bundle:
                _check_room(path, bundle, folder)
                bundle.extractall(folder)
        except DAMAGED_ZIP as error:
            raise InputError(
                ErrorCode.FILE_DAMAGED, f"{path}: is no bundle of 3D Slicer, or damaged."
            ) from error
        files = sorted(Path(folder).glob("*/*.mrml"))
        if not files:
            raise InputError(ErrorCode.FILE_FORMAT, f"{path}: holds no scene of 3D Slicer.")
        scene.SetURL(str(files[0]))
        messages = slicer.vtkMRMLMessageCollection()
        if not scene.Import(messages):
            raise InputError(
                ErrorCode.SCENE_FILE, f"{path}: the scene cannot be opened ({_words(messages)})."
            )
    # The unpacked files are gone: what is saved next must not look for them.
    scene.SetURL("")
    scene.SetRootDirectory(str(path.parent.resolve()))
    scene.SetStorableNodesModifiedSinceRead()
    return scene


def _check_room(path: Path, bundle: zipfile.ZipFile, folder: Path) -> None:
    """Raises InputError where the unpacked files would fill the disk."""
    needed = sum(entry.file_size for entry in bundle.infolist())
    if needed > _SHARE_OF_DISK * shutil.disk_usage(folder).free:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: unpacks to {needed / 1024**3:.1f} GiB, more than the folder of temporary "
            "files has room for.",
        )


@contextlib.contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save_into(scene: slicer.vtkMRMLScene, folder: Path, path: Path) -> None:
    # Without its class a node's storage is left out, and with it what the node holds.
    register_classes(scene)
    folder.mkdir()
    messages = slicer.vtkMRMLMessageCollection()
    if not scene.SaveSceneToSlicerDataBundleDirectory(str(folder), None, messages):
        raise OutputError(
            ErrorCode.SCENE_FILE, f"{path}: the scene cannot be saved ({_words(messages)})."
        )


def _words(messages: slicer.vtkMRMLMessageCollection) -> str:
    return " ".join((messages.GetAllMessagesAsString() or "no reason given").split())[:300]


def _pack(folder: Path, out: Path) -> None:
    """Packs a folder without times and in the order of names."""
    with zipfile.ZipFile(out, "w") as bundle:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _BEGINNING)
            # Voxels are packed already: once more takes time and gains nothing.
            packed = file.suffix in (".nrrd", ".gz")
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with bundle.open(entry, "w", force_zip64=True) as write:
                if file.suffix == ".mrml":
                    write.write(_numbered_anew(file.read_text(encoding="utf-8")).encode())
                    continue
                with file.open("rb") as read:
                    shutil.copyfileobj(read, write, 1 << 20)


def _numbered_anew(scene: str) -> str:
    """The scene with the items of its subject hierarchy counted from 1.

    Slicer counts them from the start of the process: the second scene of a process would not
    have the bytes of the first.
    """
    known: dict[str, int] = {"0": 0}

    def number(found: re.Match[str]) -> str:
        return f'{found[1]}"{known.setdefault(found[2], len(known))}"'

    items = re.compile(r"<SubjectHierarchyItem [^>]*>")
    ids = re.compile(r'(\b(?:id|parent)=)"(\d+)"')
    return items.sub(lambda item: ids.sub(number, item[0]), scene)
