"""Predictions, explanations and estimates of every engine are the library's."""

from __future__ import annotations

import math

import numpy as np

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS
from SaliencyExplain.demo.tumours import GLIOMA, NO_TUMOUR
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import (
    EstimateRequest,
    ExplainRequest,
    PredictRequest,
)
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain as explain_directly
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.method_costs import estimate
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.results.class_prediction import Prediction
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice, References
from SaliencyExplain.voxel_volume import Volume
from Testing.comparing import assert_same
from Testing.engine.conftest import LONG, QUICK, Explain, done, ended, volume_of


def test_prediction_is_the_classifiers_own(
    engine: Engine, opened: ClassifierInfo, image: Volume, classifier: Classifier, phantom: Phantom
):
    result = done(engine, PredictRequest(opened.key, engine.put(image)))
    assert isinstance(result, Prediction)
    assert result.classes == classifier.classes
    assert_same(result.probabilities, classifier.predict(phantom.image))


def test_probabilities_stay_numbers(engine: Engine, opened: ClassifierInfo, image: Volume):
    result = done(engine, PredictRequest(opened.key, engine.put(image)))
    assert math.isclose(sum(result.probabilities), 1.0, rel_tol=1e-6)


def test_explanation_equals_the_librarys_to_the_bit(
    engine: Engine, opened: ClassifierInfo, explain: Explain, classifier: Classifier, image: Volume
):
    methods = (
        MethodChoice("occlusion", {"window_mm": 60, "stride_mm": 40.0, "fill": "minimum"}),
        MethodChoice("gradcam", {"layers": ["features.conv0", "features.transition1.conv"]}),
        MethodChoice("smoothgrad", {"samples": 3, "squared": False}),
    )
    direct = explain_directly(
        prepare(image_of(image, "a phantom"), classifier, "glioma-like", compute=Compute("cpu")),
        select_methods(
            ["occlusion", "gradcam", "smoothgrad"],
            [
                "occlusion.window_mm=60",
                "occlusion.stride_mm=40",
                "occlusion.fill=minimum",
                "gradcam.layers=features.conv0,features.transition1.conv",
                "smoothgrad.samples=3",
                "smoothgrad.squared=false",
            ],
        ),
        seed=7,
    )
    result = done(engine, explain(*methods, target="glioma-like", seed=7, image_name="a phantom"))
    assert isinstance(result, Explanation)
    assert_same(result.probabilities, direct.probabilities)
    assert result.target == direct.target == 1
    assert [map_.label for map_ in result.attributions] == [
        map_.label for map_ in direct.attributions
    ]
    for ours, theirs in zip(result.attributions, direct.attributions, strict=True):
        assert_same(ours.values, theirs.values)
        assert ours.affine.tobytes() == theirs.affine.tobytes()
        assert (ours.method, ours.layer, ours.signed) == (
            theirs.method,
            theirs.layer,
            theirs.signed,
        )
        assert ours.target_name == theirs.target_name
        # A classifier that was open before keeps the name that it was opened under first.
        assert ours.provenance == {**theirs.provenance, "classifier": opened.name}
        as_told = {
            key: list(v) if isinstance(v, tuple) else v for key, v in ours.parameters.items()
        }
        assert as_told == {
            key: list(v) if isinstance(v, tuple) else v for key, v in theirs.parameters.items()
        }


def test_segments_and_backgrounds_reach_the_methods_as_in_the_library(
    engine: Engine, explain: Explain, classifier: Classifier, image: Volume, phantom: Phantom
):
    tumour = phantom.masks["tumour"]
    nothing = np.zeros_like(tumour)
    other = volume_of(draw_phantom(NO_TUMOUR, STUDY_SEEDS + 6))
    direct = explain_directly(
        prepare(
            image_of(image),
            classifier,
            "meningioma-like",
            compute=Compute("cpu"),
            references=LoadedReferences(
                Segmentation((Segment("mass", (1.0, 0.0, 0.0), tumour),), image.affine, ()),
                (image_of(other),),
            ),
        ),
        select_methods(
            ["shapley", "expected-gradients"],
            ["shapley.regions=segments", "expected-gradients.samples=2"],
        ),
    )
    request = explain(
        MethodChoice("shapley", {"regions": "segments"}),
        MethodChoice("expected-gradients", {"samples": 2}),
        target="meningioma-like",
        references=References(
            engine.put(Volume(np.stack([tumour, nothing]).astype(np.uint8), image.affine)),
            ("mass", "nothing"),
            backgrounds=(engine.put(other),),
        ),
    )
    result = done(engine, request)
    assert isinstance(result, Explanation)
    for ours, theirs in zip(result.attributions, direct.attributions, strict=True):
        assert_same(ours.values, theirs.values)
        assert ours.provenance["figures"].keys() == theirs.provenance["figures"].keys()
    regions = {
        region["name"]: region for region in result.attributions[0].provenance["figures"]["regions"]
    }
    # What the classifier answers is the mass's doing, which is known of these phantoms.
    assert regions["mass"]["value"] > 0.5
    assert any("nothing" in note for note in result.notes)


def test_segments_of_another_place_or_without_names_are_refused(
    engine: Engine, explain: Explain, image: Volume, phantom: Phantom
):
    mask = phantom.masks["tumour"][None].astype(np.uint8)
    shapley = MethodChoice("shapley", {"regions": "segments"})
    elsewhere = image.affine.copy()
    elsewhere[0, 3] += 5
    for segments, names, words in (
        (Volume(mask, elsewhere), ("mass",), "stack of segments"),
        (Volume(mask, image.affine), (), "0 name(s)"),
    ):
        request = explain(shapley, references=References(engine.put(segments), names))
        status = ended(engine, engine.start(request))
        assert status.state == "failed"
        assert words in status.error


def test_estimate_is_the_librarys_and_starts_nothing(
    engine: Engine, explain: Explain, classifier: Classifier, image: Volume
):
    result = done(engine, EstimateRequest(explain(LONG, QUICK)))
    assert isinstance(result, Estimate)
    methods = select_methods(
        ["occlusion", "gradcam"], ["occlusion.window_mm=20", "occlusion.stride_mm=5"]
    )
    assert (
        result.forward_passes
        == estimate(prepare(image_of(image), classifier), methods).forward_passes
    )
    assert result.seconds > 0


def test_two_dimensions(engine: Engine):
    from SaliencyExplain.demo.study import classifier_folder
    from SaliencyExplain.models.loading import load_classifier

    folder = classifier_folder("phantom-2d-honest")
    info = engine.open_classifier(str(folder))
    assert info.spatial_dims == 2
    phantom = draw_phantom(GLIOMA, STUDY_SEEDS + 9, dimensions=2)
    picture = volume_of(phantom)
    key = engine.put(picture)
    predicted = done(engine, PredictRequest(info.key, key))
    assert_same(predicted.probabilities, load_classifier(folder).predict(phantom.image))
    explained = done(engine, ExplainRequest(info.key, key, ExplainSpec((QUICK,))))
    assert explained.attributions[0].values.shape == picture.values.shape[1:]
