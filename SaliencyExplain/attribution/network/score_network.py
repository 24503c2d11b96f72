"""A network seen as a function from an image to one score per class."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.convolutions import frozen_convolutions
from SaliencyExplain.attribution.network.half_precision import Float32
from SaliencyExplain.attribution.network.network_outputs import is_scores, scores_in
from SaliencyExplain.attribution.network.network_state import REPEATABLE, Repeatability, as_given
from SaliencyExplain.attribution.network.score_combination import ScoreCombination
from SaliencyExplain.confinement import confined, is_confined
from SaliencyExplain.errors import ClassifierError, ErrorCode, unknown_name
from SaliencyExplain.specification.target import LOGIT, PROBABILITY

Activation = Literal["softmax", "sigmoid", "none"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class ScoreNetwork(nn.Module):
    """Gives any classification network one form: ``(B, C, *S) -> (B, K)`` scores.

    A network with one logit z for two classes gives the scores ``[-z, z]`` with a sigmoid
    activation, so that both classes have a probability and a gradient; one that gives the
    probability p of the second class itself gives ``[1 - p, p]`` with the activation none.

    With a ``combination`` the scores and probabilities have one more column, the last one: see
    :meth:`with_combination`.

    Attributes:
        network: The wrapped network; layer names are relative to it.
        activation: What turns scores into probabilities: ``softmax`` over the
            classes, ``sigmoid`` for each class, ``none`` where the network
            returns probabilities already.
        one_logit: Whether the network has a single output for two classes.
        output: Path of the class scores in what the network returns, as
            :func:`~SaliencyExplain.attribution.network.network_outputs.outputs_by_path` has it;
            None where it returns nothing else of their shape.
        independent: Whether several classes may be true at once, each with a probability of
            its own.
        examined: Whether ``repeatability`` is known
            (:func:`SaliencyExplain.attribution.network.repeatability.examine`).
        repeatability: What has to be done so that a score belongs to its image alone.
        confined: Whether the network is untrusted, so that files and addresses are closed to it
            while it runs.
        combination: The target that is given as a further column; None: no such column.
        structures: Where its feature maps are, for each shape of images; names and numbers only,
            so that copies with other weights take it along.
    """

    def __init__(
        self,
        network: nn.Module,
        activation: Activation = "softmax",
        *,
        one_logit: bool = False,
        output: str | None = None,
        independent: bool = False,
        confined: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.activation: Activation = (
            "sigmoid" if one_logit and activation == "softmax" else activation
        )
        self.one_logit = one_logit
        self.output = output
        self.independent = independent or (self.activation == "sigmoid" and not one_logit)
        self.confined = confined
        self.combination: ScoreCombination | None = None
        self.examined = False
        self.repeatability: Repeatability = REPEATABLE
        self.structures: dict[Any, Any] = {}

    def with_combination(self, combination: ScoreCombination) -> ScoreNetwork:
        """The same network, not a copy of it, with a further column for this target."""
        network = copy.copy(self)
        network.combination = combination
        return network

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the activation, shape ``(B, K)``.

        Outside of training the score of an image depends on that image alone, as far as the
        network was examined, and images and network stay as they are: the network gets a copy
        of the images, since some scale their input in place.

        Raises:
            ClassifierError: The network does not return one score per class.
        """
        with self.closed():
            return self._forward(images)

    def _forward(self, images: Tensor) -> Tensor:
        if self.network.training:
            with frozen_convolutions(self.network, images):
                return self._scores(self.network(images), len(images))
        if self.repeatability.one_at_a_time and len(images) > 1:
            return torch.cat([self._pass(image) for image in images.split(1)])
        return self._pass(images)

    def closed(self) -> AbstractContextManager[None]:
        """The context in which the network's code runs: none for a trusted network."""
        return confined("The model") if self.confined and not is_confined() else nullcontext()

    def _pass(self, images: Tensor) -> Tensor:
        given = as_given(self.network, self.repeatability.changing)
        precise: AbstractContextManager[Any] = (
            Float32() if self.repeatability.float32 else nullcontext()
        )
        with given, precise, frozen_convolutions(self.network, images):
            return self._scores(self.network(images.clone()), len(images))

    def _scores(self, returned: Any, count: int) -> Tensor:
        return self.checked(scores_in(returned, self.output), count)

    def checked(self, scores: Any, count: int) -> Tensor:
        """Scores ``(B, K)`` from the output of the wrapped network for ``count`` images.

        Raises:
            ClassifierError: It is not one score per class.
        """
        if isinstance(scores, Tensor):
            if self.one_logit and scores.numel() == count and scores.ndim < 2:
                scores = scores.reshape(count, 1)
            elif is_scores(scores):
                scores = scores.flatten(1)
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != count:
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ClassifierError(
                ErrorCode.MODEL_OUTPUT,
                f"The network is not a classifier: for a batch of {count} it returns "
                f"{shape}, not one score per class (batch, classes).",
            )
        if self.one_logit:
            other = 1 - scores if self.activation == "none" else -scores
            scores = torch.cat([other, scores], dim=1)
        if self.combination is None:
            return scores
        watched = scores
        if self.combination.unit == PROBABILITY:
            watched = self._activated(scores).to(scores.dtype)
        return torch.cat([scores, self.combination.of(watched)], dim=1)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turns scores ``(B, K)`` into probabilities ``(B, K)`` in [0, 1], in float64.

        In float32 those of a confident classifier would be 1, whatever is covered. The further
        column of a combination is in its own unit.
        """
        if self.combination is None:
            return self._activated(scores)
        of_classes = self.class_scores(scores)
        found = self._activated(of_classes)
        logits = self.combination.unit == LOGIT
        further = self.combination.of(of_classes.double() if logits else found)
        return torch.cat([found, further], dim=1)

    def class_scores(self, scores: Tensor) -> Tensor:
        """The scores without the further column of a combination."""
        return scores if self.combination is None else scores[:, :-1]

    def target_weights(self, target: int, classes: int) -> tuple[tuple[int, float], ...]:
        """The classes whose scores, each multiplied by its factor, add up to a column.

        Args:
            target: Index of the column.
            classes: How many classes there are.
        """
        if self.combination is None or target < classes:
            return ((target, 1.0),)
        return self.combination.weights

    def _activated(self, scores: Tensor) -> Tensor:
        scores = scores.double()
        if self.activation == "softmax":
            return scores.softmax(dim=1)
        if self.activation == "sigmoid":
            return scores.sigmoid()
        return scores

    def layer(self, name: str) -> nn.Module:
        """The layer of that name, as ``network.named_modules()`` names it.

        Raises:
            InputError: No layer has that name; the message has the nearest one.
        """
        try:
            # The network itself has no name.
            layer = self.network.get_submodule(name) if name else None
        except AttributeError:
            layer = None
        if layer is None:
            known = [key for key, _ in self.network.named_modules() if key]
            raise unknown_name("layer", name, known)
        return layer

    def convolutions(self) -> list[str]:
        """Names of the convolution layers in the order of their definition."""
        return [n for n, m in self.network.named_modules() if isinstance(m, CONVOLUTIONS)]
