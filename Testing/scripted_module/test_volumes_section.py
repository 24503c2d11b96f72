"""The panel's volumes: what the classifier says of them, and when one is deleted."""

from __future__ import annotations

import pytest
import slicer

from .conftest import TABLES_ALIGN_BY_NUMBER, Application, cells

pytestmark = TABLES_ALIGN_BY_NUMBER


def test_predicts_as_bars(ready: Application) -> None:
    ready.click("predictButton")
    ready.finish("volumes")
    table = ready.ui.probabilitiesTable
    assert not table.isHidden()
    first = cells(table)[0]
    assert first[0] == "glioma-like"
    assert float(first[2]) > 0.9
    assert table.cellWidget(0, 1).value == pytest.approx(1000 * float(first[2]), abs=1)


def test_a_volume_that_is_deleted_is_chosen_no_more(ready: Application) -> None:
    volume = ready.panel.sections.volumes.nodes()[0]
    slicer.mrmlScene.RemoveNode(volume)
    ready.run(0.1)
    assert ready.panel.sections.volumes.nodes() == [None]
    assert not ready.ui.predictButton.enabled
