"""What a user does with the page, and what the page says."""

from __future__ import annotations

import contextlib
import io
import itertools
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Error, Locator
from playwright.sync_api import Page as BrowserPage

from Testing.waiting import HUNG

VIEWS = {"axial": "Red", "coronal": "Green", "sagittal": "Yellow"}
_ORDER = ("axial", "3D", "coronal", "sagittal")
#: The patient's axes (R, A, S) that lie across and down a view, and that it looks along.
_AXES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
_WAIT_MS = 1000 * HUNG
#: How often the mouse aims at a button.
_AIMS = 5
#: The framework asks for a launcher that is not there; the browser calls that an error.
_KNOWN = "405 (Method Not Allowed)"


#: Maps that tests look at, cheap enough to be computed for one of them alone.
MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "Occlusion": ("occlusion", {"stride_mm": 16.0}),
    "Grad-CAM at": ("gradcam", {}),
}


class Pictured(Protocol):
    """What is in the views: a phantom, or another image."""

    @property
    def image(self) -> MetaTensor: ...


class Page:
    """A page of a viewer in a browser.

    Attributes:
        browser: The browser's page.
        errors: What the page's scripts complained of.
    """

    def __init__(self, page: BrowserPage) -> None:
        self.browser = page
        self.errors: list[str] = []
        page.set_default_timeout(_WAIT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._on_console)

    def open(self, address: str) -> None:
        self.browser.goto(address)
        self.ready()

    def ready(self) -> None:
        """Waits until the classifier is open and an image is in the views."""
        self.browser.wait_for_selector(".se-panel")
        self.until(
            "classifier_about !== '' && !classifier_busy && !open_busy && volumes_why === ''"
        )
        for number in range(4):
            self.view(_ORDER[number]).locator("img.image-display-area").wait_for()

    def state(self, name: str) -> Any:
        return self.browser.evaluate("name => window.trame.state.get(name)", name)

    def set(self, name: str, value: Any) -> None:
        """Sets what a control of the page sets."""
        self.browser.evaluate(
            "([name, value]) => window.trame.state.set(name, value)", [name, value]
        )

    def until(self, condition: str, timeout: float = _WAIT_MS) -> None:
        """Waits for a condition on the page's state, in its own language.

        It is asked only once the viewer has heard what was done on the page before: otherwise
        what an earlier press has left would pass for the answer to the last one.
        """
        self._be_heard()
        # The page forbids none of this: its templates are compiled in the browser, too.
        # Before the page is connected its state has no names.
        script = """condition => {
          const known = window.trame?.state?.state;
          if (!known || known.pages === undefined) return false;
          return new Function("state", `with (state) { return (${condition}); }`)(known);
        }"""
        self.browser.wait_for_function(script, arg=condition, timeout=timeout)

    def _be_heard(self) -> None:
        # Presses are said after what was changed and pressed before. The first one's answer may
        # come before what its forerunners have set off; the second one's does not.
        script = """async () => {
          if (window.trame?.state?.state?.pages === undefined) return;
          for (let n = 0; n < 2; n++) await window.trame.trigger("nothing");
        }"""
        # A page that comes back after a lost connection takes the question with it.
        with contextlib.suppress(Error):
            self.browser.evaluate(script)

    def button(self, name: str) -> Locator:
        return self.browser.get_by_role("button", name=name, exact=True)

    def press(self, button: Locator) -> None:
        """Presses a button with the mouse, again where it was moved away meanwhile.

        What stands above it may grow while the mouse aims, as it does for a user. Whether the
        viewer does what the button says is another matter, and left to the test.
        """
        for _ in range(_AIMS):
            # The window keeps the hit: the button itself may be gone once it is pressed.
            button.evaluate(
                """element => {
                  window.lastPressHit = false;
                  element.addEventListener(
                    "click", () => { window.lastPressHit = true; }, {capture: true, once: true});
                }"""
            )
            button.click()
            if self.browser.evaluate("window.lastPressHit"):
                return
        raise AssertionError("the button was missed each time")

    def section(self, prefix: str) -> Locator:
        """A section of the panel, unfolded."""
        found = self.browser.locator(f".se-section.se-{prefix}")
        text = found.locator(".v-expansion-panel-text")
        # The viewer unfolds sections as well: a press at the same moment would fold it again.
        self._be_heard()
        if not text.is_visible():
            found.locator(".v-expansion-panel-title").click()
            text.wait_for()
        return found

    def view(self, name: str) -> Locator:
        return self.browser.locator(".se-views .layout-grid-item").nth(_ORDER.index(name))

    def picture(self, name: str) -> NDArray[np.uint8]:
        """What is seen of a view, (height, width, 3)."""
        content = self.view(name).locator(".remote-controlled-area").screenshot()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def pixel_of(self, name: str, ras: NDArray[np.float64], pictured: Pictured) -> tuple[int, int]:
        """Where a place of the world is drawn in a view that shows the whole image.

        Right is on the left in axial and coronal views, anterior on the left in sagittal ones.
        """
        affine = pictured.image.affine.numpy()
        shape = pictured.image.shape[1:]
        corners = itertools.product(*((-0.5, size - 0.5) for size in shape))
        places = [(affine @ [*corner, 1])[:3] for corner in corners]
        ends = np.min(places, axis=0), np.max(places, axis=0)
        middle, size = np.mean(ends, axis=0), np.abs(np.subtract(*ends))
        box = self.view(name).locator(".remote-controlled-area").bounding_box()
        across, down, _ = _AXES[name]
        mm = 1.05 * max(size[across] / box["width"], size[down] / box["height"])
        x = box["width"] / 2 + (middle[across] - ras[across]) / mm
        y = box["height"] / 2 + (middle[down] - ras[down]) / mm
        return round(x), round(y)

    def go_to(self, ras: NDArray[np.float64]) -> None:
        """Moves all slice views to a place with their sliders, and waits until they are there."""
        for name, view in VIEWS.items():
            # Slicer's sagittal slices are counted towards the patient's left.
            sign = -1.0 if name == "sagittal" else 1.0
            self.set(f"{view}__SliderState__value", sign * float(ras[_AXES[name][2]]))
        for name, view in VIEWS.items():
            place = float(ras[_AXES[name][2]])
            sides = "RAS" if place > 0 else "LPI"
            # The letters follow the view itself; the sliders' own state is there at once.
            self.until(
                f"letters_{view}.where.startsWith('{sides[_AXES[name][2]]} ')"
                f" && Math.abs(parseFloat(letters_{view}.where.slice(2)) - {abs(place)}) < 0.06"
            )

    def click_at(self, name: str, ras: NDArray[np.float64], pictured: Pictured) -> None:
        """Clicks at a place of the world in a slice view that stands there."""
        x, y = self.pixel_of(name, ras, pictured)
        area = self.view(name).locator(".remote-controlled-area")
        area.click(position={"x": x, "y": y})

    def ask_at(self, name: str, ras: NDArray[np.float64], pictured: Pictured) -> dict[str, Any]:
        """Clicks and waits for the answer: ``{class: [before, without 4, 8, 16 mm, …]}``."""
        asked = self.state("probe_asked")
        self.click_at(name, ras, pictured)
        self.until(f"probe_asked > {asked} && !probe_busy && probe_rows.length > 0")
        rows = self.state("probe_rows")
        return {row["name"]: [cell["text"] for cell in row["cells"]] for row in rows}

    def tick(self, methods: list[str], **values: Any) -> None:
        """Ticks these methods and no others, and sets parameters of them all."""
        rows = self.state("explain_methods")
        for row in rows:
            row["ticked"] = row["name"] in methods
            for field in row["parameters"]:
                field["value"] = values.get(field["name"], field["default"])
        self.set("explain_methods", rows)
        self.until(f"explain_methods.filter(m => m.ticked).length === {len(methods)}")

    def explain(self, methods: list[str], **values: Any) -> None:
        """Explains with these methods and waits for the maps."""
        self.tick(methods, **values)
        self.apply()

    def apply(self) -> None:
        """Explains with what is chosen and waits for the maps."""
        self.section("explain")
        self.press(self.button("Apply"))
        self.until("!explain_busy")
        error = self.state("explain_error")
        assert not error, f"{error} {self.state('explain_details')}"

    def drop(self, *paths: Path) -> None:
        """Drops files or folders of the disk on the page, as the browser itself does."""
        session = self.browser.context.new_cdp_session(self.browser)
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": 700, "y": 300, "data": data}
            session.send("Input.dispatchDragEvent", event)

    def have_maps(self, *titles: str) -> None:
        """Sees to it that there are finished maps of these titles, known in ``MAPS``."""
        for title in titles:
            found = [row["title"] for row in self.state("display_maps")]
            if not any(one.startswith(title) and "computed" not in one for one in found):
                method, values = MAPS[title]
                self.explain([method], **values)

    def choose_map(self, title: str) -> None:
        """Shows the newest complete map whose title begins so; it is computed where none is."""
        self.have_maps(title)
        rows = [
            row
            for row in self.state("display_maps")
            if row["title"].startswith(title) and "computed" not in row["title"]
        ]
        self.set("display_map", rows[-1]["value"])
        self.until(f"display_map === '{rows[-1]['value']}' && display_shown_title !== ''")

    def _on_console(self, message: Any) -> None:
        if message.type == "error" and _KNOWN not in message.text:
            self.errors.append(message.text)
