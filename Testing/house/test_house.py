"""The rules of the house: layering, quiet imports, sizes, no machine's paths."""

from __future__ import annotations

import subprocess
import sys

from Testing.conftest import PROJECT


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    return done.stdout.strip()


def test_help_does_not_import_torch():
    code = (
        "import sys, contextlib, io\n"
        "from SaliencyExplain.cli.main import application\n"
        "from SaliencyExplain.cli.messages import run\n"
        "out = io.StringIO()\n"
        "with contextlib.redirect_stdout(out):\n"
        "    statuses = [run(application, [*words.split(), '--help']) for words in\n"
        "                ('', 'demo', 'methods', 'model', 'model inspect', 'predict',\n"
        "                 'model add', 'model train', 'explain', 'probe', 'compare',\n"
        "                 'evaluate', 'study', 'serve', 'view')]\n"
        "assert not any(statuses), statuses\n"
        "assert '--classifier' in out.getvalue()\n"
        "heavy = {'torch', 'monai', 'numpy', 'SimpleITK', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    assert run_python(code) == "[]"


def test_importing_the_package_is_free():
    loaded = run_python("import sys, SaliencyExplain; print('torch' in sys.modules)")
    assert loaded == "False"


def test_tracked_files_are_small_and_name_no_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    files = [PROJECT / name for name in listed.stdout.split("\0") if name]
    assert files
    for file in files:
        if not file.is_file():
            continue
        assert file.stat().st_size < 3_000_000, file
        if file.suffix in {".py", ".md", ".toml", ".j2"} and file.name != "test_house.py":
            text = file.read_text(encoding="utf-8")
            assert not [path for path in ("/home/", "/work/") if path in text], file


def test_one_function_writes_all_tables():
    """Another writer would let a spreadsheet compute a name."""
    sources = [*(PROJECT / "SaliencyExplain").rglob("*.py"),
               *(PROJECT / "scripted_module").rglob("*.py")]  # fmt: skip
    writing = [path.name for path in sources if "csv.writer(" in path.read_text(encoding="utf-8")
               or "DictWriter(" in path.read_text(encoding="utf-8")]  # fmt: skip
    assert writing == ["csv_text.py"]
