"""What reads the image files of a suffix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from SaliencyExplain.images.label_types import LabelMap
from SaliencyExplain.images.volume import Volume


class ImageReader(ABC):
    """Reads the files of one or several suffixes; made without arguments.

    Another package brings one as an entry point of the group ``saliency_explain.image_readers``,
    named by the suffix; docs/PLUGINS.md has an example.
    """

    @abstractmethod
    def read(self, path: Path, *, several: bool = False, colour: bool = False) -> Volume:
        """Reads the voxels as the file holds them.

        Args:
            path: A file that is there and not empty.
            several: Whether several layers may come back, as of a label map; else one.
            colour: Whether three layers are wanted, red, green and blue. A reader of images
                without colours ignores it.

        Returns:
            ``(L, *S)`` in the file's own numbers, S of 2 or 3 axes, with the affine to RAS
            millimetres.

        Raises:
            InputError: The file is damaged, or of a kind that is not read.
        """

    def read_labels(self, path: Path) -> LabelMap | None:
        """Reads the file as a segmentation.

        Returns:
            The segments; None where they are the values of :meth:`read`.

        Raises:
            InputError: As :meth:`read`, or the file holds no segmentation.
        """
        return None
