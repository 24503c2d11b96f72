"""The page's list of methods, folded family by family, with the parameters of the chosen ones."""

from __future__ import annotations

from trame.widgets import html
from trame_vuetify.widgets import vuetify3 as v

from SaliencyExplain.viewer.widgets import FIELD


def build_methods(methods: str, families: str) -> None:
    """Builds the list.

    Args:
        methods: Name in the page's state of the rows that ``methods_form.rows`` makes.
        families: Of those that ``methods_form.families`` makes.
    """
    flush = f"flushState('{methods}')"
    chosen = f"{methods}.filter(m => m.family === family.name && m.ticked).length"
    with html.Details(
        v_for=f"family in {families}",
        key="family.name",
        classes="se-family",
        raw_attrs=[
            ':open="family.open"',
            # Kept with the family: the page is drawn anew with each change of its state.
            '@toggle="family.open = $event.target.open"',
        ],
    ):
        with html.Summary(title=("family.about",)):
            html.Span("{{ family.title }}")
            html.Span("{{ " + chosen + " }} chosen", v_if=chosen, classes="se-chosen")
        with html.Div(
            v_for=f"method in {methods}.filter(m => m.family === family.name)", key="method.name"
        ):
            v.VCheckbox(
                v_model=("method.ticked",),
                label=("method.title",),
                title=("method.source",),
                density="compact",
                hide_details=True,
                classes="se-method",
                update_modelValue=flush,
            )
            with (
                html.Div(v_if="method.ticked && method.parameters.length", classes="se-fields"),
                html.Div(
                    v_for="field in method.parameters", key="field.name", title=("field.tip",)
                ),
            ):
                _build_field(flush)


def _build_field(flush: str) -> None:
    """A control of the kind that the parameter's description asks for."""
    choice = {
        **FIELD,
        "v_model": ("field.value",),
        "items": ("field.items",),
        "label": ("field.label",),
        "update_modelValue": flush,
    }
    v.VSelect(v_if="field.kind === 'choice'", **choice)
    v.VSelect(
        v_else_if="field.kind === 'names'",
        multiple=True,
        placeholder="automatic",
        persistent_placeholder=True,
        **choice,
    )
    v.VCheckbox(
        v_else_if="field.kind === 'yes or no'",
        v_model=("field.value",),
        label=("field.label",),
        density="compact",
        hide_details=True,
        update_modelValue=flush,
    )
    v.VTextField(
        v_else=True,
        v_model=("field.value",),
        label=("field.label",),
        placeholder=("field.automatic ? 'automatic' : ''",),
        persistent_placeholder=("field.automatic",),
        update_modelValue=flush,
        **FIELD,
    )
