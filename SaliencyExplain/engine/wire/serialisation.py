"""Results and requests as JSON and back, by the type hints of their dataclasses.

An attribution's voxels are not part of the JSON: in their place stands the hash of the volume that
the engine keeps, and whoever reads the document fetches it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Union

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.json_text import json_text
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.voxel_volume import Volume

#: Digits of a whole number of 64 bits, with its sign.
_LONGEST_WHOLE = 20
#: The fields of an attribution that its volume has, and what stands for them.
_VOXELS, _VOLUME = ("values", "affine"), "volume"
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def to_json(value: Any) -> bytes:
    """A dataclass, or anything that :func:`json_text` takes, as JSON; NaN becomes null."""
    return json_text(_plain(value)).encode()


def parse_json(content: bytes) -> Any:
    """A JSON document of any origin.

    Raises:
        InputError: It is not JSON, not in UTF-8, or nested too deeply; or it has NaN, infinity, a
            number that is as large, or a whole number of more than 64 bits.
    """
    try:
        document = json.loads(
            content.decode(), parse_constant=_refuse, parse_int=_whole, parse_float=_finite
        )
        if b"\\ud" in content.lower():
            # Half of a surrogate pair is not valid text and cannot be written to a file, log or
            # answer.
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except (ValueError, RecursionError) as error:
        raise InputError(
            ErrorCode.ENGINE_REQUEST, f"The document is not valid JSON: {str(error)[:200]}."
        ) from error


#: Gives the volume of a hash.
Volumes = Callable[[str], Volume]


def made(kind: Any, document: Any, name: str = "", volumes: Volumes | None = None) -> Any:
    """The object of a type that a parsed JSON document describes.

    Args:
        kind: A dataclass, ``tuple[T, ...]``, ``list[T]``, ``dict[str, T]``, a union with
            None, a plain type, or Any.
        document: As :func:`parse_json` gives it.
        name: What the document is, for the message.
        volumes: Fetches the voxels of attributions; None: there are none in the document.

    Raises:
        InputError: A field is missing, unknown or of another type.
    """
    if kind is Any:
        return document
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, document, name, volumes)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if document is None:
            return None
        (kind,) = (item for item in inner if item is not type(None))
        return made(kind, document, name, volumes)
    if origin in (tuple, list):
        return _sequence(origin, inner, document, name, volumes)
    if origin is dict:
        if not isinstance(document, Mapping):
            raise _wrong(name, "a mapping")
        return {
            key: made(inner[1], item, f"{name}.{key}", volumes) for key, item in document.items()
        }
    if kind is Path:
        return Path(_number_or_text(str, document, name))
    return _number_or_text(kind, document, name)


def _dataclass(kind: Any, document: Any, name: str, volumes: Volumes | None) -> Any:
    if not isinstance(document, Mapping):
        raise _wrong(name or kind.__name__, "a mapping of its fields")
    voxels: dict[str, Any] = {}
    if kind is Attribution:
        document, voxels = _fetched(document, volumes)
    hints = _hints(kind)
    for given in document:
        if given not in hints:
            raise unknown_name(f"field of {kind.__name__}", str(given), hints)
    for field in dataclasses.fields(kind):
        needed = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if needed and field.name not in document and field.name not in voxels:
            raise InputError(
                ErrorCode.ENGINE_REQUEST, f"{kind.__name__} lacks the field '{field.name}'."
            )
    values = {key: made(hints[key], item, key, volumes) for key, item in document.items()}
    return kind(**values, **voxels)


def _fetched(
    document: Mapping[str, Any], volumes: Volumes | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document of an attribution without its volume, and the fields that this gives."""
    rest = {key: item for key, item in document.items() if key not in _VOXELS}
    key = rest.pop(_VOLUME, None)
    if volumes is None or not isinstance(key, str):
        raise _wrong(_VOLUME, "the hash of a volume")
    volume = volumes(key)
    return rest, {"values": volume.values, "affine": volume.affine}


def _sequence(
    origin: Any, inner: tuple[Any, ...], document: Any, name: str, volumes: Volumes | None
) -> Any:
    if not isinstance(document, list):
        raise _wrong(name, "a list")
    if origin is tuple and inner[-1] is not Ellipsis:
        if len(document) != len(inner):
            raise _wrong(name, f"a list of {len(inner)}")
        pairs = zip(inner, document, strict=True)
        return tuple(made(kind, item, name, volumes) for kind, item in pairs)
    return origin(made(inner[0], item, name, volumes) for item in document)


def _number_or_text(kind: Any, document: Any, name: str) -> Any:
    if kind is float:
        # What is not finite has become null on the way.
        if document is None:
            return math.nan
        if isinstance(document, (int, float)) and not isinstance(document, bool):
            number = float(document) if abs(document) < 1e308 else math.inf
            if math.isfinite(number):
                return number
    elif isinstance(document, kind) and (kind is bool or not isinstance(document, bool)):
        return document
    raise _wrong(name, _WORDS[kind])


def _wrong(name: str, wanted: str) -> InputError:
    return InputError(ErrorCode.ENGINE_REQUEST, f"'{name}' must be {wanted}.")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        if isinstance(value, Attribution):
            rest = {name: _plain(getattr(value, name)) for name in names if name not in _VOXELS}
            return {**rest, _VOLUME: value.volume.hash}
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _whole(text: str) -> int:
    number = int(text) if len(text) <= _LONGEST_WHOLE else 2**64
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{text[:20]}… has more than 64 bits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} stands for a number as large as infinity")
    return number


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
