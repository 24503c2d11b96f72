"""One explained case of a small study, with everything that a record holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.case_record import EXPLANATION, CaseRecord
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.single import explain_case
from Testing.studies import config_of


@dataclass(frozen=True)
class Explained:
    """A case, as it was returned and as it lies on the disk."""

    out: Path
    record: CaseRecord
    entry: CaseEntry

    @property
    def folder(self) -> Path:
        return self.out / self.entry.case

    def document(self) -> dict[str, Any]:
        """The content of ``explanation.json``, to be damaged."""
        return json.loads((self.folder / EXPLANATION).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    folder = tmp_path_factory.mktemp("records")
    table = write_phantom_study(folder / "in", dimensions=2, cases=1, seed=5, marker=False)
    config = config_of(classifier_folder("phantom-2d-honest"), folder / "out", "gradient", "centre")
    (case,) = discover(table)
    record, entry = explain_case(case, config)
    return Explained(config.out, record, entry)
