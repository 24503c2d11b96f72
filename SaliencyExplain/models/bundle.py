"""The files of a MONAI bundle, in a folder or in a zip of that folder."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.zip_errors import DAMAGED_ZIP

METADATA = "configs/metadata.json"
INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
MODELS = ("models/model.pt", "models/model.ts", "models/model.pt2", "models/model.pth")
#: Most a bundle may hold when unpacked; a zip bomb of some MB would fill the memory.
LARGEST_BYTES = 8 * 1024**3
LARGEST_CONFIG_BYTES = 16 * 1024**2


class BundleFiles:
    """Reads single files of a bundle; nothing is unpacked, so no path can lead outside.

    Attributes:
        source: The folder or zip file.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._zipped = not source.is_dir()
        self._top = ""
        try:
            if self._zipped:
                with zipfile.ZipFile(source) as archive:
                    self._names = self._archive_files(archive)
            else:
                self._names = _folder_files(source)
        except (*DAMAGED_ZIP, OSError) as error:
            raise ClassifierError(
                ErrorCode.FILE_DAMAGED, f"{source} cannot be read as a bundle: {error}"
            ) from error

    def names(self) -> list[str]:
        """Paths of the files relative to the bundle's root, with ``/``, sorted."""
        return sorted(self._names)

    def first(self, candidates: tuple[str, ...]) -> str | None:
        """The first of the candidates that exists."""
        return next((name for name in candidates if name in self._names), None)

    def read(self, name: str, *, largest: int = LARGEST_BYTES) -> bytes:
        """The bytes of one file.

        Raises:
            ClassifierError: It cannot be read, or is larger than ``largest`` bytes.
        """
        if self._names[name] > largest:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{name} in {self.source} holds {self._names[name]} bytes; at most {largest} are "
                "read.",
            )
        try:
            if self._zipped:
                with zipfile.ZipFile(self.source) as archive:
                    return archive.read(self._top + name)
            return (self.source / name).read_bytes()
        except (*DAMAGED_ZIP, OSError) as error:
            raise ClassifierError(
                ErrorCode.FILE_DAMAGED, f"{name} in {self.source} cannot be read: {error}"
            ) from error

    def unpack(self, folder: Path) -> None:
        """Writes all files below a folder, for bundles whose code may be run."""
        for name in self.names():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(name))

    def _archive_files(self, archive: zipfile.ZipFile) -> dict[str, int]:
        for info in archive.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise ClassifierError(
                    ErrorCode.MODEL_REFUSED,
                    f"{self.source} is refused: {info.filename[:200]!a} in it is a link. Put the "
                    "file itself there.",
                )
        self._refuse_same_names(archive)
        sizes = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        for name in sizes:
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
                raise ClassifierError(
                    ErrorCode.MODEL_REFUSED,
                    f"{self.source} is refused: the path '{name}' in it points outside of the "
                    "bundle. Make the bundle again.",
                )
        if sum(sizes.values()) > LARGEST_BYTES:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{self.source} is refused: unpacked it holds {sum(sizes.values())} bytes, "
                f"more than the {LARGEST_BYTES} that are read.",
            )
        tops = [name[: -len(METADATA)] for name in sizes if name.endswith(METADATA)]
        tops = [top for top in tops if not top or top.endswith("/")]
        if len(tops) != 1:
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"{self.source} holds {len(tops)} files {METADATA}; a bundle has one.",
            )
        self._top = tops[0]
        return {
            name[len(self._top) :]: size
            for name, size in sizes.items()
            if name.startswith(self._top)
        }

    def _refuse_same_names(self, archive: zipfile.ZipFile) -> None:
        """Refuses files whose names are the same to some reader or on some disk."""
        seen: dict[str, str] = {}
        for info in archive.infolist():
            if info.is_dir():
                continue
            key = PurePosixPath(info.filename).as_posix().casefold()
            if key in seen:
                both = info.filename[:200], seen[key][:200]
                raise ClassifierError(
                    ErrorCode.MODEL_REFUSED,
                    f"{self.source} is refused: it contains the file {both[0]!a} twice. Make the "
                    "bundle again."
                    if both[0] == both[1]
                    else f"{self.source} is refused: the names {both[1]!a} and {both[0]!a} in it "
                    "stand for the same file on some disks. Rename one of them.",
                )
            seen[key] = info.filename


def identity_of(files: Mapping[str, bytes]) -> str:
    """sha256 (hex) over files by their path in the bundle and their bytes."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\n{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


def check_inside(path: Path, folder: Path) -> None:
    """Refuses a file of a folder that is a link to another place.

    Raises:
        ClassifierError: It points outside of the folder.
    """
    inside = [folder.resolve()]
    if folder.parent.name == "snapshots":
        # The cache of the Hugging Face hub: a snapshot is links to the files of its repository.
        inside.append((folder.parent.parent / "blobs").resolve())
    if not any(path.resolve().is_relative_to(one) for one in inside):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{folder} is refused: the link '{path.relative_to(folder)}' in it points outside of "
            "the folder. Put the file itself there.",
        )


def _folder_files(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in ("configs", "docs", "models", "scripts"):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                check_inside(path, folder)
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
    if METADATA not in found:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{folder} is not a MONAI bundle: the file {METADATA} is missing.",
        )
    return found
