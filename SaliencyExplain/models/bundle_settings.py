"""The settings that a bundle was made with, and their sources: given, guessed or measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.plain_text import visible_line

#: Key of the settings in a bundle's metadata.json.
KEY = "model_settings"

_LONGEST = 2000

#: The sources of a setting, each with its meaning.
SOURCES = {
    "given": "given by the author of the bundle",
    "preset": "what the named library's own code does",
    "guessed": "not given and not checked: the usual value was used",
    "tried": "found by running the network on synthetic images",
    "checked": "compared with known predictions",
    "unchecked": "nobody has compared a prediction with a known one",
    "trained": "what the network was trained with here",
}


@dataclass(frozen=True)
class Setting:
    """A setting on which the predictions depend.

    Attributes:
        name: Such as ``orientation``.
        value: In words.
        source: One of :data:`SOURCES`.
    """

    name: str
    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.value} ({self.source})"


def read_settings(content: Any) -> tuple[Setting, ...]:
    """The settings in a metadata.json; entries of another form are left out."""
    found = content.get(KEY) if isinstance(content, dict) else None
    return tuple(
        Setting(_line(one["name"]), _line(one["value"]), one["source"])
        for one in (found if isinstance(found, list) else ())
        if isinstance(one, dict)
        and {"name", "value"} <= set(one)
        and isinstance(one.get("source"), str)
        and one["source"] in SOURCES
    )


def _line(value: Any) -> str:
    """A text out of a file, as it may be shown."""
    return visible_line(str(value)[:_LONGEST])


def by_name(settings: Iterable[Setting]) -> dict[str, str]:
    """Each setting's value and source in words, by its name."""
    return {setting.name: str(setting) for setting in settings}
