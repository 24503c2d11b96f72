"""The waist: an image, a classifier, methods and a target become attributions.

Everything below deals in tensors on the network's grid, everything above in
attributions on the image's own grid.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain import __version__
from SaliencyExplain.attribution.method import Method, Task
from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.errors import ClassifierError, DeviceMemoryError, InputError
from SaliencyExplain.images.grids import spacing_of
from SaliencyExplain.progress import Progress, silent

SIGN_CONVENTION = "positive = speaks for the target class"


@dataclass(frozen=True)
class Attribution:
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
        provenance: Classifier, input, seed and versions: what it takes to do it again.
        seconds: Time that the computation took.
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

    @property
    def label(self) -> str:
        """``method`` or ``method@layer``: its name in files and tables."""
        return f"{self.method}@{self.layer}" if self.layer else self.method


@dataclass(frozen=True)
class Explanation:
    """What the classifier says of one image, and which voxels made it say so.

    Attributes:
        image: ``(C, *S)``, as it was read.
        classes: Names of the classes.
        probabilities: One for each class, in [0, 1].
        target: Index of the class that is explained.
        attributions: One for each method and layer.
        notes: What a user should be told aloud: resampled, guessed, fallen back.
        timings: Seconds by step.
    """

    image: MetaTensor
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    target: int
    attributions: tuple[Attribution, ...]
    notes: tuple[str, ...]
    timings: dict[str, float]


@dataclass(frozen=True)
class Estimate:
    """What an explanation will cost, known before it starts.

    Attributes:
        forward_passes: Of one image, a backward pass counted as its equal in time.
        seconds: From the time of the forward pass that made the prediction; batches
            and incremental methods can be faster.
    """

    forward_passes: float
    seconds: float


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
        raise InputError(f"Device '{name}' is unknown: use auto, cpu or cuda:N.")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        have = f"it has {count} GPU(s)" if count else "torch finds no GPU on it"
        raise InputError(f"Device '{name}' is not on this machine: {have}. Use auto or cpu.")
    return torch.device(kind, int(index or 0))


def explain(
    image: MetaTensor,
    classifier: Classifier,
    methods: Sequence[Method],
    *,
    target: str = "predicted",
    device: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
    announce: Callable[[Estimate], None] | None = None,
) -> Explanation:
    """Computes the attributions of one image, on the image's own grid.

    The target is fixed from the prediction on the untouched image, before any
    method starts. A GPU whose memory does not hold a single image is left for
    the CPU, and a note says so.

    Args:
        image: ``(C, *S)`` with its affine, channels in the classifier's order.
        classifier: What is explained.
        methods: One or more methods with their parameters.
        target: Name or index of a class, or ``predicted``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        seed: Of everything random.
        progress: Told of forward passes done and to do, over all methods; may raise Cancelled.
        announce: Told the cost once it is known, before the first method starts.

    Raises:
        InputError: The image, target, layer or a parameter does not fit.
        ClassifierError: The network fails on the image.
        DeviceMemoryError: The CPU's memory does not hold a single image.
        Cancelled: Out of ``progress``.
    """
    started = time.perf_counter()
    chosen = choose_device(device)
    notes = list(image.meta.get("notes", []))
    prepared = classifier.prepare(image)
    timings = {"prepare": time.perf_counter() - started}

    started = time.perf_counter()
    try:
        probabilities = _predict(classifier, prepared, chosen)
    except DeviceMemoryError as error:
        if chosen.type == "cpu":
            raise
        notes.append(f"{error} Computed on the CPU instead.")
        chosen = torch.device("cpu")
        probabilities = _predict(classifier, prepared, chosen)
    timings["predict"] = time.perf_counter() - started
    index = classifier.class_index(target, probabilities)

    provenance = {
        "classifier": classifier.name,
        "classifier_sha256": classifier.identity,
        "image": image.meta.get("name", ""),
        "image_sha256": voxel_hash(image),
        "seed": seed,
        "sign": SIGN_CONVENTION,
        "versions": versions(),
    }
    base = Task(
        network=classifier.network,
        input=_network_input(prepared, chosen),
        target=index,
        spacing=spacing_of(prepared.affine, prepared.ndim - 1),
        seed=seed,
    )
    costs = [method.forward_passes(base) for method in methods]
    total = sum(costs)
    if announce is not None:
        announce(Estimate(total, total * timings["predict"]))

    attributions: list[Attribution] = []
    spent = 0.0
    for method, cost in zip(methods, costs, strict=True):

        def report(done: float, of: float, spent: float = spent, cost: float = cost) -> None:
            progress(spent + cost * done / max(of, 1e-9), total)

        started = time.perf_counter()
        task = dataclasses.replace(base, progress=report)
        try:
            maps = method.attribute(task)
        except DeviceMemoryError as error:
            if chosen.type == "cpu":
                raise
            notes.append(f"{method.name}: {error} Computed on the CPU instead.")
            chosen = torch.device("cpu")
            classifier.to(chosen)
            base = dataclasses.replace(base, input=_network_input(prepared, chosen))
            maps = method.attribute(dataclasses.replace(base, progress=report))
        spent += cost
        progress(spent, total)
        seconds = time.perf_counter() - started
        timings[method.name] = seconds
        for layer, values in maps.items():
            restored = classifier.restore(values.detach().float().cpu(), prepared, image)
            if not np.isfinite(restored).all():
                raise ClassifierError(
                    f"{method.name} gives a map with values that are not finite: the network "
                    "overflows on this image. Check the intensity preprocessing."
                )
            attributions.append(
                Attribution(
                    values=restored,
                    affine=np.asarray(image.affine, dtype=np.float64),
                    method=method.name,
                    layer=layer,
                    signed=method.signed,
                    target=index,
                    target_name=classifier.classes[index],
                    parameters=dataclasses.asdict(method.resolved(base)),
                    provenance={**provenance, "device": str(chosen)},
                    seconds=seconds,
                )
            )
    return Explanation(
        image=image,
        classes=classifier.classes,
        probabilities=probabilities,
        target=index,
        attributions=tuple(attributions),
        notes=tuple(notes),
        timings=timings,
    )


def predict(
    image: MetaTensor, classifier: Classifier, *, device: str = "auto"
) -> NDArray[np.float64]:
    """Class probabilities of one image, ``(K,)`` in [0, 1].

    Raises:
        InputError: The image or device does not fit.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    return _predict(classifier, classifier.prepare(image), choose_device(device))


def voxel_hash(image: MetaTensor) -> str:
    """SHA-256 over the voxels and the affine: the same for the same image in any format."""
    digest = hashlib.sha256(np.ascontiguousarray(image.numpy(), dtype=np.float32).tobytes())
    digest.update(np.round(np.asarray(image.affine, dtype=np.float64), 5).tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computes the figures."""
    return {
        "SaliencyExplain": __version__,
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _network_input(prepared: MetaTensor, device: torch.device) -> torch.Tensor:
    return prepared.as_tensor().unsqueeze(0).to(device=device, dtype=torch.float32)


def _predict(
    classifier: Classifier, prepared: MetaTensor, device: torch.device
) -> NDArray[np.float64]:
    try:
        scores = classifier.to(device).scores(prepared).double()
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(f"The memory of {device} does not hold one image.") from error
    probabilities = classifier.network.probabilities(scores[None])[0].cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise ClassifierError(
            "The network's scores on this image are not finite: "
            "check the intensity preprocessing and the weights."
        )
    return probabilities
