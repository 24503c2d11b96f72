"""Looking through a finished study, and pages that come, go and share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from playwright.sync_api import Browser

from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.scene.mrb import open_mrb

from .conftest import Server, start_viewer
from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer study")


@pytest.fixture(scope="module")
def study_server(study: Path, case_folder: Path) -> Iterator[Server]:
    found = start_viewer(["--study", study, "--data", case_folder])
    yield found
    found.stop()


def test_a_case_opens_with_its_maps_as_they_were_computed(
    browser: Browser, study_server: Server, study: Path, tmp_path: Path
) -> None:
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    page.browser.goto(study_server.address)
    row = page.browser.locator(".se-study-rows tbody tr")
    row.first.wait_for()
    cells = row.first.locator("td").all_inner_texts()
    assert "meningioma-like" in cells
    picture = row.first.locator("img.se-thumbnail")
    picture.wait_for()
    page.browser.wait_for_function("document.querySelector('img.se-thumbnail').naturalWidth > 100")
    page.browser.get_by_role("columnheader", name="AUROC").click()
    row.first.click()
    page.until("study_case !== '' && !study_busy && display_maps.length === 2")
    assert page.state("study_error") == ""
    assert not page.browser.locator(".se-study-table").is_visible()
    assert page.state("display_segments") is True
    answer = page.browser.context.request.get(f"{study_server.origin}/scene.mrb")
    (tmp_path / "scene.mrb").write_bytes(answer.body())
    shown = {map.label: map for map in map(read_attribution, attributions_of(
        open_mrb(tmp_path / "scene.mrb")
    ))}  # fmt: skip
    files = sorted((study / "head").glob("*.nii.gz"))
    assert len(files) == len(shown) == 2
    for file in files:
        label = file.name.removesuffix("-meningioma-like.nii.gz")
        np.testing.assert_allclose(shown[label].values, nibabel.load(file).get_fdata(), rtol=1e-6)
    assert page.errors == []
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


def test_a_lost_connection_is_said_and_comes_back(browser: Browser, study_server: Server) -> None:
    page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
    routes = []

    def connect(route) -> None:
        routes.append(route)
        route.connect_to_server()

    page.browser.route_web_socket("**/ws*", connect)
    page.browser.route("**/alive", lambda route: route.abort())
    page.browser.goto(study_server.address)
    page.until("study_rows.length === 1")
    routes[-1].close()
    lost = page.browser.get_by_text("The connection to the viewer is lost.")
    lost.wait_for()
    page.browser.unroute("**/alive")
    lost.wait_for(state="detached")
    page.until("study_rows.length === 1")
    page.browser.close()
