"""What an attribution method is: its parameters, its cost, its map."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.confinement import lifted
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.progress import Progress, silent, stopped_by
from SaliencyExplain.quantities import BY_UNIT, number_of

if TYPE_CHECKING:
    from SaliencyExplain.attribution.passes.shared_pass import SharedPass, Wanted

#: Called as ``publish(maps, share)`` with what :meth:`Method.attribute` would return if it
#: stopped now, and the share of the computation, in (0, 1], that is in it. Like a progress
#: callback it may raise :class:`SaliencyExplain.errors.Cancelled`.
Publish = Callable[[dict[str, Tensor], float], None]


#: Called as ``record(figures)`` with what a computation tells beside its map, such as the
#: values of regions with their confidence intervals: names of figures to values that JSON
#: knows. They go into the map's provenance; a later call adds to an earlier one.
Record = Callable[[Mapping[str, Any]], None]


#: The families of methods in the order of lists and panels, each with what it does. The last
#: one's maps know nothing of the classifier and are there to compare with.
FAMILIES = {
    "perturbation": "cover a place and see how the answer moves",
    "class activation": "what the last feature maps say for the class",
    "gradient": "what a small change of each voxel would do",
    "path": "gradients gathered on the way from a baseline to the image",
    "relevance": "the score handed back layer by layer",
    "region": "whole regions, ranked by what they contribute",
    "surrogate": "a simple model of what the regions contribute",
    "yardstick": "what chance and habit would give",
}


#: Called as ``note(text)`` with one sentence that whoever looks at the map must be told, such as
#: that it is zero everywhere, or that the relevance is far from the score. Notes reach the
#: terminal, the panels and the map's provenance.
Note = Callable[[str], None]


#: Called as ``resolution(key, mm)`` with a map's key and the size of the least thing that the map
#: can show apart: an occlusion window, the cell of a feature map. The map's peak is looked for at
#: that scale (:mod:`SaliencyExplain.peak`). Methods that resolve voxels or regions say nothing.
Resolution = Callable[[str, float], None]


def unpublished(maps: dict[str, Tensor], share: float) -> None:
    """A publish callback that tells nobody."""


def unnoted(text: str) -> None:
    """A note callback that keeps nothing."""


def unresolved(key: str, resolution_mm: float) -> None:
    """A resolution callback that keeps nothing."""


def unrecorded(figures: Mapping[str, Any]) -> None:
    """A record callback that keeps nothing."""


#: Millimetres that a parameter may say: beyond any image.
LARGEST_MM = 1e6
#: Largest constant that may stand in an image, in the units of the prepared input.
LARGEST_VALUE = 1e30

#: Items that a parameter which is a list may have, such as names of layers.
_MOST_ITEMS = 1000


@dataclass(frozen=True)
class Task:
    """One question to a method: which voxels speak for this class of this image?

    Attributes:
        network: The classifier's network, in eval mode, on the input's device.
        input: The prepared image, ``(1, C, *S)``, float32, S of two or three axes.
        target: Index of the class, fixed for the whole computation.
        spacing: Size of a voxel of ``input`` in millimetres, one number per axis of S.
        seed: Seed of everything random; the same seed gives the same map.
        batch_size: Images per forward pass; None: chosen from the free memory.
        progress: Told after each batch; may raise ``Cancelled``.
        publish: Given the map as it grows, by methods that have ``parts``: a rising share,
            the last one 1 unless the deadline came first.
        deadline: Reading of ``time.perf_counter()`` from which on a method that has
            ``parts`` returns the best map it has, once it has one.
        memory_bytes: Most that batches, kept maps and weights packed for them may take, beside
            the free memory.
        precision: ``float32``, or ``bfloat16`` where gradient methods may compute in it.
        record: Given the figures that a method finds beside its map.
        note: Given what whoever looks at the map must be told.
        resolution: Given what a map resolves, in mm, before it is published.
        regions: Label map ``(*S)`` of a given segmentation on the input's grid, int64 on the
            CPU: 0 outside of all segments, else 1 + index in ``region_names``, of several
            that overlap the last one; None: none was given.
        region_names: Names of the segments; one that fills no voxel has its name all the same.
        backgrounds: Prepared images ``(N, C, *S)`` that stand for "nothing in particular",
            float32 on the CPU; None: none were given.
        channels: Names of the input's channels; empty: they have none.
        shared: The pass that several methods on this image share; None: each has its own.
        length_unit: How millimetres are told: ``mm``, or ``px`` where the image has no size and a
            pixel counts as one millimetre.
    """

    network: ScoreNetwork
    input: Tensor
    target: int
    spacing: tuple[float, ...]
    seed: int = 0
    batch_size: int | None = None
    progress: Progress = silent
    publish: Publish = unpublished
    deadline: float = math.inf
    memory_bytes: float = math.inf
    precision: str = "float32"
    record: Record = unrecorded
    note: Note = unnoted
    resolution: Resolution = unresolved
    regions: Tensor | None = None
    region_names: tuple[str, ...] = ()
    backgrounds: Tensor | None = None
    channels: tuple[str, ...] = ()
    shared: SharedPass | None = None
    length_unit: str = "mm"


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    automatic: str = "",
) -> Any:
    """A dataclass field that is a method's parameter, described once for all faces.

    Args:
        default: The default value; its type is the parameter's type.
        description: One line for the user.
        unit: Such as ``"mm"``; empty for a plain number.
        minimum: Least allowed value; every number has one.
        maximum: Greatest allowed value; every number has one, so that no request can ask for a
            computation without an end.
        choices: The allowed words, for a parameter that is a choice.
        automatic: What the default 0 stands for, where it is chosen for each image.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "description": description,
            "unit": unit,
            "minimum": minimum,
            "maximum": maximum,
            "choices": choices,
            "automatic": automatic,
        },
    )


@dataclass(frozen=True)
class Method(ABC):
    """An attribution method; subclasses are frozen dataclasses of their parameters.

    A subclass sets the class variables and is found by the registry when its
    module lies in this folder.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: Paper and equation, or the library whose result it equals.
    source: ClassVar[str]
    #: True: negative values speak against the class. False: only magnitudes.
    signed: ClassVar[bool]
    #: One of :data:`FAMILIES`.
    family: ClassVar[str]
    #: What it can use beside the image: ``segmentation``, ``backgrounds``.
    asks: ClassVar[tuple[str, ...]] = ()
    #: What a map that is not finished has some of, such as ``"windows"``; empty: the method
    #: has no map before it ends, publishes nothing and knows no deadline.
    parts: ClassVar[str] = ""
    #: Whether its ``raw(task)`` is a map for each channel ``(C, *S)``, which becomes one map.
    per_channel: ClassVar[bool] = False
    #: Whether it computes in the task's precision; False: always in float32.
    lower_precision: ClassVar[bool] = False

    @abstractmethod
    def attribute(self, task: Task) -> dict[str, Tensor]:
        """Computes the map.

        Returns:
            ``{layer: map}`` with maps ``(*S)`` in float32 on the grid of ``task.input``,
            positive where the voxels speak for the class. Methods that look at no
            layer have the one key ``""``.

        Raises:
            InputError: A parameter does not fit the image or the network.
            DeviceMemoryError: Memory is exhausted with a batch of one.
            Cancelled: Out of ``task.progress``; the network is left as it was.
        """

    def resolved(self, task: Task) -> Method:
        """The same method with the values that its automatic parameters get for this image."""
        return self

    def channel_of(self, key: str, task: Task) -> int | None:
        """The channel that the map of this key is of; None: of all channels together."""
        return None

    def shares(self, task: Task) -> Wanted | None:
        """What it wants of a pass that others may want, too; None: nothing."""
        return None

    @abstractmethod
    def forward_passes(self, task: Task) -> float:
        """Cost in forward passes of one image, known before starting; unshared."""

    def seconds_beside(self, task: Task) -> float:
        """Seconds of one processor core that no forward pass takes, such as finding regions.

        They depend on the image and not on the network: of a small network they are most of
        the time, of a large one next to nothing.
        """
        return 0.0

    def __init_subclass__(cls) -> None:
        """Makes each method stop where its task's progress would: see :func:`may_stop`."""
        super().__init_subclass__()
        if "forward_passes" in vars(cls):
            cls.forward_passes = _closed(cls.forward_passes)  # type: ignore[method-assign, assignment]
        if "attribute" in vars(cls):
            cls.attribute = _stoppable(cls.attribute)  # type: ignore[method-assign, assignment]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_parameter(self.name, field, getattr(self, field.name))


def _stoppable(
    attribute: Callable[[Any, Task], dict[str, Tensor]],
) -> Callable[[Any, Task], dict[str, Tensor]]:
    """An ``attribute`` in which :func:`may_stop` raises what the task's progress raises.

    Where nobody vouches for the network, files and addresses are closed to what runs in it, but
    not to whoever is told of its progress.
    """

    @functools.wraps(attribute)
    def stoppable(method: Any, task: Task) -> dict[str, Tensor]:
        told = (0.0, 1.0)

        tell = lifted(task.progress)

        def progress(done: float, total: float) -> None:
            nonlocal told
            told = (done, total)
            tell(done, total)

        inner = dataclasses.replace(task, progress=progress)
        if task.publish is not unpublished:
            inner = dataclasses.replace(inner, publish=lifted(task.publish))
        with stopped_by(lambda: progress(*told)), task.network.closed():
            return attribute(method, inner)

    return stoppable


def _closed(cost: Callable[[Any, Task], float]) -> Callable[[Any, Task], float]:
    """A ``forward_passes`` in which files and addresses are closed to the network."""

    @functools.wraps(cost)
    def closed(method: Any, task: Task) -> float:
        with task.network.closed():
            return cost(method, task)

    return closed


def check_parameter(method: str, field: dataclasses.Field[Any], value: Any) -> None:
    """Raises InputError where a value is of another type, or outside its range or choices."""
    limits, name = field.metadata, f"{method}.{field.name}"
    values = value if isinstance(value, tuple) else (value,)
    if isinstance(field.default, tuple) != isinstance(value, tuple):
        raise _wrong_type(name, field.default, value)
    if len(values) > _MOST_ITEMS:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"{name} has {len(values)} items; at most {_MOST_ITEMS} are read.",
        )
    for item in values:
        if not isinstance(value, tuple) and not _is_of_type(item, field.default):
            raise _wrong_type(name, field.default, item)
        if limits["choices"] and item not in limits["choices"]:
            raise unknown_name(f"choice for {name}", _shown(item), limits["choices"])
        if isinstance(item, (str, bool)):
            continue
        low, high = limits["minimum"], limits["maximum"]
        unit = f" {limits['unit']}" if limits["unit"] else ""
        if isinstance(item, float) and not math.isfinite(item):
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"{name} is {item}{unit}, and no finite number.",
            )
        if (low is not None and item < low) or (high is not None and item > high):
            bounds = " and ".join(
                f"at {word} {limit:,.12g}{unit}"
                for word, limit in (("least", low), ("most", high))
                if limit is not None
            )
            raise InputError(
                ErrorCode.VALUE_RANGE, f"{name} is {_shown(item)}{unit}; it must be {bounds}."
            )


def _is_of_type(value: Any, default: Any) -> bool:
    """Whether a value is of a parameter's type; a whole number may stand for any number."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(default))


def _wrong_type(name: str, default: Any, value: Any) -> InputError:
    return InputError(
        ErrorCode.VALUE_FORM,
        f"{name} wants {_kind(default, '')} (such as {default}), not {value!r:.80}.",
    )


def _shown(value: Any) -> str:
    """A value in a message; of a number of very many digits only how many."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"{'-' if value < 0 else ''}10^{int(math.log10(abs(value)))} or so"
    return str(value)[:80]


def value_text(field: Mapping[str, Any], value: Any, length_unit: str = "mm") -> str:
    """A parameter's value in words, with its unit.

    Args:
        field: What :func:`parameter` was told.
        value: Of the parameter.
        length_unit: How millimetres are told, as in :class:`Task`.
    """
    if field["automatic"] and not value:
        return f"automatic ({field['automatic']})"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{shown} {unit_of(field, length_unit)}".rstrip()


def unit_of(field: Mapping[str, Any], length_unit: str) -> str:
    """The unit of a parameter's value for one image, empty for a plain number.

    Args:
        field: What :func:`parameter` was told.
        length_unit: How millimetres are told, as in :class:`Task`.
    """
    return length_unit if field["unit"] == "mm" else str(field["unit"])


def parse_parameters(method: type[Method], texts: Mapping[str, str]) -> dict[str, Any]:
    """Turns ``{parameter: text}`` of a command line into values of the right type.

    Raises:
        InputError: No such parameter (with the nearest name), or not a value of its type.
    """
    fields = {field.name: field for field in dataclasses.fields(method)}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in fields:
            raise unknown_name(f"parameter of {method.name}", name, fields)
        values[name] = _parse(f"{method.name}.{name}", text, fields[name])
    return values


def _parse(name: str, text: str, field: dataclasses.Field[Any]) -> Any:
    default, unit = field.default, field.metadata["unit"]
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return number_of(text, BY_UNIT[unit])
        if isinstance(default, tuple):
            parts = [part.strip() for part in text.split(",") if part.strip()]
            return (
                tuple(float(p) for p in parts)
                if default and isinstance(default[0], float)
                else tuple(parts)
            )
    except (ValueError, KeyError):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"{name} wants {_kind(default, unit)} (such as {default}), not '{text[:80]}'.",
        ) from None
    return text


def _kind(default: Any, unit: str) -> str:
    number = f"a number in {unit}" if unit else "a number"
    words = {bool: "true or false", int: "a whole number", float: number, str: "a word"}
    return words.get(type(default), "a list with commas")
