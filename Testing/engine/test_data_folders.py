"""Paths that requests name lie in the folders that the engine was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.wire.requests import StudyRequest
from SaliencyExplain.errors import ClassifierError, InputError
from SaliencyExplain.specification.spec import ExplainSpec
from Testing.engine.conftest import QUICK, ended

pytestmark = pytest.mark.server


def study(data: Path, bundle: Path) -> StudyRequest:
    return StudyRequest(
        folder=str(data / "cases"),
        classifier=str(data / "own classifier"),
        spec=ExplainSpec((QUICK,)),
        out=str(data / "out"),
    )


def test_paths_outside_the_data_folders_are_refused(
    engine: Engine, data: Path, bundle: Path, tmp_path: Path
):
    (data / "cases").mkdir(exist_ok=True)
    link = data / "leads out"
    if not link.is_symlink():
        link.symlink_to(tmp_path)
    good = study(data, bundle)
    for path in (
        "/etc",
        "/etc/passwd",
        str(tmp_path),
        str(data / ".." / "elsewhere"),
        str(link),
        str(link / "deeper"),
        "cases",
        "../cases",
        str(data) + "-beside",
        f"{data}/cases\0/etc",
        "~",
        "",
    ):
        for field in ("folder", "classifier", "out"):
            with pytest.raises(InputError, match="outside the folders"):
                engine.start(replace(good, **{field: path}))
    with pytest.raises(ClassifierError, match="--trust"):
        engine.start(replace(good, trust=True))


def test_what_a_table_of_cases_names_must_lie_inside_too(
    engine: Engine, data: Path, bundle: Path, tmp_path: Path
):
    import shutil

    from SaliencyExplain.demo.study import write_phantom_study

    outside = tmp_path / "outside"
    write_phantom_study(outside, dimensions=3, cases=1, seed=1, marker=False)
    if not (data / "own classifier").exists():
        shutil.copytree(bundle, data / "own classifier")
    table = data / "cases.csv"
    table.write_text(f"case,image\none,{outside / 'phantom-001_image.nii.gz'}\n")
    linked = data / "linked"
    linked.mkdir(exist_ok=True)
    image = linked / "a_image.nii.gz"
    image.unlink(missing_ok=True)
    image.symlink_to(outside / "phantom-001_image.nii.gz")
    # Whether a file is there is not told either.
    absent = data / "absent.csv"
    absent.write_text(f"case,image\none,{outside / 'nobody.nii.gz'}\ntwo,../nobody.nii.gz\n")
    for folder in (table, linked, absent):
        request = replace(study(data, bundle), folder=str(folder), out=str(data / "refused"))
        status = ended(engine, engine.start(request))
        assert status.state == "failed"
        assert "outside the folders" in status.error
    absent.unlink()
    assert not (data / "refused").exists()
