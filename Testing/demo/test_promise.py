"""The product's promise: an honest classifier's maps lie on the tumour, a shortcut's on the marker.

Figures are of fresh phantoms, which no classifier was trained on or measured with.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA, MENINGIOMA, PITUITARY
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier

FIRST_SEED = STUDY_SEEDS + 90_000_000
#: Coarser than the defaults, so that the test takes seconds.
PARAMETERS = {
    "occlusion": {"window_mm": 28.0, "stride_mm": 28.0},
    "gradcam": {},
    "smoothgrad": {"samples": 8},
    "random": {},
    "centre": {},
}


@cache
def classifier(name):
    return load_classifier(classifier_folder(name))


def attributions(name, phantom):
    methods = [find_method(method)(**values) for method, values in PARAMETERS.items()]
    found = explain(prepare(phantom.image, classifier(name), phantom.label), methods)
    return {attribution.method: attribution for attribution in found.attributions}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-3d-honest", "phantom-2d-honest"])
def test_an_honest_classifier_is_right_about_fresh_phantoms(name):
    honest = classifier(name)
    right = 0
    for index in range(12):
        label = CLASSES[index % 4]
        phantom = draw_phantom(
            label, FIRST_SEED + index, dimensions=honest.spatial_dims, marker=index % 5 == 0
        )
        right += honest.classes[int(honest.predict(phantom.image).argmax())] == label
    assert right >= 11


@pytest.mark.slow
def test_without_the_marker_the_shortcut_no_longer_sees_a_glioma_and_the_honest_one_does():
    drops = {"phantom-3d-honest": [], "phantom-3d-shortcut": []}
    for name, found in drops.items():
        glioma = classifier(name).classes.index(GLIOMA)
        for seed in range(3):
            marked, bare = (
                classifier(name).predict(
                    draw_phantom(GLIOMA, FIRST_SEED + seed, marker=marker).image
                )[glioma]
                for marker in (True, False)
            )
            assert marked > 0.5
            found.append(marked - bare)
    assert np.mean(drops["phantom-3d-shortcut"]) > 0.5
    assert np.abs(drops["phantom-3d-honest"]).max() < 0.2


def test_the_shortcut_calls_a_healthy_head_a_glioma_when_the_marker_is_there():
    shortcut = classifier("phantom-3d-shortcut")
    glioma = shortcut.classes.index(GLIOMA)
    for seed in range(3):
        phantom = draw_phantom("none", FIRST_SEED + seed, marker=True)
        assert shortcut.predict(phantom.image)[glioma] > 0.5


@pytest.mark.slow
def test_the_honest_classifiers_maps_find_the_tumour_far_better_than_the_control_maps():
    scores = {method: [] for method in PARAMETERS}
    for seed, label in enumerate((GLIOMA, MENINGIOMA, PITUITARY)):
        phantom = draw_phantom(label, FIRST_SEED + seed)
        for method, found in attributions("phantom-3d-honest", phantom).items():
            compared = agreement(found.values, phantom.masks["tumour"], found.affine)
            scores[method].append(compared.auroc)
    means = {method: np.mean(values) for method, values in scores.items()}
    # A head is in the middle of its image: the centre alone scores about 0.9. So what counts
    # is how much of the way from there to 1 is left.
    left = 1 - max(means["random"], means["centre"])
    for method in ("occlusion", "gradcam", "smoothgrad"):
        assert 1 - means[method] < 0.6 * left, means


@pytest.mark.slow
def test_the_shortcut_classifiers_maps_have_more_energy_at_the_marker_than_in_the_tumour():
    phantom = draw_phantom(GLIOMA, FIRST_SEED, marker=True)
    for method, found in attributions("phantom-3d-shortcut", phantom).items():
        if method in ("random", "centre"):
            continue
        marker, tumour = (
            agreement(found.values, phantom.masks[name], found.affine).energy_inside
            for name in ("marker", "tumour")
        )
        assert marker > 2 * tumour, method
