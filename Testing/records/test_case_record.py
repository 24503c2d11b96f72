from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_fields import Fields
from SaliencyExplain.json_text import json_text
from SaliencyExplain.records.case_record import EXPLANATION, CaseRecord, read_case, records_beside

from .conftest import Explained

#: Objects of any content, in which only what is read has a kind.
FREE = ("provenance", "figures", "parameters", "timings", "probabilities")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of each field of a document, but for those inside of free objects."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*place, key)
            if key not in FREE:
                yield from places(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*place, number))


def name_of(place: tuple[str | int, ...]) -> str:
    """A place as messages have it, such as ``attributions[0].label``."""
    said = ""
    for part in place:
        said += f"[{part}]" if isinstance(part, int) else f".{part}" if said else part
    return said


def parent_of(document: Any, place: tuple[str | int, ...]) -> Any:
    for part in place[:-1]:
        document = document[part]
    return document


def read(document: dict[str, Any]) -> CaseRecord:
    return CaseRecord.from_json(Fields(document, EXPLANATION))


def refusal(document: dict[str, Any]) -> str | None:
    """What is said where the document is refused; None where it is read."""
    try:
        read(document)
    except InputError as error:
        return f"{error.code} {error}"
    return None


def test_the_file_is_the_record_and_is_read_back_as_it(explained: Explained) -> None:
    text = (explained.folder / EXPLANATION).read_text(encoding="utf-8")
    assert json_text(explained.record.as_json()) == text
    known = read_case(explained.folder)
    assert json_text(known.as_json()) == text
    assert known.maps[0].field_of_view is None
    assert [row.as_json() for row in known.rows] == [row.as_json() for row in explained.record.rows]
    assert records_beside(explained.folder / known.maps[1].files.map)[1].label == "centre"
    assert records_beside(explained.folder / "other.nii.gz") is None
    assert records_beside(explained.out / "other.nii.gz") is None


def test_each_field_that_is_missing_is_named(explained: Explained) -> None:
    document = explained.document()
    fields = [place for place in places(document) if isinstance(place[-1], str)]
    assert len(fields) > 100
    for place in fields:
        if place[-1] == "remark":
            continue
        parent = parent_of(document, place)
        kept = parent.pop(place[-1])
        said = refusal(document)
        assert said is not None, place
        assert said.startswith(ErrorCode.STUDY_INCOMPLETE)
        assert f"{EXPLANATION} is damaged: '{name_of(place)}' is missing" in said
        parent[place[-1]] = kept


@pytest.mark.parametrize("wrong", [{"a": 1}, [[]], True, "../out", -(10**400), 1e999, float("nan")])
def test_each_field_of_a_wrong_kind_is_named(explained: Explained, wrong: Any) -> None:
    document = explained.document()
    accepted = set()
    for place in places(explained.document()):
        parent = parent_of(document, place)
        kept, parent[place[-1]] = parent[place[-1]], wrong
        said = refusal(document)
        if said is None:
            accepted.add(place[-1])
        else:
            assert said.startswith(ErrorCode.STUDY_INCOMPLETE)
            # What belongs to the probabilities is looked up in them, and refused itself.
            assert name_of(place) in said or "'target." in said, place
        parent[place[-1]] = kept
    # Nothing but free texts, flags and objects of any fields takes it.
    texts = {"case", "layer", "device", "label", "method", "segment", "segmentation_sha256"}
    texts |= {"code", "reason", "remark", "series", "segmentation"}
    allowed = {
        "../out": texts,
        "True": {"signed"},
        "{'a': 1}": {"figures", "provenance", "timings"},
    }.get(str(wrong), set())
    assert {name for name in accepted if isinstance(name, str)} <= allowed


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("attributions", 0, "files", "map"), "../../secret.nii.gz"),
        (("attributions", 0, "share_done"), 1.5),
        (("attributions", 0, "resolution_mm"), -1),
        (("attributions", 0, "channel"), 7),
        (("attributions", 1, "label"), "gradient"),
        (("attributions", 0, "provenance"), {"field_of_view": {"shape": "none"}}),
        (("attributions", 0, "figures"), {"a": [{"b": float("inf")}]}),
        (("attributions",), []),
        (("prediction", "predicted"), "no class"),
        (("target", "index"), 9),
        (("target", "name"), "no class"),
        (("image", "shape"), [4]),
        (("image", "affine_ras_mm"), [[1, 0, 0, 0]] * 3),
        (("image", "length_unit"), "inch"),
        (("timings", "read"), -1),
        (("provenance", "classifier"), 3),
    ],
)
def test_what_cannot_be_is_refused(
    explained: Explained, place: tuple[str | int, ...], value: Any
) -> None:
    document = explained.document()
    parent_of(document, place)[place[-1]] = value
    with pytest.raises(InputError) as refused:
        read(document)
    assert refused.value.code is ErrorCode.STUDY_INCOMPLETE
    assert str(place[0]) in str(refused.value)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_json_raises_anything_else(explained: Explained, data: st.DataObject) -> None:
    document = explained.document()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(places(document))))
        parent_of(document, place)[place[-1]] = data.draw(JSON)
    said = refusal(document)
    if said is None:
        assert json_text(read(document).as_json())
    else:
        assert said.startswith(ErrorCode.STUDY_INCOMPLETE)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"case', b"\xff\xfe", b"[" * 100_000, b"\0" * 99]
)
def test_a_file_that_is_no_record_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / EXPLANATION).write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_case(tmp_path)
    assert refused.value.code is ErrorCode.STUDY_INCOMPLETE
    assert str(tmp_path / EXPLANATION) in str(refused.value)


def test_a_deeply_nested_value_is_refused(explained: Explained) -> None:
    document = explained.document()
    nested: Any = 1
    for _ in range(200):
        nested = [nested]
    document["provenance"]["more"] = nested
    with pytest.raises(InputError) as refused:
        read(document)
    assert "provenance.more" in str(refused.value)
