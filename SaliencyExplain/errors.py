"""The exceptions of the project, each with a code and a message that a user can act on.

A message says which file or name, what is wrong with it and what to do. The faces (command
line, panel, page) print it as it is, in one place each. The code names the kind of error: it
stays when a sentence is edited, so that scripts and tests can rely on it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from typing import Any


class ErrorCode(str, Enum):
    """The kinds of errors: each a code such as ``SE-FILE-MISSING`` with a meaning in one line."""

    meaning: str

    # Files
    FILE_MISSING = "SE-FILE-MISSING", "There is no such file or folder."
    FILE_UNREADABLE = "SE-FILE-UNREADABLE", "The file or folder cannot be opened."
    FILE_DAMAGED = "SE-FILE-DAMAGED", "The file is empty, cut off or damaged."
    FILE_FORMAT = "SE-FILE-FORMAT", "The file format is not supported."
    OUTPUT_EXISTS = "SE-OUTPUT-EXISTS", "The output would overwrite files that it did not write."
    OUTPUT_UNWRITABLE = "SE-OUTPUT-UNWRITABLE", "The output cannot be written."
    NETWORK = "SE-NETWORK", "Another machine does not answer, or is not trusted."
    PACKAGE_MISSING = "SE-PACKAGE-MISSING", "A package or program that is needed is not installed."

    # Images and segmentations
    IMAGE_AMBIGUOUS = "SE-IMAGE-AMBIGUOUS", "A file or folder holds several images."
    IMAGE_VOXEL_TYPE = "SE-IMAGE-VOXEL-TYPE", "A voxel or pixel does not hold one number."
    IMAGE_AXES = "SE-IMAGE-AXES", "An image has the wrong number of axes or voxels."
    IMAGE_GEOMETRY = "SE-IMAGE-GEOMETRY", "The affine, positions or spacing cannot be used."
    IMAGE_VALUES = "SE-IMAGE-VALUES", "Voxels are not finite, or all are the same."
    GRID_MISMATCH = "SE-GRID-MISMATCH", "Two volumes that must share a grid do not."
    NO_OVERLAP = "SE-NO-OVERLAP", "Two things that must overlap in space do not."
    CHANNELS = "SE-CHANNELS", "The image's channels do not fit the classifier's."
    SEGMENTATION_MISSING = "SE-SEGMENTATION-MISSING", "A segmentation is needed and none is given."
    SEGMENTATION_EMPTY = "SE-SEGMENTATION-EMPTY", "A segmentation or segment has no voxel."
    SEGMENTATION_LABELS = "SE-SEGMENTATION-LABELS", "The file is an image and not a label map."
    BACKGROUNDS = "SE-BACKGROUNDS", "Background images are missing or do not fit."

    # Names, values and options
    NAME_UNKNOWN = "SE-NAME-UNKNOWN", "No item has that name."
    NAME_DUPLICATE = "SE-NAME-DUPLICATE", "A name is used twice."
    VALUE_RANGE = "SE-VALUE-RANGE", "A number is outside its range."
    VALUE_FORM = "SE-VALUE-FORM", "A value has the wrong type or form."
    OPTION_CONFLICT = "SE-OPTION-CONFLICT", "Two options exclude each other."
    OPTION_MISSING = "SE-OPTION-MISSING", "A required value is missing."
    TARGET_KIND = "SE-TARGET-KIND", "A target of this kind cannot be explained."

    # Plugins
    PLUGIN = "SE-PLUGIN", "A plugin of an installed package cannot be used."

    # Classifiers
    MODEL_FORMAT = "SE-MODEL-FORMAT", "The file is not a classifier in a supported format."
    MODEL_INCOMPLETE = "SE-MODEL-INCOMPLETE", "A part of the classifier is missing."
    MODEL_CONFIGURATION = "SE-MODEL-CONFIGURATION", "The classifier's configuration is wrong."
    MODEL_UNTRUSTED = "SE-MODEL-UNTRUSTED", "The classifier contains code, which needs --trust."
    MODEL_REFUSED = "SE-MODEL-REFUSED", "The classifier uses something that is not allowed."
    MODEL_CLASSES = "SE-MODEL-CLASSES", "The names of the classes do not fit the outputs."
    MODEL_ACTIVATION = "SE-MODEL-ACTIVATION", "The activation does not fit the outputs."
    MODEL_PREPROCESSING = "SE-MODEL-PREPROCESSING", "The preprocessing cannot be used."
    MODEL_WEIGHTS = (
        "SE-MODEL-WEIGHTS",
        "The weights do not fit the network, or the file contains none.",
    )
    MODEL_INPUT = "SE-MODEL-INPUT", "The network cannot take this image."
    MODEL_OUTPUT = "SE-MODEL-OUTPUT", "The network's output is not one score per class."
    MODEL_NOT_FINITE = "SE-MODEL-NOT-FINITE", "The weights or the scores are not finite."
    MODEL_NOT_REPEATABLE = (
        "SE-MODEL-NOT-REPEATABLE",
        "The network returns different scores for the same image.",
    )

    # Methods and maps
    METHOD_NETWORK = "SE-METHOD-NETWORK", "The method is not defined for this network."
    LAYER_UNSUITABLE = "SE-LAYER-UNSUITABLE", "The method cannot use the layer's output."
    LAYERS_HIDDEN = "SE-LAYERS-HIDDEN", "The network's layers are not accessible."
    NO_GRADIENT = "SE-NO-GRADIENT", "No gradient passes through the network."
    REGIONS = "SE-REGIONS", "The image cannot be divided into regions."
    WINDOW = "SE-WINDOW", "The occlusion windows do not fit the image."
    MAP_NOT_FINITE = "SE-MAP-NOT-FINITE", "The map has values that are not finite."
    MAP_CONSTANT = "SE-MAP-CONSTANT", "The map has one value everywhere."
    MAP_UNFINISHED = "SE-MAP-UNFINISHED", "The map is partial, and a whole one is needed."
    MAP_OUTDATED = "SE-MAP-OUTDATED", "A result belongs to another image, map or classifier."
    PLACE_OUTSIDE = "SE-PLACE-OUTSIDE", "A point or segment lies outside the explained image."

    # Computing
    DEVICE = "SE-DEVICE", "There is no such device."
    MEMORY = "SE-MEMORY", "There is not enough memory."

    # Studies and training
    CASES_MISSING = "SE-CASES-MISSING", "There are no cases, or too few."
    CASES_TABLE = "SE-CASES-TABLE", "The table of cases cannot be read."
    CASES_LAYOUT = "SE-CASES-LAYOUT", "It cannot be determined which files belong to a case."
    CASE_FAILED = "SE-CASE-FAILED", "A case could not be read or explained."
    STUDY_CONFIGURATION = "SE-STUDY-CONFIGURATION", "The output belongs to another configuration."
    STUDY_BUSY = "SE-STUDY-BUSY", "Another run is using the folder."
    STUDY_INCOMPLETE = "SE-STUDY-INCOMPLETE", "Results of the study are missing or damaged."
    LABELS = "SE-LABELS", "The labels of the cases cannot be used."
    SPLIT = "SE-SPLIT", "The cases cannot be split for training."
    TRAINING_DIVERGED = "SE-TRAINING-DIVERGED", "The loss is no longer finite."

    # The engine
    ENGINE_LOST = "SE-ENGINE-LOST", "The engine does not answer."
    ENGINE_START = "SE-ENGINE-START", "The engine cannot be started."
    ENGINE_REQUEST = "SE-ENGINE-REQUEST", "The engine cannot read the request."
    ENGINE_UNKNOWN = (
        "SE-ENGINE-UNKNOWN",
        "The engine does not have an item of that name, or no longer.",
    )
    ENGINE_ACCESS = "SE-ENGINE-ACCESS", "The engine does not allow this."
    ENGINE_LIMIT = "SE-ENGINE-LIMIT", "The request is larger than the engine accepts."
    JOB_FAILED = "SE-JOB-FAILED", "The job failed unexpectedly."

    # The scene and the panels
    SCENE_NODE = "SE-SCENE-NODE", "A node of the scene cannot be used for this."
    SCENE_FILE = "SE-SCENE-FILE", "A scene file cannot be read or written."
    SELECTION = "SE-SELECTION", "Something must be chosen or opened first."

    def __new__(cls, code: str, meaning: str) -> ErrorCode:
        """A member whose value is the code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    def __str__(self) -> str:
        return self.value

    @classmethod
    def of(cls, code: str) -> ErrorCode:
        """The member with this code; ``JOB_FAILED`` for one that this version does not know."""
        return next((one for one in cls if one.value == code), cls.JOB_FAILED)


class SaliencyExplainError(Exception):
    """Base of all errors whose message is meant for the user, in one line.

    Args:
        code: What kind of error it is.
        message: Which file or name, what is wrong with it and what to do.

    Attributes:
        code: As given.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self))


class InputError(SaliencyExplainError):
    """A file, name or parameter that the user gave cannot be used as it is."""


class ClassifierError(InputError):
    """A file does not hold a classifier that can be loaded, trusted or explained."""


class OutputError(SaliencyExplainError):
    """A result could not be written: no permission, or the disk is full."""


class DeviceMemoryError(SaliencyExplainError):
    """Memory was exhausted even with a single image in the batch."""


class EngineLostError(SaliencyExplainError):
    """An engine in another process does not answer any more, or not yet."""


class Cancelled(Exception):
    """The user stopped a computation; raised out of a progress callback."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """Builds the error for a name that does not exist, with the nearest right one.

    Args:
        kind: What the name should have named, such as ``"method"``.
        given: The name that was given.
        known: The names that exist.

    Returns:
        The error, to be raised by the caller.
    """
    names = [str(name) for name in known]
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean '{by_lower[close[0]]}'?" if close else ""
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return InputError(
        ErrorCode.NAME_UNKNOWN, f"There is no {kind} '{given}'.{hint} Known: {shown or 'none'}."
    )


def wrong_type(name: str, wanted: str, given: object) -> InputError:
    """Builds the error for an argument of another type than the one that is needed.

    Args:
        name: Of the argument.
        wanted: What it must be, such as ``"a list of names"``.
        given: What was given. Only short values are shown.

    Returns:
        The error, to be raised by the caller.
    """
    short = given is None or isinstance(given, (str, bool, int, float))
    shown = f"{given!r:.80}" if short else f"a value of the type {type(given).__name__}"
    return InputError(ErrorCode.VALUE_FORM, f"{name} must be {wanted}, not {shown}.")
