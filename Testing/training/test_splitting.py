"""Cases are split class by class, patients stay whole, and the split is the seed's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.case import Case
from SaliencyExplain.training.equal_images import groups_of
from SaliencyExplain.training.splitting import PARTS, split_cases
from Testing.expected_errors import error_with


def cases_of(*counts: int, patients: int = 0, split: str | None = None) -> list[tuple[Case, str]]:
    made = []
    for label, count in zip("abcde", counts, strict=False):
        for number in range(count):
            patient = f"{label}{number % patients}" if patients else None
            made.append(
                (
                    Case(
                        f"{label}-{number}",
                        ((None, Path(f"{label}{number}.png")),),
                        patient=patient,
                        split=split,
                    ),
                    label,
                )
            )
    return made


def parts_of(made, validation_share=0.15, test_share=0.15, seed=0, equals=()):
    cases, labels = zip(*made, strict=True)
    return split_cases(
        cases,
        labels,
        validation_share=validation_share,
        test_share=test_share,
        seed=seed,
        equals=equals,
    )


@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=5),
    validation=st.floats(0.01, 0.45),
    test=st.floats(0.01, 0.45),
    seed=st.integers(0, 9),
)
def test_each_class_has_its_share_in_every_part(counts, validation, test, seed):
    made = cases_of(*counts)
    counted = Counter(
        (label, part)
        for (_, label), part in zip(made, parts_of(made, validation, test, seed), strict=True)
    )
    for label, count in zip("abcde", counts, strict=False):
        found = {part: counted[label, part] for part in PARTS}
        assert sum(found.values()) == count
        assert min(found.values()) >= 1
        assert found["validation"] <= max(1, round(validation * count))
        if count >= 10:
            assert found["test"] == pytest.approx(test * count, abs=1)


def test_no_patient_is_torn_apart_and_the_draw_is_the_seeds():
    made = cases_of(40, 24, patients=8)
    parts = parts_of(made)
    homes = {}
    for (case, _), part in zip(made, parts, strict=True):
        assert homes.setdefault(case.patient, part) == part
    assert set(homes.values()) == set(PARTS)
    assert parts == parts_of(made)
    assert any(parts != parts_of(made, seed=seed) for seed in range(1, 4))


def test_patients_with_cases_of_several_classes_leave_no_part_without_a_class():
    # Lesions of both kinds in most patients, and one kind in few of them only.
    made = [
        (Case(f"{label}{n}", ((None, Path("x.png")),), patient=f"P{n}"), label)
        for label, count in (("a", 30), ("b", 5))
        for n in range(count)
    ]
    parts = parts_of(made)
    counted = Counter((label, part) for (_, label), part in zip(made, parts, strict=True))
    assert all(counted[label, part] >= 1 for label in "ab" for part in PARTS)
    assert 3 <= counted["a", "test"] <= 5
    homes = {}
    for (case, _), part in zip(made, parts, strict=True):
        assert homes.setdefault(case.patient, part) == part


def test_the_order_of_the_cases_does_not_decide_their_parts():
    made = cases_of(20, 20)
    straight = dict(zip((case.case for case, _ in made), parts_of(made), strict=True))
    backwards = dict(zip((case.case for case, _ in made[::-1]), parts_of(made[::-1]), strict=True))
    assert straight == backwards


def test_a_split_that_the_cases_say_stands_and_validation_is_drawn_from_the_rest():
    made = cases_of(10, 10, split="Training") + [
        (Case(f"t-{label}-{n}", ((None, Path("t.png")),), split="test"), label)
        for label in "ab"
        for n in range(4)
    ]
    parts = parts_of(made, validation_share=0.2)
    assert parts[20:] == ["test"] * 8
    assert Counter(parts[:20]) == {"train": 16, "validation": 4}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (cases_of(10, 1), "class 'b' has 1 image, and needs 3 images"),
        (cases_of(10, 9, patients=2), "class 'a' has 10 images of 2 patients, and needs 3"),
        (cases_of(4, 4, split="trian"), "no split 'trian'. Did you mean 'train'"),
        (cases_of(4, split="train") + cases_of(0, 4), "b-0: "),
        (
            cases_of(4, 4, split="train") + cases_of(4, split="val"),
            "no validation case of b",
        ),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(made, words):
    with pytest.raises(InputError, match=words) as caught:
        parts_of(made)
    assert "\n" not in str(caught.value)


def test_a_patient_in_two_parts_is_refused_without_naming_him():
    made = [
        (Case("one", ((None, Path("1.png")),), patient="DOE^JANE", split="train"), "a"),
        (Case("two", ((None, Path("2.png")),), patient="DOE^JANE", split="test"), "a"),
    ]
    with error_with(ErrorCode.SPLIT, "one (train)", "two (test)") as caught:
        parts_of(made)
    assert "DOE" not in str(caught.value)
    assert "DOE" not in repr(made[0][0])


@given(
    content=st.lists(st.integers(0, 25), min_size=60, max_size=60),
    patients=st.sampled_from([0, 12]),
    seed=st.integers(0, 9),
)
def test_equal_images_stay_in_one_part_as_those_of_a_patient_do(content, patients, seed):
    made = cases_of(30, 30, patients=patients)
    equals = groups_of([[number] for number in content])
    try:
        parts = parts_of(made, seed=seed, equals=equals)
    except InputError:
        # So many are equal that a class has too few for its parts.
        return
    assert all(part == parts[first] for part, first in zip(parts, equals, strict=True))
    homes = {}
    for (case, _), part in zip(made, parts, strict=True):
        assert homes.setdefault(case.patient or case.case, part) == part


def test_images_that_differ_are_split_as_if_nothing_were_known_of_them():
    made = cases_of(20, 30)
    assert parts_of(made, equals=range(50)) == parts_of(made)


def test_equal_images_that_a_table_puts_into_two_parts_are_refused_by_name():
    made = [
        *cases_of(3, 3, split="train"),
        *[
            (replace(case, case=f"v{case.case}"), label)
            for case, label in cases_of(2, 2, split="validation")
        ],
    ]
    with pytest.raises(InputError) as error:
        parts_of(made, equals=[0, 1, 2, 3, 4, 5, 0, 7, 8, 9])
    assert error.value.code is ErrorCode.SPLIT
    assert "a-0 (train) = va-0 (validation)" in str(error.value)


def test_what_is_joined_by_way_of_another_is_one_group():
    assert groups_of([["a", 1], ["b", 2], ["c", 2], ["c", 1], ["d", 3]]) == [0, 0, 0, 0, 4]
