"""The panel's section "Open": files of the viewer's own disk, and those dropped on the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trame.widgets import html

from SaliencyExplain.engine.queue.allowed_paths import AllowedPaths
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.file_suffixes import image_suffixes
from SaliencyExplain.images.volume_reading import short_name
from SaliencyExplain.viewer import opened_images
from SaliencyExplain.viewer.dropped import CLASSIFIERS, Dropped
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import button, icon_button, section

#: Entries of a folder that the page lists; a folder of DICOM slices is opened as a whole.
_MOST_ENTRIES = 300


class OpenPart(Part):
    """Opens images and segmentations, and lets the page look into the folders of ``--data``."""

    prefix = "open"

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, folder="", entries=[], up="")
        self._paths = AllowedPaths(viewer.settings.data)
        self._list("")

    def build(self) -> None:
        """The section's controls."""
        with section("Open", self):
            html.Div("Drop images, segmentations or a zipped classifier on the page.",
                     classes="se-hint se-drop-hint")  # fmt: skip
            if not self._paths.folders:
                return
            with html.Div(classes="se-folder"):
                icon_button(
                    "mdi-arrow-up",
                    "The folder above",
                    click=(self.enter, f"[{self.name('up')}]"),
                    disabled=(f"!{self.name('folder')}",),
                )
                html.Span("{{ " + self.name("folder") + " || 'Folders' }}", classes="se-path")
            with (
                html.Div(classes="se-entries"),
                html.Div(v_for=f"entry in {self.name('entries')}", key="entry.path",
                         classes="se-entry"),
            ):  # fmt: skip
                html.Span(
                    "{{ entry.name }}",
                    classes=("entry.folder ? 'se-entry-name se-is-folder' : 'se-entry-name'",),
                    click=(self.enter, "[entry.path]"),
                )
                button(
                    "Image", (self.open_entry, "[entry.path, 'image']"),
                    v_if="entry.image", classes="se-small",
                )  # fmt: skip
                button(
                    "Segments", (self.open_entry, "[entry.path, 'segmentation']"),
                    v_if="entry.image", classes="se-small",
                )  # fmt: skip
                button(
                    "Classifier", (self.open_entry, "[entry.path, 'classifier']"),
                    v_if="entry.classifier", classes="se-small",
                )  # fmt: skip

    def enter(self, path: str) -> None:
        """Lists a folder; an empty path: the folders of ``--data``."""
        self.guarded(lambda: self._list(path))

    def open_entry(self, path: str, kind: str) -> None:
        """Opens a file or folder that the page listed, as what it was said to be."""

        def open_it() -> None:
            place = self._paths.inside(path)
            self._paths.check_all([place])
            if kind == "classifier":
                self.viewer.classifiers.open(place)
            elif kind == "segmentation":
                self.open_segmentation(place)
            else:
                self.open_images([(None, place)])

        self.guarded(open_it)

    def open_images(
        self, paths: Sequence[tuple[str | None, Path]], segmentation: Path | None = None
    ) -> None:
        """Opens images, and a segmentation on the grid of the first."""
        self.work(self._open(paths, segmentation), "Opening …")

    def open_segmentation(self, path: Path) -> None:
        """Opens a segmentation on the grid of the image in the views."""
        self.work(self._open([], path), "Opening …")

    def open_dropped(self, dropped: Dropped) -> None:
        """Opens files that were dropped on the page."""
        for path in dropped.classifiers:
            self.viewer.classifiers.open(path)
        if dropped.images or dropped.segmentation is not None:
            self.viewer.unfold(self.prefix)
            self.open_images([(None, path) for path in dropped.images], dropped.segmentation)

    async def _open(
        self, paths: Sequence[tuple[str | None, Path]], segmentation: Path | None
    ) -> None:
        viewer, notes = self.viewer, []
        opened: list[opened_images.OpenImage] = []
        for channel, path in paths:
            read = await viewer.runner.call(opened_images.read, path)
            called = opened_images.public_name(path, len(viewer.volumes.open) + len(opened) + 1)
            opened.append(opened_images.show(viewer.scene, path, read, called, channel))
            notes += read.meta["notes"]
        if opened:
            viewer.volumes.add(opened)
        if segmentation is not None:
            image = viewer.volumes.image()
            if image is None:
                raise InputError(
                    ErrorCode.SELECTION, "Open the image first: segments lie on its grid."
                )
            found = await viewer.runner.call(opened_images.read_segments, segmentation, image)
            node = opened_images.show_segments(viewer.scene, short_name(segmentation), found)
            viewer.segmentation_opened(node)
            notes += found.notes
        self.put(notes=notes)

    def _list(self, path: str) -> None:
        if not path:
            folders = [(folder.name or str(folder), folder) for folder in self._paths.folders]
            self.put(folder="", up="", entries=[_entry(*one) for one in folders])
            return
        folder = self._paths.inside(path)
        if not folder.is_dir():
            raise InputError(
                ErrorCode.FILE_MISSING, f"{folder.name}: it is not a folder. Give a folder."
            )
        try:
            found = sorted(
                (one for one in folder.iterdir() if not one.name.startswith(".")),
                key=lambda one: (not one.is_dir(), one.name.lower()),
            )
        except OSError as error:
            raise InputError(
                ErrorCode.FILE_UNREADABLE, f"{folder.name}: cannot be opened ({error.strerror})."
            ) from error
        above = "" if folder in self._paths.folders else str(folder.parent)
        entries = [_entry(one.name, one) for one in found[:_MOST_ENTRIES]]
        self.put(folder=folder.name, up=above, entries=entries)
        if len(found) > _MOST_ENTRIES:
            self.put(notes=[f"{len(found) - _MOST_ENTRIES} more entries are not listed."])


def _entry(name: str, path: Path) -> dict[str, Any]:
    folder = path.is_dir()
    lower = name.lower()
    image = lower.endswith((*image_suffixes(), ".dcm", ".ima"))
    bundle = folder and (path / "configs").is_dir()
    return {
        "name": name,
        "path": str(path),
        "folder": folder,
        "image": image or (folder and _has_slices(path)),
        "classifier": bundle or lower.endswith(CLASSIFIERS),
    }


def _has_slices(folder: Path) -> bool:
    """Whether a folder holds DICOM slices, as far as its first files tell by their names."""
    try:
        names = [one.name.lower() for _, one in zip(range(20), folder.iterdir(), strict=False)]
    except OSError:
        return False
    return any(name.endswith((".dcm", ".ima")) for name in names)
