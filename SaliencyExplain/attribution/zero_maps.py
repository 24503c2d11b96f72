"""Why a map may be zero everywhere."""

from __future__ import annotations

from SaliencyExplain.attribution.method import Method

#: The likely reason, by the family of the method.
_REASONS = {
    "perturbation": "replacing any part of the image leaves the target's output unchanged",
    "class activation": "no feature map of that layer supports the class, or others outweigh it "
    "in every cell",
    "gradient": "the gradient of the score is zero at this image: every ReLU on the path is "
    "inactive, or the output is saturated",
    "path": (
        "the gradient of the score is zero between the baseline and the image, or the two are equal"
    ),
    "relevance": "no relevance reaches the image",
    "region": "no region changes the target's output",
    "surrogate": "no region changes the target's output",
    "control": "the image has no voxel to mark",
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
            "The network returns probabilities, which hardly change near 0 or 1: use the network "
            "without its own softmax or sigmoid, so that it returns logits."
        )
    elif getattr(method, "output", "") == "probability":
        advice = (
            "A probability near 0 or 1 hardly changes: try output=score or, if the network ends "
            "in a log-softmax, use it without."
        )
    elif method.family == "class activation":
        advice = "Try another layer, a signed method such as respondcam, or occlusion."
    where = f" of {layer}" if layer else ""
    return f"The map{where} is zero everywhere; likely {_REASONS[method.family]}. {advice}"
