"""A study evaluated from its folder: files, words, report, and what is wrong with a folder."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest

from SaliencyExplain.errors import Cancelled, ErrorCode
from SaliencyExplain.evaluation.study.normalised_maps import PATIENT_SIDES, PICTURE_SIDES
from SaliencyExplain.evaluation.study.study_evaluation import evaluate_study
from SaliencyExplain.evaluation.study.study_evaluation_files import (
    write_study_evaluation,
)
from SaliencyExplain.evaluation.study.study_words import LIMITS, evaluation_sentences, place_words
from SaliencyExplain.evaluation_parts import STUDY_EVALUATION_FILE, STUDY_EVALUATION_FOLDER
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.studies.report import StudyOutput, write_report
from Testing.expected_errors import error_with
from Testing.study.conftest import write_nifti
from Testing.study.evaluation.conftest import AFFINE, SHAPE, agreement, faithfulness, noise

NAMES = [f"P{number}" for number in range(10)]


def planted(seed):
    """Evidence that wanders, and a mark in the right front top corner."""
    random = np.random.default_rng(seed)
    values = noise(seed) * 0.1
    at = random.integers(4, 14, 3)
    values[tuple(slice(a, a + 4) for a in at)] += 3
    values[20:23, 25:28, 16:19] += 5
    return values


@pytest.fixture
def study(make_study):
    maps = {name: {"gradcam": planted(n), "random": noise(n)} for n, name in enumerate(NAMES)}
    rows = [
        Row(name, method, "tumour", "core", agreement(auroc + n / 200, 0.3 + n / 99, 0.1 + n / 99))
        for n, name in enumerate(NAMES)
        for method, auroc in (("gradcam", 0.9), ("random", 0.5), ("centre", 0.6))
    ]  # fmt: skip
    evaluations = {name: {"gradcam": faithfulness(0.7, [0.2, 0.3])} for name in NAMES[:4]}
    return make_study(
        maps, rows=rows, evaluations=evaluations, failed=["P99"],
        probabilities={name: 0.6 + n / 40 for n, name in enumerate(NAMES)},
    )  # fmt: skip


@pytest.fixture
def cases(tmp_path):
    """What the study was made from: images with a bright body, a segment that wanders."""
    lines = ["case,image,segmentation"]
    for n, name in enumerate([*NAMES, "P99"]):
        body = np.zeros(SHAPE, np.float32)
        body[4:20, 4:26, 3:17] = 100
        mask = np.zeros(SHAPE, np.uint8)
        at = np.random.default_rng(n).integers(4, 14, 3)
        mask[tuple(slice(a, a + 4) for a in at)] = 1
        for kind, values in (("image", body + noise(n)), ("mask", mask)):
            path = tmp_path / "data" / f"{name}_{kind}.nii.gz"
            write_nifti(path, values)
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
        lines.append(f"{name},{name}_image.nii.gz,{name}_mask.nii.gz")
    table = tmp_path / "data" / "cases.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.mark.slow
def test_a_study_with_a_mark_is_flagged_at_the_mark_and_everything_is_written(study, cases):
    found = evaluate_study(study, cases=cases)
    files = write_study_evaluation(study / STUDY_EVALUATION_FOLDER, found)
    assert [path.name for path in files] == [
        "paired.csv", "places.csv", "fixed_places.csv", "biomarkers.csv", "clusters.csv",
        "metrics.csv", "curves.csv", "fixed-places.png", "places.png", "paired.png", "curves.png",
        "clusters.png", "biomarkers.png", "study-evaluation.json",
    ]  # fmt: skip
    document = json.loads(files[-1].read_text())
    (alarm,) = [one for one in document["fixed_places"] if one["alarm"]]
    assert alarm["method"] == "gradcam"
    assert np.abs(np.array(alarm["place"]) - (0.9, 0.88, 0.88)).max() < 0.06
    assert alarm["words"].startswith("towards the patient's right, the front and the head (")
    sentence = document["sentences"][0]
    assert sentence.startswith("Perhaps a shortcut: Grad-CAM for tumour gathers in one place")
    assert "10 of 10 cases" in sentence
    assert LIMITS[0] in document["limits"]
    assert any("1 cases of the study have no explanation" in note for note in document["notes"])
    compared = "is higher than that of the random map by 0.400 [0.400, 0.400] (p = 0.0039"
    assert any(compared in said for said in document["sentences"])
    assert any("the energy in “core” rises" in said for said in document["sentences"])
    with (study / STUDY_EVALUATION_FOLDER / "places.csv").open() as file:
        places = {(row["method"], row["place"]): row for row in csv.DictReader(file)}
    assert float(places["gradcam", "segment label 1"]["energy"]) > 0.15
    assert float(places["random", "outside the body"]["energy"]) == pytest.approx(
        float(places["random", "outside the body"]["share_of_image"]), abs=0.02
    )


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "IPL"])
def test_a_place_is_named_by_the_patients_sides_however_the_images_are_stored(make_study, axes):
    to = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(axes)
    )
    maps = {}
    for n, name in enumerate(NAMES[:6]):
        values = noise(n) * 0.1
        # Near the low end of the first axis, the high end of the others: RAS millimetres.
        values[1:4, 25:28, 8:12] += 5
        turned = nibabel.Nifti1Image(values, AFFINE).as_reoriented(to)
        maps[name] = {"gradcam": turned.get_fdata(dtype=np.float32)}
    found = evaluate_study(make_study(maps, affine=turned.affine))
    (place,) = found.fixed_places
    assert place.undecided
    assert place_words(place.place, found.survey.sides) == (
        "towards the patient's left and the front (8 % from the patient's left, 88 % from the "
        "back, 48 % from the feet)"
    )


def test_the_middle_and_a_pictures_own_sides_are_named_too():
    assert place_words((0.5, 0.5, 0.4), PATIENT_SIDES).startswith("in the middle of the image (")
    assert place_words((0.9, 0.1), PICTURE_SIDES) == (
        "towards the picture's right and its top (90 % from the picture's left, 10 % from its top)"
    )


def test_without_the_cases_segments_and_body_are_not_known_and_it_says_so(study):
    found = evaluate_study(study)
    assert {one.place for one in found.places} == {"outermost 10 mm", "corners"}
    assert any("--cases" in note for note in found.notes)


def test_energy_in_the_air_is_told_only_where_it_is_more_than_the_airs_share(make_study, cases):
    maps = {}
    for n, name in enumerate(NAMES):
        bright = noise(n)
        bright[:4] *= 20  # outside of the body
        maps[name] = {"gradcam": bright, "gradient": noise(n)}
    found = evaluate_study(make_study(maps), cases=cases)
    air = {one.method: one for one in found.places if one.place == "outside the body"}
    assert min(one.energy.mean for one in air.values()) > 0.5
    said = [words for words in evaluation_sentences(found) if "in the air" in words]
    assert [words.partition(" has")[0] for words in said] == ["Grad-CAM"]


@pytest.mark.slow
def test_in_the_middle_a_finding_of_one_region_is_not_told_from_a_shortcut(make_study, cases):
    maps = {}
    for n, name in enumerate(NAMES):
        values = noise(n) * 0.1
        values[11:14, 14:17, 9:12] += 5
        maps[name] = {"gradcam": values}
    study = make_study(maps)
    (place,) = evaluate_study(study).fixed_places
    assert (place.alarm, place.undecided) == (False, True)
    document = json.loads(
        write_study_evaluation(study / STUDY_EVALUATION_FOLDER, evaluate_study(study))[
            -1
        ].read_text()
    )
    assert not any("Perhaps a shortcut" in said for said in document["sentences"])
    assert any("(not known which): Grad-CAM for tumour" in said for said in document["sentences"])
    # With the segments, which lie elsewhere, it is one.
    (place,) = evaluate_study(study, cases=cases).fixed_places
    assert (place.alarm, place.undecided) == (True, False)


@pytest.mark.slow
def test_the_same_study_gives_the_same_files(study):
    contents = []
    for _ in range(2):
        files = write_study_evaluation(
            study / STUDY_EVALUATION_FOLDER, evaluate_study(study, seed=3)
        )
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]


@pytest.mark.slow
def test_the_report_has_the_section_and_says_when_the_study_has_gone_on(study):
    report = study / "report.html"
    write_report(report, [StudyOutput(study, "A study")])
    assert "Can these maps be believed?" not in report.read_text()
    write_study_evaluation(study / STUDY_EVALUATION_FOLDER, evaluate_study(study))
    page = write_report(report, [StudyOutput(study, "A study")]).read_text()
    assert "Can these maps be believed?" in page
    assert "Perhaps a shortcut: Grad-CAM" in page
    assert page.count("data:image/png;base64") >= 6
    assert "The study has changed since" not in page
    with (study / "journal.jsonl").open("a") as journal:
        journal.write('{"case":"P77","done":false,"source":"","label":null,"failures":[]}\n')
    assert (
        "The study has changed since"
        in write_report(report, [StudyOutput(study, "A study")]).read_text()
    )


@pytest.mark.slow
def test_progress_goes_through_reading_tests_and_pictures_and_a_cancel_leaves_nothing(
    study, cases, tmp_path
):
    told = []
    found = evaluate_study(
        study, cases=cases, progress=lambda done, total: told.append(100 * done / total)
    )
    assert told == sorted(told)
    assert told[-1] == pytest.approx(100)
    # 10 cases thrice and 20 maps read, three steps of the tests for each map, eight metrics.
    assert len(told) > 30 + 20 + 60
    drawn = []
    write_study_evaluation(tmp_path / "out", found, progress=lambda done, _: drawn.append(done))
    assert drawn == [1, 2, 3, 4, 5, 6]
    for least in (1, 60, 90):

        def stop(done, total, least=least):
            if 100 * done / total >= least:
                raise Cancelled

        with pytest.raises(Cancelled):
            evaluate_study(study, cases=cases, progress=stop)
    assert not (study / STUDY_EVALUATION_FOLDER).exists()


@pytest.mark.slow
def test_an_evaluation_of_another_form_is_left_out_of_the_report(study):
    write_study_evaluation(study / STUDY_EVALUATION_FOLDER, evaluate_study(study))
    path = study / STUDY_EVALUATION_FOLDER / STUDY_EVALUATION_FILE
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": 1}))
    page = write_report(study / "report.html", [StudyOutput(study, "A study")]).read_text()
    assert "Can these maps be believed?" not in page


def test_a_folder_without_a_journal_is_no_study(tmp_path):
    with error_with(ErrorCode.STUDY_INCOMPLETE):
        evaluate_study(tmp_path)


def test_a_study_of_which_nothing_is_done_yet_is_refused(make_study):
    with error_with(ErrorCode.CASES_MISSING):
        evaluate_study(make_study({}, failed=["P1"]))


def test_a_single_case_is_refused_with_the_command_for_it(make_study):
    with error_with(ErrorCode.CASES_MISSING):
        evaluate_study(make_study({"P0": {"gradcam": noise(0)}}))


def test_two_cases_are_evaluated_and_what_cannot_be_said_is_said(make_study):
    found = evaluate_study(make_study({name: {"gradcam": noise(0)} for name in NAMES[:2]}))
    assert found.fixed_places == ()
    assert found.clusters == ()
    assert any("at least 8 cases" in note for note in found.notes)


def test_a_map_that_is_gone_damaged_or_not_finite_is_named(study):
    path = study / "P3" / "gradcam-tumour.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[:2000])
    with error_with(ErrorCode.STUDY_INCOMPLETE, "P3/gradcam-tumour.nii.gz"):
        evaluate_study(study)
    values = noise(0)
    values[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    with error_with(ErrorCode.MAP_NOT_FINITE, "P3/gradcam-tumour.nii.gz"):
        evaluate_study(study)
    path.unlink()
    with error_with(ErrorCode.STUDY_INCOMPLETE, "P3/gradcam-tumour.nii.gz"):
        evaluate_study(study)


def test_cases_that_are_not_the_studys_are_refused(study, cases, tmp_path):
    lines = cases.read_text().splitlines()
    fewer = cases.with_name("fewer.csv")
    fewer.write_text("\n".join(line for line in lines if not line.startswith("P4")) + "\n")
    with error_with(ErrorCode.STUDY_INCOMPLETE, "fewer.csv", "P4"):
        evaluate_study(study, cases=fewer)
    nibabel.save(
        nibabel.Nifti1Image(noise(0, (9, 9, 9)), AFFINE), cases.with_name("P0_image.nii.gz")
    )
    with error_with(ErrorCode.GRID_MISMATCH, "P0"):
        evaluate_study(study, cases=cases)


def test_maps_in_which_nothing_speaks_for_the_class_are_left_out_and_counted(make_study):
    maps = {name: {"gradcam": planted(n)} for n, name in enumerate(NAMES)}
    maps["P0"] = {"gradcam": np.zeros(SHAPE, np.float32)}
    found = evaluate_study(make_study(maps))
    assert any(note.startswith("1 maps without positive values") for note in found.notes)
    assert found.fixed_places[0].cases == 9


def test_pictures_of_two_axes_are_evaluated(make_study):
    maps = {}
    for n, name in enumerate(NAMES):
        values = noise(n, (40, 50)) * 0.1
        values[33:38, 2:7] += 2
        maps[name] = {"gradcam": values}
    (found,) = evaluate_study(make_study(maps)).fixed_places
    assert found.alarm
    assert np.abs(np.array(found.place) - (0.88, 0.09)).max() < 0.08
