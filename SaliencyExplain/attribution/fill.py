"""What stands in the place of what is removed from an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from SaliencyExplain.errors import unknown_name

if TYPE_CHECKING:  # the command line names the fills without loading torch
    from torch import Tensor

#: The ways to fill a place, as ``fill`` names them.
FILLS = ("mean", "minimum", "window-mean", "value")


def fill_values(image: Tensor, fill: str, value: float = 0.0) -> Tensor | None:
    """The constant of each channel that replaces what is removed.

    Args:
        image: ``(1, C, *S)``.
        fill: The image's ``mean`` or ``minimum`` per channel, the removed place's own mean
            (``window-mean``), or ``value``.
        value: The constant for ``fill="value"``, in the units of the prepared input.

    Returns:
        ``(C, 1, ...)``; None: the place's own mean.

    Raises:
        InputError: There is no such fill.
    """
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    if fill == "window-mean":
        return None
    channels = image[0].flatten(1)
    if fill == "mean":
        values = channels.mean(dim=1)
    elif fill == "minimum":
        values = channels.amin(dim=1)
    else:
        values = channels.new_full((len(channels),), value)
    return values.reshape(-1, *[1] * (image.ndim - 2))
