"""What decides a training, and with it the bytes of what comes out of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.training.augmentation import DEFAULT_WORDS, check_words

Balance = Literal["weights", "sampling", "none"]


@dataclass(frozen=True)
class Settings:
    """How a classifier is trained.

    Attributes:
        network: Its name, as ``model add`` takes it.
        network_args: Its arguments; channels, classes and axes are filled in.
        weights: A weight file to begin with, such as of a network trained on other images;
            what does not fit by name and shape (the last layer) begins at random.
        classes: Names in the order of the scores; the labels in natural order where empty.
        channels: Names of the input's channels.
        spatial_dims: 2 or 3; what the first image has where None.
        spacing: Voxel size in mm to resample to.
        size: Voxels per axis of the network's input.
        fit: How the size is reached, as ``model add`` takes it.
        intensity: How intensities are scaled, as ``model add`` takes it.
        augment: Words of :data:`SaliencyExplain.training.augmentation.WORDS`.
        balance: Against classes of unequal size: ``weights`` in the loss, ``sampling``
            (rare classes are drawn more often), or ``none``.
        epochs: Rounds through the training cases, at most.
        patience: Epochs without a lower loss on the validation cases after which it ends.
        batch_size: Images per step.
        learning_rate: Of AdamW (Loshchilov and Hutter 2019); halved where the validation
            loss has not fallen for a third of the patience.
        validation_share: Share of the cases that choose the epoch, (0, 1).
        test_share: Share of the cases that are held out for the figures, [0, 1).
        seed: Of everything random.
    """

    network: str
    network_args: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("image",)
    spatial_dims: int | None = None
    spacing: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    fit: str | None = None
    intensity: str = "zscore"
    augment: tuple[str, ...] = DEFAULT_WORDS
    balance: Balance = "weights"
    epochs: int = 50
    patience: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-3
    validation_share: float = 0.15
    test_share: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check_words(self.augment)
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(
                    ErrorCode.VALUE_RANGE,
                    f"The {_words(name)} is {getattr(self, name)}; it must be 1 or more.",
                )
        if not self.learning_rate > 0:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"The learning rate is {self.learning_rate}; it must be above 0.",
            )
        if self.balance not in ("weights", "sampling", "none"):
            raise InputError(
                ErrorCode.VALUE_FORM,
                f"Balance: '{self.balance}' is not valid. Give weights, sampling or none.",
            )
        if not (
            self.validation_share > 0
            and self.test_share >= 0
            and self.validation_share + self.test_share < 1
        ):
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"The shares of validation ({self.validation_share:g}) and test cases "
                f"({self.test_share:g}) must leave cases for training and for the choice of the "
                "epoch.",
            )
        if self.seed < 0:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"Seed: {self.seed} is not valid. Give an integer of at least 0.",
            )

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON values; of the weight file its sha256, not its place.

        Raises:
            InputError: The weight file cannot be read.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["network_args"] = dict(self.network_args)
        if self.weights is not None:
            try:
                digest = hashlib.sha256(self.weights.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(
                    ErrorCode.FILE_UNREADABLE, f"{self.weights} cannot be read: {error.strerror}."
                ) from error
            values["weights"] = digest
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _words(name: str) -> str:
    return {"epochs": "number of epochs"}.get(name, name.replace("_", " "))
