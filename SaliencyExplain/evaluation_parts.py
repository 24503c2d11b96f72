"""The parts of an evaluation, what it may cost, and its questions in brief, without torch."""

from __future__ import annotations

PARTS: tuple[str, ...] = ("faithfulness", "sanity", "stability", "agreement", "channels")
"""The parts of an evaluation."""

#: What was found, in the folder that an evaluation was written into.
EVALUATION_FILE = "evaluation.json"

#: Default limit of the forward passes of an evaluation. The full evaluation of a gradient or class
#: activation map in 3D costs about 500, of SmoothGrad with 25 samples 1,910; an occlusion map,
#: which is computed again for each change, gets the least that answers each question, five or six
#: times what the map costs.
AFFORDABLE_PASSES = 1000.0

#: The answers' shapes; no colours, since red and green would be read as a score.
SYMBOLS = {"yes": "●", "partly": "◐", "no": "○", "not known": "?"}

_TOPICS = {
    "Does it beat chance?": "beats chance",
    "Does it depend on the weights?": "depends on the weights",
    "Is it stable?": "stable",
}
_ON_SEGMENT = "Is it on the segment "


def topic(question: str) -> str:
    """A answer's question in a few words, such as ``beats chance`` or ``on the tumour``."""
    if question.startswith(_ON_SEGMENT):
        return f"on the {question.removeprefix(_ON_SEGMENT).removesuffix('?')}"
    return _TOPICS.get(question, question)
