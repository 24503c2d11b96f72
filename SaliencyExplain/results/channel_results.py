"""What each channel contributes, and whether a map lies on what each channel shows."""

from __future__ import annotations

from dataclasses import dataclass

from SaliencyExplain.json_fields import Fields


@dataclass(frozen=True)
class ChannelImportance:
    """The contribution of each channel to the target's probability.

    Attributes:
        channels: Names of the channels.
        values: Shapley value of each, [-1, 1]; their sum is the probability of the image minus
            that of an image in which every channel is replaced.
        whole: Probability of the unchanged image.
        nothing: Probability with every channel replaced.
        fill: Infill of a replaced channel, such as ``mean``.
    """

    channels: tuple[str, ...]
    values: tuple[float, ...]
    whole: float
    nothing: float
    fill: str

    @classmethod
    def from_json(cls, read: Fields) -> ChannelImportance:
        """The importance of a JSON document; raises InputError where it is damaged."""
        channels, values = read.texts("channels"), read.numbers("values")
        if len(channels) != len(values):
            read.refuse("values", f"a list of {len(channels)} numbers")
        return cls(
            channels,
            values,
            read.number("whole"),
            read.number("nothing"),
            read.text("fill"),
        )


@dataclass(frozen=True)
class FeatureImportance:
    """The modality-specific feature importance of a map, or of the maps of all channels.

    Attributes:
        value: MSFI, [0, 1]; NaN if undefined.
        chance: MSFI of a map that is constant in the body.
        per_channel: Whether each channel has its own map; else one map is used for all.
        shares: For each modality the share of its map's positive part on its features, [0, 1].
    """

    value: float
    chance: float
    per_channel: bool
    shares: dict[str, float]

    @classmethod
    def from_json(cls, read: Fields) -> FeatureImportance:
        """The importance of a JSON document; raises InputError where it is damaged."""
        shares = read.object("shares")
        return cls(
            read.number_or_nan("value"),
            read.number_or_nan("chance"),
            read.flag("per_channel"),
            {name: shares.number_or_nan(name) for name in shares.content},
        )

    @property
    def words(self) -> str:
        """The value, the value of a constant map, and the kind of maps."""
        kind = "each channel's own map" if self.per_channel else "one map for all channels"
        return f"MSFI {self.value:.2f} (constant map {self.chance:.2f}; {kind})"
