"""Reading ahead always ends with a word, whatever a reader does."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies import case_reading
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_reading import failure, read_ahead
from SaliencyExplain.studies.case_work import CaseWorker, PendingCase
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import Journal
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of


class PanicException(BaseException):
    """As libraries written in Rust raise it: no Exception."""


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


@pytest.mark.parametrize(
    "error", [PanicException("broken"), SystemExit(3), MemoryError(), RecursionError(), Mute()]
)
def test_what_a_reading_thread_dies_of_is_raised_where_it_is_waited_for(
    error: BaseException,
) -> None:
    def read(item: int) -> int:
        if item == 1:
            raise error
        return item

    given = read_ahead([0, 1, 2], read, lambda item, seconds: item)
    assert next(given) == 0
    with pytest.raises(type(error)):
        next(given)


def test_an_item_that_is_read_for_too_long_is_given_up_and_the_others_are_read() -> None:
    hanging = threading.Event()

    def read(item: int) -> str:
        if item in (1, 2):
            hanging.wait()
        return f"read {item}"

    given = read_ahead(
        range(5), read, lambda item, seconds: f"gave up {item} after {seconds:g}", patience=2.0
    )
    found = list(given)
    hanging.set()
    assert found == ["read 0", "gave up 1 after 2", "gave up 2 after 2", "read 3", "read 4"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the reading ahead believes to have passed, which only a test changes."""
    seconds = [0.0]
    monkeypatch.setattr(case_reading, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def test_a_slow_computation_gives_up_no_reading(clock: list[float]) -> None:
    given = read_ahead(range(4), lambda item: item, lambda item, seconds: -1, patience=0.05)
    found = []
    for item in given:
        clock[0] += 1000
        found.append(item)
    assert found == [0, 1, 2, 3]


def test_items_that_come_late_are_waited_for(clock: list[float]) -> None:
    def items() -> object:
        yield 0
        clock[0] += 1000
        yield 1

    read = read_ahead(items(), lambda item: item, lambda item, seconds: -1, patience=0.05)
    assert list(read) == [0, 1]


def test_an_error_that_cannot_say_what_it_is_has_its_name() -> None:
    found = failure(Case("P1", ()), "explaining", Mute())
    assert (found.code, found.reason) == (ErrorCode.JOB_FAILED.value, "Mute: Mute")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_a_pipe_among_the_images_is_a_failed_case(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(2)
    os.mkfifo(folder / "pipe.nii.gz")
    (folder / "cases.csv").write_text(
        "case,image,segmentation\npipe,pipe.nii.gz,\ngood,P1_image.nii.gz,\n"
        "mask,P2_image.nii.gz,pipe.nii.gz\n"
    )
    work = config_of(bundle, tmp_path / "out", "gradcam")
    cases = discover(folder / "cases.csv")
    assert run_study(cases, work).failed == 2
    journal = Journal.read(tmp_path / "out")
    (failed,) = journal.entry("pipe").failures
    assert failed.code == ErrorCode.FILE_FORMAT.value
    assert journal.entry("good").result


@pytest.mark.parametrize("error", [PanicException("broken"), SystemExit(3), Mute()])
def test_what_a_network_raises_costs_the_case_alone(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path, error: BaseException
) -> None:
    worker = CaseWorker(config_of(bundle, tmp_path / "out", "gradcam"))
    broken = 1

    def fail(module: object, given: object) -> None:
        if broken:
            raise error

    torch.nn.modules.module.register_module_forward_pre_hook(fail)
    pending = [PendingCase(case) for case in discover(study_folder(2))]
    try:
        entries = worker.run(pending)
        assert next(entries).result is None
        broken = 0
        assert next(entries).result is not None
    finally:
        torch.nn.modules.module._global_forward_pre_hooks.clear()


def test_a_failed_methods_reason_names_no_file_that_may_name_the_patient(
    study_folder: Callable[[int], Path],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (case,) = discover(study_folder(1))
    case = replace(case, private=True)
    path = case.paths[0]

    def attribute(method: object, task: object) -> None:
        raise InputError(ErrorCode.FILE_UNREADABLE, f"{path} cannot be read.")

    monkeypatch.setattr(find_method("gradcam"), "attribute", attribute)
    out = tmp_path / "out"
    run_study([case], config_of(bundle, out, "gradcam", "random", threads=1))
    (failed,) = json.loads((out / case.case / "explanation.json").read_text())["failures"]
    assert case.case in failed["reason"]
    for file in out.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".jsonl", ".csv", ".html"):
            assert path.name not in file.read_text()
