"""A classifier: a network, its class names, its preprocessing, and the way back to the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.network.repeatability import examine
from SaliencyExplain.attribution.network.score_combination import ScoreCombination
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.batches import free_memory, is_out_of_memory
from SaliencyExplain.confinement import raise_denied
from SaliencyExplain.errors import (
    Cancelled,
    ClassifierError,
    ErrorCode,
    InputError,
    SaliencyExplainError,
    unknown_name,
)
from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.memory_limit import memory_limited
from SaliencyExplain.models import network_grid
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.clipping import run_watched
from SaliencyExplain.models.input_channels import are_colours
from SaliencyExplain.models.preprocessing_words import PreprocessingWords
from SaliencyExplain.models.sliding_window import SlidingWindow
from SaliencyExplain.specification.target import (
    AUTOMATIC,
    CLASS,
    DIFFERENCE,
    LABEL,
    PREDICTED,
    Target,
)

#: Key of the notes on the intensities of a prepared image.
INTENSITY_NOTES = "intensity_notes"
#: Share of the free memory that a preprocessing may take.
_MEMORY_SHARE = 0.7
#: Maps as large as its input, in float32, that a network and a method keep at the least.
_MAPS = 4


@dataclass
class Classifier:
    """A trained classifier of 2D or 3D images.

    Attributes:
        name: Name for people: the bundle's folder or the file's stem.
        classes: Names of the classes in the order of the network's scores.
        channels: Names of the input's channels in the network's order.
        spatial_dims: 2 or 3.
        network: Gives class scores ``(B, K)``; in eval mode, its parameters frozen.
        preprocessing: MONAI transforms on ``{"image": MetaTensor}``, deterministic,
            which keep the affine true (held at loading).
        identity: sha256 (hex) over weights and configuration, independent of the
            folder's name and of whether the bundle is zipped.
        source: The folder or file it was loaded from; None: it was made of a network in memory.
        spacing: Voxel size in mm on the network's grid where preprocessing sets it.
        input_size: Voxels along each axis of the network's input, where it is fixed.
        format: Such as ``"MONAI bundle"``, ``"TorchScript"``, ``"torch.export"``,
            ``"Hugging Face folder"`` or ``"nn.Module"``.
        trusted: Whether code that came with the classifier was run.
        notes: What was guessed at loading, to be shown to the user.
        settings: What the bundle was made with: given, guessed or measured.
        windows: Of a segmentation network, how it is run over an image; its scores are then each
            class's mean logit over a region. None: it classifies.
        words: The preprocessing in words; None: it is not known in words.
    """

    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    spatial_dims: int
    network: ScoreNetwork
    preprocessing: Callable[[dict[str, Any]], Any]
    identity: str
    source: Path | None
    spacing: tuple[float, ...] | None = None
    input_size: tuple[int, ...] | None = None
    format: str = "MONAI bundle"
    trusted: bool = False
    notes: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    windows: SlidingWindow | None = None
    words: PreprocessingWords | None = None

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        for tensor in [*self.network.parameters(), *self.network.buffers()]:
            return tensor.device
        return torch.device("cpu")

    @property
    def colour(self) -> bool:
        """Whether the channels are red, green and blue: read images in colour."""
        return are_colours(self.channels)

    def confined(self) -> AbstractContextManager[None]:
        """Restricts the network and preprocessing unless trusted: see :func:`confined`."""
        return self.network.closed()

    def to(self, device: torch.device | str) -> Classifier:
        """Moves the network to a device and returns the classifier itself."""
        self.network.to(device)
        return self

    def prepare(self, image: MetaTensor) -> MetaTensor:
        """Resamples an image onto the network's grid.

        Args:
            image: ``(C, *S)`` with its 4x4 RAS affine in mm. A 3D image of one slice is
                taken as that slice by a 2D classifier; a grey picture as one with three
                equal channels by a classifier of colour pictures.

        Returns:
            The network's input ``(C, *S')``, float32 on the CPU, with its 4x4 RAS affine;
            ``meta[INTENSITY_NOTES]`` says where the preprocessing cuts off most of the
            intensities or leaves them almost constant.

        Raises:
            InputError: Wrong number of axes or channels, non-finite voxels, or the
                preprocessing cannot take the image or leaves one value everywhere.
        """
        meta = network_grid.other_meta(image)
        image = self._checked(image)
        affine = image.affine.numpy().astype(np.float64)
        frame = np.eye(4)
        if self.spatial_dims == 2:
            frame = network_grid.plane_frame(affine)
            affine = network_grid.to_plane(affine, frame)
        # Without the file's other meta data: Orientation would read its "space" from them.
        # A copy: MONAI's NormalizeIntensity writes into what it is given.
        voxels = image.as_tensor().to(torch.float32, copy=True)
        bare = MetaTensor(voxels, affine=torch.from_numpy(affine))
        try:
            free = free_memory(torch.device("cpu"))
            with memory_limited(_MEMORY_SHARE * free), self.confined():
                prepared, notes = run_watched(self.preprocessing, bare, self.channels)
        except (SaliencyExplainError, Cancelled):
            raise
        except Exception as error:
            # The steps of untrusted bundles may raise any exception.
            raise_denied(error)
            if is_out_of_memory(error):
                raise InputError(
                    ErrorCode.MEMORY,
                    f"There is not enough memory for the preprocessing of {self.name} and an "
                    f"image of {_shape(image.shape[1:])} voxels.",
                ) from error
            raise InputError(
                ErrorCode.MODEL_INPUT,
                f"The preprocessing of {self.name} cannot take an image of "
                f"{_shape(image.shape[1:])} voxels: {_first_cause(error)}",
            ) from error
        if isinstance(prepared, torch.Tensor) and _MAPS * 4 * prepared.numel() > free:
            raise InputError(
                ErrorCode.MEMORY,
                f"The network of {self.name} would get {_shape(prepared.shape[1:])} voxels, and "
                f"the memory that is free, {free / 1e9:.1f} GB, does not hold {_MAPS} maps of "
                "that size. Check the spacing of the image and that of the classifier's "
                "preprocessing.",
            )
        if not isinstance(prepared, MetaTensor):
            raise ClassifierError(
                ErrorCode.MODEL_PREPROCESSING,
                f"The preprocessing of {self.name} loses the image's affine.",
            )
        after = torch.from_numpy(frame @ prepared.affine.numpy().astype(np.float64))
        values = prepared.as_tensor().to(torch.float32).contiguous()
        if values.numel() == 0:
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                f"The preprocessing of {self.name} leaves no voxel of this image "
                f"({_shape(values.shape[1:])}). Check whether it crops to a region outside of the "
                "image.",
            )
        if not bool(torch.isfinite(values).all()):
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                f"The preprocessing of {self.name} gives non-finite voxels for this image.",
            )
        if bool((values == values.flatten()[0]).all()):
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                f"The preprocessing of {self.name} leaves nothing of this image: all voxels of "
                f"the network's input are {float(values.flatten()[0]):g}. Check that its "
                "intensities are of the kind that the classifier was trained with, and that it "
                "is larger than one voxel there.",
            )
        return MetaTensor(values, affine=after, meta={**meta, INTENSITY_NOTES: notes})

    def scores(self, prepared: Tensor) -> Tensor:
        """Scores ``(K,)`` before the activation for an input that :meth:`prepare` gave.

        Raises:
            InputError: The network cannot take an input of this size.
            ClassifierError: The network does not return one score per class, or not the same
                each time.
        """
        return self._on_network(prepared, lambda images: self.network(images)[0])

    def examine(self, prepared: Tensor) -> None:
        """Determines once what the scores depend on in addition to the image (:func:`examine`).

        Args:
            prepared: An input that :meth:`prepare` gave.

        Raises:
            InputError: As :meth:`scores`, as the other.
            ClassifierError: See there.
        """
        self._on_network(prepared, lambda images: images)

    def _on_network(self, prepared: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        values = prepared.as_tensor() if isinstance(prepared, MetaTensor) else prepared
        images = values[None].to(self.device)
        try:
            with self.confined():
                examine(self.network, images, self.name)
                with torch.no_grad(), untouched(self.network):
                    return function(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            made_for = f"; it was made for {_shape(self.input_size)}" if self.input_size else ""
            raise InputError(
                ErrorCode.MODEL_INPUT,
                f"The network of {self.name} cannot take an input of "
                f"{_shape(values.shape[1:])} voxels{made_for}: {_first_cause(error)}",
            ) from error

    def predict(self, image: MetaTensor) -> NDArray[np.float64]:
        """Probabilities ``(K,)`` in [0, 1] of the classes for an image.

        Raises:
            InputError: As :meth:`prepare` and :meth:`scores`; or it is a segmentation network.
        """
        self.check_classifies()
        scores = self.scores(self.prepare(image)).to(torch.float64)
        return self.network.probabilities(scores[None])[0].cpu().numpy()

    def check_classifies(self) -> None:
        """Raises InputError where it is a segmentation network, which has no class of an image."""
        if self.windows is not None:
            raise InputError(
                ErrorCode.TARGET_KIND,
                f"{self.name} is a segmentation network, which gives a map of each class and no "
                "class of an image: name a region or a point as the target.",
            )

    def restore(
        self, values: Tensor | NDArray[Any], prepared: MetaTensor, image: MetaTensor
    ) -> NDArray[np.float32]:
        """Resamples a map from the network's grid to the image's own grid.

        Args:
            values: ``(*S')``, a value per voxel of ``prepared``.
            prepared: What :meth:`prepare` gave for ``image``.
            image: The image as it came in.

        Returns:
            ``(*S)`` in the image's own shape, by linear interpolation between the voxel
            centres in the world; 0 outside the network's field of view, where the map is
            undefined (:meth:`field_of_view`).
        """
        array = torch.as_tensor(values).detach().to("cpu", torch.float32).numpy()
        if array.shape != tuple(prepared.shape[1:]):
            raise ValueError(f"a map {array.shape} is not on the grid {tuple(prepared.shape[1:])}")
        affine, to_affine, shape = self._grids(prepared, image)
        restored = network_grid.resample_inside(array, affine, to_affine, shape)
        return restored.reshape(image.shape[1:])

    def share_inside(self, prepared: MetaTensor, image: MetaTensor) -> float:
        """Share of the network's input that lies inside the image; the rest is padding.

        Args:
            prepared: What :meth:`prepare` gave for ``image``.
            image: The image as it came in.

        Returns:
            In [0, 1], counted in voxels of ``prepared``.
        """
        affine, to_affine, shape = self._grids(prepared, image)
        return network_grid.share_inside(tuple(prepared.shape[1:]), affine, shape, to_affine)

    def field_of_view(self, prepared: MetaTensor, image: MetaTensor) -> FieldOfView:
        """Which part of an image the network sees.

        Args:
            prepared: What :meth:`prepare` gave for ``image``.
            image: The image as it came in.
        """
        affine, to_affine, _ = self._grids(prepared, image)
        rows = (np.linalg.inv(affine) @ to_affine).round(9).tolist()
        return FieldOfView(tuple(prepared.shape[1:]), tuple(map(tuple, rows)))

    def _grids(
        self, prepared: MetaTensor, image: MetaTensor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
        """Affines of both in one world, a plane for 2D, and the image's shape there."""
        affine = prepared.affine.numpy().astype(np.float64)
        if self.spatial_dims == 2 and image.ndim == 4:
            image = network_grid.squeeze_slice(image)
        to_affine = image.affine.numpy().astype(np.float64)
        if self.spatial_dims == 2:
            frame = network_grid.plane_frame(to_affine)
            affine, to_affine = (network_grid.to_plane(one, frame) for one in (affine, to_affine))
        return affine, to_affine, tuple(image.shape[1:])

    def class_index(self, target: Target | str, probabilities: Sequence[float]) -> int:
        """Index of the class of a target; of a difference, of the class that it speaks for.

        Args:
            target: A class's name (any case) or index, or ``predicted`` for the class of the
                highest probability, also where several labels may be true. A text that is the name
                of a class always selects that class.
            probabilities: ``(K,)`` of the image in question.

        Raises:
            InputError: No class has that name; the message has the nearest one. Or the target is
                of a kind that a classifier does not have.
        """
        wanted = Target.of(target)
        if (named := self._named(str(wanted))) is not None:
            return named
        if wanted.kind not in (CLASS, DIFFERENCE, PREDICTED, LABEL):
            raise InputError(
                ErrorCode.TARGET_KIND,
                f"The target {str(wanted)[:80]} cannot be explained: {self.name} classifies. Name "
                "a class, predicted, or difference:CLASS|CLASS.",
            )
        of_predicted = wanted.kind == DIFFERENCE and wanted.name.lower() == PREDICTED
        if wanted.kind == PREDICTED or (of_predicted and self._named(PREDICTED) is None):
            return int(np.argmax(probabilities))
        if wanted.kind == LABEL:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"The target {LABEL} is for cases of a study with a label; this image has no "
                "label. Name a class, or predicted.",
            )
        return self.class_named(wanted.name)

    def class_named(self, target: str) -> int:
        """Index of a class by its name, in any case, or by its index as a text.

        Raises:
            InputError: There is no such class; the message has the nearest name.
        """
        if (named := self._named(target)) is not None:
            return named
        if target.isdecimal() and int(target) < len(self.classes):
            return int(target)
        if target.lstrip("-").isdecimal():
            raise InputError(
                ErrorCode.NAME_UNKNOWN,
                f"There is no class {target}: the classifier has the classes 0 to "
                f"{len(self.classes) - 1} ({', '.join(self.classes)}).",
            )
        raise unknown_name("class", target, [*self.classes, "predicted"])

    def combination(
        self, target: Target | str, probabilities: Sequence[float]
    ) -> ScoreCombination | None:
        """What a target is of the scores; None: the output of one class, as each method takes it.

        Args:
            target: As in :meth:`class_index`.
            probabilities: As there.

        Raises:
            InputError: As there, or a class is subtracted from itself.
        """
        wanted = Target.of(target)
        index = self.class_index(wanted, probabilities)
        if self._named(str(wanted)) is not None:
            return None
        if wanted.kind != DIFFERENCE:
            return None if wanted.unit == AUTOMATIC else ScoreCombination(index, None, wanted.unit)
        against = self.class_named(wanted.against)
        if against == index:
            raise InputError(
                ErrorCode.VALUE_FORM,
                f"The target {str(wanted)[:80]} is the difference of a class from itself: name "
                "two classes.",
            )
        return ScoreCombination(index, against, wanted.unit)

    def check_target(self, target: Target | str) -> None:
        """Checks a target before any image is predicted.

        Raises:
            InputError: As :meth:`combination`.
        """
        wanted, count = Target.of(target), len(self.classes)
        # Any class may be predicted, but for the one that is subtracted.
        against = self.class_named(wanted.against) if wanted.kind == DIFFERENCE else 0
        predicted = (against + 1) % count
        self.combination(wanted, [float(index == predicted) for index in range(count)])

    def _named(self, name: str) -> int | None:
        """Index of the class of that name, ignoring case; None: no class has that name."""
        if name in self.classes:
            return self.classes.index(name)
        lower = [one.lower() for one in self.classes]
        return lower.index(name.lower()) if name.lower() in lower else None

    def _checked(self, image: MetaTensor) -> MetaTensor:
        axes = image.ndim - 1
        if self.spatial_dims == 2 and axes == 3:
            image = network_grid.squeeze_slice(image)
        elif axes != self.spatial_dims:
            raise InputError(
                ErrorCode.IMAGE_AXES,
                f"The classifier {self.name} takes {self.spatial_dims}D images, "
                f"and this one has {axes} axes.",
            )
        elif self.spatial_dims == 3 and 1 in image.shape[1:]:
            raise InputError(
                ErrorCode.IMAGE_AXES,
                f"The classifier {self.name} takes volumes, and this image is one slice "
                f"({_shape(image.shape[1:])} voxels). Give it the whole volume.",
            )
        if self.colour and image.shape[0] == 1:
            values = image.as_tensor().expand(3, *image.shape[1:])
            image = MetaTensor(values, affine=image.affine)
        if image.shape[0] != len(self.channels):
            raise InputError(
                ErrorCode.CHANNELS,
                f"The classifier {self.name} takes {len(self.channels)} channel"
                f"{'s' if len(self.channels) > 1 else ''} ({', '.join(self.channels)}), "
                f"and the image has {image.shape[0]}.",
            )
        if not bool(torch.isfinite(image.as_tensor()).all()):
            raise InputError(ErrorCode.IMAGE_VALUES, "The image has non-finite voxels.")
        return image


def _shape(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(str(size) for size in shape)


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
