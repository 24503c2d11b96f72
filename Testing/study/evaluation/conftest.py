"""Finished studies made by hand: what their figures and maps hold is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from SaliencyExplain.comparison.agreement import Agreement
from SaliencyExplain.comparison.table import Row
from SaliencyExplain.study.journal import Journal

SHAPE = (24, 30, 20)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
CLASSES = ["healthy", "tumour"]

Maps = Mapping[str, Mapping[str, NDArray[np.float32]]]


def agreement(auroc: float, energy: float = 0.4, chance: float = 0.02) -> Agreement:
    return Agreement(
        energy, chance, 1, 1, auroc, 0.5, 0.5, 0.5, 0.3, 0.6, 9.0, 3.0, 5.0, chance * 2
    )


def figure(name: str, value: float | None, chance: Sequence[float], p: float) -> dict[str, Any]:
    return {
        "name": name, "title": name.replace("_", " "), "value": value, "higher_is_better": True,
        "chance": list(chance), "centre": 0.3, "beaten": 0.9, "p_value": p, "remark": "",
    }  # fmt: skip


def faithfulness(sic: float | None, chance: Sequence[float], p: float = 0.04) -> dict[str, Any]:
    """Faithfulness as ``trial.json`` holds it; the SIC is a straight line to (1, 1)."""
    line = {"information": [0.0, 1.0], "performance": [0.0, 1.0], "area": 0.5, "remark": ""}
    none = {"information": [], "performance": [], "area": None, "remark": "undefined"}
    return {
        "figures": [figure("sic_compressed", sic, chance, p)],
        "curves": {
            "shares": [0.0, 0.5, 1.0], "deletion": [0.9, 0.3, 0.1], "insertion": [0.1, 0.8, 0.9],
            "softmax_information": {"compressed": none if sic is None else line, "histogram": none},
            "accuracy_information": {"compressed": line, "histogram": none},
        },
        "chance_deletion": [[0.9, 0.5, 0.1]] * 3,
        "chance_insertion": [[0.1, 0.4, 0.9]] * 3,
        "baseline": "blurred",
    }  # fmt: skip


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study's folder.

    ``maps`` is ``{case: {label: map}}``; ``targets``, ``probabilities``, ``rows`` and ``trials``
    are by case, and all have a plain standing for what a test does not care about.
    """

    def make(
        maps: Maps,
        *,
        targets: Mapping[str, str] = {},
        probabilities: Mapping[str, float] = {},
        rows: Sequence[Row] = (),
        trials: Mapping[str, Mapping[str, Any]] = {},
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
            image = {"shape": list(shape), "affine_ras_mm": affine.tolist(), "files": None}
            explanation = {"image": image}
            (folder / case / "explanation.json").write_text(json.dumps(explanation))
            if case in trials:
                found = [
                    {"label": label, "faithfulness": one} for label, one in trials[case].items()
                ]
                (folder / case / "trial.json").write_text(json.dumps({"maps": found}))
            both = (probability, 1 - probability)
            journal.append(
                {
                    "case": case, "done": True, "source": "", "label": None, "failures": [],
                    "target": target, "notes": [],
                    "probabilities": list(both if target == "healthy" else both[::-1]),
                    "maps": [{"label": label, "files": f"{label}-{target}"} for label in own],
                    "rows": [row.as_json() for row in rows if row.case == case],
                }
            )  # fmt: skip
        for case in failed:
            journal.append(
                {"case": case, "done": False, "source": "", "label": None, "failures": [
                    {"stage": "reading the image", "code": "SE-FILE-DAMAGED",
                     "reason": "it is damaged"}]}
            )  # fmt: skip
        return folder

    return make


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)
