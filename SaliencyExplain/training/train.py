"""Trains a classifier on labelled cases and writes its MONAI bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SaliencyExplain.errors import ErrorCode, InputError, OutputError, SaliencyExplainError
from SaliencyExplain.explanation.compute import choose_device
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.json_text import json_text
from SaliencyExplain.library_versions import versions
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.results.study_result import Labels
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_reading import UNFORESEEN
from SaliencyExplain.studies.classification_metrics import count_labels
from SaliencyExplain.studies.output_folder import only_one
from SaliencyExplain.training.bundle_writing import (
    deterministic_algorithms,
    new_network,
    untrained_classifier,
    write_bundle,
)
from SaliencyExplain.training.epochs import Material, Training, TrainingProgress
from SaliencyExplain.training.equal_images import equal_sets, notes_of_equals
from SaliencyExplain.training.plan import PLAN, begun, differences
from SaliencyExplain.training.record import CURVE, RECORD, course_picture
from SaliencyExplain.training.splitting import PARTS, Part, split_cases
from SaliencyExplain.training.training_examples import (
    Labelled,
    Prepared,
    labelled_cases,
    prepare_images,
)
from SaliencyExplain.training.training_settings import Settings
from SaliencyExplain.training.transfer import begin_with

_IMAGES, _CHECKPOINT = "images.f32", "checkpoint.pt"


@dataclass(frozen=True)
class TrainingResult:
    """What came out of a training.

    Attributes:
        bundle: The classifier's folder.
        labels: How often it is right, on the cases of ``measured_on``.
        measured_on: ``test``: cases that had no part in the training; ``validation``: cases
            that chose the epoch, so that the figures are flattering.
        epochs: How many were trained.
        best: The one whose weights were kept, from 1.
        counts: Cases of each part, ``{part: number}``.
        notes: What a user should be told aloud.
    """

    bundle: Path
    labels: Labels
    measured_on: Part
    epochs: int
    best: int
    counts: dict[str, int]
    notes: tuple[str, ...]


def ignore_progress(progress: TrainingProgress) -> None:
    """A progress callback that does nothing."""


def train_classifier(
    cases: Sequence[Case],
    settings: Settings,
    out: Path,
    *,
    device: str = "auto",
    trust: bool = False,
    progress: Callable[[TrainingProgress], None] = ignore_progress,
) -> TrainingResult:
    """Trains a network on labelled cases, measures it and writes its bundle.

    Stopped at any moment, the same call goes on after the last complete epoch, and the
    bundle has the same bytes as if it had never been stopped (on the CPU, with the same
    libraries). What it needs for that lies in ``OUT.training`` and is gone at the end.

    Args:
        cases: As discovery found them; those without a label are left out with a note.
        settings: How.
        out: Folder of the bundle. Where it holds the result of the same training already,
            that is what is returned.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        trust: Whether a network of the user's own code may be built.
        progress: Told after each image and each batch; may raise Cancelled.

    Raises:
        InputError: The cases or the settings do not make sense, or ``OUT.training`` holds
            another training.
        ClassifierError: The network cannot be built, or does not learn.
        DeviceMemoryError: The device's memory does not hold a batch.
        OutputError: The folder exists, the disk is full, or nothing may be written there.
        Cancelled: Out of ``progress``; can be started again.
    """
    labelled = labelled_cases(cases, settings.classes)
    chosen = choose_device(device)
    _parts(labelled, settings)
    settings = dataclasses.replace(
        settings, classes=labelled.classes, spatial_dims=_axes(labelled, settings)
    )
    wanted = {"settings": settings.as_json(), "cases": labelled.digest}
    if out.exists():
        return _earlier(out, wanted)
    work = out.with_name(f"{out.name}.training")
    with only_one(work):
        earlier = begun(work, wanted)
        threads_before = torch.get_num_threads()
        gpus = [chosen] if chosen.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus), deterministic_algorithms():
            try:
                torch.set_num_threads(earlier["threads"] if earlier else threads_before)
                result = _train(labelled, settings, out, work, wanted, chosen, trust, progress)
            finally:
                torch.set_num_threads(threads_before)
        for name in (PLAN, _IMAGES, _CHECKPOINT):
            (work / name).unlink(missing_ok=True)
    return result


def _train(
    labelled: Labelled,
    settings: Settings,
    out: Path,
    work: Path,
    wanted: dict[str, Any],
    device: torch.device,
    trust: bool,
    progress: Callable[[TrainingProgress], None],
) -> TrainingResult:
    untrained = new_network(settings, trust=trust)
    notes = [] if settings.weights is None else [begin_with(untrained, settings.weights)]
    classifier = untrained_classifier(settings, untrained, trust=trust)
    images, plan = _images(labelled, classifier, work, wanted, progress)
    readable = labelled.only(plan["kept"])
    parts = _parts(readable, settings, plan["equals"])
    places = {part: np.flatnonzero(np.array(parts) == part) for part in PARTS}
    network = classifier.to(device).network
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    material = Material(
        images, readable.indices, places["train"], places["validation"], len(readable.classes)
    )
    training = Training(network, material, settings, work / _CHECKPOINT)
    training.run(progress)
    measured_on: Part = "test" if len(places["test"]) else "validation"
    labels = count_labels(
        readable.indices[places[measured_on]].tolist(),
        training.scores(places[measured_on]).argmax(1).tolist(),
        readable.classes,
    )
    assert labels is not None
    record = {
        **wanted,
        "classes": list(readable.classes),
        "network": wanted["settings"]["network"],
        "parts": {part: [readable.cases[i].case for i in places[part]] for part in PARTS},
        "left_out": plan["left_out"],
        "equal_images": [
            [readable.cases[place].case for place in places]
            for places in equal_sets(plan["equals"])
        ],
        "notes": [
            *labelled.notes,
            *notes,
            *notes_of_equals(readable.cases, readable.labels, plan["equals"]),
        ],
        "epochs": len(training.history),
        "best_epoch": training.best + 1,
        "measured_on": measured_on,
        "figures": labels.as_json(),
        "history": training.history,
        "device": device.type,
        "threads": plan["threads"],
        "versions": {k: versions()[k] for k in ("SaliencyExplain", "torch", "monai")},
    }
    title = f"{settings.network}, {len(readable.cases)} images, seed {settings.seed}"
    documents = {
        RECORD: json_text(record).encode(),
        CURVE: course_picture(training.history, training.best, title),
    }
    metrics = {"measured_on": f"{measured_on} cases", **labels.as_json()}
    state = classifier.network.network.state_dict()
    description = _description(record)
    write_bundle(
        settings, state, out, description, metrics=metrics, documents=documents, trust=trust
    )
    return _result(out, record)


def _axes(labelled: Labelled, settings: Settings) -> int:
    """2 or 3: as the settings say, else as the first image that can be read has them."""
    for said in (settings.size, settings.spacing):
        if settings.spatial_dims or said:
            return settings.spatial_dims or len(said or ())
    for case in labelled.cases:
        with contextlib.suppress(SaliencyExplainError, *UNFORESEEN):
            return read_image(case.paths[0], series=case.series).ndim - 1
    raise InputError(ErrorCode.CASES_MISSING, "None of the images can be read.")


def _parts(labelled: Labelled, settings: Settings, equals: Sequence[int] = ()) -> list[Part]:
    return split_cases(
        labelled.cases,
        labelled.labels,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
        seed=settings.seed,
        equals=equals,
    )


def _images(
    labelled: Labelled,
    classifier: Classifier,
    work: Path,
    wanted: dict[str, Any],
    progress: Callable[[TrainingProgress], None],
) -> tuple[Prepared, dict[str, Any]]:
    """The prepared images and the plan: those of the run before, or made now."""
    plan = begun(work, wanted)
    if plan and "equals" in plan:
        return Prepared(work / _IMAGES, tuple(plan["shape"])), plan
    # A checkpoint from another split must not be continued.
    (work / _CHECKPOINT).unlink(missing_ok=True)
    images, kept, equals, left_out = prepare_images(
        labelled.cases,
        classifier,
        work / _IMAGES,
        lambda done, total: progress(TrainingProgress("reading", int(done), int(total))),
    )
    plan = {
        **wanted,
        "shape": list(images.shape),
        "kept": kept,
        "equals": equals,
        "left_out": left_out,
        "threads": torch.get_num_threads(),
    }
    with atomic_file(work / PLAN) as temporary:
        temporary.write_text(json_text(plan), encoding="utf-8")
    return images, plan


def _earlier(out: Path, wanted: dict[str, Any]) -> TrainingResult:
    """The result of the same training, done before."""
    try:
        record = json.loads((out / "docs" / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    different = differences(record, wanted) if record else "content"
    if different:
        raise OutputError(
            ErrorCode.OUTPUT_EXISTS,
            f"{out} exists already, with other {different}. Name a new folder for the bundle.",
        )
    result = _result(out, record)
    return dataclasses.replace(
        result,
        notes=(*result.notes, "This classifier was trained before; its bundle is unchanged."),
    )


def _result(out: Path, record: dict[str, Any]) -> TrainingResult:
    figures = record["figures"]
    labels = Labels(
        count=figures["cases"],
        accuracy=figures["accuracy"],
        f1=[np.nan if value is None else value for value in figures["f1"].values()],
        confusion=figures["confusion_matrix"],
        classes=figures["classes"],
    )
    left_out = [f"{one['case']} is left out: {one['reason']}" for one in record["left_out"]]
    if len(left_out) > 10:
        left_out[10:] = [f"{len(left_out) - 10} more are left out; docs/{RECORD} lists them."]
    return TrainingResult(
        bundle=out,
        labels=labels,
        measured_on=record["measured_on"],
        epochs=record["epochs"],
        best=record["best_epoch"],
        counts={part: len(cases) for part, cases in record["parts"].items()},
        notes=(*record["notes"], *left_out),
    )


def _description(record: dict[str, Any]) -> str:
    figures, parts = record["figures"], record["parts"]
    whose = (
        f"{len(parts['test'])} held-out cases"
        if record["measured_on"] == "test"
        else f"the {len(parts['validation'])} validation cases, which chose the epoch"
    )
    return (
        f"{record['network']}, trained on {len(parts['train'])} cases of "
        f"{', '.join(record['classes'])}. Accuracy on {whose}: {figures['accuracy']:.1%}, mean F1 "
        f"score {figures['macro_f1']:.2f}. Epoch {record['best_epoch']} of {record['epochs']}, "
        f"chosen by the loss on {len(parts['validation'])} cases. Details: docs/{RECORD}."
    )
