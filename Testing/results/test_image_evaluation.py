"""An evaluation comes back from its file as it was; a damaged or hostile file is refused."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation_parts import EVALUATION_FILE, PARTS
from SaliencyExplain.json_text import json_text
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.records.agreement_row import Agreement, Row
from SaliencyExplain.results.channel_results import ChannelImportance, FeatureImportance
from SaliencyExplain.results.evaluation_results import Answer, Metric
from SaliencyExplain.results.image_evaluation import (
    Evaluation,
    MapEvaluation,
    MapPair,
    read_evaluation,
)
from SaliencyExplain.results.map_changes import Change, Randomised, Sanity, Similarity, Stability
from SaliencyExplain.results.map_faithfulness import (
    Faithfulness,
    Infidelity,
    InformationCurve,
    MapCurves,
    PartialImageProbabilities,
)
from Testing.expected_errors import error_with

SIMILARITY = Similarity(0.5, 0.6, math.nan, 0.2)
AGREEMENT = Agreement(0.4, 0.02, 1.0, 1.0, 0.9, 0.5, 0.5, 0.5, 0.3, 0.6, 9.0, 3.0, 5.0, math.nan)
#: An end of the random maps' range, which has no chance level of its own.
END = replace(AGREEMENT, energy_chance=math.nan)
RANDOMISED = Randomised("conv1 … fc", "cascading", 0.4, 0.3, SIMILARITY)
LINE = InformationCurve((0.0, 1.0), (0.0, 1.0), 0.5)
FAITHFULNESS = Faithfulness(
    MapCurves(
        (0.0, 0.5, 1.0), (0.9, 0.3, 0.1), (0.1, 0.8, 0.9),
        {"compressed": LINE, "histogram": InformationCurve((), (), math.nan, "undefined")}, {},
    ),
    (
        Metric("deletion_area", "deletion area", 0.2, False, (0.3, math.nan), 0.4, "edges", 0.3,
               0.95, 0.05),
    ),
    ((0.9, 0.5, 0.1),) * 3,
    ((0.1, 0.4, 0.9),) * 3,
    1.0,
    "blurred",
    Infidelity(0.1, math.nan, 1.0, "no box moves the probability"),
    "halves",
    PartialImageProbabilities((0.0, 0.5), *[(0.9, 0.3)] * 4),
)  # fmt: skip
EVALUATION = Evaluation(
    image="P1",
    image_sha256="0" * 64,
    classifier="small",
    classifier_sha256="1" * 64,
    classes=("healthy", "tumour"),
    probabilities=(0.2, 0.8),
    target=1,
    seed=3,
    cost_tier="least",
    parts=PARTS,
    maps=(
        MapEvaluation(
            "gradcam@relu", "gradcam", "relu", {"layers": ["relu"]}, True, FAITHFULNESS,
            Sanity((RANDOMISED,) * 3, (), (RANDOMISED,)),
            Stability((Change("seed", "seed 4", 0.8, SIMILARITY, 0.1),), math.nan, "no search"),
            (Row("P1", "random", "tumour", "lesion", AGREEMENT, END, END),),
            FeatureImportance(0.7, 0.1, True, {"t1": math.nan}),
            (Answer("Is it on the segment lesion?", "partly", "why", "limits", "source"),),
            ("a note",), 8.0, 1,
        ),
        MapEvaluation("file", "", "", {}, False, None, None, None, (), None, (), ()),
    ),
    pairs=(MapPair("methods", "gradcam@relu", "file", SIMILARITY),),
    channels=ChannelImportance(("t1", "t2"), (0.5, -0.1), 0.8, 0.4, "mean"),
    notes=("told",),
    forward_passes=714.0,
    seconds=2.5,
    versions={"torch": "2"},
    failures=(MethodFailure("cam", "SE-X", "no layer"),),
)  # fmt: skip


def written(folder: Path, document: object) -> Path:
    (folder / EVALUATION_FILE).write_text(json_text(document), encoding="utf-8")
    return folder


def same(one: Evaluation, other: Evaluation) -> bool:
    """Whether all fields are equal, NaN to NaN."""
    return to_json(one) == to_json(other) and type(one.maps[0]) is type(other.maps[0])


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    again = read_evaluation(written(tmp_path, EVALUATION.as_json()))
    assert same(again, EVALUATION)
    assert math.isnan(again.maps[0].faithfulness.metrics[0].null_values[1])
    assert json_text(again.as_json()) == json_text(EVALUATION.as_json())


def test_it_comes_back_over_the_wire() -> None:
    assert same(made(Evaluation, parse_json(to_json(EVALUATION))), EVALUATION)


def test_an_answer_in_brief_has_its_topic_and_no_limits() -> None:
    brief = EVALUATION.maps[0].answers[0].in_brief()
    assert brief.line == "◐ on the lesion: partly"
    assert set(brief.as_json()) == {"question", "answer", "words"}


def test_its_curves_stand_beside_those_of_the_null_maps() -> None:
    deletion, insertion, weights = EVALUATION.maps[0].curves
    assert (deletion.ys, deletion.null_median) == ((0.9, 0.3, 0.1), (0.9, 0.5, 0.1))
    assert insertion.name == "insertion"
    assert weights.ys == (1.0, 0.6, 0.6, 0.6)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("target",), 2),
        (("probabilities",), {"healthy": 1}),
        (("parts",), ["horoscope"]),
        (("maps", 0, "label"), 7),
        (("maps", 0, "signed"), 1),
        (("maps", 0, "answers", 0, "answer"), "perhaps"),
        (("maps", 0, "sanity", "cascading", 0, "kind"), "none"),
        (("maps", 0, "faithfulness", "null_deletion"), [[0.9], [0.5], [0.1]]),
        (("maps", 0, "faithfulness", "curves", "deletion"), [0.9]),
        (("maps", 0, "faithfulness", "metrics", 0, "value"), "much"),
        (("maps", 0, "agreement", 0, "auroc"), True),
        (("maps", 0, "resolution_mm"), -1),
        (("channels", "values"), [0.5]),
        (("failures", 0, "reason"), None),
    ],
)
def test_a_damaged_field_is_refused_and_named(
    tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    document = copy.deepcopy(json.loads(json_text(EVALUATION.as_json())))
    parent = document
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    named = str(place[-1]) if isinstance(value, (int, str)) or value is None else ""
    with error_with(ErrorCode.STUDY_INCOMPLETE, EVALUATION_FILE, named):
        read_evaluation(written(tmp_path, document))


def test_no_evaluation_and_no_json_are_refused(tmp_path: Path) -> None:
    with error_with(ErrorCode.STUDY_INCOMPLETE, EVALUATION_FILE):
        read_evaluation(tmp_path)
    (tmp_path / EVALUATION_FILE).write_bytes(b"\xff{")
    with error_with(ErrorCode.STUDY_INCOMPLETE, EVALUATION_FILE):
        read_evaluation(tmp_path)
