"""Studies that are killed, interrupted or out of space go on to the same bytes."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from SaliencyExplain.studies.run import StudyProgress
from Testing.conftest import PROJECT
from Testing.study.conftest import make_study
from Testing.study.study_runs import content, study, table
from Testing.waiting import HUNG

pytestmark = pytest.mark.slow

# The server imports once and forks a process for each run, so that a kill costs
# no import of torch; it never runs torch itself.
_SERVER = """
import os, random, signal, sys, time
from pathlib import Path
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.errors import Cancelled, OutputError
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of
folder, bundle, root = map(Path, sys.argv[1:4])
methods()
# A shell starts background jobs with SIGINT ignored, and so would be this one's children.
signal.signal(signal.SIGINT, signal.default_int_handler)

def start(limit=None, jobs=1):
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if limit:
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        work = config_of(bundle, out, "gradcam", "gradient")
        run_study(discover(folder), work, jobs=jobs)
        status = 0
    except Cancelled:
        status = 130
    except OutputError as error:
        print(error, flush=True)
        status = 28
    finally:
        os._exit(status)

def lines():
    journal = out / "journal.jsonl"
    return journal.read_bytes().count(b"\\n") if journal.exists() else 0

def written(pattern):
    # glob raises where the folder goes away while it looks.
    try:
        return any(out.glob(pattern))
    except FileNotFoundError:
        return False

def until(condition):
    end = time.monotonic() + 900
    while not condition() and time.monotonic() < end:
        time.sleep(0.0005)

def end(child, number):
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


_KILLS = """
out = root / "killed" / "out"
random = random.Random(5)
moments = [
    lambda: lines() >= 1,
    lambda: written(".partial/*/*.nii.gz"),
    lambda: written(".partial/*/*.png"),
    lambda: written(".partial/*/explanation.json"),
    lambda: lines() > begun,
    lambda: written(".partial/*/*.seg.nrrd"),
    lambda: lines() > begun,
]
killed = 0
for moment in moments:
    begun = lines()
    child = start()
    # A moment can pass between two looks; two cases later is late enough.
    until(lambda: moment() or lines() > begun + 1)
    time.sleep(random.random() * 0.02)
    killed += end(child, signal.SIGKILL) == -signal.SIGKILL
child = start()
until(lambda: written(".partial/*"))
print("interrupted", end(child, signal.SIGINT), "partial", (out / ".partial").exists())
print("finished", os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1]))
print(f"killed {killed};")
"""


_SEVERAL = """
out = root / "several" / "out"
ended = []
for number in (signal.SIGKILL, signal.SIGINT):
    begun = lines()
    child = start(jobs=2)
    # Cases of this run are done, and others are being written.
    until(lambda: lines() > max(begun, 1))
    time.sleep(random.random() * 0.05)
    ended.append(end(child, number))
print("several", ended, os.waitstatus_to_exitcode(os.waitpid(start(jobs=2), 0)[1]))
"""


_FULL = """
out = root / "full" / "out"
child = start(limit=12_000)
print("full", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print("left", sorted(str(path.relative_to(out)) for path in out.rglob("*")))
print("finished", os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1]))
"""


@pytest.fixture(scope="module")
def forked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The server's folder and what it said: runs killed, interrupted, out of space."""
    if sys.platform == "win32":
        pytest.skip("Windows has neither fork nor SIGKILL")
    root = tmp_path_factory.mktemp("forked")
    # More cases than the kills below can let through, so that there is always work to kill.
    folder = make_study(root / "data", 20)
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            _SERVER + _KILLS + _SEVERAL + _FULL,
            folder,
            bundle,
            root,
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def test_killed_at_any_moment_the_study_ends_with_the_same_bytes(
    forked: tuple[Path, str], bundle: Path
) -> None:
    root, said = forked
    assert "interrupted 130 partial False\nfinished 0" in said
    killed = int(said.partition("killed ")[2].partition(";")[0])
    assert killed >= 5, "most runs must have been killed at work"
    study(root / "data", bundle, root / "undisturbed" / "out")
    assert content(root / "killed" / "out") == content(root / "undisturbed" / "out")


def test_killed_with_several_processes_the_study_ends_with_the_same_bytes(
    forked: tuple[Path, str], bundle: Path
) -> None:
    root, said = forked
    assert "several [-9, 130] 0" in said
    study(root / "data", bundle, root / "one" / "out")
    assert content(root / "several" / "out") == content(root / "one" / "out")


def test_when_nothing_more_can_be_written_the_study_stops_and_leaves_nothing_half_done(
    forked: tuple[Path, str],
) -> None:
    _, said = forked
    assert "cannot be written (File too large)" in said
    assert "full 28\nleft ['.lock', 'journal.jsonl']\nfinished 0" in said


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_several_processes_give_the_same_bytes_and_survive_the_death_of_one(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(4)
    killed: list[int | None] = []

    def kill_one(progress: StudyProgress) -> None:
        # The first worker, once any of them has done a case.
        workers = multiprocessing.active_children()
        if progress.done >= 1 and workers and not killed:
            killed.append(workers[0].pid)
            workers[0].kill()

    out = tmp_path / "several" / "out"
    first = study(folder, bundle, out, jobs=2, progress=kill_one)
    assert killed
    if first.failed:
        assert "worker process died (signal 9)" in table(out / "failures.csv")[0]["reason"]
    assert first.failed <= 1
    assert study(folder, bundle, out).failed == 0
    study(folder, bundle, tmp_path / "one" / "out")
    assert content(out) == content(tmp_path / "one" / "out")
