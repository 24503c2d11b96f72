"""Text of strangers (file names, tags, labels) as it may be shown: nothing in it acts."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What moves a cursor, colours, hides or reorders text: the control characters C0 (but for the
#: line break and the tab) and C1, marks of direction, separators of lines, characters
#: without width (but for the joiners, which scripts need), and halves of characters, which file
#: names may hold and no output can encode.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The text with every character that acts rather than shows as an escape: ``\x1b``.

    Terminals obey escape sequences and carriage returns, and both they and browsers turn the
    order of letters around at a U+202E, so that ``gpj.exe`` reads ``exe.jpg``.

    Args:
        text: Any text.

    Returns:
        The same text where it has none of these; line breaks and tabs stay.
    """
    return _ACTING.sub(_escape, text)


def visible_line(text: str) -> str:
    """As :func:`visible`, in one line: line breaks and tabs become spaces."""
    return visible(" ".join(text.split()))


def some_of(names: Sequence[str], most: int, *, counted: bool = False) -> str:
    """The first of many names, in one line: ``a, b, …``, or ``a, b and 5 more`` where counted."""
    left = len(names) - most
    more = (f" and {left} more" if counted else ", …") if left > 0 else ""
    return ", ".join(names[:most]) + more


def json_escaped(text: str) -> str:
    r"""A JSON document with these characters as JSON's own escapes: it reads back the same."""
    return _ACTING.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    # JSON has escaped the line break and the like inside of texts; outside they may stay.
    units = found[0].encode("utf-16-be", errors="surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high << 8 | low:04x}" for high, low in pairs)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
