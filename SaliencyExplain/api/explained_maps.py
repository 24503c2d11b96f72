"""An attribution as a notebook has it: with the case that it was computed from."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import nibabel
import numpy as np
import SimpleITK as sitk

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.images.image_writing import itk_of, nifti_of
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.pictures import Picture, draw_planes
from SaliencyExplain.results.attribution_map import Attribution


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedMap(Attribution):
    """An attribution, and what can be done with it beside the image it explains.

    Attributes:
        case: The prepared case from which it was computed.
        computed_by: The method with the parameters that it was given.
    """

    case: PreparedCase = field(kw_only=True)
    computed_by: Method = field(kw_only=True)

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
        prediction = self.case.prediction
        target = self.target_with_probability(prediction.classes, prediction.probabilities)
        draw_planes(
            stream,
            np.asarray(self.case.image[self.channel]),
            self.values,
            self.affine,
            segments=[(one.name, one.color, one.mask) for one in segments],
            title=f"{self.title} · {target}",
            signed=self.signed,
            resolution_mm=self.resolution_mm,
        )
        return Picture(stream.getvalue(), self.title)

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


def explained_maps(
    attributions: Iterable[Attribution], case: PreparedCase, methods: Sequence[Method]
) -> Iterator[ExplainedMap]:
    """The attributions of a case with the case and their methods.

    Args:
        attributions: In the methods' order.
        case: What they explain.
        methods: Those that were asked for.
    """
    for one in attributions:
        fields = {each.name: getattr(one, each.name) for each in dataclasses.fields(one)}
        yield ExplainedMap(**fields, case=case, computed_by=_method_of(one, methods))


def _method_of(one: Attribution, methods: Sequence[Method]) -> Method:
    """The method of a map; of several of one name that with the most of its parameters."""

    def in_common(method: Method) -> int:
        own = dataclasses.asdict(method)
        return sum(one.parameters.get(name) == value for name, value in own.items())

    return max((each for each in methods if each.name == one.method), key=in_common)
