"""What a method found beside its map is said in words."""

from __future__ import annotations

from SaliencyExplain.figures import figure_lines


def region(name: str, value: float | None, low: float | None = None, high: float | None = None):
    return {"name": name, "label": 1, "value": value, "low": low, "high": high, "voxels": 1200}


def test_regions_are_told_by_the_size_of_their_effect_with_their_intervals():
    lines = figure_lines(
        {
            "regions": [
                region("oedema", 0.1, 0.05, 0.15),
                region("core", -0.4, -0.5, -0.3),
                region("cut off", None),
            ],
            "confidence": 0.9,
        }
    )
    assert lines == [
        "core: -0.400 (90% interval -0.500 to -0.300), 1,200 voxels",
        "oedema: +0.100 (90% interval +0.050 to +0.150), 1,200 voxels",
        "cut off: outside of what the network sees",
    ]


def test_an_exact_value_has_no_interval_and_of_many_regions_the_largest_are_told():
    lines = figure_lines({"regions": [region(f"r{n}", n / 10, n / 10, n / 10) for n in range(9)]})
    assert lines[0] == "r8: +0.800, 1,200 voxels"
    assert lines[-1] == "and 3 more regions"
    assert len(lines) == 7


def test_only_a_sum_that_falls_short_is_told():
    assert figure_lines({"completeness_error_share": 0.01, "regions": 40}) == []
    assert figure_lines({"completeness_error_share": None}) == []
    (line,) = figure_lines({"completeness_error_share": 0.31})
    assert "misses 31%" in line
