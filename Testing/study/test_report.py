from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from SaliencyExplain.records.agreement_row import Agreement, Row
from SaliencyExplain.records.case_entry import CaseEntry, CaseResult, MapEntry
from SaliencyExplain.studies import report
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import Journal
from SaliencyExplain.studies.report import StudyOutput, write_report
from SaliencyExplain.studies.report_contrast import greatest_contrast
from SaliencyExplain.studies.report_data import gather
from SaliencyExplain.studies.report_words import sentences
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of
from Testing.study.conftest import make_study

PICTURES = 8 + 4 + 1
CLASSES = ["healthy", "glioma <b>&", "cyst"]


def figures(auroc: float, energy: float, chance: float = 0.02) -> Agreement:
    return Agreement(
        energy, chance, 1, 1, auroc, 0.5, 0.5, 0.5, 0.3, 0.6, 9.0, 3.0, 5.0, chance * 2
    )


def write_journal(
    out: Path,
    aurocs: Sequence[float],
    *,
    segment: str = "tumour",
    labels: Sequence[str | None] = (),
    predicted: Sequence[int] = (),
    energy: float = 0.4,
    sources: Sequence[str] = (),
    units: Sequence[str] = (),
) -> StudyOutput:
    """A study's journal of known figures: the random map has 0.5, the centre-weighted 0.6."""
    configuration = {
        "classifier": "small",
        "classifier_sha256": "0" * 64,
        "classes": CLASSES,
        "channels": ["image"],
        "methods": [{"name": "gradcam", "parameters": {"layers": []}}],
        "target": "predicted",
        "seed": 0,
        "versions": {"SaliencyExplain": "1"},
    }
    journal = Journal.begin(out, configuration)
    for place, auroc in enumerate(aurocs):
        case = f"P{place}"
        found = {
            "gradcam@conv": figures(auroc, energy),
            "random": figures(0.5 + 0.01 * (place % 3 - 1), 0.02),
            "centre": figures(0.6 + 0.01 * (place % 3 - 1), 0.05),
        }
        rows = [Row(case, name, "cyst", segment, one) for name, one in found.items()]
        probabilities = [0.1, 0.1, 0.1]
        probabilities[predicted[place] if predicted else 0] = 0.8
        journal.append(
            CaseEntry(
                case,
                source=sources[place] if sources else "",
                label=labels[place] if labels else None,
                result=CaseResult(
                    length_unit=units[place] if units else "mm",
                    target="cyst",
                    probabilities=tuple(probabilities),
                    maps=(MapEntry("gradcam@conv", "gradcam@conv-cyst", {}),),
                    rows=tuple(rows),
                    notes=(),
                ),
            )
        )
    return StudyOutput(out, "A study")


@pytest.mark.parametrize(
    ("aurocs", "words"),
    [
        ([0.9, 0.92, 0.88, 0.91] * 2, "Grad-CAM finds “tumour”: mean AUROC 0.90"),
        (
            [0.55, 0.58, 0.56, 0.57] * 2,
            "beats chance for “tumour”, but not the centre-weighted map",
        ),
        ([0.3, 0.7, 0.5, 0.52] * 2, "Grad-CAM does not agree with “tumour” better than chance"),
        ([0.1, 0.12, 0.11, 0.1] * 2, "agrees less with “tumour” than random maps"),
        # Of five cases even the exact test cannot say anything at this level.
        ([0.9, 0.92, 0.88, 0.91, 0.9], "too few cases to distinguish from chance"),
        ([0.99], "too few cases to distinguish from chance"),
    ],
)
def test_the_words_follow_from_the_difference_to_the_control_maps(
    tmp_path: Path, aurocs: list[float], words: str
) -> None:
    (sentence,) = sentences(gather(write_journal(tmp_path, aurocs)))
    assert words in sentence
    assert "random maps 0." in sentence
    assert "40 % of its energy lies inside, by chance 2.0 %" in sentence


def test_accuracy_f1_and_confusion_count_only_known_labels(tmp_path: Path) -> None:
    output = write_journal(
        tmp_path,
        [0.9] * 5,
        labels=["healthy", "Healthy", "2", "cyst", "abscess"],
        predicted=[0, 2, 2, 2, 0],
    )
    labels = gather(output).labels
    assert labels is not None
    assert (labels.count, labels.unknown, labels.accuracy) == (4, 1, 0.75)
    assert labels.confusion == [[1, 0, 1], [0, 0, 0], [0, 0, 2]]
    assert labels.f1[0] == pytest.approx(2 / 3)
    assert labels.f1[1] != labels.f1[1]
    assert labels.f1[2] == pytest.approx(0.8)
    assert labels.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    said = labels.as_json()
    assert said["confusion_matrix"] == labels.confusion
    assert list(said["f1"].values())[1] is None
    assert json.dumps(said, allow_nan=False)


def test_best_and_worst_cases_are_those_of_the_first_method(tmp_path: Path) -> None:
    data = gather(write_journal(tmp_path, [0.5, 0.9, 0.1, 0.7]))
    assert (data.best, data.worst) == (["P1", "P3"], ["P2", "P0"])
    assert data.typical == "P3"


def test_the_contrast_is_the_shared_case_whose_maps_differ_most(tmp_path: Path) -> None:
    sources, cysts = ["a", "b", "c", "d"], [2, 2, 2, 2]
    one, other = (
        gather(
            write_journal(tmp_path / name, aurocs, sources=files, predicted=answers, segment="cyst")
        )
        for name, aurocs, files, answers in (
            ("one", [0.9, 0.9, 0.9, 0.9], sources, cysts),
            ("other", [0.8, 0.3, 0.1, 0.1], ["a", "b", "x", "d"], [2, 2, 2, 0]),
        )
    )
    alone = gather(write_journal(tmp_path / "alone", [0.1], sources=["y"], predicted=[2]))
    # P2 differs more, but is another image; P3 too, but is answered otherwise.
    found = greatest_contrast([alone, one, other])
    assert found is not None
    assert (found.case, found.label, found.segment) == ("P1", "gradcam@conv", "cyst")
    assert (found.target, found.runs) == ("cyst", (1, 2))
    assert greatest_contrast([one, alone]) is None


@pytest.mark.parametrize(
    ("units", "told"), [(["px", "px"], "px"), (["mm", "mm"], "mm"), (["px", "mm"], "mm or px")]
)
def test_the_table_names_the_unit_of_the_cases(tmp_path: Path, units: list[str], told: str) -> None:
    output = write_journal(tmp_path, [0.9, 0.8], units=units)
    page = write_report(tmp_path / "report.html", [output]).read_text()
    for heading in (f"Hausdorff 95 % ({told})", f"Centre distance ({told})", f"Pointing, 5 {told}"):
        assert heading in page
    assert f"or within 5 {told}" in page
    assert "{unit}" not in page


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    output = write_journal(
        tmp_path, [0.9, 0.8], segment="<script>x</script>", labels=["<i>", "<i>"]
    )
    page = write_report(tmp_path / "report.html", [output], title="<img src=x>").read_text()
    assert "<img src=x>" not in page
    assert "<script>x" not in page
    assert "<i>" not in page
    assert "glioma &lt;b&gt;&amp;" in page


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href":
                self.links.append(value or "")
            elif name in ("src", "srcset", "data"):
                self.sources.append(value or "")


@pytest.fixture(scope="module")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a study of five cases with labels, one of them broken."""
    root = tmp_path_factory.mktemp("finished")
    make_study(root, 5)
    (root / "P5_image.nii.gz").write_bytes(b"no image")
    lines = [
        f"P{n},P{n}_image.nii.gz,P{n}_mask.nii.gz,{('tumour', 'no tumour')[n % 2]}"
        for n in range(1, 6)
    ]
    (root / "cases.csv").write_text("\n".join(["case,image,segmentation,label", *lines]))
    out = root / "out"
    config = config_of(bundle, out, "gradient", "gradcam")
    run_study(discover(root / "cases.csv"), config, title="Balls")
    return out


@pytest.mark.slow
def test_the_page_holds_everything_and_links_to_files_that_exist(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    found = _Links()
    found.feed(page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in found.sources)
    # Four explained cases with two maps; two best, two worst and a typical one once more.
    assert len(found.sources) == PICTURES
    files = [link for link in found.links if not link.startswith("#")]
    assert files
    for link in files:
        assert (finished / unescape(link).replace("%40", "@")).exists(), link
    assert not re.search(r"url\(|@import|https?://", page.replace("http-equiv", ""))
    assert "reading the image" in page


def test_the_same_study_gives_the_same_page(finished: Path, tmp_path: Path) -> None:
    written = (finished / "report.html").read_bytes()
    again = write_report(finished / "again.html", [StudyOutput(finished, "Balls")])
    assert again.read_bytes() == written
    again.unlink()


def test_pictures_beyond_the_budget_become_links_and_the_page_says_so(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PICTURE_BUDGET", 200_000)
    page = write_report(finished / "small.html", [StudyOutput(finished, "Balls")])
    text = page.read_text(encoding="utf-8")
    page.unlink()
    shown, linked = text.count("data:image/jpeg"), text.count("open the picture")
    assert shown + linked == PICTURES
    assert shown >= 1
    assert f"{linked} pictures are links" in text
    assert len(text) < 200_000 + 60_000


def test_several_studies_stand_beside_each_other(finished: Path, tmp_path: Path) -> None:
    other = write_journal(tmp_path / "other", [0.9, 0.92, 0.88] * 2)
    runs = [StudyOutput(finished, "Honest"), StudyOutput(other.folder, "Shortcut")]
    page = write_report(tmp_path / "page.html", runs, title="Both").read_text(encoding="utf-8")
    assert page.index('href="#run-1">Honest') < page.index('href="#run-2">Shortcut')
    assert page.count("<article") == 2
    glance = page[page.index('class="glance"') : page.index("<article")]
    assert re.search(r"Shortcut</th><td>Grad-CAM</td><td>0\.90 \[.*?\]</td><td>40 %", glance)
    assert "Grad-CAM finds “tumour”: mean AUROC 0.90" in page


def test_a_browser_shows_the_page_without_network_and_sorts_and_filters(
    finished: Path, chromium: str
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = (
        "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
        "--disable-sync --no-first-run"
    )
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=arguments.split())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto((finished / "report.html").as_uri())

        names = "table.cases tbody tr:not([hidden]) th"
        column = page.locator("table.cases thead th").all_inner_texts()
        auroc = next(n for n, text in enumerate(column) if "AUROC Gradient" in text)
        in_order = page.locator(names).all_inner_texts()
        assert in_order == ["P1", "P2", "P3", "P4"]
        button = page.locator("table.cases thead button").nth(auroc)
        button.focus()
        page.keyboard.press("Enter")
        cell = f"table.cases tbody tr > :nth-child({auroc + 1})"
        rising = [float(text) for text in page.locator(cell).all_inner_texts()]
        assert rising == sorted(rising)
        page.keyboard.press("Enter")
        falling = [float(text) for text in page.locator(cell).all_inner_texts()]
        assert falling == sorted(rising, reverse=True)
        page.keyboard.press("Enter")
        assert page.locator(names).all_inner_texts() == in_order
        page.get_by_label("Show cases with").fill("P3")
        assert page.locator(names).all_inner_texts() == ["P3"]

        pictures = page.locator("img")
        assert pictures.count() == PICTURES
        for place in range(PICTURES):
            pictures.nth(place).scroll_into_view_if_needed()
            pictures.nth(place).evaluate("image => image.decode()")
            assert pictures.nth(place).evaluate("image => image.naturalWidth") > 300
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert problems == []
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
