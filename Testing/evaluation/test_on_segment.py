"""Whether a map lies on a segment is answered beside the whole distribution of random maps."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.comparison.table import rows
from SaliencyExplain.evaluation.image.answers import NO, PARTLY, UNKNOWN, YES, is_on_segment
from SaliencyExplain.images.segmentation import Segment, Segmentation

SHAPE = (64, 56)
AFFINE = np.diag([2.0, 2.0, 1.0, 1.0])
AT = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)


def blob(centre, radius):
    return np.exp(-((AT - centre) ** 2).sum(-1) / (2 * radius**2)).astype(np.float32)


LESION = Segment("lesion", (1, 0, 0), np.hypot(*(AT - [14, 40]).transpose(2, 0, 1)) <= 4)


def answer(values, **settings):
    segmentation = Segmentation((LESION,), AFFINE, ())
    table = rows("c", "x", {"map": values}, segmentation, AFFINE, image_sha256="1", **settings)
    return is_on_segment(table, "map", "lesion"), table


def test_a_map_on_the_lesion_is_on_it_and_the_words_give_the_range_of_chance():
    found, table = answer(blob([14, 40], 4))
    assert found.answer == YES
    (chance,) = (row for row in table if row.method == "random")
    assert f"chance 0.50, {chance.low.auroc:.2f} to {chance.high.auroc:.2f}" in found.words


@pytest.mark.slow
def test_random_maps_are_hardly_ever_better_than_chance():
    answers = [answer(random_map(SHAPE, (2.0, 2.0), seed=seed))[0].answer for seed in range(12)]
    assert answers.count(YES) <= 1
    assert answers.count(NO) >= 9


def test_what_one_random_map_would_lose_to_is_not_beyond_chance():
    # Better than the mean of chance, within its range.
    values = random_map(SHAPE, (2.0, 2.0), seed=0) + 0.15 * LESION.mask
    found, table = answer(values)
    of = {row.method: row for row in table}
    assert of["map"].agreement.auroc < of["random"].high.auroc
    assert found.answer in (NO, PARTLY)


def test_no_answer_about_regions_that_are_the_segment_itself():
    found, _ = answer(LESION.mask.astype(np.float32), own_segments={"map": [LESION.sha256]})
    assert found.answer == UNKNOWN
    assert "withheld" in found.words
    assert "AUROC" not in found.words
