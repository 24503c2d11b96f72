"""Ctrl-C ends a command with 130, and the same command goes on afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.waiting import HUNG, until

pytestmark = [pytest.mark.slow, pytest.mark.server]


def start(words: list[str]) -> subprocess.Popen[str]:
    """Starts a command as a terminal does.

    A shell ignores SIGINT in background jobs, and nohup ignores SIGHUP; both are inherited.
    """

    def as_in_a_terminal() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for processes")
def test_an_interrupted_study_goes_on_where_it_stopped(
    phantoms: Path, honest_3d: Path, tmp_path: Path
):
    words = [sys.executable, "-m", "SaliencyExplain.cli.main", "study", str(phantoms)]
    words += ["-c", str(honest_3d), "-m", "occlusion", "--set", "occlusion.stride_mm=20"]
    words += ["--out", str(tmp_path / "out")]
    running = start(words)
    first = tmp_path / "out" / "phantom-001" / "explanation.json"
    journal = tmp_path / "out" / "journal.jsonl"

    def one_case_is_done() -> bool:
        # A case counts from its line on, which comes after its folder and behind the first line.
        lines = journal.read_text(encoding="utf-8").count("\n") if journal.exists() else 0
        return lines > 1 or running.poll() is not None

    until(one_case_is_done, "the first case")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=HUNG)
    assert running.returncode == 130, said
    assert said.count("error: interrupted") == 1
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "report.html").exists()
    stamp = first.stat().st_mtime_ns
    assert subprocess.run(words, check=False).returncode == 0
    assert first.stat().st_mtime_ns == stamp
    assert len(list((tmp_path / "out").glob("phantom-*/explanation.json"))) == 3
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for processes")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_explanation_says_so_and_leaves_nothing(
    phantoms: Path, honest_3d: Path, tmp_path: Path, name: str
):
    words = [sys.executable, "-m", "SaliencyExplain.cli.main", "explain"]
    words += [str(phantoms / "phantom-001_image.nii.gz"), "-c", str(honest_3d), "-m", "occlusion"]
    words += ["--set", "occlusion.stride_mm=5", "--out", str(tmp_path / "out")]
    running = start(words)
    assert running.stderr is not None
    assert "forward passes" in running.stderr.readline()
    running.send_signal(getattr(signal, name))
    _, said = running.communicate(timeout=HUNG)
    assert (running.returncode, said.count("error: interrupted")) == (130, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
@pytest.mark.parametrize("command", [["serve"], ["view", "--no-browser"]])
def test_a_server_whose_terminal_is_closed_leaves_nothing_that_was_sent_to_it(
    tmp_path: Path, command: list[str], name: str
):
    running = subprocess.Popen(
        [sys.executable, "-m", "SaliencyExplain.cli.main", *command],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert "address" in running.stdout.readline()
    (folder,) = tmp_path.glob("saliency-explain-*")
    (folder / "patient.png").write_bytes(b"an image")
    running.send_signal(getattr(signal, name))
    # Both come when a session ends.
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=HUNG)
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
