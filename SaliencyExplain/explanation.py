"""The waist: an image, a classifier, methods and a target become attributions.

Everything below deals in tensors on the network's grid, everything above in
attributions on the image's own grid.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Method, check_finite_map
from SaliencyExplain.attribution.passes.shared_pass import SharedPass
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.zero_maps import zero_map_note
from SaliencyExplain.cost_estimate import Estimate, seconds_text
from SaliencyExplain.errors import DeviceMemoryError
from SaliencyExplain.field_of_view import FIELD_OF_VIEW, SEEN_SHARE
from SaliencyExplain.figures import CHANNEL
from SaliencyExplain.library_versions import versions
from SaliencyExplain.method_failures import MethodFailures
from SaliencyExplain.models.bundle_settings import by_name
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.question import (
    AUTOMATIC,
    NOTHING,
    Compute,
    Given,
    Question,
    choose_device,
    class_probabilities,
    given_hashes,
    percent,
)
from SaliencyExplain.results.attribution_maps import Attribution, Explanation
from SaliencyExplain.specification.target import Target

SIGN_CONVENTION = "positive = speaks for the target class"


def estimate(
    image: MetaTensor,
    classifier: Classifier,
    methods: Sequence[Method],
    *,
    target: Target | str = "predicted",
    compute: Compute = AUTOMATIC,
    given: Given = NOTHING,
) -> Estimate:
    """What :func:`explain` costs with the same arguments; takes one forward pass to know.

    Methods that cannot take the image cost nothing.

    Raises:
        InputError: The image, target or device does not fit, or no method can take the image.
        ClassifierError: The network fails on the image.
        DeviceMemoryError: The CPU's memory does not hold a single image.
    """
    question = Question(image, classifier, target, compute, given)
    return _total(_costed(question, methods, MethodFailures()))


def explain(
    image: MetaTensor,
    classifier: Classifier,
    methods: Sequence[Method],
    *,
    target: Target | str = "predicted",
    compute: Compute = AUTOMATIC,
    given: Given = NOTHING,
    seed: int = 0,
    progress: Progress = silent,
    announce: Callable[[Estimate], None] | None = None,
    publish: Callable[[Attribution, float], None] | None = None,
    failures: MethodFailures | None = None,
) -> Explanation:
    """Computes the attributions of one image, on the image's own grid.

    The target is fixed from the prediction on the untouched image, before any
    method starts. Methods that look at the same gradients (Method.shares) share one forward
    and one backward pass. A GPU whose memory does not hold a single image is left for
    the CPU, and a note says so.

    A method that fails costs its own map: the others go on, and ``failures`` says why.

    A limit of seconds stops the methods whose map grows (those with ``Method.parts``:
    occlusion, SmoothGrad) with the best map so far, and a note says how far they came. In
    their order they share the time equally, and what one does not need goes to the others.
    Each method gives a map: those that have none before they end run whole, the others run
    to their first one, whatever the budget. A note names the first before they start, and
    another says how long it took where that was more than the budget.

    Args:
        image: ``(C, *S)`` with its affine, channels in the classifier's order.
        classifier: What is explained.
        methods: One or more methods with their parameters.
        target: What is to be explained, or its text.
        compute: On what, and within which limits.
        given: Segmentation and backgrounds, for the methods that ask for them.
        seed: Of everything random.
        progress: Told of forward passes done and to do, over all methods; may raise Cancelled.
        announce: Told the cost once it is known, before the first method starts.
        publish: Given each attribution when it is done, and partial ones while it grows,
            with the share of the computation that is in it; may raise Cancelled.
        failures: Collects the failures of methods, for callers who want them where none gives a
            map; None: nobody does.

    Raises:
        InputError: The image or target does not fit, or what the first of all methods
            said where none gives a map.
        ClassifierError: The network fails on the image; or as above.
        DeviceMemoryError: The CPU's memory does not hold a single image; or as above.
        Cancelled: Out of ``progress`` or ``publish``.
    """
    begun = time.perf_counter()
    budget_seconds = compute.limits.seconds
    question = Question(image, classifier, target, compute, given)
    failures = MethodFailures() if failures is None else failures
    costed = _costed(question, methods, failures)
    methods, costs = [method for method, _ in costed], [cost for _, cost in costed]
    total = _total(costed)
    if announce is not None:
        announce(total)
    not_stopped = total.not_stopped(budget_seconds) if budget_seconds is not None else ""
    question.notes += [not_stopped] if not_stopped else []
    provenance = {
        "classifier": classifier.name,
        "classifier_sha256": classifier.identity,
        "image": image.meta.get("name", ""),
        "image_sha256": question.image_hash,
        "classifier_settings": by_name(classifier.settings),
        "seed": seed,
        "sign": SIGN_CONVENTION,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    if question.seen_share < 1:
        provenance[SEEN_SHARE] = round(question.seen_share, 6)
        provenance[FIELD_OF_VIEW] = question.field_of_view.as_json()
    question.notes += _precision_notes(methods, compute.limits.precision)
    shared = SharedPass.of(methods, question.task())
    attributions: list[Attribution] = []
    spent = 0.0
    for number, (method, cost) in enumerate(zip(methods, costs, strict=True)):

        def report(done: float, of: float, spent: float = spent, cost: Estimate = cost) -> None:
            passes = cost.forward_passes * done / max(of, 1e-9)
            progress(spent + passes, total.forward_passes)

        work = _MethodWork(question, method, provenance, publish, budget_seconds)
        task = dataclasses.replace(question.task(seed), progress=report, shared=shared)
        if budget_seconds is not None:
            left = budget_seconds - (time.perf_counter() - begun)
            needs = [later.seconds for later in costs[number + 1 :]]
            task = dataclasses.replace(
                task, deadline=time.perf_counter() + _fair_share(left, needs)
            )
        with failures.of(method.name):
            attributions += work.attributions(task)
        question.timings[method.name] = work.seconds
        spent += cost.forward_passes
        progress(spent, total.forward_passes)
    if not attributions:
        failures.raise_first()
    if budget_seconds is not None:
        question.notes += _exceeded(budget_seconds, time.perf_counter() - begun, question, methods)
    return Explanation(
        image=image,
        classes=classifier.classes,
        probabilities=question.probabilities,
        target=question.target,
        attributions=tuple(attributions),
        notes=tuple(question.notes),
        timings=question.timings,
        failures=tuple(failures.found),
    )


class _MethodWork:
    """One method at work on a question: its maps, as they grow, become attributions."""

    def __init__(
        self,
        question: Question,
        method: Method,
        provenance: Mapping[str, Any],
        publish: Callable[[Attribution, float], None] | None,
        budget_seconds: float | None,
    ) -> None:
        self._question = question
        self._method = method
        self._provenance = {**provenance, **given_hashes(question.given, method)}
        self._publish = publish
        self._budget = budget_seconds
        self._started = time.perf_counter()
        self._share = 1.0
        self._figures: dict[str, Any] = {}
        self._notes: list[str] = []
        self._resolutions: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started

    def attributions(self, task: Task) -> list[Attribution]:
        """Computes the method's maps, on a GPU or, where its memory is short, on the CPU."""
        question, method = self._question, self._method
        task = dataclasses.replace(
            task,
            record=self._figures.update,
            note=self._notes.append,
            resolution=self._resolutions.__setitem__,
        )
        if self._publish is not None or self._budget is not None:
            task = dataclasses.replace(task, publish=self._receive)
        try:
            maps = method.attribute(task)
        except DeviceMemoryError as error:
            question.move_to_cpu(error, f"{method.name}: ")
            self._figures.clear()
            self._notes.clear()
            maps = method.attribute(dataclasses.replace(task, input=question.task().input))
        activation = question.classifier.network.activation
        self._notes += [
            zero_map_note(method, name, activation) for name, one in maps.items() if not one.any()
        ]
        found = self._restored(maps)
        if self._share < 1:
            question.notes.append(
                f"{method.name}: stopped after {seconds_text(self.seconds)} with "
                f"{percent(self._share)} "
                f"of the {method.parts}, for the budget of {self._budget:g} s in all; the best map "
                "so far."
            )
        question.notes += [f"{method.name}: {note}" for note in self._notes]
        for attribution in found:
            if self._publish is not None:
                self._publish(attribution, self._share)
        return found

    def _receive(self, maps: dict[str, torch.Tensor], share: float) -> None:
        self._share = share
        # The finished map comes back from the method, and is restored once.
        if self._publish is not None and share < 1:
            for attribution in self._restored(maps):
                self._publish(attribution, share)

    def _restored(self, maps: Mapping[str, torch.Tensor]) -> list[Attribution]:
        """The maps on the image's own grid."""
        question, method, seconds = self._question, self._method, self.seconds
        classifier, image = question.classifier, question.image
        provenance = {**self._provenance, "device": str(question.device)}
        provenance["precision"] = (
            question.compute.limits.precision if method.lower_precision else "float32"
        )
        if self._figures:
            provenance["figures"] = dict(self._figures)
        notes = [*classifier.network.repeatability.notes, *self._notes]
        if notes:
            provenance["notes"] = notes
        if self._share < 1:
            provenance |= {"share_done": round(self._share, 4), "budget_seconds": self._budget}
        asked = question.task()
        parameters = dataclasses.asdict(method.resolved(asked))
        if "output" in parameters:
            # Where the probability cannot move a method watches the score instead.
            parameters["output"] = self._figures.get("output", parameters["output"])
        found = []
        for layer, values in maps.items():
            restored = classifier.restore(values.detach().float().cpu(), question.prepared, image)
            check_finite_map(method.name, restored)
            found.append(
                Attribution(
                    values=restored,
                    affine=np.asarray(image.affine, dtype=np.float64),
                    method=method.name,
                    layer=layer,
                    signed=method.signed,
                    target=question.target,
                    target_name=classifier.classes[question.target],
                    parameters=parameters,
                    provenance={
                        **provenance,
                        RESOLUTION_MM: round(self._resolutions.get(layer, 0.0), 4),
                        **_of_channel(method.channel_of(layer, asked)),
                    },
                    seconds=seconds,
                    share_done=self._share,
                    case=question,
                    computed_by=method,
                )
            )
        return found


def _of_channel(channel: int | None) -> dict[str, int]:
    """For the provenance of a map; nothing where it is of all channels."""
    return {} if channel is None else {CHANNEL: channel}


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


def predict(
    image: MetaTensor, classifier: Classifier, *, device: str = "auto"
) -> NDArray[np.float64]:
    """Class probabilities of one image, ``(K,)`` in [0, 1].

    Raises:
        InputError: The image or device does not fit.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    return class_probabilities(classifier, classifier.prepare(image), choose_device(device))


def _exceeded(
    budget: float, seconds: float, question: Question, methods: Sequence[Method]
) -> list[str]:
    """That a budget did not hold, and for which methods, where it took more seconds."""
    if seconds <= budget:
        return []
    each = ", ".join(
        f"{method.name} {seconds_text(question.timings[method.name])}"
        for method in methods
        if method.name in question.timings
    )
    return [f"It took {seconds_text(seconds)}, more than the budget of {budget:g} s: {each}."]


def _costed(
    question: Question, methods: Sequence[Method], failures: MethodFailures
) -> list[tuple[Method, Estimate]]:
    """What each method costs that can take the image; why the others cannot is recorded.

    Raises:
        InputError: None of them can.
    """
    costs: list[tuple[Method, Estimate]] = []
    for method in methods:
        with failures.of(method.name):
            costs.append((method, question.costs([method])[0]))
    if not costs:
        failures.raise_first()
    return costs


def _total(costed: Sequence[tuple[Method, Estimate]]) -> Estimate:
    """What all methods cost together, and which of them no budget stops."""
    return Estimate(
        sum(cost.forward_passes for _, cost in costed),
        sum(cost.seconds for _, cost in costed),
        tuple((method.name, cost.seconds) for method, cost in costed if not method.parts),
    )
