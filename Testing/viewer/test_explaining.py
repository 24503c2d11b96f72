"""From an image to maps, clicks and figures, in a real browser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import FAMILIES
from SaliencyExplain.attribution.method_selection import describe_methods
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.bands import BANDS
from SaliencyExplain.demo.phantoms import Phantom
from Testing.waiting import until

from .pages import VIEWS, Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer")

TARGET = "meningioma-like"


@pytest.fixture(scope="session")
def elsewhere(phantom: Phantom, tumour: NDArray[np.float64]) -> NDArray[np.float64]:
    """A place on the other side of the head, far below the tumour, RAS mm."""
    return np.array([-tumour[0], tumour[1] + 10.0, -20.0])


def heat(page: Page, place: NDArray[np.float64], phantom: Phantom) -> dict[str, float]:
    """How much redder than blue each slice view is at a place."""
    found = {}
    for name in ("axial", "coronal", "sagittal"):
        x, y = page.pixel_of(name, place, phantom)
        patch = page.picture(name)[y - 2 : y + 3, x - 2 : x + 3].astype(float)
        found[name] = float((patch[..., 0] - patch[..., 2]).mean())
    return found


def wait_for_heat(page: Page, place: NDArray[np.float64], phantom: Phantom, least: float) -> None:
    """Pictures follow the page's state by some frames."""
    until(lambda: min(heat(page, place, phantom).values()) > least, "heat at the place", pause=0.1)


def test_sides_of_the_patient_are_named_as_radiologists_read_them(page: Page) -> None:
    sides = {
        name: [page.view(name).locator(f".se-{side}").inner_text() for side in
               ("left", "right", "top", "bottom")]
        for name in ("axial", "coronal", "sagittal")
    }  # fmt: skip
    assert sides == {
        "axial": ["R", "L", "A", "P"],
        "coronal": ["R", "L", "S", "I"],
        "sagittal": ["A", "P", "S", "I"],
    }


def test_prediction_is_shown_as_bars_that_sum_to_one(page: Page) -> None:
    page.press(page.button("Predict"))
    page.until("volumes_bars.length === 4 && !volumes_busy")
    bars = page.section("volumes").locator(".se-bar-row")
    assert bars.first.locator(".se-bar-name").inner_text() == TARGET
    shares = [float(bars.nth(n).locator(".se-bar-text").inner_text()) for n in range(4)]
    assert sum(shares) == pytest.approx(1, abs=0.003)
    assert shares[0] > 0.9


def test_methods_of_each_kind_give_maps_of_their_own(page: Page) -> None:
    names = ["occlusion", "gradcam", "gradient", "integrated-gradients", "lrp", "random"]
    page.explain(names, stride_mm=24.0, steps=4)
    titles = [row["title"] for row in page.state("display_maps")]
    for name in names:
        assert any(title.startswith(find_method(name).title) for title in titles), name
    assert not any("computed" in title for title in titles)


def test_methods_are_folded_by_family_and_say_what_is_chosen(page: Page) -> None:
    section = page.section("explain")
    page.tick(["occlusion"])
    gradients = section.locator(
        "details.se-family", has=page.browser.locator(f"summary[title='{FAMILIES['gradient']}']")
    )
    assert not gradients.get_by_label("SmoothGrad", exact=True).is_visible()
    gradients.locator("summary").click()
    gradients.get_by_label("SmoothGrad", exact=True).check()
    page.until("explain_methods.filter(m => m.ticked).length === 2")
    assert "1 chosen" in gradients.locator("summary").inner_text()
    # Its parameters come from its own description.
    fields = page.browser.evaluate(
        "window.trame.state.get('explain_methods').find(m => m.name === 'smoothgrad').parameters"
    )
    described = {row["name"]: row for row in describe_methods()}["smoothgrad"]["parameters"]
    assert [field["name"] for field in fields] == [row["name"] for row in described]
    gradients.get_by_label("Samples").fill("many")
    page.press(page.button("Apply"))
    page.until("explain_error.includes('Samples') && explain_error.includes('number')")
    gradients.get_by_label("Samples").fill("3")
    page.until("explain_estimate.includes('forward passes')")
    gradients.get_by_label("SmoothGrad", exact=True).uncheck()
    page.until("explain_methods.filter(m => m.ticked).length === 1")


def test_the_estimate_follows_what_is_chosen(page: Page) -> None:
    page.tick(["occlusion"], stride_mm=24.0)
    page.until("explain_estimate.includes('forward passes')")
    few = passes_of(page.state("explain_estimate"))
    page.tick(["occlusion"], stride_mm=8.0)
    page.until("explain_estimate.includes('forward passes')")
    assert passes_of(page.state("explain_estimate")) > 10 * few


def test_heat_lies_on_the_tumour_and_not_on_the_other_side(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64]
) -> None:
    page.choose_map("Occlusion")
    page.set("display_opacity", 1.0)
    page.go_to(tumour)
    wait_for_heat(page, tumour, phantom, 60)
    mirrored = tumour * [-1, 1, 1]
    assert abs(heat(page, mirrored, phantom)["axial"]) < 25
    covered = heat(page, tumour, phantom)
    page.set("display_opacity", 0.0)

    def is_bare() -> bool:
        found = heat(page, tumour, phantom)
        return all(found[name] < 0.3 * covered[name] for name in found)

    until(is_bare, "the end of the map's colours at an opacity of 0", pause=0.1)
    page.set("display_opacity", 0.7)


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_a_click_at_the_tumour_changes_the_class_and_elsewhere_does_not(
    page: Page,
    phantom: Phantom,
    tumour: NDArray[np.float64],
    elsewhere: NDArray[np.float64],
    view: str,
) -> None:
    page.go_to(tumour)
    at_tumour = page.ask_at(view, tumour, phantom)
    before, *without = map(float, at_tumour[TARGET])
    assert before > 0.9
    # Balls of 4, 8 and 16 mm, then the tumour as a whole.
    assert len(without) == 4
    assert min(without) < before - 0.3
    assert page.state("probe_inside") == "tumour"
    page.go_to(elsewhere)
    away = page.ask_at(view, elsewhere, phantom)
    before, *without = map(float, away[TARGET])
    assert len(without) == 3
    assert min(without) > before - 0.1
    assert page.section("probe").locator(".se-history tr").count() >= 2


def test_a_click_reads_every_map_at_its_place(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64]
) -> None:
    page.have_maps("Occlusion", "Grad-CAM at")
    page.go_to(tumour)
    page.ask_at("axial", tumour, phantom)
    readings = page.state("probe_readings")
    assert len(readings) == len(page.state("display_maps"))
    ranks = [row["percentile"] for row in readings if row["map"] == "Occlusion sensitivity"]
    assert all(float(rank.rstrip(" %")) > 98 for rank in ranks)


def test_the_last_of_quick_clicks_wins(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64]
) -> None:
    if page.state("probe_history"):
        page.button("Clear").click()
    page.until("probe_history.length === 0")
    page.go_to(tumour)
    places = [tumour + np.array([shift, -4.0, 0.0]) for shift in (-30.0, -15.0, 0.0)]
    for place in places:
        page.click_at("axial", place, phantom)
    page.until(
        "!probe_busy && probe_rows.length > 0"
        f" && Math.abs(parseFloat(probe_place.slice(2)) - {-tumour[0]}) < 1.5"
    )
    # An answer to an earlier click would come by now.
    page.browser.wait_for_timeout(500)
    assert ras_of(page.state("probe_place"))[0] == pytest.approx(tumour[0], abs=1.5)
    place = page.state("probe_place").removesuffix(" mm")
    assert page.state("probe_history")[0]["place"].removesuffix(" mm") == place


def test_a_click_in_3d_asks_about_the_surface_under_the_mouse(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64]
) -> None:
    page.go_to(tumour)
    asked = page.state("probe_asked")
    area = page.view("3D").locator(".remote-controlled-area")
    box = area.bounding_box()
    # The planes cross in the middle of the view, more or less.
    area.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    page.until(f"probe_asked > {asked} && !probe_busy && probe_rows.length > 0")
    place = ras_of(page.state("probe_place"))
    affine = phantom.image.affine.numpy()
    index = (np.linalg.inv(affine) @ [*place, 1.0])[:3]
    assert np.all(index > -1)
    assert np.all(index < np.array(phantom.image.shape[1:]))
    # On one of the planes, and the slices go there.
    assert min(np.abs(place - tumour)) < 1.0
    asked = page.state("probe_asked")
    area.click(position={"x": 12, "y": box["height"] - 12})
    page.browser.wait_for_timeout(500)
    assert page.state("probe_asked") == asked, "there is nothing in the corner"


def test_undo_goes_back_to_the_click_before(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64], elsewhere: NDArray[np.float64]
) -> None:
    page.go_to(tumour)
    first = page.ask_at("axial", tumour, phantom)
    place = page.state("probe_place")
    page.ask_at("axial", tumour + np.array([20.0, 0.0, 0.0]), phantom)
    count = len(page.state("probe_history"))
    page.browser.keyboard.press("Control+z")
    page.until(f"probe_history.length === {count - 1} && probe_place === '{place}'")
    rows = {
        row["name"]: [cell["text"] for cell in row["cells"]] for row in page.state("probe_rows")
    }
    assert rows == first


def test_bands_take_the_place_of_the_heat(
    page: Page, phantom: Phantom, tumour: NDArray[np.float64]
) -> None:
    page.choose_map("Occlusion")
    page.set("display_opacity", 1.0)
    page.go_to(tumour)
    page.section("display")
    page.browser.get_by_label("Bands").check()
    page.until("display_bands && display_legend.bands !== undefined")
    names = page.section("display").locator(".se-band").all_inner_texts()
    assert [name.strip() for name in names] == [band.name for band in BANDS]
    wait_for_heat(page, tumour, phantom, 60)
    page.browser.get_by_label("Bands").uncheck()
    page.until("!display_bands && display_legend.colors !== undefined")
    page.set("display_opacity", 0.7)


def test_comparison_stands_beside_what_chance_gives(page: Page) -> None:
    page.have_maps("Occlusion", "Grad-CAM at")
    page.press(page.section("compare").locator(".se-compare-button"))
    page.until("compare_tables.length === 1 && !compare_busy")
    assert page.state("compare_error") == ""
    rows = {row["cells"][0]: row for row in page.state("compare_tables")[0]["rows"]}
    # A row for each map, those of one method with other parameters too, and two control maps.
    assert len(rows) == len(page.state("display_maps")) + 2
    assert rows["random"]["control_map"]
    assert rows["centre"]["control_map"]
    # The mean of random maps, and the range in which 95 % of them lie.
    mean, low, high = map(float, re.findall(r"[\d.]+", rows["random"]["cells"][1]))
    assert mean == 0.5
    assert 0 < low < mean < high < 1
    assert float(rows["Occlusion sensitivity"]["cells"][1]) > 0.95
    lines = page.section("compare").locator("svg polyline")
    assert lines.count() == len(rows) + 1


def test_two_maps_stand_side_by_side_and_move_together(
    page: Page, tumour: NDArray[np.float64]
) -> None:
    page.have_maps("Occlusion", "Grad-CAM at")
    page.go_to(tumour)
    page.section("display")
    page.browser.get_by_label("Side by side").check()
    page.until("display_beside && display_second_title !== ''")
    views = page.browser.locator(".se-views .layout-grid-item")
    views.nth(5).locator("img.image-display-area").wait_for()
    assert views.count() == 6
    page.set("Red__SliderState__value", float(tumour[2]) - 9.0)
    page.until(
        "letters_Red.where === letters_SecondRed.where"
        f" && letters_Red.where === 'S {tumour[2] - 9.0:.1f} mm'"
    )
    titles = page.browser.locator(".se-views .se-shown").all_inner_texts()
    assert len({title for title in titles if title.strip()}) == 2
    page.browser.get_by_label("Side by side").uncheck()
    page.until("!display_beside")


def test_a_reload_loses_nothing(page: Page, phantom: Phantom, tumour: NDArray[np.float64]) -> None:
    page.have_maps("Occlusion")
    page.go_to(tumour)
    page.ask_at("axial", tumour, phantom)
    page.press(page.section("compare").locator(".se-compare-button"))
    page.until("compare_tables.length === 1 && !compare_busy")
    kept = {
        name: page.state(name)
        for name in ("volumes_bars", "display_maps", "probe_history", "compare_tables")
    }
    assert all(kept.values())
    page.browser.reload()
    page.ready()
    assert {name: page.state(name) for name in kept} == kept
    # The sliders stand where the slices are, in the page's controls too.
    for view in ("axial", "coronal", "sagittal"):
        thumb = page.view(view).get_by_role("slider")
        low, high, now = (float(thumb.get_attribute(f"aria-value{end}")) for end in
                          ("min", "max", "now"))  # fmt: skip
        assert now == pytest.approx(page.state(f"{VIEWS[view]}__SliderState__value"), abs=1.0)
        box, track = thumb.bounding_box(), page.view(view).locator(".v-slider-track").bounding_box()
        share = (box["x"] + box["width"] / 2 - track["x"]) / track["width"]
        assert share == pytest.approx((now - low) / (high - low), abs=0.02)


def test_a_long_job_says_how_far_it_is_and_can_be_stopped(page: Page) -> None:
    page.tick(["occlusion"], stride_mm=5.0)
    page.section("explain")
    page.browser.evaluate(
        """() => {
          window.ticks = [];
          new MutationObserver(() => {
            const doing = document.querySelector('.se-explain .se-doing');
            if (doing) window.ticks.push([performance.now(), doing.textContent]);
          }).observe(document.querySelector('.se-explain'),
                     {subtree: true, characterData: true, childList: true});
        }"""
    )
    page.press(page.button("Apply"))
    page.until("display_shown_title.includes('computed')")
    page.browser.wait_for_function("window.ticks.length > 12")
    page.section("explain").locator(".se-cancel").click()
    page.until("!explain_busy")
    assert page.state("explain_notes") == ["Stopped."]
    ticks = page.browser.evaluate("window.ticks")
    changes = zip(ticks[1:], ticks, strict=False)
    times = [time for (time, text), (_, before) in changes if text != before]
    # Five times a second on a machine at rest.
    assert np.median(np.diff(times)) < 1000
    # What had grown until then stays.
    assert "computed" in page.state("display_shown_title")


def ras_of(place: str) -> NDArray[np.float64]:
    """A place as the page writes it, "L 19.2, P 8.1, S 50.3 mm", RAS."""
    parts = [part.split() for part in place.removesuffix(" mm").split(", ")]
    return np.array([float(value) * (1 if side in "RAS" else -1) for side, value in parts])


def passes_of(estimate: str) -> float:
    """The forward passes that an estimate tells."""
    return float(estimate.split(" forward")[0].removeprefix("About ").replace(",", ""))
