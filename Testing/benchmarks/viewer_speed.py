"""How quickly the page answers, in a real browser: ``python -m Testing.benchmarks.viewer_speed``.

Starts the viewer with a phantom and the shipped 3D classifier and prints seconds, each the
median of several: page ready after the command says its address; a click until the table of
its answer is seen, beside the probe's own time; the opacity slider until another picture is
seen.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.images.image_writing import write_volume
from Testing.viewer.conftest import start_viewer
from Testing.viewer.pages import Page

_CLICKS = 7


def main() -> None:
    phantom = draw_phantom("meningioma-like", STUDY_SEEDS + 1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        image = Path(folder) / "head_image.nii.gz"
        affine = phantom.image.affine.numpy().astype(np.float64)
        write_volume(image, phantom.image[0].numpy(), affine, "phantom")
        server = start_viewer([image, "--classifier", classifier_folder("phantom-3d-honest")])
        browser = play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = Page(browser.new_page(viewport={"width": 1280, "height": 800}))
        began = time.perf_counter()
        page.browser.goto(server.address)
        page.view("axial").locator("img.image-display-area").wait_for()
        print(f"page ready after {time.perf_counter() - began:.2f} s (wanted: under 3)")
        page.ready()
        middle = (affine @ [*(np.array(phantom.image.shape[1:]) / 2), 1.0])[:3]
        page.go_to(middle)
        print(f"click to answer {statistics.median(_clicks(page, middle, phantom)):.2f} s")
        page.explain(["gradient"])
        print(f"slider to picture {statistics.median(_slides(page)):.3f} s (wanted: under 0.3)")
        browser.close()
        server.stop()


def _clicks(page: Page, middle: np.ndarray, phantom: object) -> list[float]:
    taken = []
    for number in range(_CLICKS):
        began = time.perf_counter()
        page.ask_at("axial", middle + np.array([4.0 * number, 0.0, 0.0]), phantom)
        taken.append(time.perf_counter() - began)
    return taken[1:]


def _slides(page: Page) -> list[float]:
    image = page.view("axial").locator("img.image-display-area")
    taken = []
    for opacity in (0.2, 0.9, 0.3, 1.0, 0.5):
        page.browser.wait_for_timeout(600)
        source = image.get_attribute("src")
        began = time.perf_counter()
        page.set("display_opacity", opacity)
        page.browser.wait_for_function(
            "source => document.querySelector('.se-views img.image-display-area').src !== source",
            arg=source,
            polling=10,
        )
        taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    main()
