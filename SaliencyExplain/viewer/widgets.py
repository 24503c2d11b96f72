"""The controls that the sections of the panel are made of."""

from __future__ import annotations

import html as html_text
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trame.widgets import html
from trame_vuetify.widgets import vuetify3 as v

from SaliencyExplain.viewer.part import Part

#: How all fields look in which something is written or chosen.
FIELD = {
    "density": "compact",
    "variant": "outlined",
    "hide_details": True,
    "classes": "se-field",
}


@contextmanager
def section(title: str, part: Part) -> Iterator[None]:
    """A section of the panel that can be folded; its messages stand at its end."""
    with v.VExpansionPanel(value=part.prefix, elevation=0, classes=f"se-section se-{part.prefix}"):
        v.VExpansionPanelTitle(title)
        with v.VExpansionPanelText():
            yield
            _progress(part)
            _messages(part)


def button(text: str, click: Any, tip: str = "", **more: Any) -> v.VBtn:
    """A button with words."""
    with v.VBtn(text, click=click, size="small", variant="tonal", **more) as made:
        if tip:
            _tip(tip)
    return made


def icon_button(icon: str, tip: str, *attributes: str, **more: Any) -> None:
    """A button with a picture, whose words are its tip.

    Args:
        icon: Name of the picture.
        tip: The words.
        *attributes: Further ones of its element, as HTML has them.
        **more: Of the button.
    """
    words = html_text.escape(tip, quote=True)
    raw = [f'aria-label="{words}"', *attributes]
    with v.VBtn(icon=True, variant="text", size="x-small", raw_attrs=raw, **more):
        v.VIcon(icon, size=20)
        _tip(tip)


def select(model: str, items: Any, label: str, tip: str = "", **more: Any) -> v.VSelect:
    """A choice of one."""
    return _field(v.VSelect, model, label, tip, items=items, **more)


def text_field(model: str, label: str, tip: str = "", **more: Any) -> v.VTextField:
    """A line of text."""
    return _field(v.VTextField, model, label, tip, **more)


def tick(model: str, label: str, tip: str, **more: Any) -> v.VCheckbox:
    """A yes or no."""
    with v.VCheckbox(
        v_model=(model,), label=label, density="compact", hide_details=True, **more
    ) as made:
        _tip(tip)
    return made


def slider(model: str, label: str, tip: str, **more: Any) -> None:
    """A share between 0 and 1, with its words before and its per cent behind it."""
    with html.Div(classes="se-slider-row"):
        html.Span(label, classes="se-slider-label")
        with v.VSlider(
            v_model=(model,),
            min=0,
            max=1,
            step=0.01,
            density="compact",
            hide_details=True,
            thumb_size=14,
            aria_label=label,
            **more,
        ):
            _tip(tip)
        html.Span("{{ Math.round(100 * " + model + ") }} %", classes="se-slider-value")


def _field(kind: Any, model: str, label: str, tip: str, **more: Any) -> Any:
    with kind(v_model=(model,), label=label, **FIELD, **more) as made:
        if tip:
            _tip(tip)
    return made


def _tip(text: str) -> None:
    v.VTooltip(text, activator="parent", location="top", open_delay=500, max_width=320)


def _progress(part: Part) -> None:
    with html.Div(v_if=(part.name("busy"),), classes="se-progress"):
        v.VProgressLinear(
            model_value=(part.name("share"),),
            indeterminate=(f"!{part.name('known')}",),
            height=4,
            rounded=True,
            color="primary",
        )
        with html.Div(classes="se-progress-row"):
            html.Span("{{ " + part.name("doing") + " }}", classes="se-doing")
            button(
                "Cancel",
                part.cancel,
                "Stop; what is there stays.",
                disabled=(part.name("stopping"),),
                classes="se-cancel",
            )


def error_line(error: str, details: str) -> None:
    """What went wrong, where the page's state says that something did."""
    with html.Div(v_if=(error,), classes="se-error", role="alert"):
        html.Div("{{ " + error + " }}")
        with html.Details(v_if=(details,)):
            html.Summary("Details")
            html.Pre("{{ " + details + " }}")


def _messages(part: Part) -> None:
    error_line(part.name("error"), part.name("details"))
    html.Div("{{ note }}", v_for=f"(note, n) in {part.name('notes')}", key="n", classes="se-note")
