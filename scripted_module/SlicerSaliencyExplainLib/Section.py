"""What all sections of the panel share: progress, one line for an error, and enabling."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from SaliencyExplain.engine.interface import WAITING, JobStatus
from SaliencyExplain.errors import SaliencyExplainError
from SaliencyExplain.plain_text import visible
from SaliencyExplain.quantities import time_text

from .Failures import Failure
from .Jobs import Job

_SCALE = 1000
_LATE_SECONDS = 0.4
_ENGINE_GONE = _("Stopped: the connection to the engine is lost. See Engine above.")


class Section:
    """One collapsible part of the panel; its widgets begin with ``prefix`` in the .ui file.

    Attributes:
        prefix: First word of the names of its progress and message widgets.
        panel: The module's widget: its ``ui``, ``logic``, ``connection``, ``parameters``.
        ui: All widgets by name.
        job: What it is waiting for; None or not active: nothing.
    """

    prefix = ""

    def __init__(self, panel: Any) -> None:
        self.panel = panel
        self.ui = panel.ui
        self.job: Job | None = None
        self._began = 0.0
        self._own("DetailsButton").connect("toggled(bool)", self._show_details)
        if hasattr(self.ui, f"{self.prefix}CancelButton"):
            self._own("CancelButton").connect("clicked(bool)", self._on_cancel)

    @property
    def busy(self) -> bool:
        """Whether its job still runs."""
        return self.job is not None and self.job.active

    def refresh(self) -> None:
        """Brings widgets in line with the state of the panel; cheap, called often."""

    def parameters_changed(self) -> None:
        """The parameter node has other values, or is another node."""

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        self.clear_message()
        self.end()

    def engine_gone(self) -> None:
        """The engine is lost; the scene is not changed."""
        if self.busy:
            self.job.drop()
            self.end()
            self.say(_ENGINE_GONE)

    def begin(self, start: Callable[[], Job], doing: str) -> None:
        """Starts a job and shows that it runs; an error at the start is one line."""
        self.clear_message()
        try:
            self.job = start()
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))
            return
        self._own("CancelButton").enabled = True
        self._own("ProgressBar").maximum = 0
        self._own("ProgressLabel").text = doing
        self._began = time.monotonic()
        self.panel.refresh()

    def show_late_progress(self) -> None:
        """Shows the progress of a job that is not over at once: what flickers disturbs."""
        if self.busy and time.monotonic() - self._began > _LATE_SECONDS:
            self._own("ProgressFrame").visible = True

    def end(self) -> None:
        """Takes the progress away."""
        self.job = None
        if hasattr(self.ui, f"{self.prefix}ProgressFrame"):
            self._own("ProgressFrame").visible = False

    def show_progress(self, status: JobStatus) -> None:
        """Shows how far a job is, and how long it will take."""
        bar = self._own("ProgressBar")
        if status.state == WAITING or status.total <= 0:
            bar.maximum = 0
        else:
            bar.maximum = _SCALE
            bar.value = round(_SCALE * min(1.0, status.done / status.total))
        self._own("ProgressLabel").text = progress_text(status)

    def cancelled(self) -> None:
        """The job has stopped before its end."""
        self.end()
        self.say(_("Cancelled."))
        self.panel.refresh()

    def fail(self, failure: Failure) -> None:
        """Ends the job with one line that says why."""
        self.end()
        if failure.lost:
            # The section Engine says more, once.
            self.say(_ENGINE_GONE)
        else:
            self.say(failure.line, failure.details)
        self.panel.refresh()

    def say(self, line: str, details: str = "") -> None:
        """Shows one line, and a button for the rest where there is more."""
        self._own("MessageLabel").text = visible(line)
        self._own("DetailsButton").checked = False
        self._own("DetailsButton").visible = bool(details)
        self._own("DetailsText").plainText = details
        self._own("DetailsText").visible = False
        self._own("MessageFrame").visible = bool(line)

    def clear_message(self) -> None:
        """Takes the line away."""
        self.say("")

    def _own(self, name: str) -> Any:
        return getattr(self.ui, self.prefix + name)

    def _show_details(self, on: bool) -> None:
        self._own("DetailsText").visible = on

    def _on_cancel(self, _checked: bool = False) -> None:
        if self.job is not None:
            self.job.cancel()
            self._own("CancelButton").enabled = False
            self._own("ProgressLabel").text = _("Stopping …")


def progress_text(status: JobStatus) -> str:
    """How far a job is, in words."""
    if status.state == WAITING:
        return _("Waiting, position {place} in the queue.").format(place=status.place)
    words = [status.doing or _("Computing")]
    if status.total > 0:
        words.append(f"{min(1.0, status.done / status.total):.0%}")
    if status.seconds_left is not None:
        words.append(_("{time} left").format(time=time_text(status.seconds_left)))
    return ", ".join(words)


def size_text(count: float | None) -> str:
    """A size in bytes for people."""
    if count is None:
        return _("size not known")
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def allow(widget: Any, tip: str, *reasons: tuple[bool, str]) -> None:
    """Enables a widget unless something is in the way, which its tooltip then says.

    Args:
        widget: Which one.
        tip: Its tooltip while it is enabled.
        *reasons: What is in the way, and the words for it; the first that holds is shown.
    """
    reason = next((words for holds, words in reasons if holds), "")
    widget.enabled = not reason
    widget.toolTip = reason or tip


def replace_content(widget: Any, content: Any) -> None:
    """Puts one widget into another that has a box layout, in the place of what was there."""
    layout = widget.layout()
    while layout.count():
        old = layout.takeAt(0).widget()
        old.hide()
        # It keeps its parent until it goes: PythonQt deletes a widget without one together with
        # its last reference, which dies with the widget's own children, and so twice.
        old.deleteLater()
    layout.addWidget(content)
