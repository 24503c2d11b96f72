"""The evaluation of a map of the scene: the question to the engine, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from SaliencyExplain.engine.client.repeat_request import evaluation_of_map
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.wire.requests import EvaluationRequest
from SaliencyExplain.engine.wire.results import EvaluationResult
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.results.image_evaluation import MapEvaluation
from SaliencyExplain.scene.attributions import read_attribution
from SaliencyExplain.scene.kept_evaluations import keep_answers_on
from SaliencyExplain.specification.spec import NO_REFERENCES

from .Failures import Failure
from .Images import Beside
from .Jobs import Job
from .Logic import SaliencyExplainLogic


def evaluate_map(
    logic: SaliencyExplainLogic,
    node: Any,
    nodes: Sequence[Any],
    *,
    beside: Beside,
    budget: float,
    done: Callable[[EvaluationResult, MapEvaluation], None],
    failed: Callable[[Failure], None],
    **callbacks: Any,
) -> Job:
    """Requests the evaluation of a map and stores the answers with the map's node.

    Args:
        logic: Asks the engine.
        node: The map.
        nodes: A volume node for each channel, those that the map was computed from.
        beside: Segmentation that the map is held against, and the method's backgrounds.
        budget: Forward passes that it may cost.
        done: Given the result, and what it says of this map.
        failed: Told why there is none.
        **callbacks: ``progress`` and ``cancelled`` of :class:`Job`.

    Raises:
        InputError: No engine, another classifier, a partial map, or volumes that cannot be
            used.
    """
    map_ = read_attribution(node)
    if map_.share_done < 1:
        raise InputError(
            ErrorCode.MAP_UNFINISHED,
            "The map is partial; compute all of it before it is evaluated.",
        )
    image, classifier = logic.read(nodes), logic.opened_classifier()
    references = logic.references(image, beside)
    about = {
        "method": map_.label.partition("@")[0],
        "target_name": map_.target_name,
        "parameters": map_.parameters,
        "provenance": map_.provenance,
        # A node is often named by its patient.
        "image_name": "",
        "passes": budget,
    }
    # Once without voxels: what is wrong is known before anything is sent.
    evaluation_of_map("", classifier, references=NO_REFERENCES, **about)

    def begin(engine: Engine) -> EvaluationRequest:
        volume = engine.put(image.volume)
        return evaluation_of_map(volume, classifier, references=references.send(engine), **about)

    def finish(result: EvaluationResult) -> None:
        one = result.evaluation.of(map_.label)
        if one is None:
            failed(Failure(f"The evaluation has no map '{map_.label}'."))
            return
        try:
            keep_answers_on(node, map_, one.answers)
        except InputError as error:
            failed(Failure(str(error)))
            return
        done(result, one)

    return logic.start(begin, image, {**callbacks, "done": finish, "failed": failed})
