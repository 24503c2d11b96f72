"""Looking through a finished study, and pages that come, go and share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from playwright.sync_api import Browser

from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.scene.attributions import (
    attributions_of,
    read_attribution,
)
from SaliencyExplain.scene.mrb import open_mrb
from SaliencyExplain.studies.case_scene import SCENE
from Testing.waiting import until

from .conftest import Server, start_viewer
from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer study")


@pytest.fixture(scope="module")
def bare_study(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study without its scene: the case comes from the study's own images."""
    copy = tmp_path_factory.mktemp("bare") / "out"
    shutil.copytree(study, copy)
    (copy / "head" / SCENE).unlink()
    return copy


@pytest.fixture(scope="module")
def study_server(bare_study: Path, case_folder: Path) -> Iterator[Server]:
    found = start_viewer(["--study", bare_study, "--data", case_folder])
    yield found
    found.stop()


@pytest.fixture(scope="module")
def scene_server(study: Path) -> Iterator[Server]:
    """Without the folder of the images: all there is of the case is its scene."""
    assert (study / "head" / SCENE).is_file()
    found = start_viewer(["--study", study])
    yield found
    found.stop()


@pytest.mark.parametrize("from_", ["study_server", "scene_server"])
def test_a_case_opens_with_its_maps_as_they_were_computed(
    browser: Browser, request: pytest.FixtureRequest, study: Path, tmp_path: Path, from_: str
) -> None:
    server: Server = request.getfixturevalue(from_)
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    page.browser.goto(server.address)
    row = page.browser.locator(".se-study-rows tbody tr")
    row.first.wait_for()
    cells = row.first.locator("td").all_inner_texts()
    assert "meningioma-like" in cells
    picture = row.first.locator("img.se-thumbnail")
    picture.wait_for()
    page.browser.wait_for_function("document.querySelector('img.se-thumbnail').naturalWidth > 100")
    page.browser.get_by_role("columnheader", name="AUROC").click()
    row.first.click()
    page.until(
        "study_error !== '' || study_case !== '' && !study_busy && display_maps.length === 2"
    )
    assert page.state("study_error") == ""
    assert not page.browser.locator(".se-study-table").is_visible()
    assert page.state("display_segments") is True
    shown = {map.label: map for map in maps_of(page, server, tmp_path)}
    files = sorted((study / "head").glob("*.nii.gz"))
    assert len(files) == len(shown) == 2
    for file in files:
        label = file.name.removesuffix("-meningioma-like.nii.gz")
        np.testing.assert_allclose(shown[label].values, nibabel.load(file).get_fdata(), rtol=1e-6)
    # The figures are those of the study: maps and segments lie as they were computed.
    figures = page.state("study_rows")[0]
    page.press(page.section("compare").locator(".se-compare-button"))
    page.until("!compare_busy && (compare_error !== '' || compare_tables.length === 1)")
    assert page.state("compare_error") == ""
    first = page.state("study_figure").split(" in ")[0]
    title = shown[first].title
    cells = next(
        row["cells"]
        for row in page.state("compare_tables")[0]["rows"]
        if row["cells"][0].startswith(title)
    )
    assert float(cells[1]) == pytest.approx(figures["auroc"], abs=0.002)
    assert page.errors == []
    page.browser.close()


def test_the_keys_t_shows_and_hides_the_table(browser: Browser, study_server: Server) -> None:
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    page.browser.goto(study_server.address)
    page.until("study_rows.length === 1")
    page.browser.wait_for_selector(".se-panel")
    before = page.state("study_open")
    for wanted in (not before, before):
        page.browser.keyboard.press("t")
        page.until(f"study_open === {str(wanted).lower()}")
    page.browser.close()


def test_a_second_page_is_told_that_it_shares(browser: Browser, study_server: Server) -> None:
    first, second = (
        Page(browser.new_page(viewport={"width": 1280, "height": 800})) for _ in range(2)
    )
    first.browser.goto(study_server.address)
    first.until("pages === 1")
    assert not first.browser.locator(".se-shared").is_visible()
    second.browser.goto(study_server.address)
    for page in (first, second):
        page.until("pages === 2")
        assert "2 pages" in page.browser.locator(".se-shared").inner_text()
    second.browser.close()
    first.until("pages === 1")
    first.browser.close()


def test_a_lost_connection_is_said_and_comes_back_with_the_maps(
    browser: Browser, study_server: Server
) -> None:
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    routes = []

    def connect(route) -> None:
        routes.append(route)
        route.connect_to_server()

    page.browser.route_web_socket("**/ws*", connect)
    page.browser.route("**/alive", lambda route: route.abort())
    page.browser.goto(study_server.address)
    page.until("study_rows.length === 1")
    if page.state("study_case") == "":
        page.browser.evaluate("window.trame.trigger('open_case', [0])")
    page.until("study_case !== '' && !study_busy && display_shown_title !== ''")
    kept = {name: page.state(name) for name in ("display_maps", "display_map", "study_case")}
    routes[-1].close()
    lost = page.browser.get_by_text("The connection to the viewer is lost.")
    lost.wait_for()
    page.browser.unroute("**/alive")
    lost.wait_for(state="detached")
    page.until("study_rows.length === 1")
    assert {name: page.state(name) for name in kept} == kept
    page.view("axial").locator("img.image-display-area").wait_for()
    # It is a page like any other again.
    page.set("display_opacity", 0.4)
    second = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    second.browser.goto(study_server.address)
    second.until("study_rows.length === 1 && display_opacity === 0.4")
    second.browser.close()
    page.browser.close()


def test_a_press_that_a_dying_connection_swallows_is_done_by_the_page_that_comes_back(
    browser: Browser, study_server: Server
) -> None:
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    routes, swallowed = [], []
    dead = False

    def connect(route) -> None:
        routes.append(route)
        onwards = route.connect_to_server()
        route.on_message(lambda said: swallowed.append(said) if dead else onwards.send(said))

    page.browser.route_web_socket("**/ws*", connect)
    page.browser.goto(study_server.address)
    page.until("study_rows.length === 1")
    # Opened anew, so that nothing is compared yet.
    page.browser.evaluate("window.trame.trigger('open_case', [0])")
    page.until("!study_busy && display_maps.length === 2 && compare_tables.length === 0")
    compare = page.section("compare").locator(".se-compare-button")
    compare.wait_for()
    page.until("open_sections.includes('compare')")
    dead = True
    page.press(compare)
    wait_for(page, lambda: bool(swallowed))
    assert page.state("compare_tables") == []
    dead = False
    # What the cut connection leaves unanswered the old page complains of, until it goes.
    page.browser.on("load", lambda: page.errors.clear())
    routes[-1].close()
    page.browser.get_by_text("The connection to the viewer is lost.").wait_for()
    page.until("study_rows.length === 1 && compare_tables.length === 1 && !compare_busy", 30_000)
    assert page.errors == []
    page.browser.close()


def test_what_is_pressed_is_said_after_what_was_changed_before(
    browser: Browser, study_server: Server
) -> None:
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    said: list[bytes] = []
    answers: list[bytes] = []
    holds = False

    def connect(route) -> None:
        onwards = route.connect_to_server()
        route.on_message(lambda message: (said.append(bytes(message)), onwards.send(message)))
        onwards.on_message(
            lambda message: answers.append(message) if holds else route.send(message)
        )
        routes.append(route)

    routes = []
    page.browser.route_web_socket("**/ws*", connect)
    page.browser.goto(study_server.address)
    # The page's own script is there before the page is drawn, not before it knows its state.
    page.browser.wait_for_selector(".se-panel")
    page.until("study_rows.length === 1")
    said.clear()
    holds = True
    # The framework keeps changes back while anything waits for its answer.
    page.browser.evaluate("() => { window.trame.trigger('waits'); }")
    wait_for(page, lambda: any(b"waits" in message for message in said))
    page.browser.evaluate(
        """() => {
          window.trame.state.set("display_threshold", 0.27);
          window.trame.trigger("pressed afterwards");
        }"""
    )
    page.browser.wait_for_timeout(300)
    assert not any(b"display_threshold" in message or b"pressed" in message for message in said)
    holds = False
    for answer in answers:
        routes[-1].send(answer)
    page.until("display_threshold === 0.27")
    changed = next(n for n, message in enumerate(said) if b"display_threshold" in message)
    pressed = next(n for n, message in enumerate(said) if b"pressed afterwards" in message)
    assert changed < pressed
    page.browser.close()


def wait_for(page: Page, holds: Callable[[], bool]) -> None:
    """Lets the browser go on until something holds that the test itself sees."""
    # The browser's own messages are handled while the page waits.
    until(holds, meanwhile=lambda: page.browser.wait_for_timeout(20))


def maps_of(page: Page, server: Server, folder: Path) -> list[Attribution]:
    """The maps in the viewer's scene."""
    answer = page.browser.context.request.get(f"{server.origin}/scene.mrb")
    (folder / "scene.mrb").write_bytes(answer.body())
    scene = open_mrb(folder / "scene.mrb")
    return [read_attribution(node) for node in attributions_of(scene)]
