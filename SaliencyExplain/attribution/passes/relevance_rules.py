"""The rules of layer-wise relevance propagation: how a layer distributes relevance to its inputs.

Each rule shares a cell's relevance among its inputs by what they contributed to it. Written
after Montavon et al., "Layer-Wise Relevance Propagation: An Overview" (2019), chapter 10, for
inputs of either sign. What biases contribute is kept by them under the epsilon rule, and left
out by all others, which so conserve relevance wherever a cell has contributions to share by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from SaliencyExplain.attribution.passes.propagation import vjp

#: A linear layer without its bias: of its input and its weight.
Apply = Callable[[Tensor, Tensor], Tensor]

#: Added to every denominator, with its sign.
STABILISER = 1e-6

_GAMMA = 0.25


@dataclass(frozen=True)
class LinearLayer:
    """A convolution or dense layer, with a normalisation that follows folded in.

    Attributes:
        apply: The layer without its bias.
        weight: Its weight.
        bias: Its bias, of a shape that can be added to the output; None: it has none.
        low: Least value of its input per channel, where that is the image itself.
        high: Largest one.
    """

    apply: Apply
    weight: Tensor
    bias: Tensor | None
    low: Tensor | None = None
    high: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """The layer's output."""
        output = self.apply(values, self.weight)
        return output if self.bias is None else output + self.bias

    def share(
        self,
        relevance: Tensor,
        parts: Sequence[tuple[Tensor, Tensor]],
        bias: Tensor | None = None,
        stabiliser: float = STABILISER,
    ) -> Tensor:
        """Relevance of the inputs, by what each of them contributes in these parts.

        Args:
            relevance: Of the outputs.
            parts: Inputs and weights whose products are the contributions.
            bias: What contributes beside them, and keeps its share.
            stabiliser: Added to the size of the denominator.
        """
        total = sum((self.apply(x, w) for x, w in parts), torch.zeros_like(relevance))
        if bias is not None:
            total = total + bias
        each = relevance / stabilised(total, stabiliser)
        shares = [x * vjp(lambda v, w=w: self.apply(v, w), x, each) for x, w in parts]
        return torch.stack(shares).sum(0) if len(shares) > 1 else shares[0]


#: From a layer, the relevance of its output, its input and its output to its input's relevance.
Rule = Callable[[LinearLayer, Tensor, Tensor, Tensor], Tensor]


def stabilised(values: Tensor, stabiliser: float = STABILISER) -> Tensor:
    """Denominators that are nowhere 0."""
    return values + torch.where(values >= 0, stabiliser, -stabiliser)


def epsilon(stabiliser: float) -> Rule:
    """LRP-epsilon (Bach et al. 2015, equation 58): all contributions, the bias's too."""

    def rule(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
        return layer.share(relevance, [(values, layer.weight)], layer.bias, stabiliser)

    return rule


def epsilon_with_bias(stabiliser: float) -> Rule:
    """LRP-epsilon whose biases hand their share on, to the inputs by the size of what they add.

    As the ``bias_factor`` of the LRP toolbox (Lapuschkin et al. 2016), which shares equally: the
    inputs' relevance adds up to the outputs', and so has their sign. The bias of a last layer can
    be larger than its score, and what is left without it then has the other sign.
    """

    def rule(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
        found = layer.share(relevance, [(values, layer.weight)], layer.bias, stabiliser)
        if layer.bias is None:
            return found
        kept = relevance * layer.bias / stabilised(layer(values), stabiliser)
        return found + layer.share(kept, [(values.abs(), layer.weight.abs())])

    return rule


def plus(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
    """LRP z-plus, which is alpha 1, beta 0: positive contributions alone."""
    return layer.share(relevance, _parts(layer, values, positive=True))


def alpha2_beta1(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
    """LRP alpha 2, beta 1 (Bach et al. 2015, equation 60)."""
    speaking = layer.share(relevance, _parts(layer, values, positive=True))
    against = layer.share(relevance, _parts(layer, values, positive=False))
    return 2 * speaking - against


def gamma(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
    """LRP-gamma with 0.25, for inputs of either sign as in Andéol et al. 2021."""
    speaks = output > 0
    more = layer.weight + _GAMMA * layer.weight.clamp(min=0)
    less = layer.weight + _GAMMA * layer.weight.clamp(max=0)
    up, down = values.clamp(min=0), values.clamp(max=0)
    return layer.share(relevance * speaks, [(up, more), (down, less)]) + layer.share(
        relevance * ~speaks, [(up, less), (down, more)]
    )


def flat(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
    """Each input of a cell alike (Bach et al. 2016): for the first layer."""
    return layer.share(relevance, [(torch.ones_like(values), torch.ones_like(layer.weight))])


def box(layer: LinearLayer, relevance: Tensor, values: Tensor, output: Tensor) -> Tensor:
    """LRP z-B (Montavon et al. 2017): for a first layer whose input is bounded."""
    assert layer.low is not None
    assert layer.high is not None
    low, high = layer.low.expand_as(values), layer.high.expand_as(values)
    parts = [
        (values, layer.weight),
        (low, -layer.weight.clamp(min=0)),
        (high, -layer.weight.clamp(max=0)),
    ]
    return layer.share(relevance, parts)


def proportional(
    function: Callable[[Tensor], Tensor], relevance: Tensor, values: Tensor, output: Tensor
) -> Tensor:
    """Shares by contribution to a mean or a sum, which has no weights."""
    return values * vjp(function, values, relevance / stabilised(output))


@dataclass(frozen=True)
class Composite:
    """Which rule each layer gets.

    Attributes:
        convolution: For convolutions.
        dense: For dense layers; None: epsilon.
        first: For the layers that see the image itself.
        shares_bias: Whether the epsilon of dense layers shares their biases among the inputs.
        contrast: Whether the target's score less the mean of the other classes' is handed down
            where the classes exclude each other, not the score itself: a softmax stays the same
            when the same number is added to all scores, so that a score's own sign says nothing.
    """

    convolution: Rule | None
    dense: Rule | None
    first: Rule | None
    shares_bias: bool = False
    contrast: bool = False


#: By name: None stands for epsilon.
COMPOSITES = {
    "stable": Composite(plus, None, flat, shares_bias=True, contrast=True),
    "epsilon-plus-flat": Composite(plus, None, flat),
    "epsilon-plus": Composite(plus, None, plus),
    "alpha2-beta1-flat": Composite(alpha2_beta1, None, flat),
    "gamma-box": Composite(gamma, None, box),
    "deep-taylor": Composite(plus, plus, box),
    "epsilon": Composite(None, None, None),
}


def _parts(layer: LinearLayer, values: Tensor, *, positive: bool) -> list[tuple[Tensor, Tensor]]:
    """Inputs and weights whose products are positive, or negative."""
    up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    if not positive:
        up, down = down, up
    parts = [(values.clamp(min=0), up)]
    if bool((values < 0).any()):  # after a ReLU there are none: half of the work
        parts.append((values.clamp(max=0), down))
    return parts
