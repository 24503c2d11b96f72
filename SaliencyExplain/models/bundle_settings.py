"""What a bundle was made with: which of it was told, which was guessed, which was tried."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.plain_text import visible_line

#: Key of the settings in a bundle's metadata.json.
KEY = "wrap_settings"

_LONGEST = 2000

#: Where a setting is from, with what that means.
SOURCES = {
    "given": "said by whoever made the bundle",
    "guessed": "not said and not checked: the usual value was taken",
    "tried": "found by running the network on made images",
    "trained": "what the network was trained with here",
}


@dataclass(frozen=True)
class Setting:
    """One thing that a prediction depends on.

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
    """The settings in a metadata.json; what is not of their form is left out."""
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
