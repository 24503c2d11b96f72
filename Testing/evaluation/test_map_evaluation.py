"""The whole evaluation on phantoms whose truth is known, and its files."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.control_maps import CentreMap
from SaliencyExplain.attribution.methods.gradient import SmoothGrad
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.errors import Cancelled, ErrorCode
from SaliencyExplain.evaluation.image.answers import NO, PARTLY, UNKNOWN, YES
from SaliencyExplain.evaluation.image.cost import CostTier
from SaliencyExplain.evaluation.image.evaluation_files import write_evaluation
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.json_text import json_text
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.results.image_evaluation import read_evaluation
from Testing.evaluation.phantom_evaluations import FEW, answers, asked
from Testing.expected_errors import error_with

CHANCE, WEIGHTS, STABLE = (
    "Does it beat chance?",
    "Does it depend on the weights?",
    "Is it stable?",
)


def as_map(mask, image, name):
    values = torch.from_numpy(mask[None].astype(np.float32))
    return MetaTensor(values, affine=image.affine, meta={"name": name})


@pytest.fixture(scope="module")
def whole(phantom, honest):
    """An evaluation of Grad-CAM and of a map that knows nothing, and what was told on the way."""
    case = asked(phantom, honest, segments=["tumour"])
    before = copy.deepcopy(honest.network.state_dict())
    told, costs = [], []
    evaluated = evaluate_maps(
        case,
        [GradCAM(), CentreMap()],
        seed=1,
        cost_tier=dataclasses.replace(FEW, random_maps=19, draws=2, independent=True),
        progress=lambda done, total: told.append((done, total)),
        announce=costs.append,
    )
    same = all(
        torch.equal(value, before[name]) for name, value in honest.network.state_dict().items()
    )
    return evaluated, evaluated.evaluation, told, costs[0], same


@pytest.mark.slow
def test_an_honest_classifiers_grad_cam_beats_chance_and_depends_on_the_weights(whole):
    _, found, *_ = whole
    gradcam = answers(found, "gradcam")
    assert gradcam[CHANCE] == YES
    assert gradcam[WEIGHTS] == YES
    assert gradcam[STABLE] in (YES, PARTLY)
    assert gradcam["Is it on the segment tumour?"] in (YES, PARTLY)
    assert answers(found, "centre")[WEIGHTS] == NO


def test_the_evaluation_costs_what_it_said_and_tells_a_rising_progress(whole):
    _, found, told, cost, _ = whole
    assert found.forward_passes == pytest.approx(cost.forward_passes, rel=0.02)
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(cost.forward_passes, rel=0.02)
    assert {total for _, total in told} == {cost.forward_passes}


def test_the_users_network_is_as_it_was(whole):
    assert whole[4]


def test_the_agreement_of_methods_and_of_layers_is_told(whole):
    _, found, *_ = whole
    kinds = [pair.kind for pair in found.pairs]
    assert kinds.count("methods") == 1
    assert kinds.count("layers") == 3
    assert all(-1 <= pair.similarity.rank_correlation <= 1 for pair in found.pairs)


@pytest.mark.slow
def test_its_files_hold_what_was_found(whole, tmp_path):
    evaluated, found, *_ = whole
    case = evaluated.case
    files = write_evaluation(tmp_path, evaluated)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files}
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert json_text(read_evaluation(tmp_path).as_json()) == json_text(found.as_json())
    assert document["classifier_sha256"] == case.classifier.identity
    gradcam = document["maps"][0]
    assert {one["question"]: one["answer"] for one in gradcam["answers"]} == answers(
        found, "gradcam"
    )
    assert gradcam["faithfulness"]["curves"]["mean_drop"] == pytest.approx(
        found.maps[0].faithfulness.curves.mean_drop
    )
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["curve"] == "deletion"]
    curve = [float(row["y"]) for row in rows if row["map"] == found.maps[0].label]
    np.testing.assert_allclose(curve, found.maps[0].faithfulness.curves.deletion, rtol=1e-5)
    with Image.open(tmp_path / found.maps[0].card) as card:
        assert card.width == 1100
        assert card.height > 700
    first = (tmp_path / found.maps[0].card).read_bytes()
    write_evaluation(tmp_path, evaluated)
    assert (tmp_path / found.maps[0].card).read_bytes() == first


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-3d-honest", "phantom-3d-shortcut"])
def test_a_map_of_what_the_classifier_uses_beats_chance_and_one_of_the_rest_does_not(name):
    """The tumour is what the honest classifier uses, the marker what the shortcut does."""
    phantom = draw_phantom("glioma-like", STUDY_SEEDS + 91_000_003, marker=True)
    case = asked(phantom, load_classifier(classifier_folder(name)))
    maps = {part: as_map(mask, phantom.image, part) for part, mask in phantom.masks.items()}
    found = evaluate_maps(
        case, [], given_maps=maps, parts=["faithfulness"], cost_tier=CostTier(random_maps=19)
    ).evaluation
    used, other = ("tumour", "marker") if name.endswith("honest") else ("marker", "tumour")
    metrics = {one.label: one.faithfulness.metric("insertion_area") for one in found.maps}
    # By how many random maps the mask's insertion beats is a matter of the seed: p 0.05 to 0.45
    # for the honest classifier's tumour over five of them. Infidelity tells it with each.
    assert metrics[used].value > metrics[other].value
    missed = {one.label: one.faithfulness.metric("infidelity") for one in found.maps}
    assert missed[used].p_value <= 0.05 < missed[other].p_value
    assert missed[used].value < 0.5 * min(missed[used].null_values)
    assert answers(found, used)[CHANCE] in (YES, PARTLY)
    assert answers(found, other)[CHANCE] != YES
    assert answers(found, used)[WEIGHTS] == UNKNOWN


@pytest.mark.slow
def test_a_map_on_another_grid_is_brought_over_by_its_affine(phantom, honest):
    case = asked(phantom, honest)
    mask = phantom.masks["tumour"]
    flipped = np.ascontiguousarray(mask[::-1, :, ::-1])
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[:3, 3] = [mask.shape[0] - 1, 0, mask.shape[2] - 1]
    affine = phantom.image.affine.numpy() @ flip
    other = MetaTensor(torch.from_numpy(flipped[None].astype(np.float32)), affine=affine)
    maps = {"as it is": as_map(mask, phantom.image, "a"), "flipped": other}
    found = evaluate_maps(
        case, [], given_maps=maps, parts=["faithfulness"], cost_tier=FEW
    ).evaluation
    one, two = (each.faithfulness.curves for each in found.maps)
    np.testing.assert_allclose(one.deletion, two.deletion, atol=1e-6)
    far = MetaTensor(other.as_tensor(), affine=affine + 1e4 * np.eye(4, 4, 3))
    with error_with(ErrorCode.NO_OVERLAP):
        evaluate_maps(case, [], given_maps={"far": far}, parts=["faithfulness"], cost_tier=FEW)


@pytest.mark.slow
def test_a_constant_map_is_not_judged_and_the_reason_is_said(phantom, honest, tmp_path):
    case = asked(phantom, honest, segments=["tumour"])
    everywhere = as_map(np.ones_like(phantom.masks["tumour"]), phantom.image, "even")
    evaluated = evaluate_maps(
        case, [], given_maps={"even": everywhere}, parts=["faithfulness"], cost_tier=FEW
    )
    found = evaluated.evaluation
    assert answers(found, "even")[CHANCE] == UNKNOWN
    assert "constant" in found.maps[0].answers[0].words
    assert any("constant" in note for note in found.maps[0].notes)
    assert json.loads(json_text(found.as_json()))["maps"][0]["faithfulness"] is None
    assert len(write_evaluation(tmp_path, evaluated)) == 3


def test_a_small_budget_makes_a_smaller_evaluation_and_says_so(phantom, honest):
    case = asked(phantom, honest)
    costs = []
    parts = ["sanity", "stability"]
    found = evaluate_maps(
        case, [SmoothGrad(samples=2)], parts=parts, budget=60, announce=costs.append
    ).evaluation
    assert found.cost_tier == costs[0].name == "least"
    assert any("cost tier least" in note for note in found.notes)
    assert found.maps[0].sanity is not None
    assert found.maps[0].stability is not None
    assert found.forward_passes < 60


@pytest.mark.slow
def test_an_evaluation_can_be_cancelled_and_the_same_seed_gives_the_same_evaluation(
    phantom, honest
):
    case = asked(phantom, honest)

    def stop(done, total):
        if done > 5:
            raise Cancelled

    before = copy.deepcopy(honest.network.state_dict())
    with pytest.raises(Cancelled):
        evaluate_maps(case, [GradCAM()], parts=["sanity"], progress=stop)
    assert all(torch.equal(v, before[k]) for k, v in honest.network.state_dict().items())
    first, second = (
        evaluate_maps(case, [GradCAM()], parts=["sanity"], seed=3, cost_tier=FEW).evaluation
        for _ in range(2)
    )
    assert json_text(first.maps[0].as_json()) == json_text(second.maps[0].as_json())


@pytest.mark.slow
def test_a_picture_gets_the_published_curves(tmp_path):
    phantom = draw_phantom("glioma-like", STUDY_SEEDS + 91_000_002, dimensions=2)
    case = asked(phantom, load_classifier(classifier_folder("phantom-2d-honest")))
    found = evaluate_maps(case, [GradCAM()], parts=["faithfulness"], cost_tier=FEW)
    faithful = found.evaluation.maps[0].faithfulness
    sic = faithful.metric("sic_compressed")
    assert sic.value > sic.centre
    assert sic.null_values == ()
    assert len(write_evaluation(tmp_path, found)) == 4


def test_an_unknown_part_is_refused_with_the_nearest(phantom, honest):
    with error_with(ErrorCode.NAME_UNKNOWN, "'sanety'", "'sanity'"):
        evaluate_maps(asked(phantom, honest), [GradCAM()], parts=["sanety"])
