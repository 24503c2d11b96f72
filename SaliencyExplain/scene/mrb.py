"""Scenes as Slicer's bundles (.mrb), written atomically."""

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
#: Share of the free disk space that an unpacked bundle may use.
_SHARE_OF_DISK = 0.5


def save_mrb(scene: slicer.vtkMRMLScene, path: Path) -> None:
    """Saves a scene as a bundle; equal scenes give equal bytes.

    The scene is not changed. The bundle appears under its name when it is complete; it contains
    no path of this machine and no time.

    Args:
        scene: The scene.
        path: Ends in ``.mrb``; its folder is created if needed.

    Raises:
        InputError: The path does not end in ``.mrb``.
        OutputError: It cannot be written, or a node cannot be saved.
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: is not the name of a scene's bundle. Give a name that ends in .mrb.",
        )
    temporary = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Next to the target, because the system's temporary folder may be small. The name is
        # always the same, so that the next run removes what a killed run left.
        with _empty(path.with_name(f".part-{path.stem}")) as folder:
            _save_into(scene, folder.absolute() / path.stem, path)
            _pack(folder, temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"{path}: cannot be written ({error.strerror or error}). Check free space and "
            "permissions, or choose another folder.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def open_mrb(path: Path) -> slicer.vtkMRMLScene:
    """Opens a bundle as a new scene.

    Raises:
        InputError: It is missing or damaged, or contains no scene.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            ErrorCode.FILE_MISSING, f"{path}: the file does not exist. Give the path of a scene."
        )
    scene = new_scene()
    # Slicer's own table of greys is not in bundles, because every application has it.
    grey_table(scene)
    register_conversions()
    with PrivateFolder("scene") as folder:
        try:
            with zipfile.ZipFile(path) as bundle:
                _check_room(path, bundle, folder)
                bundle.extractall(folder)
        except DAMAGED_ZIP as error:
            raise InputError(
                ErrorCode.FILE_DAMAGED,
                f"{path}: is not a bundle of 3D Slicer, or is damaged. Copy or save it again.",
            ) from error
        files = sorted(Path(folder).glob("*/*.mrml"))
        if not files:
            raise InputError(
                ErrorCode.FILE_FORMAT,
                f"{path}: contains no scene of 3D Slicer. Give a bundle that Slicer saved.",
            )
        scene.SetURL(str(files[0]))
        messages = slicer.vtkMRMLMessageCollection()
        if not scene.Import(messages):
            raise InputError(
                ErrorCode.SCENE_FILE,
                f"{path}: the scene cannot be opened ({_words(messages)}). Save it again.",
            )
    # The unpacked files no longer exist; later saving must not look for them.
    scene.SetURL("")
    scene.SetRootDirectory(str(path.parent.resolve()))
    scene.SetStorableNodesModifiedSinceRead()
    return scene


def _check_room(path: Path, bundle: zipfile.ZipFile, folder: Path) -> None:
    """Raises InputError if the unpacked files would fill the disk."""
    needed = sum(entry.file_size for entry in bundle.infolist())
    if needed > _SHARE_OF_DISK * shutil.disk_usage(folder).free:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: unpacks to {needed / 1024**3:.1f} GiB, which does not fit into the folder of "
            "temporary files. Free disk space, or check the file.",
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
    # Without its class a node's storage is omitted, and with it the node's content.
    register_classes(scene)
    folder.mkdir()
    messages = slicer.vtkMRMLMessageCollection()
    if not scene.SaveSceneToSlicerDataBundleDirectory(str(folder), None, messages):
        raise OutputError(
            ErrorCode.SCENE_FILE,
            f"{path}: the scene cannot be saved ({_words(messages)}). Choose another folder, or "
            "remove the node that is named.",
        )


def _words(messages: slicer.vtkMRMLMessageCollection) -> str:
    return " ".join((messages.GetAllMessagesAsString() or "no reason given").split())[:300]


def _pack(folder: Path, out: Path) -> None:
    """Packs a folder without times, sorted by name."""
    with zipfile.ZipFile(out, "w") as bundle:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _BEGINNING)
            # Voxels are compressed already; compressing again takes time without effect.
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
    """The scene with the items of its subject hierarchy numbered from 1.

    Slicer numbers them from the start of the process, so that the second scene of a process would
    have other bytes than the first.
    """
    known: dict[str, int] = {"0": 0}

    def number(found: re.Match[str]) -> str:
        return f'{found[1]}"{known.setdefault(found[2], len(known))}"'

    items = re.compile(r"<SubjectHierarchyItem [^>]*>")
    ids = re.compile(r'(\b(?:id|parent)=)"(\d+)"')
    return items.sub(lambda item: ids.sub(number, item[0]), scene)
