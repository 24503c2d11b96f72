"""Files that come and go: dropped on the page, picked, downloaded."""

from __future__ import annotations

import base64
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from SaliencyExplain.images.reading import read_image
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.scene.mrb import open_mrb
from SaliencyExplain.scene.names import KIND
from SaliencyExplain.scene.nodes import nodes_of

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


@pytest.fixture
def dropped(page: Page, case_folder: Path) -> Iterator[int]:
    """The number of an image that is dropped on the page; afterwards the first is shown again."""
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
    yield before
    show_image(page, 0)


def test_an_image_that_is_dropped_is_the_one_in_the_views_and_explained(
    page: Page, dropped: int
) -> None:
    assert page.state("volumes_items")[dropped]["title"].startswith("dropped_image")
    # What the views show and what is explained are one, or maps would lie on another image.
    assert [row["image"] for row in page.state("volumes_channels")] == [dropped]
    assert page.state("display_maps") == []
    page.explain(["gradcam"])
    (row,) = page.state("display_maps")
    assert page.state("display_map") == row["value"]
    assert page.state("display_shown_title") == row["title"]


def test_going_back_to_an_image_brings_its_maps_back(page: Page, dropped: int) -> None:
    show_image(page, 0)
    page.have_maps("Grad-CAM at")
    maps = page.state("display_maps")
    show_image(page, dropped)
    page.until(f"!display_maps.some(row => row.value === '{maps[0]['value']}')")
    show_image(page, 0)
    page.until("display_maps.length > 0")
    assert page.state("display_maps") == maps


def test_a_series_is_opened_from_many_files_a_folder_and_an_archive(
    page: Page, session: requests.Session, server: Server, shared_data: Path, tmp_path: Path
) -> None:
    slices = sorted((shared_data / "dicom-ct-3slice-seg-dcmqi" / "ct-3slice").glob("*.dcm"))
    assert len(slices) == 3
    # As on a disc: folders in a folder, a note beside them.
    disc = tmp_path / "disc"
    for number, path in enumerate(slices):
        place = disc / f"part{number}" / "slice.dcm"
        place.parent.mkdir(parents=True)
        place.write_bytes(path.read_bytes())
    (disc / "README.txt").write_text("a note")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for path in sorted(disc.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    expected = np.asarray(read_image(slices[0].parent)).ravel()

    def many() -> None:
        files = [("file", (path.name, path.read_bytes())) for path in slices]
        assert session.post(f"{server.origin}/upload", files=files).status_code == 200

    def packed() -> None:
        files = {"file": ("series.zip", (tmp_path / "series.zip").read_bytes())}
        assert session.post(f"{server.origin}/upload", files=files).status_code == 200

    for bring in (many, packed, lambda: page.drop(disc)):
        before = len(page.state("volumes_items"))
        bring()
        page.until(f"open_error !== '' || (volumes_items.length === {before + 1} && !open_busy)")
        assert page.state("open_error") == ""
        page.until(f"volumes_channels[0].image === {before}")
        # The viewer has the series' own voxels, slice on slice.
        node = images_of(session, server, tmp_path)[before]
        np.testing.assert_array_equal(np.sort(volume_values(node)[0].ravel()), np.sort(expected))
    show_image(page, 0)


def test_a_dicom_folders_name_stands_in_no_result(
    page: Page, session: requests.Session, server: Server, shared_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Doe^Jane"
    shutil.copytree(shared_data / "dicom-ct-3slice-seg-dcmqi" / "ct-3slice", folder)
    before = len(page.state("volumes_items"))
    page.drop(folder)
    page.until(f"open_error !== '' || (volumes_items.length === {before + 1} && !open_busy)")
    assert page.state("open_error") == ""
    page.until(f"volumes_channels[0].image === {before} && volumes_why === ''")
    page.explain(["random"])
    (tmp_path / "scene.mrb").write_bytes(session.get(f"{server.origin}/scene.mrb").content)
    scene = open_mrb(tmp_path / "scene.mrb")
    image = read_attribution(attributions_of(scene)[-1]).provenance["image"]
    # As a study names what may name a patient.
    assert image == f"case-{before + 1:03d}"
    show_image(page, 0)


def show_image(page: Page, number: int) -> None:
    """Chooses an image for the only channel."""
    name = page.state("volumes_channels")[0]["name"]
    page.set("volumes_channels", [{"name": name, "image": number}])
    page.until(f"volumes_channels[0].image === {number} && !volumes_busy")


def images_of(session: requests.Session, server: Server, folder: Path) -> list[Any]:
    """The images in the viewer's scene, in the order in which they came."""
    (folder / "scene.mrb").write_bytes(session.get(f"{server.origin}/scene.mrb").content)
    nodes = nodes_of(open_mrb(folder / "scene.mrb"), "vtkMRMLScalarVolumeNode")
    return [
        node
        for node in nodes
        if not node.GetAttribute(KIND) and not node.IsA("vtkMRMLLabelMapVolumeNode")
    ]


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
