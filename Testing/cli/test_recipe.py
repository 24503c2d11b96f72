"""docs/RECIPE.md is true: its commands run as they stand, at small scale."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DenseNet

from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.brain_tumour_set.tumour_slices import write_tumour_slice
from Testing.conftest import PROJECT

pytestmark = pytest.mark.slow

RECIPE = (PROJECT / "docs" / "RECIPE.md").read_text(encoding="utf-8")
TUMOURS = {"meningioma-like": 1, "glioma-like": 2, "pituitary-like": 3}
SMALL = {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]}
#: What the commands get beside their own words, so that they take seconds.
SMALLER = {
    ("model", "train"): [
        *("--network", "DenseNet", "--network-args", json.dumps(SMALL)),
        *("--size", "24,24", "--epochs", "1"),
    ],
    ("model", "add"): [
        *("--network", "DenseNet", "--network-args", json.dumps(SMALL), "--size", "24,24")
    ],
    ("study", "brain"): ["--set", "smoothgrad.samples=2", "--set", "occlusion.window_mm=100"],
    ("evaluate", "image"): ["--part", "faithfulness", "--set", "occlusion.window_mm=100"],
}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", RECIPE, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    said = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in said if words[:1] == ["saliency-explain"]]


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """Phantoms in the form of the brain tumour set: four slices of each tumour."""
    write_phantom_study(tmp_path / "phantoms", dimensions=2, cases=16, seed=3, marker=False)
    with (tmp_path / "phantoms" / "cases.csv").open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if row["label"] not in TUMOURS:
                continue
            image = read_image(tmp_path / "phantoms" / row["image"])
            (tumour,) = read_segmentation(
                tmp_path / "phantoms" / row["segmentation"], image
            ).segments
            write_tumour_slice(
                tmp_path / "brain" / f"{number}.mat",
                image.numpy()[0].T,
                tumour.mask.T,
                label=TUMOURS[row["label"]],
                patient=f"JaneDoe{number}",
            )
    return tmp_path / "brain"


def test_the_commands_of_the_recipe_run_and_leave_what_it_says(
    brain, tmp_path, command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = {"BUNDLE": str(classifier_folder("phantom-2d-honest"))}
    torch.save(DenseNet(2, 1, 3, **SMALL).state_dict(), "vgg16.pt")
    ran = []
    for words in commands():
        more = SMALLER.get((words[0], words[1]), [])
        if "--dry-run" in words:
            more = []
        given = [names.get(word, word) for word in words]
        ended = command(*given, *more)
        assert ended.status == 0, (words, ended.err)
        ran.append(words[0] if words[0] != "model" else words[1])
        if words[1] == "train":
            record = json.loads(Path("densenet/docs/training.json").read_text())
            first = brain / f"{record['parts']['test'][0]}.mat"
            names |= {"IMAGE": str(first), "MASK": str(first)}
    assert ran == ["study", "train", "add", "study", "evaluate"]
    with Path("table/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Only what the training held out.
    assert sorted(row["case"] for row in rows) == sorted(record["parts"]["test"])
    assert {row["label"] for row in rows} == {"meningioma", "glioma", "pituitary"}
    with Path("table/confusion.csv").open(newline="") as file:
        counts = [
            [int(row[f"predicted {name}"]) for name in record["classes"]]
            for row in csv.DictReader(file)
        ]
    assert counts == record["figures"]["confusion_matrix"]
    with Path("table/comparison.csv").open(newline="") as file:
        methods = {row["method"].partition("@")[0] for row in csv.DictReader(file)}
    assert {"gradcam", "occlusion", "smoothgrad", "random", "centre"} <= methods
    assert "F1" in Path("table/report.html").read_text()
    assert any(Path("evaluation").iterdir())
    for folder in ("table", "densenet", "evaluation"):
        for file in Path(folder).rglob("*"):
            assert "JaneDoe" not in file.name
            assert file.is_dir() or b"JaneDoe" not in file.read_bytes(), file


def test_the_phantoms_of_the_recipe_are_a_set_to_train_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", RECIPE, re.DOTALL)
    exec(code.replace("cases=120", "cases=8"), {})
    with Path("brain/cases.csv").open(newline="") as file:
        assert len({row["label"] for row in csv.DictReader(file)}) == 4
