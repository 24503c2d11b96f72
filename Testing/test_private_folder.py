"""Private folders go with their process, and those of dead processes with the next one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from SaliencyExplain.private_folder import PrivateFolder, sweep
from Testing.conftest import PROJECT

_HOLD = """
import sys
from SaliencyExplain.private_folder import PrivateFolder
folder = PrivateFolder("test")
(folder.path / "patient.png").write_bytes(b"an image")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this machine, for this test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with a private folder, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_a_folder_is_its_owners_alone_and_gone_at_the_end() -> None:
    with PrivateFolder("test") as folder:
        assert os.name != "posix" or stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "patient.png").write_bytes(b"an image")
    assert not folder.exists()


def test_the_folder_of_a_living_process_stays_and_that_of_a_killed_one_goes(
    holder: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = holder
    sweep()
    assert (folder / "patient.png").is_file()
    process.kill()
    process.wait()
    assert (folder / "patient.png").is_file()
    with PrivateFolder("test"):
        assert not folder.exists()


def test_a_process_that_ends_by_itself_leaves_nothing(
    holder: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = holder
    process.communicate()
    assert process.returncode == 0
    assert not folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_what_is_not_its_own_is_left_alone(root: Path) -> None:
    elsewhere = root / "elsewhere"
    (elsewhere / "documents").mkdir(parents=True)
    (elsewhere / ".in-use").touch()
    (root / "saliency-explain-link").symlink_to(elsewhere)
    open_to_all = root / "saliency-explain-open"
    open_to_all.mkdir(mode=0o755)
    (open_to_all / ".in-use").touch()
    without_lock = root / "saliency-explain-other"
    without_lock.mkdir(mode=0o700)
    linked = root / "saliency-explain-linked"
    linked.mkdir(mode=0o700)
    (linked / ".in-use").symlink_to(elsewhere / ".in-use")
    file = root / "saliency-explain-engine.log"
    file.touch()
    dead = root / "saliency-explain-dead"
    dead.mkdir(mode=0o700)
    (dead / ".in-use").touch()
    (dead / "link").symlink_to(elsewhere)
    sweep()
    assert not dead.exists()
    for path in (elsewhere / "documents", open_to_all, without_lock, linked, file):
        assert path.exists()
    assert (root / "saliency-explain-link").is_symlink()


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root can make another user's folder"
)
def test_the_folders_of_other_users_are_left_alone(root: Path) -> None:
    other = root / "saliency-explain-other"
    other.mkdir(mode=0o700)
    (other / ".in-use").touch()
    os.chown(other, 12345, 12345)
    sweep()
    assert other.exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_nothing_is_swept_where_anybody_may_put_folders_in_the_place_of_others(root: Path) -> None:
    dead = root / "saliency-explain-dead"
    dead.mkdir(mode=0o700)
    (dead / ".in-use").touch()
    root.chmod(0o777)
    sweep()
    assert dead.exists()
    root.chmod(0o1777)
    sweep()
    assert not dead.exists()
