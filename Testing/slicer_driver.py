"""Drives the module's panel in a running Slicer: steps, waits, mouse events, screenshots."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk

MODULE = "SlicerSaliencyExplain"
#: Seconds until the whole run is ended from outside of Python, and of a step's usual wait.
TOTAL_SECONDS, STEP_SECONDS = 900, 120


class Driver(ABC):
    """Runs steps; one that fails lets the others run, so that all is seen at once.

    Attributes:
        shots: Where a screenshot goes after each step; None: nowhere.
        folder: For files of this run.
        failed: Names of the steps that failed.
    """

    def __init__(self, shots: Path | None) -> None:
        self.shots = shots
        self.folder = Path(tempfile.mkdtemp(prefix="saliency-explain-smoke-"))
        self.failed: list[str] = []
        self._uncaught: list[str] = []
        self._count = 0
        # What fails in a callback of Qt or VTK is printed by this hook and otherwise lost.
        sys.excepthook = self._on_uncaught
        self._guard = qt.QTimer()
        self._guard.setInterval(500)
        self._guard.connect("timeout()", self._close_dialogs)
        self._guard.start()

    @abstractmethod
    def steps(self) -> Iterable[tuple[str, Callable[[], None]]]:
        """Names of the steps and what they do."""

    @property
    def panel(self) -> Any:
        """The module's widget."""
        return slicer.util.getModuleWidget(MODULE).panel

    @property
    def ui(self) -> Any:
        return self.panel.ui

    @property
    def sections(self) -> Any:
        return self.panel.sections

    # Running

    def run(self) -> None:
        """Runs all steps."""
        for name, work in self.steps():
            self._run_step(name, work)

    def _run_step(self, name: str, work: Callable[[], None]) -> None:
        """Runs one step and prints how it went."""
        self._uncaught = []
        started = time.monotonic()
        why = ""
        try:
            work()
            self.settle(0.3)
        except Exception as error:  # noqa: BLE001 - a step may fail in any way; it is said and counted
            why = one_line(str(error) or type(error).__name__)
            traceback.print_exc()
        if not why and self._uncaught:
            why = f"uncaught: {self._uncaught[0]}"
        if why:
            self.failed.append(name)
        say(f"FAIL {name}: {why}" if why else f"PASS {name}")
        say(f"     {time.monotonic() - started:.1f} s")
        self.screenshot(name)

    def screenshot(self, name: str) -> None:
        if self.shots is None:
            return
        self._count += 1
        slicer.util.forceRenderAllViews()
        slicer.app.processEvents()
        title = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        slicer.util.mainWindow().grab().save(str(self.shots / f"{self._count:02d}-{title}.png"))

    def settle(self, seconds: float) -> None:
        """Lets the application work for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.005)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = STEP_SECONDS) -> None:
        """Lets the application work until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            check(time.monotonic() < end, f"after {seconds:g} s not yet: {what}")
            slicer.app.processEvents()
            time.sleep(0.005)

    def _on_uncaught(self, kind: type[BaseException], error: BaseException, where: Any) -> None:
        self._uncaught.append(one_line(f"{kind.__name__}: {error}"))
        traceback.print_exception(kind, error, where)

    def _close_dialogs(self) -> None:
        """A modal dialog would stop an unattended run; it is an error wherever it comes from."""
        dialog = qt.QApplication.activeModalWidget()
        # Slicer's own progress while it loads a scene goes by itself.
        if dialog is None or dialog.inherits("QProgressDialog"):
            return
        text = dialog.text if hasattr(dialog, "text") else dialog.windowTitle
        self._uncaught.append(one_line(f"a modal dialog was open: {text}"))
        dialog.close()

    def show_section(self, name: str) -> None:
        """Opens one section of the panel and closes the others, for screenshots."""
        for prefix in vars(self.sections):
            button = getattr(self.ui, f"{prefix}CollapsibleButton", None)
            if button is not None:
                button.collapsed = prefix != name

    def press(self, button: str) -> None:
        """Presses a button as a user could: only if it can be pressed."""
        widget = getattr(self.ui, button)
        check(widget.enabled, f"{button} is disabled: {widget.toolTip}")
        widget.click()

    def click(self, interactor: Any, position: Callable[[], tuple[int, int]]) -> None:
        """A left click into a view.

        Args:
            interactor: Of the view.
            position: Says where; asked anew for each event, because a view may change its size
                when the panel beside it does.
        """
        for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            send(interactor, event, *position())
            self.settle(0.1)

    def wait_for_job(self, name: str, seconds: float = STEP_SECONDS) -> None:
        """Waits until a section's job has ended, and fails if the section says why it could not."""
        section = getattr(self.sections, name)
        self.wait(lambda: not section.busy, f"{name} has ended", seconds)
        self.check_no_message(name)

    def message(self, name: str) -> str:
        return str(getattr(self.ui, f"{name}MessageLabel").text)

    def check_no_message(self, name: str) -> None:
        check(not self.message(name), f"the section {name} says: {self.message(name)}")


def check(holds: bool, why: str) -> None:
    """Ends the step with a reason unless something holds."""
    if not holds:
        raise AssertionError(why)


def say(line: str) -> None:
    # In the C locale, which a bare machine has, Slicer cuts a line at the first other character.
    print(line.encode("ascii", "replace").decode(), flush=True)


def one_line(text: str) -> str:
    return " ".join(text.split())


def slice_interactor(color: str) -> Any:
    view = slicer.app.layoutManager().sliceWidget(color).sliceView()
    return view.interactorStyle().GetInteractor()


def view_position(color: str, ras: tuple[float, float, float]) -> tuple[int, int]:
    """Where a place is in a slice view, in its pixels from the lower left."""
    node = slicer.app.layoutManager().sliceWidget(color).mrmlSliceNode()
    to_view = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), to_view)
    x, y, _, _ = to_view.MultiplyPoint([*ras, 1.0])
    return round(x), round(y)


def position_in_3d(view: Any, ras: tuple[float, float, float]) -> tuple[int, int]:
    """Where a place is in a 3D view, in its pixels from the lower left."""
    renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
    renderer.SetWorldPoint(*ras, 1.0)
    renderer.WorldToDisplay()
    x, y, _ = renderer.GetDisplayPoint()
    return round(x), round(y)


def send(interactor: Any, event: str, x: int, y: int) -> None:
    """Gives a view's interactor a mouse event, as Qt does."""
    interactor.SetEventInformation(x, y, 0, 0)
    interactor.InvokeEvent(event)


def drive(kind: type[Driver]) -> None:
    """Runs all steps as soon as the application has started, and leaves it."""
    # After the start-up is over and the event loop runs.
    qt.QTimer.singleShot(500, lambda: _drive(kind))


def _drive(kind: type[Driver]) -> None:
    named = os.environ.get("SALIENCY_EXPLAIN_SCREENSHOTS")
    shots = Path(named).absolute() if named else None
    if shots is not None:
        shots.mkdir(parents=True, exist_ok=True)
    driver = kind(shots)
    # A file: Slicer reads its own standard error through a pipe, which ends with it in a crash.
    where = ((shots or driver.folder) / "traceback.txt").open("w")
    faulthandler.enable(where)
    # From a thread without Python's lock: it ends the run wherever it hangs.
    faulthandler.dump_traceback_later(TOTAL_SECONDS, exit=True, file=where)
    slicer.util.mainWindow().resize(1600, 1100)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    status = 1
    try:
        driver.run()
        status = 1 if driver.failed else 0
    except Exception as error:  # noqa: BLE001 - the application has to end whatever happened
        traceback.print_exc()
        say(f"FAIL the run: {one_line(str(error))}")
    failed = ", ".join(driver.failed)
    say(f"{len(driver.failed)} failed: {failed}" if failed else f"exit status {status}")
    slicer.util.exit(status)
