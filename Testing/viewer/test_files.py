"""Files that come and go: dropped on the page, picked, downloaded."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.scene.mrb import open_mrb

from .conftest import Server
from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer")


def test_what_is_no_image_is_answered_in_the_panel(
    page: Page, session: requests.Session, server: Server
) -> None:
    content = {"file": ("head_image.nii.gz", b"this is no image")}
    assert session.post(f"{server.origin}/upload", files=content).status_code == 200
    page.until("open_error !== ''")
    error = page.section("open").locator(".se-error")
    assert "head_image.nii.gz" in error.inner_text()
    assert "Traceback" not in error.inner_text()


def test_a_dropped_image_is_opened(page: Page, case_folder: Path) -> None:
    before = len(page.state("volumes_items"))
    # Playwright hands a long list over number by number, which takes it many seconds.
    content = base64.b64encode((case_folder / "head_image.nii.gz").read_bytes()).decode()
    page.browser.evaluate(
        """content => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
          data.items.add(new File([bytes], "dropped_image.nii.gz"));
          const event = new DragEvent("drop", {dataTransfer: data, bubbles: true});
          document.querySelector(".se-views").dispatchEvent(event);
        }""",
        content,
    )
    page.until(f"volumes_items.length === {before + 1} && !open_busy")
    assert page.state("volumes_items")[-1]["title"] == "dropped_image"


def test_the_folder_picker_stays_in_its_folders(page: Page, case_folder: Path) -> None:
    section = page.section("open")
    section.get_by_text(case_folder.parent.name, exact=True).click()
    section.get_by_text("cases", exact=True).click()
    page.until("open_folder === 'cases'")
    names = {entry["name"] for entry in page.state("open_entries")}
    assert names == {"head_image.nii.gz", "head_mask.seg.nrrd"}
    page.set("open_up", "/etc")
    section.get_by_label("The folder above").click()
    page.until("open_error !== ''")
    assert "outside" in page.state("open_error")
    assert page.state("open_folder") == "cases"


def test_the_scene_is_saved_for_slicer_with_its_maps(
    page: Page, session: requests.Session, server: Server, tmp_path: Path
) -> None:
    page.explain(["gradient"])
    answer = session.get(f"{server.origin}/scene.mrb")
    assert answer.status_code == 200
    path = tmp_path / "scene.mrb"
    path.write_bytes(answer.content)
    scene = open_mrb(path)
    maps = [read_attribution(node) for node in attributions_of(scene)]
    assert any(map.label == "gradient" and map.values.max() > 0 for map in maps)


def test_the_views_are_saved_as_a_picture(
    page: Page, session: requests.Session, server: Server
) -> None:
    answer = session.get(f"{server.origin}/screenshot.png")
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape[0] > 700
    assert picture.shape[1] > 800
    # Anatomy in each quarter, and not one picture twice.
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    quarters = [picture[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    assert all(quarter.std() > 10 for quarter in quarters)


def test_clicks_are_saved_as_a_table(session: requests.Session, server: Server) -> None:
    answer = session.get(f"{server.origin}/clicks.csv")
    assert answer.text.startswith("click,volume,R,A,S,removed,")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="clicks.csv"'
