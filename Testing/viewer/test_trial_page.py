"""The map in the views is tried in a real browser."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from SaliencyExplain.scene.kept_evaluations import NOT_TRIED

from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer")


def tried(page: Page, title: str) -> dict[str, str]:
    """Tries the newest map whose title begins so as a user does: its verdicts."""
    page.choose_map(title)
    page.until(f"trial_line === '{NOT_TRIED}' && !trial_busy")
    assert page.section("display").locator(".se-trial-line").inner_text() == NOT_TRIED
    section = page.section("trial")
    # The least effort, whatever it costs.
    section.get_by_label("Forward passes").fill("1")
    page.until("trial_budget === '1'")
    page.press(section.get_by_role("button", name="Evaluate this map"))
    page.until("trial_verdicts.length === 4 || trial_error !== ''")
    assert page.state("trial_error") == ""
    lines = section.locator(".se-verdict .se-subtitle").all_inner_texts()
    assert page.state("trial_line") == " · ".join(lines)
    return dict(line[2:].split(": ") for line in lines)


def test_a_map_that_knows_nothing_reads_differently_from_grad_cam(page: Page) -> None:
    page.explain(["gradcam", "random"])
    good = tried(page, "Grad-CAM at")
    line = page.state("trial_line")
    assert good["depends on the weights"] == "yes"
    assert good["beats chance"] in ("yes", "partly")
    assert good["on the tumour"] in ("yes", "partly")
    section = page.section("trial")
    assert (
        "deletion over the ranked voxels"
        in section.locator(".se-verdict .se-hint").first.inner_text()
    )
    names = section.locator(".se-plot-name").all_inner_texts()
    assert [name.strip() for name in names] == [
        "deletion", "deletion, null maps", "insertion", "insertion, null maps"
    ]  # fmt: skip
    section.get_by_text("Trust card", exact=True).click()
    card = section.locator(".se-card img")
    card.wait_for()
    content = base64.b64decode(card.get_attribute("src").partition(",")[2])
    assert Image.open(io.BytesIO(content)).width == 1100
    assert card.evaluate("image => image.naturalWidth") == 1100
    with page.browser.expect_popup() as opened:
        card.click()
    shown = opened.value.locator("img")
    assert shown.evaluate("image => image.naturalWidth") == 1100
    opened.value.close()
    folder = os.environ.get("SALIENCY_EXPLAIN_SCREENSHOTS")
    if folder:
        card.scroll_into_view_if_needed()
        page.browser.screenshot(path=Path(folder) / "page-card.png")
        section.locator(".se-verdict").first.scroll_into_view_if_needed()
        page.browser.screenshot(path=Path(folder) / "page-trial.png")

    nothing = tried(page, "Random map")
    assert nothing["beats chance"] == "no"
    assert nothing["depends on the weights"] == "no"
    # Each map keeps its own.
    page.choose_map("Grad-CAM at")
    page.until(f"trial_line === '{line}'")
    # What was said was about these values.
    page.explain(["gradcam"])
    page.choose_map("Grad-CAM at")
    page.until(f"trial_line === '{NOT_TRIED}' && trial_verdicts.length === 0")


def test_a_trial_can_be_stopped(page: Page) -> None:
    page.explain(["random"])
    page.choose_map("Random map")
    section = page.section("trial")
    section.get_by_label("Forward passes").fill("100000")
    page.until(f"trial_budget === '100000' && trial_line === '{NOT_TRIED}'")
    page.press(section.get_by_role("button", name="Evaluate this map"))
    page.until("trial_busy && trial_share > 0 && trial_doing.includes('valuates')")
    page.press(section.get_by_role("button", name="Cancel"))
    page.until("!trial_busy")
    assert page.state("trial_notes") == ["Stopped."]
    assert page.state("trial_line") == NOT_TRIED


def test_a_map_explained_again_before_its_trial_has_ended_gets_no_verdicts_of_the_one_before(
    page: Page,
) -> None:
    page.set("explain_seed", 1)
    page.explain(["random"])
    page.choose_map("Random map")
    section = page.section("trial")
    # So many that the trial is not over before the viewer has fetched the maps.
    section.get_by_label("Forward passes").fill("1000")
    page.until(f"trial_budget === '1000' && trial_line === '{NOT_TRIED}'")
    page.section("explain")
    # The random map comes anew at the end of a computation that the trial waits for.
    page.tick(["occlusion", "random"], stride_mm=8.0)
    page.set("explain_seed", 2)
    page.press(page.button("Apply"))
    # The first of the new maps comes into the views by itself; the others do not.
    page.until("explain_busy && display_shown_title.includes('computed')")
    page.choose_map("Random map")
    page.press(page.section("trial").get_by_role("button", name="Evaluate this map"))
    page.until("trial_busy && trial_doing.startsWith('Waits')")
    page.until("!explain_busy")
    assert page.state("explain_error") == ""
    page.until("!trial_busy")
    # Without a message where the evaluation ended first: then its answers went with the old map.
    assert page.state("trial_error") == "" or "is discarded" in page.state("trial_error")
    assert page.state("trial_line") == NOT_TRIED
    assert page.state("trial_verdicts") == []
    page.set("explain_seed", 0)
