"""A prepared case and methods become attributions.

Everything below deals in tensors on the network's grid, everything above in
attributions on the image's own grid.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.shared_pass import SharedPass
from SaliencyExplain.cost_estimate import Estimate, seconds_text
from SaliencyExplain.explanation.method_costs import method_costs, total_cost
from SaliencyExplain.explanation.method_run import MethodRun, Publish
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.field_of_view import FIELD_OF_VIEW, SEEN_SHARE
from SaliencyExplain.library_versions import versions
from SaliencyExplain.method_failures import MethodFailures
from SaliencyExplain.models.bundle_settings import by_name
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.image_explanation import Explanation


def explain(
    case: PreparedCase,
    methods: Sequence[Method],
    *,
    seed: int = 0,
    progress: Progress = silent,
    announce: Callable[[Estimate], None] | None = None,
    publish: Publish | None = None,
    failures: MethodFailures | None = None,
) -> Explanation:
    """Computes the attributions of one image, on the image's own grid.

    Methods that need the same gradients (``Method.shares``) share one forward and one backward
    pass. Where a GPU's memory does not suffice for a method, it and the later ones are computed
    on the CPU, and a note says so. The case is not changed.

    A method that fails costs its own map: the others go on, and ``failures`` says why.

    A limit of seconds, which counts the case's preparation, stops the methods whose map grows
    (those with ``Method.parts``: occlusion, SmoothGrad) with the best map so far, and a note says
    how far they came. In their order they share the time equally, and what one does not need goes
    to the others.
    Each method gives a map: those that have none before they end run whole, the others run
    to their first one, whatever the limit. A note names the first before they start, and
    another says how long it took where that was more than the limit.

    Args:
        case: What is explained.
        methods: One or more methods with their parameters.
        seed: Random seed.
        progress: Told of forward passes done and to do, over all methods; may raise Cancelled.
        announce: Told the cost once it is known, before the first method starts.
        publish: Given each attribution when it is done, and partial ones while it grows,
            with the share of the computation that is in it; may raise Cancelled.
        failures: Collects the failures of methods, for callers who want them where none gives a
            map; None: nobody does.

    Raises:
        InputError: What the first of all methods said where none gives a map.
        ClassifierError: As above.
        DeviceMemoryError: As above.
        Cancelled: Out of ``progress`` or ``publish``.
    """
    begun = time.perf_counter() - sum(case.timings.values())
    budget_seconds = case.compute.limits.seconds
    failures = MethodFailures() if failures is None else failures
    task = case.task(seed)
    costed = method_costs(task, methods, case.prediction.seconds, failures)
    methods, costs = [method for method, _ in costed], [cost for _, cost in costed]
    total = total_cost(costed)
    if announce is not None:
        announce(total)
    notes = [*case.notes]
    not_stopped = total.not_stopped(budget_seconds) if budget_seconds is not None else ""
    notes += [not_stopped] if not_stopped else []
    notes += _precision_notes(methods, case.compute.limits.precision)
    provenance = _provenance(case, seed)
    task = dataclasses.replace(task, shared=SharedPass.of(methods, task))
    attributions: list[Attribution] = []
    timings = dict(case.timings)
    spent = 0.0
    for number, (method, cost) in enumerate(zip(methods, costs, strict=True)):

        def report(done: float, of: float, spent: float = spent, cost: Estimate = cost) -> None:
            passes = cost.forward_passes * done / max(of, 1e-9)
            progress(spent + passes, total.forward_passes)

        run = MethodRun(case, task, method, provenance, report, publish)
        if budget_seconds is not None:
            left = budget_seconds - (time.perf_counter() - begun)
            needs = [later.seconds for later in costs[number + 1 :]]
            run.end_within(_fair_share(left, needs))
        with failures.of(method.name):
            attributions += run.attributions()
        case, task = run.case, run.moved(task)
        notes += run.notes
        timings[method.name] = run.seconds
        spent += cost.forward_passes
        progress(spent, total.forward_passes)
    if not attributions:
        failures.raise_first()
    if budget_seconds is not None:
        seconds = time.perf_counter() - begun
        notes += _exceeded(budget_seconds, seconds, timings, methods)
    return Explanation(
        classes=case.classifier.classes,
        probabilities=case.prediction.probabilities,
        target=case.target,
        target_name=case.target_name,
        attributions=tuple(attributions),
        notes=tuple(notes),
        timings=timings,
        failures=tuple(failures.found),
    )


def _provenance(case: PreparedCase, seed: int) -> dict[str, Any]:
    """What the provenances of all maps of a case have in common."""
    provenance = {
        "classifier": case.classifier.name,
        "classifier_sha256": case.classifier.identity,
        "image": case.image.meta.get("name", ""),
        "image_sha256": case.image_hash,
        "classifier_settings": by_name(case.classifier.settings),
        "seed": seed,
        "sign": case.sign,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    if case.box is not None:
        first, shape = case.box
        provenance["region_of_interest"] = {
            **dataclasses.asdict(case.of_interest),
            "first_voxel": list(first),
            "voxels": list(shape),
        }
    if case.seen_share < 1:
        provenance[SEEN_SHARE] = round(case.seen_share, 6)
        provenance[FIELD_OF_VIEW] = case.field_of_view.as_json()
    return provenance


def _precision_notes(methods: Sequence[Method], precision: str) -> list[str]:
    """Which methods do not compute in a lower precision that was asked for."""
    if precision == "float32":
        return []
    kept = [m.name for m in methods if not m.lower_precision and m.family != "control"]
    if not kept:
        return []
    return [
        f"In float32 all the same: {', '.join(kept)}. What {precision} rounds off is as large as "
        "what a covered place changes."
    ]


def _fair_share(left: float, later: Sequence[float]) -> float:
    """Of the seconds left, those of the method that is next, beside what later ones need.

    Each gets an equal part; what a later one needs less is shared by the others.
    """
    waiting = len(later) + 1
    for need in sorted(later):
        if need >= left / waiting:
            break
        left -= need
        waiting -= 1
    return left / waiting


def _exceeded(
    budget: float, seconds: float, timings: dict[str, float], methods: Sequence[Method]
) -> list[str]:
    """That a limit of seconds did not hold, and for which methods, where it took more."""
    if seconds <= budget:
        return []
    each = ", ".join(
        f"{method.name} {seconds_text(timings[method.name])}"
        for method in methods
        if method.name in timings
    )
    return [f"It took {seconds_text(seconds)}, more than the budget of {budget:g} s: {each}."]
