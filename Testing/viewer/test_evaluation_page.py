"""The map in the views is evaluated in a real browser."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from SaliencyExplain.scene.kept_evaluations import NOT_EVALUATED

from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer")


def evaluated(page: Page, title: str) -> dict[str, str]:
    """Evaluates the newest map whose title begins so as a user does: its answers."""
    page.choose_map(title)
    page.until(f"evaluation_line === '{NOT_EVALUATED}' && !evaluation_busy")
    assert page.section("display").locator(".se-evaluation-line").inner_text() == NOT_EVALUATED
    section = page.section("evaluation")
    # The lowest tier, whatever it costs.
    section.get_by_label("Forward passes").fill("1")
    page.until("evaluation_budget === '1'")
    page.press(section.get_by_role("button", name="Evaluate this map"))
    page.until("evaluation_answers.length === 4 || evaluation_error !== ''")
    assert page.state("evaluation_error") == ""
    lines = section.locator(".se-evaluation-answer .se-subtitle").all_inner_texts()
    assert page.state("evaluation_line") == " · ".join(lines)
    return dict(line[2:].split(": ") for line in lines)


def test_a_map_that_knows_nothing_reads_differently_from_grad_cam(page: Page) -> None:
    page.explain(["gradcam", "random"])
    good = evaluated(page, "Grad-CAM at")
    line = page.state("evaluation_line")
    assert good["depends on the weights"] == "yes"
    assert good["beats chance"] in ("yes", "partly")
    assert good["on the tumour"] in ("yes", "partly")
    section = page.section("evaluation")
    assert (
        "deletion over the ranked voxels"
        in section.locator(".se-evaluation-answer .se-hint").first.inner_text()
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
        section.locator(".se-evaluation-answer").first.scroll_into_view_if_needed()
        page.browser.screenshot(path=Path(folder) / "page-evaluation.png")

    nothing = evaluated(page, "Random map")
    assert nothing["beats chance"] == "no"
    assert nothing["depends on the weights"] == "no"
    # Each map keeps its own.
    page.choose_map("Grad-CAM at")
    page.until(f"evaluation_line === '{line}'")
    # What was said was about these values.
    page.explain(["gradcam"])
    page.choose_map("Grad-CAM at")
    page.until(f"evaluation_line === '{NOT_EVALUATED}' && evaluation_answers.length === 0")


def test_an_evaluation_can_be_stopped(page: Page) -> None:
    page.explain(["random"])
    page.choose_map("Random map")
    section = page.section("evaluation")
    section.get_by_label("Forward passes").fill("100000")
    page.until(f"evaluation_budget === '100000' && evaluation_line === '{NOT_EVALUATED}'")
    page.press(section.get_by_role("button", name="Evaluate this map"))
    page.until("evaluation_busy && evaluation_share > 0 && evaluation_doing.includes('valuates')")
    page.press(section.get_by_role("button", name="Cancel"))
    page.until("!evaluation_busy")
    assert page.state("evaluation_notes") == ["Stopped."]
    assert page.state("evaluation_line") == NOT_EVALUATED


def test_a_map_explained_again_before_its_evaluation_has_ended_gets_no_answers_of_the_one_before(
    page: Page,
) -> None:
    page.set("explain_seed", 1)
    page.explain(["random"])
    page.choose_map("Random map")
    section = page.section("evaluation")
    # So many that the evaluation is not over before the viewer has fetched the maps.
    section.get_by_label("Forward passes").fill("1000")
    page.until(f"evaluation_budget === '1000' && evaluation_line === '{NOT_EVALUATED}'")
    page.section("explain")
    # The random map comes anew at the end of a computation that the evaluation waits for.
    page.tick(["occlusion", "random"], stride_mm=8.0)
    page.set("explain_seed", 2)
    page.press(page.button("Apply"))
    # The first of the new maps comes into the views by itself; the others do not.
    page.until("explain_busy && display_shown_title.includes('computed')")
    page.choose_map("Random map")
    page.press(page.section("evaluation").get_by_role("button", name="Evaluate this map"))
    page.until("evaluation_busy && evaluation_doing.startsWith('Waiting')")
    page.until("!explain_busy")
    assert page.state("explain_error") == ""
    page.until("!evaluation_busy")
    # Without a message where the evaluation ended first: then its answers went with the old map.
    assert page.state("evaluation_error") == "" or "is discarded" in page.state("evaluation_error")
    assert page.state("evaluation_line") == NOT_EVALUATED
    assert page.state("evaluation_answers") == []
    page.set("explain_seed", 0)
