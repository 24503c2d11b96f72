"""What all methods have in common: the prepared image, its prediction, the class, the cost."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.errors import ClassifierError, DeviceMemoryError, ErrorCode, InputError
from SaliencyExplain.figures import EACH_SEGMENT
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.grid_masks import label_map_on
from SaliencyExplain.images.image_hash import voxel_hash
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.models.classifier import INTENSITY_NOTES, Classifier
from SaliencyExplain.models.network_grid import squeeze_slice
from SaliencyExplain.specification.spec import DEFAULT_LIMITS, Limits
from SaliencyExplain.specification.target import Target

#: Share of the network's input inside the image below which a note warns of it: of a brain
#: on a grid made for brains more than half is.
_LITTLE_INSIDE = 0.1

#: Share of the image that the network sees below which a note says so: a grid of other voxels may
#: leave out the outermost ones.
_MUCH_SEEN = 0.98


@dataclass(frozen=True)
class Compute:
    """On what an answer is computed, and within which limits.

    Attributes:
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``.
        limits: What the computation may take.
    """

    device: str = "auto"
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True)
class Given:
    """What is given beside the image, for the methods that ask for it.

    Attributes:
        segmentation: On the image's grid: regions whose shares in the answer are asked for.
        backgrounds: Images ``(C, *S)`` of any grid that stand for "nothing in particular".
    """

    segmentation: Segmentation | None = None
    backgrounds: tuple[MetaTensor, ...] = ()


#: A GPU where there is one, all its memory, float32.
AUTOMATIC = Compute()

#: Nothing but the image.
NOTHING = Given()


def choose_device(name: str) -> torch.device:
    """The device of that name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda:N``.

    Raises:
        InputError: There is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise InputError(ErrorCode.DEVICE, f"Device '{name}' is unknown: use auto, cpu or cuda:N.")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        have = f"it has {count} GPU(s)" if count else "torch finds no GPU on it"
        raise InputError(
            ErrorCode.DEVICE, f"Device '{name}' is not on this machine: {have}. Use auto or cpu."
        )
    return torch.device(kind, int(index or 0))


@dataclass
class Question:
    """An image brought before a classifier, and the class that is asked about.

    A GPU whose memory does not hold a single image is left for the CPU, with a note.

    Args:
        image: ``(C, *S)`` with its affine, channels in the classifier's order.
        classifier: What is asked.
        wanted: What is to be explained, or its text.
        compute: Where it is computed first, and how.
        given: What is given beside the image.

    Attributes:
        notes: What a user should be told aloud; grows.
        prepared: The network's input, ``(C, *S')``.
        probabilities: One for each class, in [0, 1].
        scores: One for each class, before the activation.
        target: Index of the class.
        field_of_view: Which part of the image the network sees.
        seen_share: The same as a share of the image's voxels.
        timings: Seconds by step; grows.
        device: Where it is computed now.

    Raises:
        InputError: The image, the class, the device or what is given beside does not fit.
        ClassifierError: The network fails on the image.
        DeviceMemoryError: The CPU's memory does not hold a single image.
    """

    image: MetaTensor
    classifier: Classifier
    wanted: Target | str
    compute: Compute = AUTOMATIC
    given: Given = NOTHING

    def __post_init__(self) -> None:
        started = time.perf_counter()
        self.device = choose_device(self.compute.device)
        self.notes: list[str] = list(self.image.meta.get("notes", []))
        self.prepared = self.classifier.prepare(self.image)
        self.notes += self.prepared.meta.get(INTENSITY_NOTES, [])
        inside = self.classifier.share_inside(self.prepared, self.image)
        if inside < _LITTLE_INSIDE:
            self.notes.append(
                f"Only {percent(inside)} of the network's input lie inside the image, the rest "
                "is padding: is its voxel size right, and is it of the kind that the classifier "
                "was made for?"
            )
        self.field_of_view = self.classifier.field_of_view(self.prepared, self.image)
        self.seen_share = float(self.field_of_view.seen(tuple(self.image.shape[1:])).mean())
        if self.seen_share < _MUCH_SEEN:
            self.notes.append(
                f"The network sees {percent(self.seen_share)} of the image; the preprocessing cuts "
                "the rest off. There maps are undefined (0 in files and views), and comparisons "
                "leave it out."
            )
        self.timings = {"prepare": time.perf_counter() - started}
        try:
            self._predict()
        except DeviceMemoryError as error:
            self.move_to_cpu(error)
            self._predict()
        self.notes += self.classifier.network.repeatability.notes
        self.target = self.classifier.class_index(self.wanted, self.probabilities)
        self._regions = self._region_map()
        self._backgrounds = self._prepared_backgrounds()

    def _predict(self) -> None:
        examine(self.classifier, self.prepared, self.device)
        started = time.perf_counter()
        scores = class_scores(self.classifier, self.prepared, self.device)
        self.probabilities = probabilities_of(self.classifier.network, scores[None])[0]
        self.scores = scores.double().cpu().numpy()
        self.timings["predict"] = time.perf_counter() - started

    def move_to_cpu(self, error: DeviceMemoryError, method: str = "") -> None:
        """Goes on after a GPU's memory was exhausted; raises the error if it was the CPU's."""
        if self.device.type == "cpu":
            raise error
        self.notes.append(f"{method}{error} Computed on the CPU instead.")
        self.device = torch.device("cpu")
        self.classifier.to(self.device)

    @functools.cached_property
    def image_hash(self) -> str:
        """See :func:`voxel_hash`."""
        return voxel_hash(self.image)

    @property
    def length_unit(self) -> str:
        """The unit in which lengths are told: ``mm``, or ``px`` where the image has no size."""
        return length_unit(self.image.affine.numpy(), self.image.shape[1:])

    def task(self, seed: int = 0) -> Task:
        """The question as methods take it.

        What is random in it is drawn from the seed and the image: the same image has the same
        map in a study, a panel or alone, whatever its name and place, and no two images of a
        study share their noise.

        Args:
            seed: As the user gave it.
        """
        digest = hashlib.sha256(f"{seed}:{self.image_hash}".encode()).digest()
        values = self.prepared.as_tensor().unsqueeze(0)
        return Task(
            network=self.classifier.network,
            input=values.to(device=self.device, dtype=torch.float32),
            target=self.target,
            spacing=spacing_of(self.prepared.affine, self.prepared.ndim - 1),
            length_unit=self.length_unit,
            seed=int.from_bytes(digest[:4], "big") >> 1,
            batch_size=self.compute.limits.batch_size,
            memory_bytes=self.compute.limits.memory_bytes,
            precision=self.compute.limits.precision,
            regions=self._regions,
            region_names=self._region_names(),
            backgrounds=self._backgrounds,
            channels=self.classifier.channels,
        )

    def _region_names(self) -> tuple[str, ...]:
        segmentation = self.given.segmentation
        return tuple(segment.name for segment in segmentation.segments) if segmentation else ()

    def _region_map(self) -> Tensor | None:
        if self.given.segmentation is None:
            return None
        flat = self.classifier.spatial_dims == 2 and self.image.ndim == 4
        image = squeeze_slice(self.image) if flat else self.image
        labels = label_map_on(
            [segment.mask.reshape(image.shape[1:]) for segment in self.given.segmentation.segments],
            image.affine.numpy().astype(np.float64),
            self.prepared.affine.numpy().astype(np.float64),
            tuple(self.prepared.shape[1:]),
        )
        return torch.from_numpy(labels)

    def _prepared_backgrounds(self) -> Tensor | None:
        """The backgrounds as the network takes them, ``(N, C, *S')`` on the CPU."""
        prepared = []
        for number, background in enumerate(self.given.backgrounds, start=1):
            name = background.meta.get("name") or f"number {number}"
            ready = self.classifier.prepare(background)
            self.notes += [
                f"background {name}: {one}" for one in ready.meta.get(INTENSITY_NOTES, [])
            ]
            values = ready.as_tensor()
            if values.shape != self.prepared.shape:
                raise InputError(
                    ErrorCode.BACKGROUNDS,
                    f"The background image {name} has {tuple(values.shape[1:])} voxels on the "
                    f"network's grid and the image {tuple(self.prepared.shape[1:])}: give "
                    "backgrounds of the image's size, or a classifier with an input size.",
                )
            prepared.append(values)
        return torch.stack(prepared) if prepared else None

    def costs(self, methods: Sequence[Method]) -> list[Estimate]:
        """What each method costs, by the time of the forward pass that made the prediction."""
        task = self.task()
        one_pass = self.timings["predict"]
        seconds = [
            method.forward_passes(task) * one_pass + method.seconds_beside(task)
            for method in methods
        ]
        return [Estimate(one / one_pass, one) for one in seconds]


def examine(classifier: Classifier, prepared: MetaTensor, device: torch.device) -> None:
    """Finds out, once for a classifier, what its scores depend on beside the image.

    Raises:
        InputError: The network cannot take an input of this size.
        ClassifierError: The network fails, or gives the image another score each time.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    with _one_image_on(device):
        classifier.to(device).examine(prepared)


@contextmanager
def _one_image_on(device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            ErrorCode.MEMORY, f"The memory of {device} does not hold one image."
        ) from error


def class_probabilities(
    classifier: Classifier, prepared: MetaTensor, device: torch.device
) -> NDArray[np.float64]:
    """Class probabilities of a prepared image on a device, ``(K,)`` in [0, 1].

    Raises:
        InputError: The network cannot take an input of this size.
        ClassifierError: The network fails, or its scores are not finite.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    scores = class_scores(classifier, prepared, device)
    return probabilities_of(classifier.network, scores[None])[0]


def class_scores(classifier: Classifier, prepared: MetaTensor, device: torch.device) -> Tensor:
    """Class scores before the activation, ``(K,)``; raises what :func:`class_probabilities` does.

    (But for scores that are not finite.)
    """
    with _one_image_on(device):
        return classifier.to(device).scores(prepared)


def probabilities_of(network: ScoreNetwork, scores: Tensor) -> NDArray[np.float64]:
    """Probabilities ``(B, K)`` in [0, 1] from scores ``(B, K)``.

    Raises:
        ClassifierError: The scores are not finite.
    """
    probabilities = network.probabilities(scores.double()).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise ClassifierError(
            ErrorCode.MODEL_NOT_FINITE,
            "The network's scores on this image are not finite: "
            "check the intensity preprocessing and the weights.",
        )
    return probabilities


def percent(share: float) -> str:
    """A share in whole per cent; a small one is not called nothing, nor a large one all."""
    if 0.995 <= share < 1:
        return "99 %"
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def given_hashes(given: Given, method: Method) -> dict[str, Any]:
    """SHA-256 of what a method's map depends on beside the image, for its provenance.

    Args:
        given: What is given beside the image.
        method: With its parameters: they say whether it uses what it could ask for.

    Returns:
        ``segments_sha256`` over names and voxels in their order where the method weighs
        segments, and ``each_segment_sha256``, a list; ``backgrounds_sha256``, a list, where it
        has backgrounds; else nothing.
    """
    found: dict[str, Any] = {}
    if uses(method, "segmentation") and given.segmentation is not None:
        found["segments_sha256"] = given.segmentation.sha256
        found[EACH_SEGMENT] = [segment.sha256 for segment in given.segmentation.segments]
    if uses(method, "backgrounds") and given.backgrounds:
        found["backgrounds_sha256"] = [voxel_hash(one) for one in given.backgrounds]
    return found


def uses(method: Method, what: str) -> bool:
    """Whether a method uses one of the things in :attr:`Method.asks`, as its parameters say.

    Where it is one choice of a parameter, such as ``baseline=backgrounds``, it has to be the
    one that was made.
    """
    if what not in method.asks:
        return False
    word = "segments" if what == "segmentation" else what
    deciding = [
        field.name
        for field in dataclasses.fields(method)
        if word in (field.metadata.get("choices") or ())
    ]
    return not deciding or any(getattr(method, name) == word for name in deciding)
