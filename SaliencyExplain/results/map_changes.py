"""How similar a map stays with random weights and under small changes, without torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from SaliencyExplain.json_fields import Fields


@dataclass(frozen=True)
class Similarity:
    """Metrics of similarity; NaN where one is undefined (a constant map).

    Attributes:
        rank_correlation: Spearman's, of the signed values, [-1, 1].
        rank_correlation_absolute: The same for absolute values. Adebayo et al. 2018 report both,
            because a map that only changes its sign shows the same structure.
        ssim: Structural similarity of the maps, each divided by its largest absolute value,
            [-1, 1]; ``skimage.metrics.structural_similarity``.
        overlap: Share of the strongest tenth that is in the other's strongest tenth (fewer
            voxels if the rest is a plateau); 0.1 for unrelated maps.
    """

    rank_correlation: float
    rank_correlation_absolute: float
    ssim: float
    overlap: float

    @classmethod
    def from_json(cls, read: Fields) -> Similarity:
        """The similarity of a JSON document; raises InputError where it is damaged."""
        return cls(*(read.number_or_nan(field.name) for field in dataclasses.fields(cls)))

    @property
    def alike(self) -> float:
        """The larger of the two rank correlations in size: whether the picture is the same."""
        return float(np.fmax(abs(self.rank_correlation), self.rank_correlation_absolute))


#: Stages from which on the last but one says what the first layers alone give.
_STAGES_THAT_TELL = 3

#: Change of the scores, as a share of the largest, up to which they are the same: what the
#: order of a sum in float32 changes in a deep network.
LEAST_CHANGE = 1e-5


@dataclass(frozen=True)
class Randomised:
    """A map of a network with random weights, compared with the map of the trained one.

    Attributes:
        layers: Names of the random layers for display.
        kind: ``cascading``: these layers and all after them; ``independent``: these alone;
            ``all``: every weight, in another draw.
        probability: The target's probability from the random network.
        output_change: By how much the scores of the classes differ from the trained network's at
            most, over the largest of these in size; 0 where randomising changed nothing.
        similarity: How alike the two maps are; NaN metrics where the random network's map is
            constant.
    """

    layers: str
    kind: str
    probability: float
    output_change: float
    similarity: Similarity

    @classmethod
    def from_json(cls, read: Fields) -> Randomised:
        """The comparison of a JSON document; raises InputError where it is damaged."""
        return cls(
            read.text("layers"),
            read.choice("kind", "cascading", "independent", "all"),
            read.number("probability"),
            read.number_or_nan("output_change"),
            Similarity.from_json(read.object("similarity")),
        )


@dataclass(frozen=True)
class Sanity:
    """The effect of randomised weights on a map.

    Attributes:
        cascading: From the last layers to the first; in the last entry all weights are random.
        independent: One random stage at a time, the others trained.
        all_random: All weights random, one entry for each draw.
    """

    cascading: tuple[Randomised, ...]
    independent: tuple[Randomised, ...]
    all_random: tuple[Randomised, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON, with the two numbers that answer the question."""
        return {
            **dataclasses.asdict(self),
            "alike_at_random": self.alike_at_random,
            "alike_but_first": self.alike_but_first,
        }

    @classmethod
    def from_json(cls, read: Fields) -> Sanity:
        """What :meth:`as_json` wrote; raises InputError where it is damaged."""
        cascading, independent, all_random = (
            tuple(Randomised.from_json(one) for one in read.objects(field.name))
            for field in dataclasses.fields(cls)
        )
        return cls(cascading, independent, all_random)

    @property
    def alike_at_random(self) -> float:
        """How alike the map of a random network is: median over the draws, [0, 1].

        By :attr:`Similarity.alike`; 0 where its map is constant, which has nothing of the other.
        """
        found = [one.similarity.alike for one in self.all_random]
        return float(np.median(np.nan_to_num(found, nan=0.0)))

    @property
    def alike_but_first(self) -> float:
        """How alike the map is while only the first layers keep their weights, [0, 1].

        NaN where the cascade has too few stages to tell: those layers know edges, as any
        filter does, and what was learnt about the classes lies behind them.
        """
        if len(self.cascading) < _STAGES_THAT_TELL:
            return math.nan
        return float(np.nan_to_num(self.cascading[-2].similarity.alike, nan=0.0))

    @property
    def outputs_change(self) -> bool:
        """Whether random weights change the network's output in at least one draw.

        They do not if the weights are equal within each parameter, or if the output does not
        depend on them; then a map need not change either.
        """
        return any(one.output_change > LEAST_CHANGE for one in self.all_random)

    @property
    def constant_at_random(self) -> bool:
        """Whether every map of a random network is constant."""
        return all(math.isnan(one.similarity.alike) for one in self.all_random)


@dataclass(frozen=True)
class Change:
    """A map under a change, compared with the unchanged map.

    Attributes:
        kind: ``seed``, ``noise``, ``shift by a voxel``, ``shift by several voxels`` or
            ``worst case``.
        words: Description of the change.
        probability: The target's probability under the change.
        similarity: How alike the maps are, after a shift was taken back.
        sensitivity: Norm of the difference of the maps divided by the norm of the map.
    """

    kind: str
    words: str
    probability: float
    similarity: Similarity
    sensitivity: float

    @classmethod
    def from_json(cls, read: Fields) -> Change:
        """The change of a JSON document; raises InputError where it is damaged."""
        return cls(
            read.text("kind"),
            read.text("words"),
            read.number("probability"),
            Similarity.from_json(read.object("similarity")),
            read.number_or_nan("sensitivity"),
        )


@dataclass(frozen=True)
class Stability:
    """The effect of small changes on a map.

    Attributes:
        changes: All changes; from the search for the worst case only the worst.
        sensitivity_max: Sensitivity over the random changes within the ball, as defined by
            ``captum.metrics.sensitivity_max`` (Yeh et al. 2019, definition 3).
        search: Description of the budget of the search for the worst case.
    """

    changes: tuple[Change, ...]
    sensitivity_max: float
    search: str

    @classmethod
    def from_json(cls, read: Fields) -> Stability:
        """The stability of a JSON document; raises InputError where it is damaged."""
        return cls(
            tuple(Change.from_json(one) for one in read.objects("changes")),
            read.number_or_nan("sensitivity_max"),
            read.text("search"),
        )

    def least(self, *kinds: str) -> float:
        """The lowest rank correlation among the changes of these kinds; NaN without one.

        A map that becomes constant counts as 0.
        """
        found = [
            np.nan_to_num(one.similarity.rank_correlation, nan=0.0)
            for one in self.changes
            if one.kind in kinds
        ]
        return float(min(found, default=math.nan))
