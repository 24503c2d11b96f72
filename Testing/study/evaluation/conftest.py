"""Finished studies made by hand: what their metrics and maps hold is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from SaliencyExplain.evaluation_parts import EVALUATION_FILE
from SaliencyExplain.json_text import json_text
from SaliencyExplain.records.agreement_row import Agreement, Row
from SaliencyExplain.records.case_entry import CaseEntry, CaseResult, MapEntry, StageFailure
from SaliencyExplain.records.case_record import EXPLANATION, CaseRecord
from SaliencyExplain.records.image_record import ImageRecord
from SaliencyExplain.records.map_record import MapFiles, MapRecord
from SaliencyExplain.results.evaluation_results import Metric
from SaliencyExplain.results.image_evaluation import Evaluation, MapEvaluation
from SaliencyExplain.results.map_faithfulness import (
    Faithfulness,
    Infidelity,
    InformationCurve,
    MapCurves,
    PartialImageProbabilities,
)
from SaliencyExplain.studies.journal import Journal

SHAPE = (24, 30, 20)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
CLASSES = ["healthy", "tumour"]

Maps = Mapping[str, Mapping[str, NDArray[np.float32]]]


def agreement(auroc: float, energy: float = 0.4, chance: float = 0.02) -> Agreement:
    return Agreement(
        energy, chance, 1, 1, auroc, 0.5, 0.5, 0.5, 0.3, 0.6, 9.0, 3.0, 5.0, chance * 2
    )


def faithfulness(sic: float | None, null_values: Sequence[float], p: float = 0.04) -> Faithfulness:
    """The faithfulness of a map; its SIC is a straight line to (1, 1), or undefined."""
    line = InformationCurve((0.0, 1.0), (0.0, 1.0), 0.5)
    none = InformationCurve((), (), math.nan, "undefined")
    metric = Metric(
        "sic_compressed", "sic compressed", math.nan if sic is None else sic, True,
        tuple(null_values), 0.3, "centre", 0.3, 0.9, p,
    )  # fmt: skip
    return Faithfulness(
        MapCurves(
            (0.0, 0.5, 1.0), (0.9, 0.3, 0.1), (0.1, 0.8, 0.9),
            {"compressed": none if sic is None else line, "histogram": none},
            {"compressed": line, "histogram": none},
        ),
        (metric,),
        ((0.9, 0.5, 0.1),) * 3,
        ((0.1, 0.4, 0.9),) * 3,
        1.0,
        "blurred",
        Infidelity(0.1, 0.5, 1.0),
        "halves",
        PartialImageProbabilities((0.0, 0.5), *[(0.9, 0.3)] * 4),
    )  # fmt: skip


def evaluation(case: str, maps: Mapping[str, Faithfulness]) -> Evaluation:
    """An evaluation of the faithfulness of maps alone."""
    return Evaluation(
        case, "0" * 64, "small", "0" * 64, tuple(CLASSES), (0.2, 0.8), 1, 0, "least",
        ("faithfulness",),
        tuple(
            MapEvaluation(label, label, "", {}, True, one, None, None, (), None, (), ())
            for label, one in maps.items()
        ),
        (), None, (), 100.0, 1.0, {},
    )  # fmt: skip


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study's folder.

    ``maps`` is ``{case: {label: map}}``; ``targets``, ``probabilities``, ``rows`` and
    ``evaluations`` are by case, and all have a plain standing for what a test does not care about.
    """

    def make(
        maps: Maps,
        *,
        targets: Mapping[str, str] = {},
        probabilities: Mapping[str, float] = {},
        rows: Sequence[Row] = (),
        evaluations: Mapping[str, Mapping[str, Faithfulness]] = {},
        failed: Sequence[str] = (),
        affine: NDArray[np.float64] = AFFINE,
    ) -> Path:
        folder = tmp_path / "study"
        labels = dict.fromkeys(label for own in maps.values() for label in own)
        methods = [{"name": label.partition("@")[0], "parameters": {}} for label in labels]
        journal = Journal.begin(
            folder,
            {
                "classifier": "small", "classifier_sha256": "0" * 64, "classes": CLASSES,
                "channels": ["image"], "target": "predicted", "seed": 0, "versions": {},
                "methods": methods, "keep_identifiers": False,
            },
        )  # fmt: skip
        for case, own in maps.items():
            target = targets.get(case, "tumour")
            probability = probabilities.get(case, 0.8)
            (folder / case).mkdir(parents=True)
            for label, values in own.items():
                path = folder / case / f"{label}-{target}.nii.gz"
                nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
            shape = next(iter(own.values())).shape
            record = CaseRecord(
                case,
                predicted=target,
                probabilities={"healthy": 1 - probability, "tumour": probability},
                target=CLASSES.index(target),
                target_name=target,
                image=ImageRecord(
                    1, shape, (1.0,) * len(shape), tuple(map(tuple, affine.tolist())), "mm", None
                ),
                segments=(),
                maps=tuple(_map(label, target) for label in own),
                control_maps=(),
                failures=(),
                notes=(),
                provenance={"classifier": "small"},
                timings={},
            )
            (folder / case / EXPLANATION).write_text(json_text(record.as_json()))
            if case in evaluations:
                found = evaluation(case, evaluations[case])
                (folder / case / EVALUATION_FILE).write_text(json_text(found.as_json()))
            both = (probability, 1 - probability)
            result = CaseResult(
                "mm",
                target,
                both if target == "healthy" else both[::-1],
                tuple(MapEntry(label, f"{label}-{target}", {}) for label in own),
                tuple(row for row in rows if row.case == case),
                (),
            )
            journal.append(CaseEntry(case, "", None, result=result))
        for case in failed:
            failed_to_read = StageFailure("reading the image", "SE-FILE-DAMAGED", "it is damaged")
            journal.append(CaseEntry(case, "", None, (failed_to_read,)))
        return folder

    return make


def _map(label: str, target: str) -> MapRecord:
    return MapRecord(
        label, label.partition("@")[0], None, True, 1.0, None, {}, "cpu", 0.0, (), None, {},
        MapFiles.of(f"{label}-{target}"), (), {},
    )  # fmt: skip


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)
