"""Tables of the panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

_ROW_HEIGHT = 26
_SCALE = 1000


def fill_table(
    table: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, most_rows: int = 12
) -> None:
    """Fills a table with texts and numbers, and makes it as high as its rows.

    Args:
        table: A QTableWidget.
        columns: Titles.
        rows: Cells; a :class:`Bar` is drawn, a float shown with three digits.
        most_rows: From more rows on it scrolls.
    """
    table.rowCount = 0
    table.columnCount = len(columns)
    table.setHorizontalHeaderLabels([str(column) for column in columns])
    table.rowCount = len(rows)
    for row, cells in enumerate(rows):
        table.setRowHeight(row, _ROW_HEIGHT)
        for column, cell in enumerate(cells):
            if isinstance(cell, Bar):
                table.setCellWidget(row, column, cell.widget())
            else:
                table.setItem(row, column, _item(cell))
    table.resizeColumnsToContents()
    height = _ROW_HEIGHT * (min(len(rows), most_rows) + 1) + 12
    table.minimumHeight = height
    table.maximumHeight = height
    table.visible = bool(rows)


class Bar:
    """A share as a bar in a table's cell."""

    def __init__(self, share: float) -> None:
        self.share = share

    def widget(self) -> Any:
        """A new widget that shows it."""
        bar = qt.QProgressBar()
        bar.maximum = _SCALE
        bar.value = round(_SCALE * self.share)
        bar.textVisible = False
        bar.maximumHeight = _ROW_HEIGHT - 8
        bar.minimumWidth = 80
        return bar


def number_text(value: float | None) -> str:
    """Three significant digits, or as many as tell it from zero; empty for None and NaN."""
    if value is None or value != value:
        return ""
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def _item(cell: Any) -> Any:
    number = isinstance(cell, (int, float)) and not isinstance(cell, bool)
    text = number_text(cell) if isinstance(cell, float) or cell is None else str(cell)
    item = qt.QTableWidgetItem(text)
    if number or cell is None:
        item.setTextAlignment(int(qt.Qt.AlignRight | qt.Qt.AlignVCenter))
    item.setToolTip(text)
    return item
