"""The attributions of one image on the image's own grid, and what a user can do with them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.errors import unknown_name
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.images.image_writing import itk_of, nifti_of
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.map_provenance import MapProvenance
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.pictures import Picture, draw_planes


@dataclass(frozen=True, repr=False)
class Attribution(MapProvenance):
    """A map on the image's own grid, with what it takes to read it.

    Attributes:
        values: ``(*S)``, float32, the shape of the image; positive where the voxels
            speak for the target class.
        affine: 4x4, voxel indices to RAS millimetres; the image's own.
        method: Name of the method.
        layer: Name of the layer looked at; empty where the method looks at none.
        signed: Whether negative values speak against the class; False: there are none.
        target: Index of the class.
        target_name: Name of the class.
        parameters: The method's parameters.
        provenance: Classifier, input, seed and versions: what it takes to do it again; under
            ``resolution_mm`` what the map resolves, 0 for a voxel or a region; and
            under ``figures`` what the method found beside the map, under ``notes`` what whoever
            looks at it must be told.
        seconds: Time that the computation took.
        share_done: Share of the computation that is in it, in (0, 1]; below 1 it is a partial
            map: published while it grew, or the best one when the time was up.
        case: The prepared case from which it was computed.
        computed_by: The method with the parameters that it was given.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    method: str
    layer: str
    signed: bool
    target: int
    target_name: str
    parameters: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    case: PreparedCase = field(compare=False)
    computed_by: Method = field(compare=False)
    share_done: float = 1.0

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.values.shape))
        return f"<{type(self).__name__} {self.label} for {self.target_name}, {shape} voxels>"

    @property
    def label(self) -> str:
        """``method`` or ``method@layer``: its name in files and tables."""
        return f"{self.method}@{self.layer}" if self.layer else self.method

    @property
    def description(self) -> str:
        """Method, class and sign in one line, for the header of a file."""
        return f"{self.label} for {self.target_name}; positive speaks for it"

    def plot(self, segmentation: Segmentation | None = None) -> Picture:
        """Three planes through the map's peak: heat over the anatomy.

        Args:
            segmentation: On the image's grid; its segments are outlined.

        Returns:
            A picture that a notebook shows and that ``save`` writes as PNG.

        Raises:
            InputError: The segmentation is not on the image's grid.

        Example:
            >>> picture = result[0].plot()
            >>> picture.save(folder / "map.png").name
            'map.png'
        """
        segments = segmentation.segments if segmentation else ()
        stream = io.BytesIO()
        draw_planes(
            stream,
            np.asarray(self.case.image[self.channel]),
            self.values,
            self.affine,
            segments=[(one.name, one.color, one.mask) for one in segments],
            title=f"{self.title} · {self.target_name} (p = {self.case.target_probability:.2f})",
            signed=self.signed,
            resolution_mm=self.resolution_mm,
        )
        return Picture(stream.getvalue(), self.title)

    @property
    def title(self) -> str:
        """The method's name for people, with its layer."""
        layer = f" at {self.layer}" if self.layer else ""
        return f"{self.computed_by.title}{layer}"

    def to_nibabel(self) -> nibabel.Nifti1Image:
        """The map as a NIfTI image on the image's own grid.

        Example:
            >>> result[0].to_nibabel().shape == result[0].values.shape
            True
        """
        return nifti_of(self.values, self.affine, self.description)

    def to_sitk(self) -> sitk.Image:
        """The map as an image of SimpleITK, whose world is LPS; a picture has one slice.

        Example:
            >>> result[0].to_sitk().GetSize()[:2] == result[0].values.shape[:2]
            True
        """
        values = self.values
        return itk_of(values if values.ndim == 3 else values[..., None], self.affine)

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()


@dataclass(frozen=True, repr=False)
class Explanation:
    """What the classifier says of one image, and which voxels made it say so.

    Attributes:
        image: ``(C, *S)``, as it was read.
        classes: Names of the classes.
        probabilities: One for each class, in [0, 1].
        target: Index of the class that is explained.
        attributions: One for each method and layer that gave a map; at least one.
        notes: What a user should be told aloud: resampled, guessed, fallen back.
        timings: Seconds by step.
        failures: Of the methods that gave no map.
    """

    image: MetaTensor
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    target: int
    attributions: tuple[Attribution, ...]
    notes: tuple[str, ...]
    timings: dict[str, float]
    failures: tuple[MethodFailure, ...] = ()

    def __repr__(self) -> str:
        labels = ", ".join(one.label for one in self.attributions)
        probability = f"p = {self.probabilities[self.target]:.3f}"
        return f"<{type(self).__name__} of {self.target_name} ({probability}): {labels}>"

    def __len__(self) -> int:
        """How many attributions there are."""
        return len(self.attributions)

    def __iter__(self) -> Iterator[Attribution]:
        """The attributions in the methods' order."""
        return iter(self.attributions)

    def __getitem__(self, which: int | str) -> Attribution:
        """An attribution by its number or its label, such as ``gradcam``.

        Raises:
            IndexError: There are not so many.
            InputError: There is none of that label; the message has the nearest one.
        """
        if isinstance(which, int):
            return self.attributions[which]
        found = {one.label: one for one in self.attributions} | {
            one.method: one for one in reversed(self.attributions)
        }
        if which not in found:
            raise unknown_name("attribution", which, [one.label for one in self.attributions])
        return found[which]

    @property
    def target_name(self) -> str:
        """Name of the class that is explained."""
        return self.classes[self.target]

    def _repr_html_(self) -> str:
        shares = ", ".join(
            f"{escape(name)} {share:.2f}"
            for name, share in zip(self.classes, self.probabilities, strict=True)
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        failures = "".join(f"<li>{escape(one.line)}</li>" for one in self.failures)
        pictures = "".join(one._repr_html_() for one in self.attributions)
        return f"<p>{shares}</p>{pictures}<ul>{failures}{notes}</ul>"
