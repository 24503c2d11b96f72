"""Output that is closed, broken or full ends a command quietly, with the status of its work."""

from __future__ import annotations

import array
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.waiting import until

if sys.platform != "win32":
    import fcntl
    import termios

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a shell and /dev/full"),
    pytest.mark.slow,
]

WORDS = [sys.executable, "-m", "SaliencyExplain.cli.main"]


def shell(line: str) -> tuple[int, str]:
    """Runs ``$COMMAND`` in a line of bash: the command's status, and all that was said aside."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        env={**os.environ, "COMMAND": " ".join(WORDS)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def held(reading: int) -> int:
    """Bytes that wait in a pipe."""
    return int(array.array("i", fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4))[0])


@pytest.mark.parametrize("line", ["$COMMAND methods | head -c0", "$COMMAND methods >&-"])
def test_where_nobody_reads_the_status_is_that_of_the_work(line: str) -> None:
    assert shell(line) == (0, "")


def test_where_nobody_reads_a_failure_keeps_its_status() -> None:
    status, said = shell("$COMMAND methods nonsense | head -c0")
    assert status == 2
    assert said.count("\n") == 1
    assert "[SE-NAME-UNKNOWN]" in said
    assert shell("$COMMAND methods nonsense <&- >&- 2>&-") == (2, "")


def test_output_that_a_full_disk_has_lost_is_said() -> None:
    status, said = shell("$COMMAND methods >/dev/full")
    assert status == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "[SE-OUTPUT-UNWRITABLE]" in said
    assert shell("$COMMAND methods >/dev/full 2>/dev/full") == (2, "")


def test_a_full_pipe_that_is_not_waited_for_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # White space before a JSON document is a part of it, and leaves too little room for the rest.
    while True:
        try:
            os.write(writing, b" " * 4096)
        except BlockingIOError:
            break
    os.read(reading, 8192)
    process = subprocess.Popen([*WORDS, "methods", "--json"], stdout=writing)
    os.close(writing)
    said = b""
    until(lambda: process.poll() is not None or held(reading) >= 60_000, "a full pipe")
    while piece := os.read(reading, 4096):
        said += piece
    os.close(reading)
    assert process.wait() == 0
    assert len(json.loads(said)) > 20


def test_a_study_with_several_processes_says_nothing_of_its_libraries(
    pictures: Path, honest_2d: Path, tmp_path: Path
) -> None:
    words = [*WORDS, "study", str(pictures), "-c", str(honest_2d), "-m", "occlusion", "-j", "2"]
    words += ["--out", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_of_plain_ascii_gets_bars_and_help_that_it_can_show(
    pictures: Path, honest_2d: Path
) -> None:
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "40"}
    for words in (
        ["predict", str(pictures / "phantom-001_image.png"), "-c", str(honest_2d)],
        ["explain", "--help"],
        ["methods"],
    ):
        done = subprocess.run(
            [*WORDS, *words], env={**os.environ, **plain}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.decode("ascii")
        assert "Traceback" not in done.stderr.decode("ascii")
        assert "#####" in said or words[0] != "predict"
