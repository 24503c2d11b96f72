"""What the keys of the page do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.viewer.shortcuts import KEYS

from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer")


def press(page: Page, key: str) -> None:
    page.browser.keyboard.press(key)


@pytest.mark.parametrize(
    ("key", "name"), [("b", "display_bands"), ("o", "display_outline"), ("e", "probe_on")]
)
def test_a_key_flips_what_its_tick_flips(page: Page, key: str, name: str) -> None:
    page.choose_map("Grad-CAM at")
    before = page.state(name)
    for wanted in (not before, before):
        press(page, key)
        page.until(f"{name} === {str(wanted).lower()}")


def test_d_sets_two_maps_side_by_side(page: Page) -> None:
    page.have_maps("Grad-CAM at", "Occlusion")
    press(page, "d")
    page.until("display_beside && display_second_title !== ''")
    press(page, "d")
    page.until("!display_beside")


def test_a_number_shows_that_map(page: Page) -> None:
    page.have_maps("Grad-CAM at", "Occlusion")
    maps = page.state("display_maps")
    for number in (2, 1):
        press(page, str(number))
        page.until(f"display_map === '{maps[number - 1]['value']}'")
        page.until(f"display_shown_title === {maps[number - 1]['title']!r}")
    press(page, str(min(9, len(maps) + 1)))
    if len(maps) < 9:
        page.browser.wait_for_timeout(300)
        assert page.state("display_map") == maps[0]["value"]


def test_p_predicts_x_explains_c_compares_and_escape_stops(page: Page) -> None:
    press(page, "p")
    page.until("volumes_bars.length === 4 && !volumes_busy")
    page.tick(["gradient"])
    press(page, "x")
    page.until("display_maps.some(row => row.title.startsWith('Gradient')) && !explain_busy")
    press(page, "c")
    page.until("compare_tables.length === 1 && !compare_busy")
    assert any(row["cells"][0] == "Gradient" for row in page.state("compare_tables")[0]["rows"])
    page.tick(["occlusion"], stride_mm=4.0)
    press(page, "x")
    page.until("explain_busy && explain_doing.includes('%')")
    press(page, "Escape")
    page.until("!explain_busy")
    assert page.state("explain_notes") == ["Stopped."]


def test_control_z_forgets_the_last_click(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64]
) -> None:
    page.go_to(tumour)
    page.ask_at("axial", tumour, phantom)
    count = len(page.state("probe_history"))
    press(page, "Control+z")
    page.until(f"probe_history.length === {count - 1}")


def test_the_list_of_keys_names_each_of_them(page: Page) -> None:
    press(page, "?")
    listed = page.browser.locator(".se-help .se-key")
    listed.first.wait_for()
    assert set(KEYS) <= set(listed.all_inner_texts())
    press(page, "?")
    page.browser.locator(".se-help").wait_for(state="detached")


def test_what_is_written_into_a_field_is_no_shortcut(page: Page) -> None:
    before = page.state("display_outline")
    field = page.section("probe").get_by_label("Radii, mm")
    field.fill("")
    field.press_sequentially("4, o")
    page.browser.wait_for_timeout(300)
    assert page.state("display_outline") == before
    field.fill("4, 8, 16")
    page.until("probe_radii === '4, 8, 16'")
