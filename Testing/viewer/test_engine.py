"""A picture of two axes, explained by an engine that runs elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.waiting import HUNG

from .conftest import Server, open_page, start_viewer
from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer study")

_SEED = 3
_CLASSIFIER = "phantom-2d-honest"

#: Enough of each method to tell that it runs and is shown.
CHEAP = {"stride_mm": 24.0, "samples": 4, "steps": 4, "pairs": 2, "size_mm": 40.0}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice with a glioma-like tumour, as PNG, its segmentation, and two further slices."""
    folder = tmp_path_factory.mktemp("pictures")
    write_phantom_study(folder, dimensions=2, cases=3, seed=_SEED, marker=False)
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token file of a running ``saliency-explain serve``."""
    token = tmp_path_factory.mktemp("engine") / "token"
    words = ["serve", "--token-file", str(token), "--data", str(classifier_folder(_CLASSIFIER))]
    process = subprocess.Popen(
        [sys.executable, "-m", "SaliencyExplain.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["address"], str(token)
    process.terminate()
    process.wait(HUNG)


@pytest.fixture(scope="module")
def server(pictures: Path, engine: tuple[str, str]) -> Iterator[Server]:
    address, token = engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALIENCY_EXPLAIN_TOKEN_FILE", token)
        found = start_viewer(
            [
                pictures / "phantom-001_image.png",
                *("--segmentation", pictures / "phantom-001_mask.seg.nrrd"),
                *("--classifier", classifier_folder(_CLASSIFIER)),
                *("--engine", address),
            ]
        )
    yield found
    found.stop()


def test_a_picture_is_explained_and_clicked_with_an_engine_elsewhere(
    browser: Browser, server: Server, pictures: Path
) -> None:
    for page in open_page(browser, server):
        page.explain(["gradcam"])
        tumour = middle_of_tumour(pictures)
        answer = click_in_axial(page, tumour, pictures)
        assert page.state("probe_inside") == "tumour"
        before, *without = map(float, answer["glioma-like"])
        assert before > 0.9
        assert len(without) == 4
        # A PNG has no size: its lengths are in pixels.
        assert page.state("probe_columns")[1:4] == ["− 4 px", "− 8 px", "− 16 px"]
        assert page.state("probe_place").endswith(" px")
        assert "removed radius, px" in [one["text"] for one in page.state("probe_plot")["labels"]]
        assert min(without) < before - 0.3
        (reading,) = page.state("probe_readings")
        assert float(reading["percentile"].rstrip(" %")) > 90
        page.press(page.section("compare").locator(".se-compare-button"))
        page.until("!compare_busy && (compare_error !== '' || compare_tables.length === 1)")
        assert page.state("compare_error") == ""
        assert page.state("compare_tables")[0]["titles"][-1] == "Distance, px"
        assert page.section("compare").locator("th").last.inner_text() == "Distance, px"
        rows = {row["cells"][0]: row["cells"] for row in page.state("compare_tables")[0]["rows"]}
        (label,) = (name for name in rows if name.startswith("Grad-CAM"))
        assert float(rows[label][1]) > 0.9


def test_every_method_gives_a_map_of_its_own(
    browser: Browser, server: Server, pictures: Path
) -> None:
    for page in open_page(browser, server):
        # Two further pictures stand for "nothing in particular"; the first stays explained.
        page.drop(*(pictures / f"phantom-00{number}_image.png" for number in (2, 3)))
        page.until("volumes_items.length === 3 && !open_busy")
        page.set("volumes_channels", [{**page.state("volumes_channels")[0], "image": 0}])
        page.until("explain_offered.length === 2")
        page.tick(list(methods()), **CHEAP)
        page.until("explain_requires.length === 2")
        page.set("explain_backgrounds", [1, 2])
        assert "mask" in page.browser.locator(".se-beside-segments").inner_text()
        page.apply()
        titles = [row["title"] for row in page.state("display_maps")]
        for name, method in methods().items():
            assert any(title.startswith(method.title) for title in titles), name
        assert not any("computed" in title for title in titles)


def middle_of_tumour(pictures: Path) -> NDArray[np.float64]:
    """RAS mm; a voxel of the tumour, nearest to its centre of mass."""
    image = read_image(pictures / "phantom-001_image.png")
    found = read_segmentation(pictures / "phantom-001_mask.seg.nrrd", image)
    inside = np.argwhere(found.segments[0].mask)
    index = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()]
    return np.array([-index[0], -index[1], 0.0], dtype=np.float64)


def click_in_axial(page: Page, ras: NDArray[np.float64], pictures: Path) -> dict[str, list[str]]:
    """Clicks in the axial view, which shows the whole picture, and waits for the answer."""
    size = np.array(read_image(pictures / "phantom-001_image.png").shape[1:])
    area = page.view("axial").locator(".remote-controlled-area")
    box = area.bounding_box()
    mm = 1.05 * max(size / (box["width"], box["height"]))
    # Pixels are 1 mm; columns run to the patient's left, rows to the back.
    x, y = np.array([box["width"], box["height"]]) / 2 + (-ras[:2] - (size - 1) / 2) / mm
    area.click(position={"x": x, "y": y})
    page.until("probe_asked > 0 && !probe_busy && probe_rows.length > 0")
    rows = page.state("probe_rows")
    return {row["name"]: [cell["text"] for cell in row["cells"]] for row in rows}
