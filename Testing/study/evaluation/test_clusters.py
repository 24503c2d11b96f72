"""Groups of maps: planted ones are found, and none in one kind of maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation.study import clusters
from SaliencyExplain.evaluation.study.clusters import cluster_maps, cluster_methods
from Testing.expected_errors import error_with
from Testing.study.evaluation.planted_places import background, blob, placed


def maps_around(at, cases, target="tumour"):
    return [placed(n, background(n) + 0.2 * blob(at), target=target) for n in cases]


def test_two_planted_groups_are_found_with_their_classes():
    maps = maps_around((5, 5, 5), range(7), "tumour") + maps_around((15, 15, 5), range(7, 17))
    maps = [maps[place] for place in np.random.default_rng(0).permutation(len(maps))]
    found = cluster_maps("gradcam", maps)
    assert [set(group.cases) for group in found.groups] == [
        {f"P{n}" for n in range(7, 17)}, {f"P{n}" for n in range(7)},
    ]  # fmt: skip
    assert found.groups[1].targets == {"tumour": 7}
    middle = np.unravel_index(found.groups[0].mean.argmax(), found.groups[0].mean.shape)
    assert np.abs(np.array(middle) - (15, 15, 5)).max() <= 1


def test_three_planted_groups_are_found():
    places = ((5, 5, 5), (15, 15, 5), (5, 15, 15))
    maps = [m for n, at in enumerate(places) for m in maps_around(at, range(8 * n, 8 * n + 8))]
    assert [len(group.cases) for group in cluster_maps("gradcam", maps).groups] == [8, 8, 8]


@pytest.mark.parametrize("count", [8, 16, 40])
def test_random_maps_are_one_group(count):
    several = 0
    for study in range(10):
        maps = [placed(n, background(1000 * study + n)) for n in range(count)]
        several += len(cluster_maps("random", maps).groups) > 1
    assert several <= 1


@pytest.mark.parametrize("most_dense", [clusters._MOST_DENSE, 30])
@pytest.mark.parametrize("joined", [False, True])
def test_groups_are_those_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, most_dense: int, joined: bool
):
    monkeypatch.setattr(clusters, "_MOST_DENSE", most_dense)
    places = ((5, 5, 5), (15, 15, 5), (5, 15, 15))
    maps = [m for n, at in enumerate(places) for m in maps_around(at, range(50 * n, 50 * n + 50))]
    if joined:
        # Maps between two groups, so that their graph is in one part.
        both = 0.1 * (blob(places[0]) + blob(places[1]))
        maps += [placed(n, background(n) + both) for n in range(200, 230)]
    found = cluster_maps("gradcam", maps)
    features = np.stack([
        one.energy.astype(np.float64).reshape(10, 2, 10, 2, 10, 2).sum(axis=(1, 3, 5)).ravel()
        for one in maps
    ])  # fmt: skip
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    graph = kneighbors_graph(features, round(np.log(len(maps)))).toarray()
    affinity = (graph + graph.T) / 2
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    values = np.linalg.eigvalsh(np.eye(len(maps)) - scale[:, None] * affinity * scale)
    np.testing.assert_allclose(
        found.eigenvalues, np.maximum(values[: len(found.eigenvalues)], 0), atol=1e-9
    )
    count = int(np.diff(values[: len(found.eigenvalues)]).argmax()) + 1
    assert len(found.groups) == count > 1
    reference = SpectralClustering(
        count, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    ).fit_predict(affinity)
    place = {case: number for number, group in enumerate(found.groups) for case in group.cases}
    assert adjusted_rand_score(reference, [place[one.case] for one in maps]) == 1


def test_fewer_than_eight_cases_are_refused_in_one_line():
    with error_with(ErrorCode.CASES_MISSING, "gradcam", "7"):
        cluster_maps("gradcam", maps_around((5, 5, 5), range(7)))


def flat_maps(seed, count, places=None):
    """Maps of two axes with a peak at one of the places, or anywhere, over a rough background."""
    random = np.random.default_rng(seed)
    maps = []
    for number in range(count):
        at = places[number % len(places)] if places else random.integers(0, 20, 2)
        energy = gaussian_filter(random.normal(size=(20, 20)), 1, mode="wrap")
        energy = np.abs(energy) / np.abs(energy).sum()
        peak = blob(at, (20, 20), width=2)
        maps.append(placed(number, energy + 0.5 * peak / peak.sum()))
    return maps


@pytest.mark.slow
def test_few_maps_without_groups_are_one_group_in_19_studies_of_20():
    several = 0
    for study in range(40):
        found = cluster_methods(
            {name: flat_maps([study, number], 12) for number, name in enumerate("ab")}, seed=study
        )
        several += any(len(one.groups) > 1 for one in found)
    # The gap alone finds groups in four of ten such sets. Two standard errors above 5 %.
    assert several <= 5


def test_groups_that_are_there_are_found_beside_a_method_without_any():
    there = flat_maps(0, 12, ((4, 4), (15, 15)))
    found = cluster_methods({"there": there, "none": flat_maps(1, 12)})
    assert [len(one.groups) for one in found] == [2, 1]
    assert found[0].p_corrected <= 0.05
    assert {len(group.cases) for group in found[0].groups} == {6}
