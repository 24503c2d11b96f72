"""``evaluate``: the evaluation of a map on the command line."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_evaluate_answers_each_question_for_a_method_and_for_a_map_of_another_tool(
    command, phantoms, honest_3d, tmp_path
):
    image, out = phantoms / "phantom-001_image.nii.gz", tmp_path / "evaluation"
    header = nibabel.load(image)
    values = np.random.default_rng(0).random(header.shape).astype(np.float32)
    path = tmp_path / "other.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, header.affine), path)
    ended = command(
        "evaluate", "image", image, "-c", honest_3d, "-m", "gradcam", "--map", path,
        "-s", phantoms / "phantom-001_mask.seg.nrrd", "-o", out, "--passes", 400,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    words = " ".join(ended.out.split())
    for question in ("Does it beat", "Does it depend", "Is it stable?", "Is it on the segment"):
        assert question in words
    assert "forward passes (" in ended.err
    assert "cost tier least was used" in " ".join(ended.err.split())
    assert sorted(file.name for file in out.iterdir()) == [
        "card-gradcam@class_layers.relu.png", "card-other.png", "curves.csv",
        "curves.png", "evaluation.json",
    ]  # fmt: skip
    document = json.loads((out / "evaluation.json").read_text())
    other = {one["question"]: one for one in document["maps"][1]["answers"]}
    assert other["Does it beat chance?"]["answer"] != "yes"
    assert other["Is it stable?"]["answer"] == "not known"
    assert "came from a file" in other["Is it stable?"]["words"]


def test_evaluate_prints_one_json_document(command, phantoms, honest_3d, tmp_path):
    ended = command(
        "evaluate", "image", phantoms / "phantom-001_image.nii.gz", "-c", honest_3d, "-m", "centre",
        "-o", tmp_path / "out", "--part", "sanity", "--cost-tier", "least", "--json",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert [one["label"] for one in ended.document["maps"]] == ["centre"]
    assert ended.document["cost_tier"] == "least"
    answers = {one["question"]: one["answer"] for one in ended.document["maps"][0]["answers"]}
    assert answers["Does it depend on the weights?"] == "no"
    assert (
        json.loads((tmp_path / "out" / "evaluation.json").read_text())["maps"]
        == (ended.document["maps"])
    )


def test_evaluate_says_in_one_line_what_is_missing_or_wrong(command, phantoms, honest_3d, tmp_path):
    image, out = phantoms / "phantom-001_image.nii.gz", tmp_path / "out"
    nothing = command("evaluate", "image", image, "-c", honest_3d, "-o", out)
    assert nothing.status == 2
    assert "--method METHOD, or --map FILE" in nothing.err
    part = command(
        "evaluate",
        "image",
        image,
        "-c",
        honest_3d,
        "-m",
        "gradcam",
        "-o",
        out,
        "--part",
        "stabilty",
    )
    assert part.status == 2
    assert "Did you mean 'stability'" in part.err
    for words in (("--set", "a.b=1"), ("--layer", "x"), ("--background", image)):
        unused = command(
            "evaluate", "image", image, "-c", honest_3d, "--map", image, "-o", out, *words
        )
        assert unused.status == 2
        assert f"{words[0]} is used by methods only" in unused.err
    both = command(
        "evaluate", "image", image, "-c", honest_3d, "-m", "gradcam", "-o", out,
        "--cost-tier", "full", "--passes", 9,
    )  # fmt: skip
    assert both.status == 2
    assert "either --passes or --cost-tier" in both.err
    modality = command(
        "evaluate", "image", image, "-c", honest_3d, "-m", "gradcam", "-o", out,
        "--modality-segmentation", "t1",
    )  # fmt: skip
    assert modality.status == 2
    assert "CHANNEL=FILE" in modality.err
    assert not out.exists()


def test_the_maps_evaluated_and_the_random_control_maps_are_those_of_explain(
    command, phantoms, honest_3d, tmp_path
):
    image, truth = phantoms / "phantom-001_image.nii.gz", phantoms / "phantom-001_mask.seg.nrrd"
    given = (image, "-c", honest_3d, "-m", "smoothgrad", "--set", "smoothgrad.samples=2")
    given = (*given, "-s", truth, "--seed", 5)
    explained = command("explain", *given, "-o", tmp_path / "explained", "--json")
    assert explained.status == 0, explained.err
    entry = json.loads((tmp_path / "explained" / "journal.jsonl").read_text().splitlines()[-1])
    evaluated = command(
        "evaluate", "image", *given, "-o", tmp_path / "evaluated", "--part", "agreement", "--json"
    )
    assert evaluated.status == 0, evaluated.err
    its = {row["method"]: row["auroc"] for row in entry["rows"]}
    ours = {row["method"]: row["auroc"] for row in evaluated.document["maps"][0]["agreement"]}
    assert ours["random"] == its["random"]
    # The map is SmoothGrad's, whose noise is the image's own.
    assert ours["smoothgrad"] == its["smoothgrad"]


def test_a_map_of_another_image_is_refused(command, phantoms, honest_3d, tmp_path):
    images = [phantoms / f"phantom-00{number}_image.nii.gz" for number in (1, 2)]
    out = tmp_path / "out"
    assert command("explain", images[0], "-c", honest_3d, "-m", "gradcam", "-o", out).status == 0
    (path,) = out.glob("*/*.nii.gz")
    words = ("-c", honest_3d, "--map", path, "-o", tmp_path / "evaluation", "--part", "agreement",
             "-s", phantoms / "phantom-001_mask.seg.nrrd")  # fmt: skip
    refused = command("evaluate", "image", images[1], *words)
    assert refused.status == 2
    assert "SE-MAP-OUTDATED" in refused.err
    assert str(path) in refused.err
    assert not (tmp_path / "evaluation").exists()
    assert command("evaluate", "image", images[0], *words).status == 0
