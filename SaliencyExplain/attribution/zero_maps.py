"""Why a map may be zero everywhere."""

from __future__ import annotations

from SaliencyExplain.attribution.method import Method

#: The likely reason, by the family of the method.
_REASONS = {
    "perturbation": "covering any place leaves the target's output as it is",
    "class activation": "at that layer no feature map speaks for the class, or what speaks for it "
    "is outweighed in each cell",
    "gradient": "the score has no slope at this image: every ReLU on the way is closed, or the "
    "output is saturated",
    "path": "the score has no slope between the baseline and the image, or the two are the same",
    "relevance": "no relevance reaches the image",
    "region": "no region changes the target's output",
    "surrogate": "no region changes the target's output",
    "yardstick": "the image gives it nothing to show",
}


def zero_map_note(method: Method, layer: str, activation: str) -> str:
    """One sentence about a map that is zero everywhere, with the likely reason and what to try.

    Args:
        method: That gave it.
        layer: The map's layer; empty: of none.
        activation: Of the classifier; ``none`` where the network gives probabilities itself.
    """
    advice = "Try another target, or a method of another kind."
    if activation == "none" and (hasattr(method, "output") or method.family == "gradient"):
        advice = (
            "The network gives probabilities itself, which hardly move near 0 or 1: give the "
            "classifier without its own softmax or sigmoid, as a network that returns logits."
        )
    elif getattr(method, "output", "") == "probability":
        advice = (
            "A probability near 0 or 1 hardly moves: try output=score or, where the network ends "
            "in a log-softmax, give it without."
        )
    elif method.family == "class activation":
        advice = "Try another layer, a signed method such as respondcam, or occlusion."
    where = f" of {layer}" if layer else ""
    return f"The map{where} is zero everywhere; likely {_REASONS[method.family]}. {advice}"
