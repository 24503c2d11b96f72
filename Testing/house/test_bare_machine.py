"""The benchmark runs where only torch, numpy and MONAI are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.waiting import HUNG

PROJECT = Path(__file__).resolve().parents[2]

BARE = """
import runpy, sys
from importlib.machinery import PathFinder

ABSENT = set(sys.argv[1].split(","))

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in ABSENT:
            return super().find_spec(name, path, target)

sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = ["speed", *sys.argv[2:]]
runpy.run_module("Testing.benchmarks.speed", run_name="__main__")
"""

#: What the package needs elsewhere.
ABSENT = (
    *("SimpleITK", "nibabel", "pydicom", "highdicom", "scipy", "skimage", "sklearn", "matplotlib"),
    *(
        "PIL",
        "jinja2",
        "yaml",
        "psutil",
        "einops",
        "filelock",
        "safetensors",
        "typer",
        "rich",
        "fastapi",
    ),
    *("captum", "saliency", "h5py", "timm"),
)


@pytest.mark.slow
def test_benchmark_needs_torch_numpy_and_monai_alone(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--subjects", "phantom-2d-honest", "--repeats", "1", "--threads", "1"]
    arguments += ["--methods", "predict", "gradient", "gradcam", "occlusion"]
    arguments += ["--images", "random", "real", "--window-batches", "1", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-c", BARE, ",".join(ABSENT), *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(figures.read_text())
    assert document["conditions"]["threads"] == 1
    found = {(row["method"], row["tool"]) for row in document["rows"]}
    assert found >= {
        ("predict", "plain"),
        *(
            (name, tool)
            for name in ("gradient", "gradcam", "occlusion")
            for tool in ("ours", "MONAI")
        ),
    }
    assert not {tool for _, tool in found} & {"captum", "PAIR"}
    for row in document["rows"]:
        assert row["seconds"] > 0
        if row["tool"] == "ours":
            assert row["ratio"] == 1
    by_gradient = [row for row in document["rows"] if row["method"] == "gradient"]
    assert [row["apart"] < 1e-5 for row in by_gradient if "apart" in row] == [True]
    assert "nibabel" in done.stdout
