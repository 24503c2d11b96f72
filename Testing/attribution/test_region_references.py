"""Shapley values, kernel SHAP and LIME beside captum and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap as CaptumKernelShap
from captum.attr import Lime as CaptumLime
from captum.attr import ShapleyValues, ShapleyValueSampling
from sklearn.linear_model import Ridge

from SaliencyExplain.attribution.methods.kernel_shap import KernelShap
from SaliencyExplain.attribution.methods.lime import Lime
from SaliencyExplain.attribution.methods.shapley import Shapley
from SaliencyExplain.attribution.perturbation.least_squares import constrained, ridge
from Testing.attribution.region_games import (
    of_regions,
    picture_task,
    played,
    segments,
)


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def dims(request):
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Shapley, KernelShap])
def test_exact_values_equal_captum(task, dims, kind):
    job = picture_task(task, dims)
    values, figures = played(segments(kind), job)

    def forward(images):
        return job.network(images)[:, 1]

    captum = ShapleyValues if dims == 2 else ShapleyValueSampling
    more = {} if dims == 2 else {"n_samples": 150}
    with torch.no_grad():
        expected = captum(forward).attribute(
            job.input, baselines=0.0, feature_mask=job.regions[None, None], **more
        )[0, 0]
    tolerance = 1e-5 if dims == 2 else 0.05
    torch.testing.assert_close(of_regions(values, job), expected.float(), rtol=0, atol=tolerance)
    assert figures["regions"][-1]["name"] == "elsewhere"


@pytest.mark.parametrize("kind", [Shapley, KernelShap])
def test_the_voxels_add_up_to_what_the_regions_count_together(task, dims, kind):
    job = picture_task(task, dims)
    values, figures = played(segments(kind), job)
    with torch.no_grad():
        change = job.network(job.input) - job.network(torch.zeros_like(job.input))
    assert float(values.sum()) == pytest.approx(float(change[0, 1]), abs=1e-4)
    for region in figures["regions"]:
        inside = values[job.regions == region["label"]]
        assert float(inside.sum()) == pytest.approx(region["value"], abs=1e-5)
        assert float(inside.max() - inside.min()) == 0


def test_kernel_shap_equals_captum_with_many_samples(task):
    job = picture_task(task, 2)
    values, _ = played(segments(KernelShap), job)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = CaptumKernelShap(lambda images: job.network(images)[:, 1]).attribute(
            job.input, baselines=0.0, feature_mask=job.regions[None, None], n_samples=400
        )[0, 0]
    torch.testing.assert_close(of_regions(values, job), expected.float(), rtol=0, atol=0.02)


def test_lime_equals_captum_with_the_same_samples(task):
    job = picture_task(task, 2, seed=3)
    method = segments(Lime, samples=30, penalty=0.5)
    values, figures = played(method, job)
    plan = method.plan(job, 5)
    weights, drawn = plan.weights(30), iter(range(30))
    captum = CaptumLime(
        lambda images: job.network(images)[:, 1],
        interpretable_model=SkLearnRidge(alpha=0.5),
        similarity_func=lambda _original, _changed, mask, **_: torch.tensor(
            weights[next(index for index in numbers)]
        ),
        perturb_func=lambda _original, **_: torch.from_numpy(
            reordered(plan.present(next(drawn)))
        ).long()[None],
    )
    numbers = iter(range(30))
    with torch.no_grad():
        expected = captum.attribute(
            job.input, baselines=0.0, feature_mask=job.regions[None, None], n_samples=30
        )[0, 0]
    torch.testing.assert_close(of_regions(values, job), expected.float(), rtol=1e-3, atol=1e-5)
    assert 0 < figures["explained_variance"] <= 1


def reordered(present):
    """Our last player is what lies elsewhere, captum's first."""
    return np.roll(present, 1)


def test_the_regressions_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    present = random.random((50, 6)) < 0.5
    outputs, weights = random.standard_normal(50), random.random(50)
    expected = Ridge(alpha=0.7).fit(present, outputs, sample_weight=weights).coef_
    np.testing.assert_allclose(ridge(present, outputs, weights, 0.7), expected, rtol=1e-8)
    found = constrained(present, outputs, weights, 2.5)
    assert found.sum() == pytest.approx(2.5)
    # No step that keeps the sum makes the error less.
    slope = present.T @ (weights * (present @ found - outputs))
    np.testing.assert_allclose(slope, slope.mean(), atol=1e-9)
