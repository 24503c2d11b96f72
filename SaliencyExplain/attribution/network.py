"""A network seen as a function from an image to one score per class."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.convolutions import frozen_convolutions
from SaliencyExplain.errors import ClassifierError, ErrorCode, unknown_name

Activation = Literal["softmax", "sigmoid", "none"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class ScoreNetwork(nn.Module):
    """Gives any classification network one form: ``(B, C, *S) -> (B, K)`` scores.

    Networks that return a tuple (MONAI's ViT) give its first element. A network
    with one logit z for two classes gives the scores ``[-z, z]`` with a sigmoid
    activation, so that both classes have a probability and a gradient.

    Attributes:
        network: The wrapped network; layer names are relative to it.
        activation: What turns scores into probabilities: ``softmax`` over the
            classes, ``sigmoid`` for each class, ``none`` where the network
            returns probabilities already.
        one_logit: Whether the network has a single logit for two classes.
    """

    def __init__(
        self, network: nn.Module, activation: Activation = "softmax", *, one_logit: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.activation: Activation = "sigmoid" if one_logit else activation
        self.one_logit = one_logit

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the activation, shape ``(B, K)``.

        The network gets a copy of the images: some scale their input in place.

        Raises:
            ClassifierError: The network does not return one score per class.
        """
        with frozen_convolutions(self.network, images):
            return self.checked(self.network(images.clone()), len(images))

    def checked(self, scores: Any, count: int) -> Tensor:
        """Scores ``(B, K)`` from what the wrapped network returns for ``count`` images.

        Raises:
            ClassifierError: It is not one score per class.
        """
        if isinstance(scores, (tuple, list)):
            scores = scores[0]
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != count:
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ClassifierError(
                ErrorCode.MODEL_OUTPUT,
                f"The network is not a classifier: for a batch of {count} it returns "
                f"{shape}, not one score per class (batch, classes).",
            )
        if self.one_logit:
            scores = torch.cat([-scores, scores], dim=1)
        return scores

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turns scores ``(B, K)`` into probabilities ``(B, K)`` in [0, 1]."""
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
