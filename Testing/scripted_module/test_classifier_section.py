"""The panel's classifier: described, trusted by itself alone, or refused in one line."""

from __future__ import annotations

from pathlib import Path

from .conftest import HONEST, Application, Server


def test_a_classifier_says_what_it_is(ready: Application) -> None:
    text = ready.ui.classifierInfoLabel.text
    for words in ("glioma-like", "t1ce", "3D 40 × 48 × 40", "MONAI bundle"):
        assert words in text
    assert ready.ui.fillComboBox.count > 1


def test_trust_is_given_to_one_classifier_only(application: Application) -> None:
    ui = application.ui
    ui.classifierPathLineEdit.currentPath = "/some/classifier"
    ui.trustCheckBox.checked = True
    assert not ui.trustWarningLabel.isHidden()
    ui.classifierPathLineEdit.currentPath = "/another/classifier"
    assert not ui.trustCheckBox.checked
    assert ui.trustWarningLabel.isHidden()


def test_a_classifier_that_cannot_be_opened_is_one_line(
    application: Application, server: Server, tmp_path: Path
) -> None:
    application.connect(server)
    (tmp_path / "model.pt").write_bytes(b"no model")
    application.ui.classifierPathLineEdit.currentPath = str(tmp_path / "model.pt")
    application.click("openClassifierButton")
    application.wait(lambda: application.message("classifier"))
    assert "model.pt" in application.message("classifier")
    assert application.ui.classifierProgressFrame.isHidden()
    application.open(HONEST)
