"""Fields of JSON files that may be damaged or hostile: each is checked as it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from SaliencyExplain.errors import ErrorCode, InputError

Made = TypeVar("Made")

#: Larger files are not read, and larger whole numbers are refused.
_MOST_BYTES, _MOST = 64 * 1024**2, 2**64
#: Nesting of free values, such as a map's provenance.
_DEEPEST = 32


@dataclass(frozen=True)
class Fields:
    """A JSON object whose fields are checked as they are read.

    Every method raises :class:`InputError` with the code ``SE-STUDY-INCOMPLETE``, the file and
    the field's place in it, such as ``attributions[0].label``, where the field is missing or is
    not of its kind.

    Attributes:
        content: The object.
        file: What it was read from, for messages.
        place: Where it stands in the file; empty for the whole.
    """

    content: Mapping[str, Any]
    file: str
    place: str = ""

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raises the error for a field that is not as expected."""
        raise _damaged(self.file, f"'{self._at(key)}' is not {expected}")

    def text(self, key: str) -> str:
        """A text."""
        value = self._value(key)
        return value if isinstance(value, str) else self.refuse(key, "a text")

    def text_or_none(self, key: str) -> str | None:
        """A text, or null."""
        return self.text(key) if self.nullable(key) else None

    def name(self, key: str) -> str:
        """The name of something in a folder: no path, and nothing outside of the folder."""
        value = self.text(key)
        outside = value in ("", ".", "..") or any(character in value for character in "/\\\0")
        return self.refuse(key, "a plain file name") if outside else value

    def choice(self, key: str, *known: str) -> str:
        """One of these texts."""
        value = self.text(key)
        return value if value in known else self.refuse(key, f"one of {', '.join(known)}")

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._value(key)
        return value if isinstance(value, bool) else self.refuse(key, "true or false")

    def integer(self, key: str, least: int = 0, most: int = _MOST) -> int:
        """A whole number in the range, both ends included."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse(key, f"a whole number of at least {least}")
        return value

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number in the range, both ends included."""
        value = self._value(key)
        if not _is_number(value) or not least <= value <= most:
            limits = "" if math.isinf(least) else f" of at least {least:g}"
            self.refuse(
                key,
                f"a finite number{limits}{'' if math.isinf(most) else f' and {most:g} at most'}",
            )
        return float(value)

    def number_or_none(self, key: str) -> float | None:
        """A finite number, or null."""
        return self.number(key) if self.nullable(key) else None

    def number_or_nan(self, key: str) -> float:
        """A finite number; NaN for null."""
        return self.number(key) if self.nullable(key) else math.nan

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.content.get(key) is not None

    def nullable(self, key: str) -> bool:
        """Whether the field has a value; it may be null, but not missing."""
        return self._value(key) is not None

    def object(self, key: str) -> Fields:
        """An object."""
        value = self._value(key)
        if not isinstance(value, dict):
            self.refuse(key, "an object")
        return Fields(value, self.file, self._at(key))

    def made_or_none(self, key: str, make: Callable[[Fields], Made]) -> Made | None:
        """What is made of an object; None for null."""
        return make(self.object(key)) if self.nullable(key) else None

    def objects(self, key: str) -> list[Fields]:
        """A list of objects."""
        return [self._items(key).object(str(number)) for number in range(len(self._list(key)))]

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        items = self._items(key)
        return tuple(items.text(number) for number in items.content)

    def integers(self, key: str, least: int = 0) -> tuple[int, ...]:
        """A list of whole numbers of at least that size."""
        items = self._items(key)
        return tuple(items.integer(number, least) for number in items.content)

    def numbers(
        self, key: str, least: float = -math.inf, most: float = math.inf
    ) -> tuple[float, ...]:
        """A list of finite numbers in the range."""
        items = self._items(key)
        return tuple(items.number(number, least, most) for number in items.content)

    def numbers_or_nan(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers, with NaN for null."""
        items = self._items(key)
        return tuple(items.number_or_nan(number) for number in items.content)

    def rows_of_numbers(self, key: str) -> tuple[tuple[float, ...], ...]:
        """A list of lists of finite numbers."""
        items = self._items(key)
        return tuple(items.numbers(number) for number in items.content)

    def free(self, key: str) -> Any:
        """Any JSON value whose numbers are finite and whose nesting is not absurd."""
        value = self._value(key)
        for place, depth, inner in _walk(value):
            if depth > _DEEPEST:
                self.refuse(f"{key}{place[:80]}", f"nested at most {_DEEPEST} deep")
            is_number = isinstance(inner, (int, float)) and not isinstance(inner, bool)
            if is_number and not _is_number(inner):
                self.refuse(f"{key}{place}", "a finite number")
        return value

    def free_object(self, key: str) -> dict[str, Any]:
        """An object of any fields, as :meth:`free`."""
        value = self.free(key)
        return value if isinstance(value, dict) else self.refuse(key, "an object")

    def _value(self, key: str) -> Any:
        if key not in self.content:
            raise _damaged(self.file, f"'{self._at(key)}' is missing")
        return self.content[key]

    def _list(self, key: str) -> list[Any]:
        value = self._value(key)
        return value if isinstance(value, list) else self.refuse(key, "a list")

    def _items(self, key: str) -> Fields:
        """The items of a list by their numbers as text."""
        items = {str(number): value for number, value in enumerate(self._list(key))}
        return _Items(items, self.file, self._at(key))

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


class _Items(Fields):
    """The items of a list, whose places have brackets."""

    def _at(self, key: str) -> str:
        return f"{self.place}[{key}]"


def read_object(path: Path) -> Fields:
    """The JSON object of a file.

    Raises:
        InputError: The file is missing, too large, or holds no JSON object.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _damaged(str(path), f"it has more than {_MOST_BYTES // 1024**2} MiB")
        return parse_object(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE, f"{path} is missing; run the study again."
        ) from None
    except OSError as error:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE, f"{path}: cannot be read ({error.strerror})."
        ) from None


def parse_object(content: bytes, file: str) -> Fields:
    """The JSON object in these bytes.

    Args:
        content: UTF-8.
        file: Where they come from, for messages.

    Raises:
        InputError: They are no JSON object.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(file, "it holds no JSON object")
    return Fields(value, file)


def _damaged(file: str, what: str) -> InputError:
    return InputError(
        ErrorCode.STUDY_INCOMPLETE, f"{file} is damaged: {what}; run the study again."
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= _MOST if isinstance(value, int) else math.isfinite(value)


def _walk(value: Any) -> Iterator[tuple[str, int, Any]]:
    """The value and all that is in it, with its place and depth; without recursion."""
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        place, depth, one = waiting.pop()
        yield place, depth, one
        if isinstance(one, dict):
            waiting += [(f"{place}.{key}", depth + 1, inner) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting += [(f"{place}[{n}]", depth + 1, inner) for n, inner in enumerate(one)]
