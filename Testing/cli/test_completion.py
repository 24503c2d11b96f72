"""What the shell completes, and that --install-completion works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.cli.completion import method_names
from SaliencyExplain.demo.shipped import shipped_classifiers

pytestmark = pytest.mark.slow


def test_the_names_read_from_the_text_are_those_of_the_registry():
    assert sorted(method_names()) == sorted(methods())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which completion was installed for bash."""
    folder = tmp_path_factory.mktemp("home")
    said = in_bash(folder, "saliency-explain --install-completion")
    assert "installed" in said
    assert "saliency-explain" in (folder / ".bashrc").read_text(encoding="utf-8")
    return folder


def in_bash(home: Path, code: str) -> str:
    """What bash prints, with a command on its path that says which heavy modules it loads."""
    command = home / "bin" / "saliency-explain"
    command.parent.mkdir(exist_ok=True)
    command.write_text(
        f"#!{sys.executable}\n"
        "import atexit, sys\n"
        "heavy = {'torch', 'monai', 'numpy'}\n"
        "atexit.register(lambda: print(*(heavy & set(sys.modules)), end='', file=sys.stderr))\n"
        "from SaliencyExplain.cli.main import main\n"
        "main()\n",
        encoding="utf-8",
    )
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        # The shell is told by the command's parent: bash would give its place to a last command.
        ["bash", "--norc", "-c", f"{code}\nexit $?"],
        env={**os.environ, "HOME": str(home), "PATH": path, "SHELL": "/bin/bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "", done.stderr
    return done.stdout


def completed(home: Path, *words: str) -> list[str]:
    """What bash would offer for the last of the words, which it has split at its own marks."""
    quoted = " ".join(f"'{word}'" for word in ("saliency-explain", *words))
    code = (
        'source "$HOME/.bashrc"\n'
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words)}\n"
        "_saliency_explain_completion saliency-explain\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return in_bash(home, code).split()


def test_bash_completes_commands_methods_and_shipped_classifiers(home):
    assert completed(home, "ex") == ["explain"]
    assert completed(home, "explain", "-m", "guided-g") == ["guided-gradcam"]
    assert completed(home, "explain", "-m", "gradcam,occ") == ["gradcam,occlusion"]
    shipped = sorted(shipped_classifiers())
    assert completed(home, "predict", "-c", "dem") == [f"demo:{name}" for name in shipped]


def test_bash_which_splits_words_at_colons_completes_behind_them(home):
    shipped = sorted(shipped_classifiers())
    assert completed(home, "predict", "x.nii", "-c", "demo", ":") == shipped
    assert completed(home, "predict", "-c", "demo", ":", "phantom-3d-s") == ["phantom-3d-shortcut"]
    assert completed(home, "predict", "-c", "demo", ":", "phantom-3d-honest", "--dev") == [
        "--device"
    ]
