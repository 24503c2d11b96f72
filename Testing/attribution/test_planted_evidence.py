"""Class activation and regions find what the shipped classifiers are known to look at."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep
from SaliencyExplain.attribution.methods.respond_cam import RespondCAM
from SaliencyExplain.attribution.methods.score_cam import ScoreCAM
from SaliencyExplain.attribution.methods.xrai import XRAI, FastXRAI
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA, MENINGIOMA
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier

FIRST_SEED = STUDY_SEEDS + 91_000_000
METHODS = (
    ScoreCAM(channels=8),
    RespondCAM(),
    LayerSweep(),
    XRAI(steps=6),
    FastXRAI(steps=6),
)


@cache
def agreements(name, evidence):
    """For each method and phantom the agreement with each segment."""
    classifier = load_classifier(classifier_folder(name))
    marked = evidence == "marker"
    found = {method.name: [] for method in METHODS}
    for seed, label in enumerate((GLIOMA,) if marked else (GLIOMA, MENINGIOMA)):
        phantom = draw_phantom(
            label, FIRST_SEED + seed, dimensions=classifier.spatial_dims, marker=marked
        )
        explained = explain(prepare(phantom.image, classifier, label), METHODS)
        for one in explained.attributions:
            found[one.method].append(
                {
                    segment: agreement(one.values, mask, one.affine)
                    for segment, mask in phantom.masks.items()
                }
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", [method.name for method in METHODS])
@pytest.mark.parametrize("name", ["phantom-2d-honest", "phantom-3d-honest"])
def test_the_honest_classifiers_maps_lie_on_the_tumour(name, method):
    found = agreements(name, "tumour")[method]
    assert np.mean([one["tumour"].auroc for one in found]) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_the_shortcut_classifiers_maps_lie_on_the_marker(method):
    (found,) = agreements("phantom-3d-shortcut", "marker")[method]
    assert found["marker"].auroc > 0.95
    assert found["marker"].auroc > found["tumour"].auroc
    # The tumour is larger than the marker: by chance it would have more of the energy.
    lift = {part: one.energy_inside / one.energy_chance for part, one in found.items()}
    assert lift["marker"] > 4 * lift["tumour"], lift
    assert lift["marker"] > 3, lift
