"""An image prepared for a classifier: its input, its prediction and the target."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.score_combination import ScoreCombination
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode, InputError
from SaliencyExplain.explanation.compute import AUTOMATIC, Compute, choose_device
from SaliencyExplain.explanation.loaded_references import NONE_LOADED, LoadedReferences
from SaliencyExplain.explanation.network_window import NetworkWindow
from SaliencyExplain.explanation.prediction import predict_input
from SaliencyExplain.explanation.region_case import RegionCase, region_case
from SaliencyExplain.explanation.region_of_interest import cropped
from SaliencyExplain.explanation.region_target import Region
from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.grid_masks import label_map_on
from SaliencyExplain.images.image_hash import voxel_hash
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.models.classifier import INTENSITY_NOTES, Classifier
from SaliencyExplain.models.network_grid import squeeze_slice
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.quantities import whole_percent
from SaliencyExplain.results.class_prediction import Prediction
from SaliencyExplain.specification.spec import WHOLE_IMAGE, RegionOfInterest
from SaliencyExplain.specification.target import CLASS, DIFFERENCE, Target

#: Share of the network's input inside the image below which a note warns of it: of a brain
#: on a grid made for brains more than half is.
_LITTLE_INSIDE = 0.1

#: Share of the image that the network sees below which a note says so: a grid of other voxels may
#: leave out the outermost ones.
_MUCH_SEEN = 0.98


@dataclass(frozen=True, eq=False, repr=False)
class PreparedCase:
    """An image prepared for a classifier by :func:`prepare`; computing on it does not change it.

    Attributes:
        image: ``(C, *S)`` with its affine, channels in the classifier's order.
        classifier: What is explained.
        compute: Where it was to be computed, and within which limits.
        references: What methods may use beside the image.
        input: The network's input, ``(C, *S')``.
        prediction: Of the unchanged image.
        target: Index of the class that is explained; of a difference, of the one that it speaks
            for.
        combination: What is explained where it is not the output of that class; None: it is.
        field_of_view: Which part of the image the network sees.
        seen_share: The same as a share of the image's voxels.
        device: Where it is computed.
        image_notes: What a user must be told of the image and the prediction.
        reference_notes: What a user must be told of the backgrounds.
        prepare_seconds: Time that preprocessing took.
        regions: Label map ``(*S')`` of the segmentation, as :attr:`Task.regions`; None: none.
        backgrounds: The backgrounds as the network takes them, ``(N, C, *S')`` on the CPU; None:
            none.
        region: Of a segmentation network what is averaged where; ``classifier`` gives these means
            as its scores. None: it classifies.
        of_interest: The part of the image that the model looks at.
        box: First voxel and shape of that part in the image; None: the whole image.
        window: Of a segmentation network the part of its grid that ``input`` is.
    """

    image: MetaTensor
    classifier: Classifier
    compute: Compute
    references: LoadedReferences
    input: MetaTensor
    prediction: Prediction
    target: int
    field_of_view: FieldOfView
    seen_share: float
    device: torch.device
    image_notes: tuple[str, ...]
    reference_notes: tuple[str, ...] = ()
    prepare_seconds: float = 0.0
    regions: Tensor | None = None
    backgrounds: Tensor | None = None
    region: Region | None = None
    window: NetworkWindow | None = None
    combination: ScoreCombination | None = None
    of_interest: RegionOfInterest = WHOLE_IMAGE
    box: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must be told: resampled, guessed, dropped, computed elsewhere."""
        return (*self.image_notes, *self.reference_notes)

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds by step."""
        return {"prepare": self.prepare_seconds, "predict": self.prediction.seconds}

    @property
    def target_name(self) -> str:
        """What is explained: the name of a class, or the text of another target."""
        if self.region is not None:
            return str(self.region.target)
        classes, found = self.classifier.classes, self.combination
        if found is None:
            return classes[self.target]
        if found.against is None:
            return str(Target(CLASS, classes[found.index], unit=found.unit))
        names = classes[found.index], classes[found.against]
        return str(Target(DIFFERENCE, *names, unit=found.unit))

    @property
    def sign(self) -> str:
        """What the sign of a map's values means."""
        classes, found = self.classifier.classes, self.combination
        if found is None or found.against is None:
            return "positive = speaks for the target class"
        return f"positive = speaks for {classes[found.index]} and against {classes[found.against]}"

    @property
    def target_probability(self) -> float:
        """Probability of the class that is explained, in [0, 1]."""
        return self.prediction.probabilities[self.target]

    @functools.cached_property
    def image_hash(self) -> str:
        """See :func:`voxel_hash`."""
        return voxel_hash(self.image)

    @property
    def image_in_network_axes(self) -> MetaTensor:
        """The image with the network's number of axes: for a 2D network its single slice."""
        is_slice = self.classifier.spatial_dims == 2 and self.image.ndim == 4
        return squeeze_slice(self.image) if is_slice else self.image

    @property
    def length_unit(self) -> str:
        """The unit in which lengths are told: ``mm``, or ``px`` where the image has no size."""
        return length_unit(self.image.affine.numpy(), self.image.shape[1:])

    def with_references(
        self,
        segmentation: Segmentation | None = None,
        backgrounds: tuple[MetaTensor, ...] | None = None,
    ) -> PreparedCase:
        """The same case and prediction with other references.

        Args:
            segmentation: On the image's grid; None: none.
            backgrounds: Images ``(C, *S)``; None: those that the case has.

        Raises:
            InputError: A background does not fit the network's grid.
        """
        case = dataclasses.replace(
            self,
            references=dataclasses.replace(self.references, segmentation=segmentation),
            regions=None if segmentation is None else _region_map(self, segmentation),
        )
        return case if backgrounds is None else _with_backgrounds(case, backgrounds)

    def restore(self, values: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
        """A map on the network's grid, on the image's own grid; see :meth:`Classifier.restore`.

        Args:
            values: ``(*S')``.

        Returns:
            ``(*S)``; 0 outside of the field of view.
        """
        restored = self.classifier.restore(values, self.input, self.image)
        if self.box is not None:
            # Padding about the region of interest lies where the image has voxels, too.
            restored[~self.field_of_view.seen(restored.shape)] = 0
        return restored

    def on_cpu(self, error: DeviceMemoryError) -> PreparedCase:
        """The case on the CPU, after a GPU's memory was exhausted.

        Args:
            error: What was exhausted; raised where it was the CPU's memory.
        """
        if self.device.type == "cpu":
            raise error
        return dataclasses.replace(self, device=torch.device("cpu"))

    def task(self, seed: int = 0) -> Task:
        """The input of the attribution methods, on the case's device.

        What is random in it is drawn from the seed and the image: the same image has the same
        map in a study, a panel or alone, whatever its name and place, and no two images of a
        study share their noise.

        Args:
            seed: As the user gave it.
        """
        self.classifier.to(self.device)
        digest = hashlib.sha256(f"{seed}:{self.image_hash}".encode()).digest()
        values = self.input.as_tensor().unsqueeze(0)
        segmentation = self.references.segmentation
        network, target = self.classifier.network, self.target
        if self.combination is not None:
            network = network.with_combination(self.combination)
            target = len(self.classifier.classes)
        return Task(
            network=network,
            input=values.to(device=self.device, dtype=torch.float32),
            target=target,
            spacing=spacing_of(self.input.affine, self.input.ndim - 1),
            length_unit=self.length_unit,
            seed=int.from_bytes(digest[:4], "big") >> 1,
            batch_size=self.compute.limits.batch_size,
            memory_bytes=self.compute.limits.memory_bytes,
            precision=self.compute.limits.precision,
            regions=self.regions,
            region_names=tuple(one.name for one in segmentation.segments) if segmentation else (),
            backgrounds=self.backgrounds,
            channels=self.classifier.channels,
        )


def prepare(
    image: MetaTensor,
    classifier: Classifier,
    target: Target | str = "predicted",
    compute: Compute = AUTOMATIC,
    references: LoadedReferences = NONE_LOADED,
    progress: Progress = silent,
    of_interest: RegionOfInterest = WHOLE_IMAGE,
) -> PreparedCase:
    """Brings an image onto the network's grid, predicts its classes and fixes the target.

    Where a GPU's memory does not hold a single image it is computed on the CPU, and a note says so.

    Args:
        image: ``(C, *S)`` with its affine, channels in the classifier's order.
        classifier: What is explained.
        target: What is to be explained, or its text.
        compute: On what it is computed, and within which limits.
        references: What methods may use beside the image.
        progress: Told of the windows of a segmentation network done and to do; may raise
            Cancelled.
        of_interest: The part of the image that the model looks at.

    Raises:
        InputError: The image, the class, the region, the device or a reference does not fit.
        ClassifierError: The network fails on the image.
        DeviceMemoryError: The CPU's memory does not hold a single image.
    """
    started = time.perf_counter()
    device = choose_device(compute.device)
    part = cropped(image, of_interest, references.segmentation) if of_interest.roi else None
    if part is not None and references.backgrounds:
        raise InputError(
            ErrorCode.BACKGROUNDS,
            "Backgrounds are of whole images, and the model looks at a region of interest: leave "
            "out one of them.",
        )
    values = classifier.prepare(image if part is None else part.image)
    notes = [*image.meta.get("notes", []), *values.meta.get(INTENSITY_NOTES, [])]
    notes += [] if part is None else [part.note]
    inside = classifier.share_inside(values, image)
    if inside < _LITTLE_INSIDE:
        notes.append(
            f"Only {whole_percent(inside)} of the network's input lie inside the image, the rest "
            "is padding. Check the image's voxel size, and that it is of the kind that the "
            "classifier was made for."
        )
    whole = classifier.field_of_view(values, image)
    seen_share = float(whole.seen(tuple(image.shape[1:])).mean())
    if seen_share < _MUCH_SEEN and part is None:
        notes.append(
            f"The network sees {whole_percent(seen_share)} of the image; the preprocessing cuts "
            "the rest off. There maps are undefined (0 in files and views), and comparisons "
            "leave it out."
        )
    seconds = time.perf_counter() - started
    asked = functools.partial(_asked, classifier, values, image, target, references, progress)
    try:
        classifier, values, prediction, index, region = asked(device)
    except DeviceMemoryError as error:
        if device.type == "cpu":
            raise
        notes.append(cpu_note(error))
        device = torch.device("cpu")
        classifier, values, prediction, index, region = asked(device)
    notes += classifier.network.repeatability.notes
    notes += region.notes if region is not None else ()
    field_of_view = classifier.field_of_view(values, image)
    if part is not None:
        box = tuple((low, low + size) for low, size in zip(part.first, part.shape, strict=True))
        field_of_view = dataclasses.replace(field_of_view, box=box)
    case = PreparedCase(
        image=image,
        classifier=classifier,
        compute=compute,
        references=NONE_LOADED,
        input=values,
        prediction=prediction,
        target=index,
        field_of_view=field_of_view,
        seen_share=float(field_of_view.seen(tuple(image.shape[1:])).mean()),
        device=device,
        image_notes=tuple(notes),
        prepare_seconds=seconds,
        region=None if region is None else region.region,
        window=None if region is None else region.window,
        combination=(
            classifier.combination(target, prediction.probabilities) if region is None else None
        ),
        of_interest=of_interest,
        box=None if part is None else (part.first, part.shape),
    )
    return case.with_references(references.segmentation, references.backgrounds)


def _asked(
    classifier: Classifier,
    values: MetaTensor,
    image: MetaTensor,
    target: Target | str,
    references: LoadedReferences,
    progress: Progress,
    device: torch.device,
) -> tuple[Classifier, MetaTensor, Prediction, int, RegionCase | None]:
    """What is asked, of which input, the prediction, and the class; of a region, that too."""
    if classifier.windows is None:
        prediction = predict_input(classifier, values, device)
        index = classifier.class_index(target, prediction.probabilities)
        return classifier, values, prediction, index, None
    segments = references.segmentation
    found = region_case(classifier, values, image, target, segments, device, progress)
    return found.classifier, found.input, found.prediction, found.region.index, found


def cpu_note(error: DeviceMemoryError) -> str:
    """The note that a computation was moved to the CPU."""
    return f"{error} Computed on the CPU instead."


def _region_map(case: PreparedCase, segmentation: Segmentation) -> Tensor:
    image = case.image_in_network_axes
    labels = label_map_on(
        [segment.mask.reshape(image.shape[1:]) for segment in segmentation.segments],
        image.affine.numpy().astype(np.float64),
        case.input.affine.numpy().astype(np.float64),
        tuple(case.input.shape[1:]),
    )
    return torch.from_numpy(labels)


def _with_backgrounds(case: PreparedCase, backgrounds: tuple[MetaTensor, ...]) -> PreparedCase:
    """The case with backgrounds, brought onto the network's grid."""
    prepared, notes = [], []
    for number, background in enumerate(backgrounds, start=1):
        name = background.meta.get("name") or f"number {number}"
        ready = case.classifier.prepare(background)
        notes += [f"background {name}: {one}" for one in ready.meta.get(INTENSITY_NOTES, [])]
        values = ready.as_tensor()
        if case.window is not None and tuple(values.shape[1:]) == case.window.of_shape:
            values = case.window.cropped(values)
        if values.shape != case.input.shape:
            raise InputError(
                ErrorCode.BACKGROUNDS,
                f"The background image {name} has {tuple(values.shape[1:])} voxels on the "
                f"network's grid and the image {tuple(case.input.shape[1:])}: give "
                "backgrounds of the image's size, or a classifier with an input size.",
            )
        prepared.append(values)
    return dataclasses.replace(
        case,
        references=dataclasses.replace(case.references, backgrounds=backgrounds),
        reference_notes=tuple(notes),
        backgrounds=torch.stack(prepared) if prepared else None,
    )
