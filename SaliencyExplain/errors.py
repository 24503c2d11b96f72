"""The exceptions of the project, each with a message that a user can act on.

A message says which file or name, what is wrong with it and what to do. The
faces (command line, panel, page) print it as it is, in one place each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SaliencyExplainError(Exception):
    """Base of all errors whose message is meant for the user, in one line."""


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
    shown = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    return InputError(f"There is no {kind} '{given}'.{hint} Known: {shown or 'none'}.")
