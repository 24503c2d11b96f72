"""Studies as jobs: the same files as the command line's, stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from SaliencyExplain.demo.study import write_phantom_study
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.wire.requests import ProbeRequest, StudyRequest
from SaliencyExplain.errors import Cancelled
from SaliencyExplain.probe_result import Probe
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import run_study
from SaliencyExplain.studies.study_config import StudyConfig
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.conftest import done, ended, until

SPEC = ExplainSpec((MethodChoice("gradcam"),), seed=2)


@pytest.fixture(scope="module")
def cases(data: Path) -> Path:
    folder = data / "study"
    write_phantom_study(folder, dimensions=3, cases=3, seed=6, marker=False)
    return folder


@pytest.fixture(scope="module")
def bundle_inside(data: Path, bundle: Path) -> Path:
    import shutil

    place = data / "phantom-3d-honest"
    if not place.exists():
        shutil.copytree(bundle, place)
    return place


@pytest.fixture(scope="module")
def directly(cases: Path, bundle_inside: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the library writes for the same study."""
    out = tmp_path_factory.mktemp("directly") / "out"
    run_study(
        discover(cases, channels=("t1ce-like",)),
        StudyConfig(bundle_inside, out, SPEC, "cpu"),
    )
    return out


@pytest.mark.slow
def test_study_is_cancelled_and_gone_on_with_to_the_same_files(
    engine: Engine,
    cases: Path,
    bundle_inside: Path,
    directly: Path,
    data: Path,
    opened: ClassifierInfo,
    image: Volume,
):
    out = data / ("local" if isinstance(engine, LocalEngine) else "remote")
    request = StudyRequest(str(cases), str(bundle_inside), SPEC, str(out))
    job = engine.start(request)
    status = until(engine, job, lambda status: status.done >= 1)
    assert status.total == 3
    assert "of 3" in status.doing
    # A click while the study runs is answered in one of its pauses.
    point = ProbeRequest(opened.key, engine.put(image), (0.0, 0.0, 0.0), (10.0,))
    assert isinstance(done(engine, point), Probe)
    engine.cancel(job)
    assert ended(engine, job).state == "cancelled"
    with pytest.raises(Cancelled):
        engine.result(job)
    finished = [path.parent.name for path in out.glob("*/explanation.json")]
    assert 1 <= len(finished) < 3
    assert not (out / "comparison.csv").exists()

    result = done(engine, request)
    assert isinstance(result, StudyResult)
    assert (result.total, result.failed) == (3, 0)
    assert result.resumed == len(finished)
    assert result.report == out / "report.html"
    for name in ("comparison.csv", "predictions.csv"):
        assert (out / name).read_bytes() == (directly / name).read_bytes()
    maps = sorted(path.relative_to(directly) for path in directly.rglob("*.nii.gz"))
    assert maps
    for path in maps:
        assert (out / path).read_bytes() == (directly / path).read_bytes()
    assert [case.case for case in result.cases] == ["phantom-001", "phantom-002", "phantom-003"]
    assert all(case.done for case in result.cases)
    assert Path(result.cases[0].images[0]).is_file()
    assert result.cases[0].segmentation is not None
    again = done(engine, request)
    assert isinstance(again, StudyResult)
    assert again.resumed == 3

    other = engine.start(replace(request, spec=replace(SPEC, seed=3)))
    failed = ended(engine, other)
    assert failed.state == "failed"
    assert "another configuration" in failed.error


def test_bad_case_costs_only_itself(
    engine: Engine, bundle_inside: Path, data: Path, tmp_path: Path
):
    folder = data / ("bad local" if isinstance(engine, LocalEngine) else "bad remote")
    write_phantom_study(folder, dimensions=3, cases=2, seed=7, marker=False)
    (folder / "phantom-002_image.nii.gz").write_bytes(b"no image")
    request = StudyRequest(str(folder), str(bundle_inside), SPEC, str(folder / "out"))
    result = done(engine, request)
    assert isinstance(result, StudyResult)
    assert (result.total, result.failed) == (2, 1)
    assert [case.done for case in result.cases] == [True, False]
    assert any("failures.csv" in note for note in result.notes)
