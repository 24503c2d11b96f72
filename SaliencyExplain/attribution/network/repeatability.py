"""Tests whether an image gets the same score alone, in a batch and twice in a row.

A map is made of differences between scores. If a score depends on what else is in the batch
(batch normalisation without running statistics, ``x / x.max()``), on the passes before (a
buffer that a pass updates) or on chance (``F.dropout`` that eval mode does not switch off), the
map shows that instead of the image. This is tested once for each network.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.half_precision import SeenHalves, half_weights, in_float32
from SaliencyExplain.attribution.network.network_state import Place, Repeatability, Snapshot
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.plain_text import some_of

#: Difference of scores, in their largest size, that rounding explains.
_ROUNDING = 1e-4

#: The same where one of them was computed in half precision.
_ROUNDING_OF_HALVES = 0.1

#: What a network raises that takes one image at a time; methods find that out as they run.
_FAILURES = (
    *(RuntimeError, ValueError, TypeError, LookupError, AssertionError),
    *(MemoryError, ClassifierError),
)

#: Changed attributes that a note names.
_NAMED = 3


def examine(network: ScoreNetwork, image: Tensor, name: str = "") -> None:
    """Tests, once for each network, what its scores depend on besides the image.

    Takes forward passes of four images: the image, another one made of it, and both as a batch.
    Afterwards :meth:`ScoreNetwork.forward` does what is necessary, and the network is as it was.

    Args:
        network: On the image's device.
        image: A prepared image, ``(1, C, *S)``.
        name: Of the classifier, for the refusal.

    Raises:
        ClassifierError: The network gives the same image different scores.
        RuntimeError: Whatever the network raises on the image.
    """
    if network.examined:
        return
    lazy = [key for key, one in network.network.named_parameters() if is_lazy(one)]
    if lazy:
        raise ClassifierError(
            ErrorCode.MODEL_INPUT,
            f"The parameters '{lazy[0]}' and the like are not initialised (lazy layers have none "
            "before they see an image): run the network once and load its trained weights before "
            "it is explained.",
        )
    with untouched(network), torch.no_grad():
        _Examination(network, plain(image)[:1], name or type(network.network).__name__).run()
    network.examined = True


@dataclass
class _Examination:
    network: ScoreNetwork
    image: Tensor
    name: str

    def run(self) -> None:
        half = half_weights(self.network.network) or self._examine(look=True)
        if half is not None:
            self._raise_precision(half)
            self._examine(look=False)
        self._tell()

    def _examine(self, *, look: bool) -> torch.dtype | None:
        """Finds out all else; with ``look`` ends where the network computes in half precision."""
        snapshot = Snapshot(self.network.network)
        try:
            with SeenHalves() as seen:
                first = self.network(self.image)
            if look and seen.dtype is not None:
                return seen.dtype
            changing = snapshot.changed()
            if changing:
                drifts = not _is_same(first, self.network(self.image))
                snapshot.restore()
                self._keep(changing, drifts=drifts)
            self._compare(first)
            self._keep(snapshot.changed(), drifts=self.network.repeatability.drifts)
        finally:
            snapshot.restore()
        return None

    def _raise_precision(self, half: torch.dtype) -> None:
        """Computes in float32 where that gives the same scores but for rounding."""
        name = str(half).removeprefix("torch.")
        given, known = self.network.network, self.network.repeatability
        try:
            expected = self._scores_of(given, known)
        except _FAILURES:
            expected = None  # it takes no float32 image
        twin = in_float32(given)
        note = (
            f"{self.name} computes in {name}, whose rounding may be as large as the effect of an "
            "occlusion window: maps of small effects may show rounding."
        )
        if twin is not None:
            try:
                found = self._scores_of(twin, dataclasses.replace(known, float32=True))
            except _FAILURES:
                found = None
            alike = found is not None and (
                expected is None or _is_same(found, expected, _ROUNDING_OF_HALVES)
            )
            if alike:
                note = (
                    f"{self.name} is built for {name}, whose rounding is as large as the effect of "
                    "an occlusion window. It was computed in float32 with the same weights."
                )
                self.network.network = twin
                known = dataclasses.replace(known, float32=True)
        self.network.repeatability = dataclasses.replace(known, notes=(note,))

    def _scores_of(self, network: nn.Module, known: Repeatability) -> Tensor:
        """Scores of the image by a network in the place of the wrapped one, for this pass."""
        before = self.network.network, self.network.repeatability
        snapshot = Snapshot(network)
        try:
            self.network.network, self.network.repeatability = network, known
            return self.network(self.image)
        finally:
            self.network.network, self.network.repeatability = before
            snapshot.restore()

    def _keep(self, changing: tuple[Place, ...], *, drifts: bool) -> None:
        """Restores these after each pass; counters only if the scores depend on earlier passes."""
        known = self.network.repeatability
        titles = {place.title for place in known.changing}
        new = tuple(
            place
            for place in changing
            if place.title not in titles and (drifts or not place.counts)
        )
        self.network.repeatability = dataclasses.replace(
            known, changing=known.changing + new, drifts=drifts
        )

    def _compare(self, first: Tensor) -> None:
        """Compares scores alone and in a batch; if they differ, tests for random scores."""
        alone, together = self._scores(first)
        if _is_same(alone, together):
            return
        again = self.network(self.image)
        if not _is_same(first, again):
            raise self._not_repeatable(first[0], again[0])
        self.network.repeatability = dataclasses.replace(
            self.network.repeatability, one_at_a_time=True
        )

    def _scores(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of images alone, and the same in a batch, or again where no batch runs."""
        other = _other(self.image)
        try:
            alone = torch.cat([first, self.network(other)])
            return alone, self.network(torch.cat([self.image, other]))
        except _FAILURES:
            # Made for one image at a time, or the memory does not hold two.
            pass
        return first, self.network(self.image)

    def _not_repeatable(self, first: Tensor, again: Tensor) -> ClassifierError:
        place = int((first - again).abs().argmax())
        return ClassifierError(
            ErrorCode.MODEL_NOT_REPEATABLE,
            f"{self.name}: it returns different scores for the same image: "
            f"{float(first[place]):.4g}, then {float(again[place]):.4g} for class {place}. Its "
            "forward pass draws random numbers or stores earlier images, so a map would show "
            "noise. Switch this off in eval mode: F.dropout(x, training=self.training).",
        )

    def _tell(self) -> None:
        known = self.network.repeatability
        notes = list(known.notes)
        if known.one_at_a_time:
            notes.append(
                f"The score of an image from {self.name} depends on the other images of its batch "
                "(batch normalisation without running statistics, or a mean or maximum over the "
                "batch). All images were computed one at a time."
            )
        if known.drifts:
            titles = some_of([place.title for place in known.changing], _NAMED)
            notes.append(
                f"Each forward pass of {self.name} changes '{titles}', "
                "and with it the score of the next image. Each pass started from the network's "
                "original state."
            )
        self.network.repeatability = dataclasses.replace(known, notes=tuple(notes))


def _other(image: Tensor) -> Tensor:
    """An image of the same kind with other values in every place, within the image's range.

    Mirrored and with half of the contrast: mean, deviation and maximum are others, and all values
    stay in the range of the image.
    """
    low = image.amin()
    return low + (image.flip(-1) - low) / 2


def _is_same(one: Tensor, other: Tensor, rounding: float = _ROUNDING) -> bool:
    """Whether scores ``(B, K)`` are the same but for rounding."""
    one, other = one.double(), other.double()
    if bool((torch.isfinite(one) != torch.isfinite(other)).any()):
        return False
    difference = torch.nan_to_num((one - other).abs(), nan=0.0).max()
    size = torch.nan_to_num(torch.cat([one, other]).abs(), nan=0.0, posinf=0.0).max()
    return bool(difference <= rounding * size)
