"""The shortcut detector: planted places are found where they are, and none in their absence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from SaliencyExplain.errors import Cancelled
from SaliencyExplain.evaluation.study.fixed_places import (
    find_fixed_places,
    fixed_segments,
    told_from_anatomy,
)
from SaliencyExplain.evaluation.study.normalised_maps import CELLS
from Testing.study.evaluation.planted_places import CUBE, background, blob, placed


def wandering(seed, shape=CUBE):
    place = np.random.default_rng(seed).integers(2, CELLS - 2, len(shape))
    return background(seed, shape) + 0.05 * blob(place, shape)


@pytest.mark.parametrize("shape", [CUBE, CUBE[:2]])
def test_a_planted_fixed_place_is_found_where_it_is(shape):
    at = (17, 3, 9)[: len(shape)]
    maps = [
        placed(seed, wandering(seed, shape) + 0.04 * blob(at, shape)) for seed in range(10)
    ]  # fmt: skip
    (found,) = find_fixed_places(maps, {})
    assert found.alarm
    assert np.abs(np.array(found.place) * CELLS - 0.5 - at).max() <= 1
    assert found.p_corrected < 0.05
    assert found.stands_out == 1
    assert found.excess > 2 * found.chance


def test_a_place_that_only_some_cases_have_is_told_with_their_share():
    maps = [
        placed(seed, wandering(seed) + (0.06 * blob((17, 3, 9)) if seed % 2 else 0))
        for seed in range(12)
    ]
    (found,) = find_fixed_places(maps, {})
    assert found.stands_out == pytest.approx(0.5, abs=0.1)
    assert not found.alarm


@pytest.mark.slow
def test_in_noise_and_wandering_evidence_there_is_no_alarm():
    alarms = 0
    for study in range(20):
        maps = [placed(seed, wandering(1000 * study + seed)) for seed in range(8)]
        (found,) = find_fixed_places(maps, {}, seed=study)
        alarms += found.alarm
    assert alarms == 0


@pytest.mark.slow
def test_the_p_value_is_even_where_there_is_nothing():
    values = []
    for study in range(60):
        maps = [placed(seed, background(1000 * study + seed)) for seed in range(6)]
        (found,) = find_fixed_places(maps, {}, seed=study)
        values.append(found.p_value)
    assert np.mean(np.array(values) <= 0.1) < 0.25
    assert 0.3 < np.mean(values) < 0.7


def test_a_broad_fixed_organ_is_no_small_place():
    organ = blob((10, 10, 10), width=5)
    maps = [placed(seed, organ / organ.sum() + background(seed)) for seed in range(10)]
    (found,) = find_fixed_places(maps, {})
    assert not found.alarm


def test_what_spills_out_of_a_finding_is_the_findings():
    maps = []
    for seed in range(10):
        energy = background(seed) + 0.2 * blob((10, 10, 5), width=2)
        inside = blob((10, 10, 5), width=1) > 0.3
        energy = energy / energy.sum()
        maps.append(placed(seed, energy, outside=np.where(inside, 0, energy), room=1.0 - inside))
    (found,) = find_fixed_places(maps, {})
    assert not found.alarm


def test_the_other_classes_are_told_beside_it():
    maps = [placed(seed, wandering(seed) + 0.05 * blob((17, 3, 9))) for seed in range(6)]
    maps += [placed(seed, wandering(seed), target="healthy") for seed in range(10, 16)]
    tumour, healthy = find_fixed_places(maps, {})
    assert tumour.alarm
    assert not healthy.alarm
    assert abs(tumour.others) < 0.01


def test_fewer_than_five_cases_of_a_class_say_nothing():
    maps = [placed(seed, blob((17, 3, 9))) for seed in range(4)]
    assert find_fixed_places(maps, {}) == []


def test_a_segment_that_never_moves_is_told_from_one_that_does():
    marker = [(blob((17, 3, 9)) > 0.5).astype(float)] * 6
    tumour = [(blob((3 + 2 * n, 10, 10)) > 0.5).astype(float) for n in range(6)]
    found = fixed_segments({"marker": marker, "tumour": tumour})
    assert list(found) == ["marker"]
    maps = [placed(seed, wandering(seed) + 0.05 * blob((17, 3, 9))) for seed in range(6)]
    (place,) = find_fixed_places(maps, found)
    assert place.segment == "marker"


def test_more_methods_take_no_more_shuffles_and_the_place_is_still_found_among_them():
    flat = CUBE[:2]
    maps = [
        dataclasses.replace(placed(seed, wandering(97 * method + seed, flat)), method=f"m{method}")
        for method in range(30)
        for seed in range(6)
    ]
    maps += [placed(seed, wandering(seed, flat) + 0.05 * blob((17, 3), flat)) for seed in range(6)]
    found = find_fixed_places(maps, {})
    assert [one.method for one in found if one.alarm] == ["gradcam"]
    assert found[-1].p_value == pytest.approx(1 / 500)
    assert found[-1].p_corrected < 0.01


def test_progress_rises_to_its_total_and_a_cancel_comes_through_at_any_step():
    maps = [placed(seed, background(seed, CUBE[:2])) for seed in range(6)]
    told = []
    find_fixed_places(maps, {}, progress=lambda done, total: told.append((done, total)))
    # Each map's excess, and its shuffles at two scales.
    assert told == [(step, 18) for step in range(1, 19)]

    def stop(done, total):
        if done == 9:
            raise Cancelled

    with pytest.raises(Cancelled):
        find_fixed_places(maps, {}, progress=stop)


def test_the_same_seed_gives_the_same_p_value():
    maps = [placed(seed, background(seed)) for seed in range(6)]
    assert find_fixed_places(maps, {}, seed=3) == find_fixed_places(maps, {}, seed=3)


@pytest.mark.parametrize(
    ("at", "segmented", "body", "alarm"),
    [
        ((10, 10, 6), ["tumour"], {}, True),
        ((10, 10, 6), ["healthy"], {}, False),
        ((10, 10, 6), [], {"tumour": np.zeros(CUBE)}, True),
        ((10, 10, 6), [], {"tumour": np.ones(CUBE)}, False),
        ((17, 3, 17), [], {}, True),
        ((17, 3, 10), [], {}, False),
        ((17, 3, 17), [], {"tumour": np.ones(CUBE)}, False),
    ],
)
def test_an_alarm_that_may_be_anatomy_is_taken_back(at, segmented, body, alarm):
    maps = [placed(seed, wandering(seed) + 0.05 * blob(at)) for seed in range(8)]
    found = find_fixed_places(maps, {})
    assert found[0].alarm
    (judged,) = told_from_anatomy(found, segmented, body)
    assert (judged.alarm, judged.undecided) == (alarm, not alarm)
    assert judged.place == found[0].place
