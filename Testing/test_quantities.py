"""Numbers with and without the names of their units."""

from __future__ import annotations

import pytest

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.quantities import LENGTHS, PASSES, PERCENT, SHARE, TIMES, bytes_of, number_of


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [
        ("15", LENGTHS, 15.0), ("15mm", LENGTHS, 15.0), ("1.5 cm", LENGTHS, 15.0),
        ("-3 MM", LENGTHS, -3.0), ("7px", LENGTHS, 7.0), ("20", TIMES, 20.0), ("20s", TIMES, 20.0),
        ("2 min", TIMES, 120.0), ("1h", TIMES, 3600.0), ("30%", PERCENT, 30.0),
        ("15%", SHARE, 0.15), ("0.15", SHARE, 0.15), ("1e-3", SHARE, 1e-3),
        ("500 passes", PASSES, 500.0),
    ],
)  # fmt: skip
def test_a_unit_may_stand_behind_a_number(text, units, expected):
    assert number_of(text, units) == expected


@pytest.mark.parametrize("text", ["", "mm", "15 s", "15 furlongs", "1,5", "15 mm 3", "info"])
def test_another_unit_is_no_length(text):
    with pytest.raises(ValueError):
        number_of(text, LENGTHS)


def test_sizes_of_memory_need_their_unit():
    for text, expected in (("4G", 2**32), ("4GB", 2**32), ("1.5gib", 1.5 * 2**30), ("64 kB", 2**16),
                           ("800M", 800 * 2**20), ("1000B", 1000)):  # fmt: skip
        assert bytes_of(text, "--memory") == expected
    for text in ("4", "1000", "much", "-1G", "0G", "4X", "", "G", "4 GBit"):
        with pytest.raises(InputError) as error:
            bytes_of(text, "--memory")
        assert error.value.code is ErrorCode.VALUE_FORM
        assert f"'{text}'" in str(error.value)
        assert "--memory" in str(error.value)


def test_parameters_of_methods_take_their_units():
    plain = select_methods(["occlusion", "xrai"], ["occlusion.window_mm=15", "xrai.area=30"])
    named = select_methods(["occlusion", "xrai"], ["occlusion.window_mm=1.5cm", "xrai.area=30 %"])
    assert plain == named
    share = select_methods(["smoothgrad"], ["smoothgrad.noise=15%"])
    assert share == select_methods(["smoothgrad"], ["smoothgrad.noise=0.15"])
    for setting in ("occlusion.window_mm=15s", "xrai.area=30mm", "smoothgrad.noise=15mm"):
        with pytest.raises(InputError) as error:
            select_methods([setting.partition(".")[0]], [setting])
        assert error.value.code is ErrorCode.VALUE_FORM
        assert setting.partition("=")[0] in str(error.value)
