"""Names of cases, classes and layers as parts of file names."""

from __future__ import annotations

import hashlib
import unicodedata

#: Longest file name part in bytes; with a method, a layer and a suffix the whole
#: name stays below the 255 bytes that common file systems allow.
_LONGEST_NAME = 100
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
)
#: What lies beside the cases' folders in a study's output folder.
_OWN_NAMES = frozenset(
    {"journal.jsonl", "report.html", "predictions.csv", "comparison.csv", "failures.csv"}
    | {
        "confusion.csv",
        "evaluation",
        "cases.csv",
        "clicks.csv",
        "explanation.json",
        "evaluation.json",
    }
)


def safe_name(text: str) -> str:
    """Makes a case's, class's or layer's name safe as part of a file name.

    Letters and digits of any script and ``. _ - + @ =`` stay; everything else
    (spaces, slashes, colons, control characters) becomes ``_``. Dots and
    underscores at the ends go, so that no name is hidden or climbs out of its
    folder. Names that Windows keeps for devices, and those of the files and folders that a study
    writes beside its cases, get an underscore. Names over
    100 bytes are cut and end in eight digits of their SHA-256.

    Args:
        text: Any text.

    Returns:
        The name; the same text gives the same name.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(c if c.isalnum() or c in "._-+@=" else "_" for c in text)
    while "__" in name:
        name = name.replace("__", "_")
    name = name.strip("._ ") or "unnamed"
    if name.split(".")[0].strip().lower() in _WINDOWS_DEVICES or name.lower() in _OWN_NAMES:
        name = f"{name}_"
    if len(name.encode()) > _LONGEST_NAME:
        name = with_digest(name, text)
    return name


def with_digest(name: str, text: str) -> str:
    """The name, cut where it is long, with eight digits of a text's SHA-256 behind."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    cut = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{cut}-{digest}"
