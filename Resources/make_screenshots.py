"""Makes the README's pictures from a finished demo: ``make screenshots``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from SaliencyExplain.cli.demo_command import RUNS
from SaliencyExplain.study.report_contrast import greatest_contrast
from SaliencyExplain.study.report_data import StudyOutput, gather

#: Width in pixels of a picture in the README.
WIDTH = 1500


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
        files = next(map_["files"] for map_ in entry["maps"] if map_["label"] == contrast.label)
        pictures.append(Image.open(runs[place].output.folder / contrast.case / f"{files}.png"))
    height = max(picture.height for picture in pictures)
    both = Image.new("RGB", (sum(picture.width for picture in pictures), height))
    left = 0
    for picture in pictures:
        both.paste(picture, (left, 0))
        left += picture.width
    both = both.resize((WIDTH, round(height * WIDTH / left)), Image.Resampling.LANCZOS)
    both.save(out / "promise.png", optimize=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.goto((demo / "report.html").resolve().as_uri())
        page.wait_for_load_state("load")
        page.screenshot(path=out / "report.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
