"""The faithfulness of a map: curves, infidelity and metrics beside null maps, without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from SaliencyExplain.json_fields import Fields
from SaliencyExplain.results.evaluation_results import Metric


@dataclass(frozen=True)
class InformationCurve:
    """A curve for one image and one map.

    Attributes:
        information: Share of the information that is restored, for each share of voxels, [0, 1].
        performance: Share of the probability (or of the correct prediction) that is restored,
            [0, 1], not decreasing.
        area: Area under the curve through these points, (0, 0) and (1, 1), in [0, 1]; NaN for
            an undefined curve.
        remark: Reason for an undefined curve; empty otherwise.
    """

    information: tuple[float, ...]
    performance: tuple[float, ...]
    area: float
    remark: str = ""

    @classmethod
    def from_json(cls, read: Fields) -> InformationCurve:
        """The curve of a JSON document; raises InputError where it is damaged."""
        return cls(
            read.numbers("information", 0, 1),
            read.numbers("performance", 0, 1),
            read.number_or_nan("area"),
            read.text("remark"),
        )


@dataclass(frozen=True)
class MapCurves:
    """The curves of one map.

    Attributes:
        shares: Shares of the voxels, 0 and 1 included, shape (L + 1,).
        deletion: The target's probability with that share of the strongest voxels replaced by
            the baseline (Samek et al. 2017; Petsiuk et al. 2018, RISE, section 4.3).
        insertion: The same with only that share of the strongest voxels put into the baseline.
            At share s the weakest 1 - s are removed.
        softmax_information: The SIC by measure of information; empty if not requested.
        accuracy_information: The AIC by measure of information; empty if not requested.
    """

    shares: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    softmax_information: dict[str, InformationCurve]
    accuracy_information: dict[str, InformationCurve]

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve, [0, 1]; small for a faithful map."""
        return _area(self.deletion, self.shares)

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve, [0, 1]; large for a faithful map."""
        return _area(self.insertion, self.shares)

    @property
    def mean_drop(self) -> float:
        """Mean drop of the probability over the shares of the curve, [-1, 1].

        This differs from the AOPC of Samek et al. 2017 (equation 12), which removes regions in
        many equal steps; here the shares are dense at the start and go up to the whole image.
        """
        return float(np.mean(self.deletion[0] - np.array(self.deletion)))

    def mean_up_to(self, kind: str, share: float) -> float:
        """Mean of the deletion or insertion curve over the shares up to this one, [0, 1].

        Up to 1 it is the area under the curve.
        """
        count = self.shares.index(share) + 1
        curve: tuple[float, ...] = getattr(self, kind)
        return _area(curve[:count], self.shares[:count]) / share

    @classmethod
    def from_json(cls, read: Fields) -> MapCurves:
        """The curves of a JSON document; raises InputError where they are damaged."""
        shares = read.numbers("shares", 0, 1)
        curves = {name: read.numbers(name) for name in ("deletion", "insertion")}
        for name, curve in curves.items():
            if len(curve) != len(shares):
                read.refuse(name, f"a list of {len(shares)} numbers")
        softmax, accuracy = (
            {
                measure: InformationCurve.from_json(read.object(kind).object(measure))
                for measure in read.object(kind).content
            }
            for kind in ("softmax_information", "accuracy_information")
        )
        return cls(shares, curves["deletion"], curves["insertion"], softmax, accuracy)


@dataclass(frozen=True)
class Infidelity:
    """The infidelity of a map.

    Attributes:
        value: Mean squared difference between the target's drop and the sum of the scaled map over
            the box; squared probability, at least 0.
        share: ``value`` divided by the mean squared drop, [0, 1]. 0: the map predicts every drop;
            1: no better than a map of zeros; NaN if no box changes the probability.
        scale: Factor of the map, at least 0, probability per unit of the map's sum over a box.
        remark: Reason for an undefined share; empty otherwise.
    """

    value: float
    share: float
    scale: float
    remark: str = ""

    @classmethod
    def from_json(cls, read: Fields) -> Infidelity:
        """The infidelity of a JSON document; raises InputError where it is damaged."""
        return cls(
            read.number_or_nan("value"),
            read.number_or_nan("share"),
            read.number_or_nan("scale"),
            read.text("remark"),
        )


@dataclass(frozen=True)
class PartialImageProbabilities:
    """The target's probabilities that stand under the pictures of partly removed images.

    Attributes:
        shares: Shares of the voxels, [0, 1].
        deletion: With that share of the strongest voxels deleted.
        insertion: With them alone inserted.
        random_deletion: The same with the order of a null map.
        random_insertion: The same with the order of a null map.
    """

    shares: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    random_deletion: tuple[float, ...]
    random_insertion: tuple[float, ...]

    @classmethod
    def from_json(cls, read: Fields) -> PartialImageProbabilities:
        """The probabilities of a JSON document; raises InputError where they are damaged."""
        return cls(*(read.numbers(field.name) for field in dataclasses.fields(cls)))


@dataclass(frozen=True)
class Faithfulness:
    """How faithful a map is to the classifier.

    Attributes:
        curves: The map's own.
        metrics: Its metrics, each beside those of the null maps.
        null_deletion: 5th percentile, median and 95th percentile of the null maps'
            deletion curves, three tuples as long as ``curves.shares``.
        null_insertion: The same of the insertion curves.
        ranked: Share of the voxels, one of the curves', up to which the map ranks them: a mask
            ranks its own before the rest, and among the rest it says nothing.
        baseline: What stood where voxels were taken away, in words.
        infidelity: The map's own, with its scale.
        boxes: What was taken away for the infidelity, in words.
        partial_images: The probabilities under the pictures of partly removed images.
    """

    curves: MapCurves
    metrics: tuple[Metric, ...]
    null_deletion: tuple[tuple[float, ...], ...]
    null_insertion: tuple[tuple[float, ...], ...]
    ranked: float
    baseline: str
    infidelity: Infidelity
    boxes: str
    partial_images: PartialImageProbabilities

    def metric(self, name: str) -> Metric:
        """The metric of that name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def as_json(self) -> dict[str, Any]:
        """As JSON, with the mean drop."""
        document = dataclasses.asdict(self)
        document["curves"]["mean_drop"] = self.curves.mean_drop
        return document

    @classmethod
    def from_json(cls, read: Fields) -> Faithfulness:
        """What :meth:`as_json` wrote; raises InputError where it is damaged."""
        curves = MapCurves.from_json(read.object("curves"))
        return cls(
            curves=curves,
            metrics=tuple(Metric.from_json(one) for one in read.objects("metrics")),
            null_deletion=_band(read, "null_deletion", len(curves.shares)),
            null_insertion=_band(read, "null_insertion", len(curves.shares)),
            ranked=read.number("ranked", 0, 1),
            baseline=read.text("baseline"),
            infidelity=Infidelity.from_json(read.object("infidelity")),
            boxes=read.text("boxes"),
            partial_images=PartialImageProbabilities.from_json(read.object("partial_images")),
        )


def _band(read: Fields, key: str, length: int) -> tuple[tuple[float, ...], ...]:
    band = read.rows_of_numbers(key)
    if len(band) != 3 or any(len(curve) != length for curve in band):
        read.refuse(key, f"three lists of {length} numbers")
    return band


def _area(ys: Sequence[float], xs: Sequence[float]) -> float:
    """The area under straight lines between points, as ``scipy.integrate.trapezoid``."""
    heights = np.asarray(ys, dtype=np.float64)
    return float((np.diff(xs) * (heights[1:] + heights[:-1]) / 2.0).sum())
