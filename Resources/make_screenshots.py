"""Makes the README's pictures from a finished demo: ``make screenshots``."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from SaliencyExplain.cli.demo_command import RUNS
from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from SaliencyExplain.studies.report_contrast import greatest_contrast
from SaliencyExplain.studies.report_data import StudyOutput, gather

PROJECT = Path(__file__).resolve().parents[1]

#: Width in pixels of a picture in the README.
WIDTH = 1500

#: The study of phantoms whose first tumour is in the pictures of the viewer. That of study 0
#: is one that the classifier overlooks ("none": 0.63), and a click there explains little.
_SEED = 1


def main(demo: Path, out: Path) -> None:
    """Writes ``promise.png`` (the same image, two classifiers) and ``report.png``.

    Args:
        demo: The output folder of ``saliency-explain demo``.
        out: Where the pictures go.
    """
    out.mkdir(parents=True, exist_ok=True)
    runs = [gather(StudyOutput(demo / name, title)) for name, _, _, title in RUNS]
    contrast = greatest_contrast(runs)
    if contrast is None:
        raise SystemExit(f"{demo}: the studies share no case.")
    pictures = []
    for place in contrast.runs:
        entry = runs[place].journal.entry(contrast.case)
        files = next(one.files for one in entry.result.maps if one.label == contrast.label)
        pictures.append(Image.open(runs[place].output.folder / contrast.case / files.picture))
    height = max(picture.height for picture in pictures)
    both = Image.new("RGB", (sum(picture.width for picture in pictures), height))
    left = 0
    for picture in pictures:
        both.paste(picture, (left, 0))
        left += picture.width
    both = both.resize((WIDTH, round(height * WIDTH / left)), Image.Resampling.LANCZOS)
    both.save(out / "promise.png", optimize=True)
    with _browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.goto((demo / "report.html").resolve().as_uri())
        page.wait_for_load_state("load")
        page.screenshot(path=out / "report.png")


def picture_viewer(out: Path) -> None:
    """Writes ``viewer-click.png`` and ``viewer-side-by-side.png``: a phantom in the web viewer.

    The phantom's glioma-like tumour is explained by occlusion and by Grad-CAM, and clicked.

    Args:
        out: Where the pictures go.
    """
    with tempfile.TemporaryDirectory() as folder, _browser() as browser:
        cases = Path(folder)
        write_phantom_study(cases, dimensions=3, cases=1, seed=_SEED, marker=False)
        image, mask = cases / "phantom-001_image.nii.gz", cases / "phantom-001_mask.seg.nrrd"
        with _viewer(image, mask) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            _until(page, "classifier_about && !classifier_busy && !open_busy && !volumes_why")
            _until(page, "display_segments")
            for method in ("gradcam", "occlusion"):
                _explain(page, method)
            _click_at_tumour(page, image, mask)
            _settled(page).save(out / "viewer-click.png", optimize=True)
            page.get_by_label("Side by side").check()
            _until(page, "display_beside && display_second_title !== ''")
            page.locator(".se-display").scroll_into_view_if_needed()
            page.mouse.move(5, 5)
            _settled(page).save(out / "viewer-side-by-side.png", optimize=True)


def picture_card(out: Path) -> None:
    """Writes ``trust-card.png``: Grad-CAM of the classifier with the shortcut, evaluated.

    Args:
        out: Where the picture goes.
    """
    sample = PROJECT / "scripted_module" / "Resources" / "SampleData" / "marked-phantom"
    words = ["evaluate", "image", f"{sample}.nii.gz", "-s", f"{sample}.seg.nrrd", "-m", "gradcam"]
    with tempfile.TemporaryDirectory() as folder:
        words += ["-c", str(classifier_folder("phantom-3d-shortcut")), "--out", folder]
        subprocess.run([sys.executable, "-m", "SaliencyExplain.cli.main", *words], check=True)
        (card,) = Path(folder).glob("card-*.png")
        shutil.copy(card, out / "trust-card.png")


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@contextmanager
def _viewer(image: Path, mask: Path) -> Iterator[str]:
    """Runs a viewer with the honest classifier; its whole address."""
    words = ["view", image, "-s", mask, "-c", classifier_folder("phantom-3d-honest")]
    process = subprocess.Popen(
        [sys.executable, "-m", "SaliencyExplain.cli.main", *map(str, words), "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _until(page: Page, condition: str) -> None:
    """Waits for a condition on the viewer's state, in the page's own language."""
    script = """condition => {
      const known = window.trame?.state?.state;
      if (!known || known.pages === undefined) return false;
      return new Function("state", `with (state) { return (${condition}); }`)(known);
    }"""
    page.wait_for_function(script, arg=condition, timeout=300_000)


def _explain(page: Page, method: str) -> None:
    """Explains the predicted class with one method and its default parameters."""
    page.evaluate(
        """method => {
          const rows = JSON.parse(JSON.stringify(window.trame.state.get("explain_methods")));
          for (const row of rows) row.ticked = row.name === method;
          window.trame.state.set("explain_methods", rows);
        }""",
        method,
    )
    count = page.evaluate("window.trame.state.get('display_maps').length")
    page.get_by_role("button", name="Apply", exact=True).click()
    _until(page, f"display_maps.length === {count + 1} && !explain_busy")


def _click_at_tumour(page: Page, image: Path, mask: Path) -> None:
    """Goes to the middle of the tumour, clicks at it in the axial view, and waits."""
    volume = read_image(image)
    tumour = read_segmentation(mask, volume).segments[0].mask
    affine = volume.affine.numpy()
    right, front, up = (affine @ [*np.argwhere(tumour).mean(axis=0), 1.0])[:3]
    page.evaluate("up => window.trame.state.set('Red__SliderState__value', up)", float(up))
    _until(page, f"Math.abs(parseFloat(letters_Red.where.slice(2)) - {abs(float(up))}) < 0.06")
    area = page.locator(".se-views .remote-controlled-area").first
    box = area.bounding_box()
    assert box is not None
    # The whole image is in the view, a twentieth wider than it; R is left, A is up.
    middle = (affine @ [*((np.array(volume.shape[1:]) - 1) / 2), 1.0])[:2]
    size = np.abs(np.diag(affine)[:2] * volume.shape[1:3])
    mm = 1.05 * max(size[0] / box["width"], size[1] / box["height"])
    area.click(
        position={
            "x": box["width"] / 2 + (middle[0] - right) / mm,
            "y": box["height"] / 2 + (middle[1] - front) / mm,
        }
    )
    _until(page, "probe_inside === 'tumour' && probe_rows.length && !probe_busy")


def _settled(page: Page) -> Image.Image:
    """The page when it changes no more: pictures follow the state by some frames."""
    before = b""
    while (now := page.screenshot()) != before:
        before = now
        page.wait_for_timeout(1000)
    return Image.open(io.BytesIO(now)).convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    picture_viewer(Path(sys.argv[2]))
    picture_card(Path(sys.argv[2]))
