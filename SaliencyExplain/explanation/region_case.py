"""What a segmentation network predicts of an image, and the question that a target asks of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor

from SaliencyExplain.attribution.network.region_scores import RegionMean
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.compute import choose_device
from SaliencyExplain.explanation.network_window import NetworkWindow, middle_window, window_around
from SaliencyExplain.explanation.prediction import one_image_on, predict_input
from SaliencyExplain.explanation.region_target import (
    Region,
    given_place,
    region_of,
    region_target,
)
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.models.class_maps import ClassMaps, class_maps
from SaliencyExplain.models.classifier import INTENSITY_NOTES, Classifier
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.results.class_prediction import ClassSize, Prediction
from SaliencyExplain.specification.target import Target


@dataclass(frozen=True, eq=False)
class RegionCase:
    """A target of a segmentation network, as a classifier of one window of the image.

    Attributes:
        classifier: The same weights; its scores are each class's mean logit over the region.
        input: The window of the network's input, ``(C, *size)``.
        window: Where that lies.
        prediction: Scores and probabilities of the window, and the size of each class.
        region: Where which class is averaged.
        notes: What a user must be told.
    """

    classifier: Classifier
    input: MetaTensor
    window: NetworkWindow
    prediction: Prediction
    region: Region
    notes: tuple[str, ...]


def segment_input(
    classifier: Classifier,
    prepared: MetaTensor,
    device: torch.device,
    progress: Progress = silent,
) -> tuple[ClassMaps, tuple[ClassSize, ...]]:
    """The class maps of a prepared image, and how large each class is.

    Args:
        classifier: A segmentation network; is moved to the device.
        prepared: ``(C, *S')``.
        device: Where it is computed.
        progress: Told of windows done and to do; may raise Cancelled.

    Raises:
        InputError: The network cannot take the image, or the memory does not hold the maps.
        ClassifierError: The network's scores are not finite or not the same each time.
        DeviceMemoryError: The device's memory does not hold a window.
    """
    if classifier.windows is None:
        raise TypeError(f"{classifier.name} does not segment")
    with one_image_on(device):
        window = middle_window(tuple(prepared.shape[1:]), classifier.windows)
        classifier.to(device).examine(window.cropped(prepared.as_tensor()))
        maps = class_maps(classifier, prepared, progress)
    axes = prepared.ndim - 1
    voxel = float(np.prod(spacing_of(prepared.affine.numpy(), axes)))
    unit, size = ("ml", voxel / 1000) if axes == 3 else ("cm2", voxel / 100)
    if length_unit(prepared.affine.numpy(), prepared.shape[1:]) == "px":
        unit, size = "voxels" if axes == 3 else "pixels", 1.0
    counts = maps.counts()
    return maps, tuple(
        ClassSize(name, count, count * size, unit)
        for name, count in zip(classifier.classes, counts, strict=True)
    )


def predict_sizes(
    image: MetaTensor,
    classifier: Classifier,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> tuple[tuple[ClassSize, ...], tuple[str, ...]]:
    """How large each class of a segmentation network is in an image, and what to tell of it.

    Raises:
        InputError: The image or device does not fit.
        ClassifierError: The network's scores are not finite or not the same each time.
        DeviceMemoryError: The device's memory does not hold a window.
    """
    prepared = classifier.prepare(image)
    _, sizes = segment_input(classifier, prepared, choose_device(device), progress)
    notes = [*image.meta.get("notes", []), *prepared.meta.get(INTENSITY_NOTES, [])]
    return sizes, (*notes, *classifier.network.repeatability.notes)


def region_case(
    classifier: Classifier,
    prepared: MetaTensor,
    image: MetaTensor,
    target: Target | str,
    segmentation: Segmentation | None,
    device: torch.device,
    progress: Progress = silent,
) -> RegionCase:
    """Predicts the image, fixes the region of the target, and chooses the window around it.

    Args:
        classifier: A segmentation network.
        prepared: ``(C, *S')``, as ``classifier.prepare`` gave it.
        image: As it came in.
        target: See :func:`region_target`.
        segmentation: On the image's grid; None: none is given.
        device: Where it is computed.
        progress: Told of windows done and to do; may raise Cancelled.

    Raises:
        InputError: As :func:`region_target`, :func:`given_place`, :func:`region_of` and
            :func:`segment_input`; or the region is larger than the windows that the network can
            take.
        ClassifierError: The network's scores are not finite or not the same each time.
        DeviceMemoryError: The device's memory does not hold a window.
    """
    # What can be refused is refused before the image is predicted, which takes long.
    wanted = region_target(target, classifier)
    place = given_place(wanted, prepared, image, segmentation)
    maps, sizes = segment_input(classifier, prepared, device, progress)
    region = region_of(wanted, place, classifier, maps)
    if classifier.windows is None:
        raise TypeError(f"{classifier.name} does not segment")
    window = window_around(region.mask, classifier.windows)
    asked = _asking(classifier, window.mask(region.mask))
    values = window.image(prepared)
    try:
        prediction = predict_input(asked, values, device)
    except InputError as error:
        if not window.enlarged:
            raise
        raise InputError(
            ErrorCode.MODEL_INPUT,
            f"{region.text[0].upper()}{region.text[1:]} is larger than the network's window, and "
            f"the network cannot take one of {_edges(window.size)} voxels: explain a point or a "
            f"segment instead. ({error})",
        ) from error
    whole = float(maps.scores[region.index][torch.from_numpy(region.mask)].double().mean())
    notes = _notes(classifier, region, window, prepared, prediction, whole)
    return RegionCase(
        asked, values, window, dataclasses.replace(prediction, sizes=sizes), region, notes
    )


def _asking(classifier: Classifier, region: torch.Tensor) -> Classifier:
    """The classifier with the mean over a region as its scores, and the same weights."""
    scored = classifier.network
    mean = scored.network
    if not isinstance(mean, RegionMean):
        raise TypeError(f"{classifier.name} does not segment")
    network = ScoreNetwork(
        RegionMean(mean.network, mean.output, region.ndim, region),
        scored.activation,
        one_logit=scored.one_logit,
        output=scored.output,
        independent=scored.independent,
        confined=scored.confined,
    ).eval()
    network.repeatability, network.examined = scored.repeatability, scored.examined
    return dataclasses.replace(classifier, network=network)


def _notes(
    classifier: Classifier,
    region: Region,
    window: NetworkWindow,
    prepared: MetaTensor,
    prediction: Prediction,
    whole: float,
) -> tuple[str, ...]:
    name, count = classifier.classes[region.index], int(region.mask.sum())
    value = "probability" if classifier.network.activation == "none" else "logit"
    score = prediction.scores[region.index]
    said = [
        f"The target {region.target} is the mean {value} of '{name}' over {region.text}, "
        f"{count:,} voxels of the network's grid: {score:.4g}. Probabilities are those of the "
        f"mean {value}s of all classes."
    ]
    if not window.is_whole:
        edges = spacing_of(prepared.affine.numpy(), len(window.size))
        size = " x ".join(f"{n * mm:.0f}" for n, mm in zip(window.size, edges, strict=True))
        larger = ", larger than its usual window, to hold the region" if window.enlarged else ""
        said.append(
            f"The network sees a window of {_edges(window.size)} voxels ({size} mm) around the "
            f"region{larger}. Outside of it maps are undefined (0 in files and views), and "
            f"comparisons leave it out. In the prediction of the whole image the mean {value} is "
            f"{whole:.4g}."
        )
    return tuple(said)


def _edges(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
