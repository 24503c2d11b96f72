"""The segmentation and the images that methods may use beside the image, as they were read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from monai.data import MetaTensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.figures import EACH_SEGMENT
from SaliencyExplain.images.image_hash import voxel_hash
from SaliencyExplain.images.segmentation import Segmentation


@dataclass(frozen=True)
class LoadedReferences:
    """What methods may use beside the image.

    :class:`SaliencyExplain.specification.spec.References` names the files or volumes that these
    were read from.

    Attributes:
        segmentation: On the image's grid; some methods compute what each segment contributes.
        backgrounds: Images ``(C, *S)`` of any grid that stand for "nothing in particular".
    """

    segmentation: Segmentation | None = None
    backgrounds: tuple[MetaTensor, ...] = ()


#: Nothing but the image.
NONE_LOADED = LoadedReferences()


def reference_hashes(references: LoadedReferences, method: Method) -> dict[str, Any]:
    """SHA-256 of the references that a method's map depends on, for its provenance.

    Args:
        references: What the method may use.
        method: With its parameters: they say whether it uses what it could use.

    Returns:
        ``segments_sha256`` over names and voxels in their order where the method weighs
        segments, and ``each_segment_sha256``, a list; ``backgrounds_sha256``, a list, where it
        has backgrounds; else nothing.
    """
    found: dict[str, Any] = {}
    if uses_reference(method, "segmentation") and references.segmentation is not None:
        found["segments_sha256"] = references.segmentation.sha256
        found[EACH_SEGMENT] = [segment.sha256 for segment in references.segmentation.segments]
    if uses_reference(method, "backgrounds") and references.backgrounds:
        found["backgrounds_sha256"] = [voxel_hash(one) for one in references.backgrounds]
    return found


def uses_reference(method: Method, what: str) -> bool:
    """Whether a method uses one of the things in :attr:`Method.requires`, given its parameters.

    Where it is one choice of a parameter, such as ``baseline=backgrounds``, that choice has to
    be the one that was made.
    """
    if what not in method.requires:
        return False
    word = "segments" if what == "segmentation" else what
    deciding = [
        field.name
        for field in dataclasses.fields(method)
        if word in (field.metadata.get("choices") or ())
    ]
    return not deciding or any(getattr(method, name) == word for name in deciding)
