"""A click's answer as the rows of the page's tables."""

from __future__ import annotations

from typing import Any

from SaliencyExplain.engine.client.click_history import ClickAnswer, History
from SaliencyExplain.viewer.page_words import number_text, place_text


def answer_table(answer: ClickAnswer) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows: for each class the probability, or score, before and without each place."""
    probe = answer.probe
    if probe is None:
        return [], []
    first = "score before" if probe.output == "score" else "before"
    columns = [first, *(f"− {removal.name}" for removal in answer.removals)]
    rows = []
    for index, name in enumerate(probe.classes):
        before = probe.shown[index]
        cells = [{"text": f"{before:.3f}", "color": "transparent"}]
        for removal in answer.removals:
            after = removal.shown(probe.output)[index]
            text = f"{after:.3f}" if removal.voxels else "nothing there"
            cells.append({"text": text, "color": _color(after - before)})
        rows.append({"name": name, "cells": cells})
    return columns, rows


def reading_rows(answer: ClickAnswer) -> list[dict[str, str]]:
    """What each map says of the place."""
    return [
        {
            "map": one.title,
            "target": one.target_name,
            "value": number_text(one.value),
            "percentile": "" if one.percentile is None else f"{one.percentile:.1f} %",
        }
        for one in answer.readings
    ]


def history_rows(history: History) -> list[dict[str, Any]]:
    """The clicks, the newest first."""
    return [
        {"number": one.number, "place": place_text(one.point), "short": short(one)}
        for one in reversed(history.answers)
    ]


def short(answer: ClickAnswer) -> str:
    """The greatest change of the predicted class."""
    if answer.probe is None:
        return ""
    before = answer.probe.before
    return answer.short(max(range(len(before)), key=before.__getitem__))


def value_text(value: float | None) -> str:
    """The image's own value; nothing outside of it."""
    return "" if value is None else number_text(value)


def _color(change: float) -> str:
    """Red where the class loses without the place, which then spoke for it; blue where it gains."""
    strength = min(abs(change), 1.0)
    if strength < 0.005:
        return "transparent"
    hue = "222, 90, 70" if change < 0 else "80, 150, 230"
    return f"rgba({hue}, {0.12 + 0.6 * strength:.2f})"
