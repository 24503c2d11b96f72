"""The evaluation of maps: everything that speaks for and against believing them, for one image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from monai.data import MetaTensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode, InputError
from SaliencyExplain.evaluation.image.cost import (
    COST_TIERS,
    Cost,
    CostTier,
    affordable,
    check_parts,
)
from SaliencyExplain.evaluation.image.evaluated_maps import EvaluatedMaps
from SaliencyExplain.evaluation.image.evaluation_run import EvaluationRun
from SaliencyExplain.evaluation_parts import PARTS
from SaliencyExplain.explanation.prepared_case import PreparedCase, cpu_note
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.library_versions import versions
from SaliencyExplain.method_failures import MethodFailures
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.results.image_evaluation import Evaluation


def evaluate_maps(
    case: PreparedCase,
    methods: Sequence[Method],
    *,
    given_maps: Mapping[str, MetaTensor] | None = None,
    modalities: Mapping[str, Segmentation] | None = None,
    parts: Sequence[str] = PARTS,
    name: str | None = None,
    seed: int = 0,
    cost_tier: CostTier | None = None,
    budget: float | None = None,
    progress: Progress = silent,
    announce: Callable[[Cost], None] | None = None,
) -> EvaluatedMaps:
    """Evaluates the maps of one image.

    The maps are computed on the network's grid, again for each change of image, seed or
    weights; the weights are changed on copies. A method that fails costs its own map: the
    others are evaluated, and ``failures`` says why. With a segmentation in ``case.references`` the
    maps are held against it as :mod:`SaliencyExplain.comparison` does.

    Args:
        case: The image and the classifier, the target fixed.
        methods: Whose maps are evaluated.
        given_maps: Maps of other tools by name, ``(1, *S)`` with their affine. Only their
            faithfulness and their place can be evaluated: nothing is known of how they were made.
        modalities: By channel the segmentation of the features that this channel shows, on
            the image's grid, for the modality-specific feature importance.
        parts: Which of :data:`PARTS`.
        name: Name of the case; None: the image's own, which is its file's and may name a
            patient.
        seed: Random seed. With the case's name it makes the random control map on a
            segmentation, the one of :func:`SaliencyExplain.comparison.table.rows`.
        cost_tier: How much is computed; None: the greatest of :data:`COST_TIERS` that the budget
            allows.
        budget: Forward passes that it may cost; a lower tier is used where the whole
            evaluation costs more, and a note says so.
        progress: Told of forward passes done and to do; may raise Cancelled.
        announce: Told the cost before the first map is computed.

    Raises:
        InputError: No method gives a map of the image, or a given map is not of it.
        DeviceMemoryError: The CPU's memory does not hold a single image.
        Cancelled: Out of ``progress``.
    """
    started = time.perf_counter()
    if case.combination is not None:
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"Maps of the target {case.target_name} are not evaluated: the questions of an "
            "evaluation are about the probability of one class. Name a class as the target.",
        )
    check_parts(parts)
    given_maps, modalities = given_maps or {}, modalities or {}
    failures = MethodFailures()
    task = case.task(seed)
    methods = _able(task, methods, failures)
    if not methods and not given_maps:
        failures.raise_first()
    cost = affordable(
        task,
        methods,
        parts,
        given_maps=len(given_maps),
        modalities=bool(modalities),
        cost_tier=cost_tier,
        budget=budget,
    )
    if announce is not None:
        announce(cost)

    name = str(case.image.meta.get("name", "")) if name is None else name

    def run(case: PreparedCase) -> EvaluationRun:
        found = EvaluationRun(case, cost, parts, seed, name, progress)
        found.run(methods, given_maps, modalities)
        if not found.maps:
            found.failures.raise_first()
        return found

    moved: list[str] = []
    try:
        found = run(case)
    except DeviceMemoryError as error:
        found = run(case.on_cpu(error))
        moved = [cpu_note(error)]
    failed = [*failures.found, *found.failures.found]
    notes = [*case.notes, *moved, *(one.line for one in failed), *found.notes]
    if cost_tier is None and cost.cost_tier != COST_TIERS["full"]:
        notes.append(
            f"The cost tier {cost.name} was used, for the budget of {budget:,.0f} forward passes."
        )
    classifier = case.classifier
    evaluation = Evaluation(
        image=name,
        image_sha256=case.image_hash,
        classifier=classifier.name,
        classifier_sha256=classifier.identity,
        classes=classifier.classes,
        probabilities=case.prediction.probabilities,
        target=case.target,
        seed=seed,
        cost_tier=cost.name,
        parts=tuple(parts),
        maps=tuple(found.maps),
        pairs=tuple(found.pairs),
        channels=found.channels,
        notes=tuple(dict.fromkeys(notes)),
        forward_passes=found.work.spent,
        seconds=time.perf_counter() - started,
        versions=versions(),
        failures=tuple(failed),
    )
    return EvaluatedMaps(evaluation, found.pictures, case)


def _able(task: Task, methods: Sequence[Method], failures: MethodFailures) -> list[Method]:
    """The methods that can take the image; why the others cannot is recorded."""
    able = []
    for method in methods:
        with failures.of(method.name):
            method.forward_passes(task)
            able.append(method)
    return able
