"""The files of its own disk that an engine may read and write for clients."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError


class AllowedPaths:
    """The folders of ``--data``.

    Attributes:
        folders: As they are once links are followed.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        """Follows links in the folders' own paths.

        Raises:
            InputError: One is not a folder.
        """
        self.folders = tuple(Path(folder).resolve() for folder in folders)
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError(
                    ErrorCode.ENGINE_ACCESS, f"{folder} is not a folder. Give a folder with --data."
                )

    def inside(self, path: str | Path) -> Path:
        """The path once links are followed, if it lies in one of the folders.

        Raises:
            InputError: It does not. The error does not reveal whether the file exists.
        """
        refused = InputError(
            ErrorCode.ENGINE_ACCESS,
            f"The path '{path}' lies outside the folders that this engine may use: "
            + (", ".join(map(str, self.folders)) or "none; start it with --data FOLDER")
            + ".",
        )
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise refused from error
        if not Path(path).is_absolute() or not any(
            resolved.is_relative_to(folder) for folder in self.folders
        ):
            raise refused
        return resolved

    def check_all(self, paths: Iterable[Path]) -> None:
        """Checks files, and all files in folders.

        Raises:
            InputError: One of them lies, or a link in one of them leads, outside.
        """
        for path in paths:
            self.inside(path)
            if path.is_dir():
                for parent, folders, files in os.walk(path):
                    for name in (*folders, *files):
                        if (Path(parent) / name).is_symlink():
                            self.inside(Path(parent) / name)
