"""A study of the panel goes on without it and is opened again."""

from __future__ import annotations

from pathlib import Path

import slicer

from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.scene.attributions import attributions_of
from SaliencyExplain.scene.kept_evaluations import answer_line

from .conftest import HONEST, TABLES_ALIGN_BY_NUMBER, Application, Server, cells

pytestmark = TABLES_ALIGN_BY_NUMBER


def test_a_study_is_left_come_back_to_and_opened(
    application: Application, server: Server, tmp_path: Path
) -> None:
    table = write_phantom_study(tmp_path / "in", dimensions=3, cases=2, seed=4, marker=False)
    application.connect(server)
    application.open(HONEST)
    ui = application.ui
    application.panel.sections.explain.methods.set_values({"gradcam": {}})
    ui.studyFolderPathLineEdit.currentPath = str(table)
    ui.studyOutPathLineEdit.currentPath = str(tmp_path / "out")
    application.run()
    assert ui.studyMethodsLabel.text == "gradcam"
    ui.studyEvaluateCheckBox.checked = True
    ui.evaluationBudgetSpinBox.value = 1
    assert ui.studyClassifierPathLineEdit.currentPath == str(classifier_folder(HONEST))
    application.click("startStudyButton")
    application.wait(lambda: application.panel.sections.study.job.status is not None)

    again = Application()
    try:
        again.connect(server)
        again.wait(lambda: again.panel.sections.study.busy)
        again.finish("study")
        assert "2 cases, 0 failed" in again.message("study")
        assert [row[0] for row in cells(again.ui.casesTable)] == ["phantom-001", "phantom-002"]
        again.ui.studyFolderPathLineEdit.currentPath = str(table)
        # Cases are opened in a new scene as well.
        slicer.mrmlScene.Clear(False)
        again.run(0.1)
        again.ui.casesTable.selectRow(0)
        again.run()
        again.click("openCaseButton")
        assert again.message("study") == ""
        (node,) = attributions_of(slicer.mrmlScene)
        assert again.ui.mapSelector.currentNode() is node
        assert again.ui.evaluationHintLabel.text == answer_line(node)
        assert "● depends on the weights: yes" in again.ui.evaluationHintLabel.text
        assert again.ui.evaluationTable.rowCount == 4
        assert again.ui.segmentationSelector.currentNode() is not None
        assert again.ui.openReportButton.enabled
        again.ui.studyCollapsibleButton.collapsed = False
        again.grab("study")
    finally:
        again.close()
