"""The channels of one input: how many, which, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

_COLOURS = (("r", "g", "b"), ("red", "green", "blue"))


def are_colours(channels: Sequence[str]) -> bool:
    """Whether the channels are the three of a colour picture."""
    return tuple(channel.lower() for channel in channels) in _COLOURS


def order_channels(given: Sequence[str | None], channels: Sequence[str]) -> list[int]:
    """Assigns one of the given images to each channel of a classifier.

    Args:
        given: For each image the channel's name, or None where the order decides.
        channels: The classifier's channels in its order.

    Returns:
        For each channel the index into ``given``.

    Raises:
        InputError: Not as many images as channels, an unknown or doubled name, or only
            some of the images have a name.
    """
    wanted = ", ".join(channels)
    if len(given) != len(channels):
        raise InputError(
            ErrorCode.CHANNELS,
            f"The classifier takes {len(channels)} channel{'s' if len(channels) > 1 else ''} "
            f"({wanted}), and {len(given)} {'were' if len(given) != 1 else 'was'} given.",
        )
    names = [name for name in given if name is not None]
    if not names:
        return list(range(len(channels)))
    if len(names) < len(given):
        raise InputError(
            ErrorCode.CHANNELS,
            f"Give all images a channel name or none of them; channels: {wanted}.",
        )
    places: dict[str, int] = {}
    known = {channel.lower(): channel for channel in channels}
    for place, name in enumerate(names):
        channel = known.get(name.lower())
        if channel is None:
            raise unknown_name("channel", name, channels)
        if channel in places:
            raise InputError(
                ErrorCode.CHANNELS, f"The channel '{channel}' is given twice; channels: {wanted}."
            )
        places[channel] = place
    return [places[channel] for channel in channels]
