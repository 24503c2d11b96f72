"""Small line plots in the panel, painted; Slicer's Plots module need not be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import qt

#: Distinct for readers without colour vision too (Okabe & Ito 2008).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 22, 36
_HEIGHT = 184
_LEGEND_ROW = 15


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        name: In the legend; empty: not in it.
        xs: Coordinates.
        ys: Coordinates.
        color: Such as ``"#0072b2"``.
        dashed: Whether it is dashed.
        dots: Whether its points are marked.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    color: str
    dashed: bool = False
    dots: bool = False


def draw_plot(
    label: Any,
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str,
    x_end: float,
    y_end: float = 1.0,
    width: int = 420,
) -> None:
    """Paints lines over axes from 0 to their ends and shows them in a QLabel.

    Args:
        label: Where to.
        lines: What is drawn, in this order.
        x_title: Below the axis.
        y_title: Above the axis.
        x_end: Right end of the axis, above 0.
        y_end: Upper end of the axis, above 0.
        width: In pixels.
    """
    named = [line for line in lines if line.name]
    height = _HEIGHT + _LEGEND_ROW * len(named)
    pixmap = qt.QPixmap(width, height)
    pixmap.fill(qt.QColor("white"))
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    right, bottom = width - _RIGHT, _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[int, int]:
        return (
            round(_LEFT + (right - _LEFT) * min(max(x / x_end, 0.0), 1.0)),
            round(bottom - (bottom - _TOP) * min(max(y / y_end, 0.0), 1.0)),
        )

    _pen(painter, "#c8c8c8")
    for step in range(5):
        painter.drawLine(*at(0, y_end * step / 4), *at(x_end, y_end * step / 4))
    _pen(painter, "#404040")
    painter.drawLine(*at(0, 0), *at(x_end, 0))
    painter.drawLine(*at(0, 0), *at(0, y_end))
    for step in (0, 2, 4):
        x, y = at(0, y_end * step / 4)
        painter.drawText(4, y + 5, f"{y_end * step / 4:.2g}")
        x, y = at(x_end * step / 4, 0)
        painter.drawText(x - 10, y + 15, f"{x_end * step / 4:.3g}")
    painter.drawText(4, 13, y_title)
    painter.drawText(_LEFT + 60, _HEIGHT - 6, x_title)
    for line in lines:
        _pen(painter, line.color, 2, line.dashed)
        places = [at(x, y) for x, y in zip(line.xs, line.ys, strict=True)]
        if places:
            # One path: dashes would begin anew at each of many short lines.
            path = qt.QPainterPath()
            path.moveTo(*places[0])
            for x, y in places[1:]:
                path.lineTo(x, y)
            painter.drawPath(path)
        for x, y in places if line.dots else ():
            painter.drawEllipse(x - 2, y - 2, 4, 4)
    for number, line in enumerate(named):
        y = _HEIGHT + _LEGEND_ROW * number + 7
        _pen(painter, line.color, 2, line.dashed)
        painter.drawLine(_LEFT, y, _LEFT + 24, y)
        _pen(painter, "#404040")
        painter.drawText(_LEFT + 30, y + 4, line.name)
    painter.end()
    label.pixmap = pixmap
    label.visible = True


def _pen(painter: Any, color: str, width: int = 1, dashed: bool = False) -> None:
    pen = qt.QPen(qt.QColor(color))
    pen.setWidth(width)
    if dashed:
        pen.setStyle(qt.Qt.DashLine)
    painter.setPen(pen)
