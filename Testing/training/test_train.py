"""A network learns what tells the classes apart, and what it learnt comes out as a bundle."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from SaliencyExplain.errors import Cancelled, ErrorCode, InputError
from SaliencyExplain.images.image_writing import write_volume
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.training import epochs
from SaliencyExplain.training.train import train_classifier
from Testing.conftest import PROJECT
from Testing.expected_errors import error_with
from Testing.training.conftest import (
    EDGE,
    draw,
    settings,
    write_pictures,
    write_table,
)


def record_of(bundle: Path) -> dict:
    return json.loads((bundle / "docs" / "training.json").read_text())


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def no_working_files(bundle: Path) -> bool:
    return [entry.name for entry in bundle.parent.iterdir() if bundle.name in entry.name] == [
        bundle.name
    ]


@pytest.mark.slow
def test_it_learns_to_tell_the_classes_apart_and_the_bundle_tells_new_images(tmp_path):
    folder = write_pictures(tmp_path / "pictures", {"small": 12, "large": 12})
    told = []
    result = train_classifier(
        discover(folder),
        settings(epochs=10, augment=("noise",)),
        tmp_path / "bundle",
        progress=told.append,
    )
    assert result.measured_on == "test"
    assert result.counts == {"train": 16, "validation": 4, "test": 4}
    assert result.labels.accuracy == 1
    classifier = load_classifier(result.bundle)
    assert classifier.classes == ("large", "small")
    for seed in range(500, 508):
        label = ("large", "small")[seed % 2]
        path = tmp_path / "new.png"
        Image.fromarray(draw(label, seed)).save(path)
        probabilities = classifier.predict(read_image(path))
        assert classifier.classes[int(probabilities.argmax())] == label
    assert [one.done for one in told if one.stage == "reading"] == list(range(1, 25))
    learning = [one for one in told if one.stage == "learning"]
    assert learning[0].figures == {}
    assert (learning[-1].epoch, learning[-1].done) == (result.epochs, 16)
    assert learning[-1].figures["validation_loss"] < learning[5].figures["validation_loss"]
    assert no_working_files(result.bundle)


def test_the_figures_in_the_bundle_are_those_of_its_own_predictions(trained):
    folder, bundle = trained
    record = record_of(bundle)
    classifier = load_classifier(bundle)
    by_name = {case.case: case for case in discover(folder)}
    confusion = np.zeros((2, 2), int)
    for name in record["parts"]["test"]:
        case = by_name[name]
        predicted = int(classifier.predict(read_image(case.paths[0])).argmax())
        confusion[classifier.classes.index(case.label), predicted] += 1
    assert confusion.sum() == 2
    assert confusion.tolist() == record["figures"]["confusion_matrix"]
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metrics = metadata["eval_metrics"]
    assert metrics["confusion_matrix"] == confusion.tolist()
    assert metrics["accuracy"] == pytest.approx(np.trace(confusion) / 2)
    assert metrics["measured_on"] == "test cases"
    assert f"{metrics['accuracy']:.1%}" in metadata["description"]
    kept = record["history"][record["best_epoch"] - 1]
    assert kept["validation_loss"] == min(e["validation_loss"] for e in record["history"])
    assert Image.open(bundle / "docs" / "training.png").size[0] > 500


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path, trained):
    folder, bundle = trained
    again = train_classifier(discover(folder), settings(), tmp_path / "again").bundle
    other = train_classifier(discover(folder), settings(seed=1), tmp_path / "other").bundle
    assert content_of(again) == content_of(bundle)
    assert content_of(other)["models/model.pt"] != content_of(bundle)["models/model.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("stopped_at", [("reading", 0, 9), ("learning", 1, 8), ("learning", 2, 4)])
def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, trained, stopped_at):
    folder, bundle = trained
    told = []

    def stop(now):
        if (now.stage, now.epoch, now.done) == stopped_at:
            raise Cancelled

    out = tmp_path / "stopped"
    with pytest.raises(Cancelled):
        train_classifier(discover(folder), settings(), out, progress=stop)
    assert not out.exists()
    # What else uses torch's chances meanwhile changes nothing.
    torch.manual_seed(99)
    again = train_classifier(discover(folder), settings(), out, progress=told.append)
    assert content_of(again.bundle) == content_of(bundle)
    assert any(one.stage == "reading" for one in told) == (stopped_at[0] == "reading")
    first = next(one.epoch for one in told if one.stage == "learning")
    assert first == max(1, stopped_at[1])
    assert no_working_files(out)


@pytest.mark.slow
def test_a_killed_training_leaves_no_bundle_and_goes_on(tmp_path, trained):
    folder, bundle = trained
    out = tmp_path / "killed"
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from SaliencyExplain.studies.discovery import discover\n"
        "from SaliencyExplain.training.train import train_classifier\n"
        "from Testing.training.conftest import settings\n"
        "def die(now):\n"
        "    if now.epoch == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"train_classifier(discover(Path({str(folder)!r})), settings(), Path({str(out)!r}), "
        "progress=die)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    again = train_classifier(discover(folder), settings(), out)
    assert content_of(again.bundle) == content_of(bundle)


def test_a_finished_training_is_found_again_and_never_overwritten(trained):
    folder, bundle = trained
    before = content_of(bundle)
    again = train_classifier(discover(folder), settings(), bundle)
    assert again.labels.as_json() == record_of(bundle)["figures"]
    assert "trained before" in again.notes[-1]
    with error_with(ErrorCode.OUTPUT_EXISTS, "bundle", "seed"):
        train_classifier(discover(folder), settings(seed=1), bundle)
    assert content_of(bundle) == before


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_a_rare_class_is_learnt_as_well(tmp_path, balance):
    folder = write_pictures(tmp_path / "pictures", {"small": 32, "large": 5})
    wanted = settings(epochs=6, balance=balance, augment=(), batch_size=8)
    record = record_of(train_classifier(discover(folder), wanted, tmp_path / "bundle").bundle)
    confusion = np.array(record["figures"]["confusion_matrix"])
    assert record["classes"][0] == "large"
    assert confusion[0, 0] == confusion[0].sum() > 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet10", {"widen_factor": 0.125}),
        ("ViT", {"patch_size": 8, "hidden_size": 8, "mlp_dim": 8, "num_layers": 1, "num_heads": 1}),
    ],
)
def test_other_networks_of_monai_learn_by_their_short_names(tmp_path, pictures, name, arguments):
    result = train_classifier(
        discover(pictures),
        settings(network=name, network_args=arguments, epochs=1),
        tmp_path / "bundle",
    )
    network: nn.Module = load_classifier(result.bundle).network.network
    assert not network.training
    assert all(not parameter.requires_grad for parameter in network.parameters())


def test_a_stopped_training_is_not_continued_with_other_settings_or_images(tmp_path, pictures):
    def stop(now):
        if now.epoch == 2:
            raise Cancelled

    out = tmp_path / "bundle"
    with pytest.raises(Cancelled):
        train_classifier(discover(pictures), settings(), out, progress=stop)
    with error_with(ErrorCode.STUDY_CONFIGURATION, "learning rate"):
        train_classifier(discover(pictures), settings(learning_rate=1e-4), out)
    Image.fromarray(draw("large", 77)).save(pictures / "large" / "03.png")
    with error_with(ErrorCode.STUDY_CONFIGURATION, "images"):
        train_classifier(discover(pictures), settings(), out)


def test_it_ends_when_the_validation_loss_no_longer_falls_and_keeps_the_best(tmp_path, pictures):
    # Steps far too long: the loss is least at the start and never again.
    wanted = settings(epochs=30, patience=2, learning_rate=0.3)
    result = train_classifier(discover(pictures), wanted, tmp_path / "bundle")
    record = record_of(result.bundle)
    assert result.epochs < 30
    assert result.epochs == result.best + 2
    assert len(record["history"]) == result.epochs


def test_an_unreadable_image_is_named_and_costs_only_itself(tmp_path, pictures):
    (pictures / "small" / "05.png").write_bytes(b"no picture")
    result = train_classifier(discover(pictures), settings(epochs=1), tmp_path / "bundle")
    assert sum(result.counts.values()) == 15
    assert any("small-05 is left out: " in note and "05.png" in note for note in result.notes)
    assert [one["case"] for one in record_of(result.bundle)["left_out"]] == ["small-05"]


def test_equal_images_stay_together_and_are_told(tmp_path, pictures):
    for number in range(5):
        # The same pixels in another file, and one with another label.
        same = Image.open(pictures / "small" / f"{number:02d}.png")
        same.save(pictures / "small" / f"{number}-again.bmp")
    Image.open(pictures / "large" / "00.png").save(pictures / "small" / "odd.png")
    result = train_classifier(discover(pictures), settings(epochs=1), tmp_path / "bundle")
    record = record_of(result.bundle)
    home = {case: part for part, cases in record["parts"].items() for case in cases}
    sets = [sorted(names) for names in record["equal_images"]]
    assert len(sets) == 6
    assert ["large-00", "small-odd"] in sets
    for names in sets:
        assert len({home[name] for name in names}) == 1
    assert any(note.startswith("12 of 22 images equal another one") for note in result.notes)
    (told,) = [note for note in result.notes if "different labels" in note]
    assert "large-00 (large) = small-odd (small)" in told
    assert any("patient of 22 of 22 images is not known" in note for note in result.notes)


def test_a_table_says_patients_and_parts(tmp_path, pictures):
    rows = [
        {
            "case": f"{path.parent.name}{path.stem}",
            "image": str(path.relative_to(tmp_path)),
            "label": path.parent.name,
            "patient": f"P{int(path.stem) // 2}",
            "split": "test" if int(path.stem) < 2 else "train",
        }
        for path in sorted(pictures.rglob("*.png"))
    ]
    table = write_table(tmp_path / "cases.csv", rows)
    result = train_classifier(discover(table), settings(epochs=1), tmp_path / "bundle")
    record = record_of(result.bundle)
    assert sorted(record["parts"]["test"]) == sorted(
        row["case"] for row in rows if row["split"] == "test"
    )
    patients = {
        part: {row["patient"] for row in rows if row["case"] in cases}
        for part, cases in record["parts"].items()
    }
    assert not patients["train"] & patients["validation"]
    text = "".join(
        content.decode("utf-8", "ignore") for content in content_of(result.bundle).values()
    )
    assert "P3" not in text


def test_without_held_out_cases_the_figures_say_that_they_flatter(tmp_path, pictures):
    result = train_classifier(
        discover(pictures), settings(epochs=1, test_share=0), tmp_path / "bundle"
    )
    assert result.measured_on == "validation"
    description = json.loads((result.bundle / "configs" / "metadata.json").read_text())[
        "description"
    ]
    assert "validation cases, which chose the epoch" in description


@pytest.mark.slow
def test_volumes_and_several_channels_are_learnt(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for number in range(16):
        label = ("dark", "bright")[number % 2]
        row = {"case": f"c{number}", "label": label}
        for channel in ("t1", "t2"):
            values = random.normal(10, 1, (10, 11, 12)).astype(np.float32)
            if label == "bright" and channel == "t2":
                values[3:7, 3:7, 3:7] += 20
            write_volume(tmp_path / f"{number}_{channel}.nii.gz", values, np.diag([2.0, 2, 2, 1]))
            row[channel] = f"{number}_{channel}.nii.gz"
        rows.append(row)
    table = write_table(tmp_path / "cases.csv", rows)
    wanted = settings(channels=("t1", "t2"), size=None, spacing=(2.0, 2.0, 2.0), epochs=8)
    cases = discover(table, channels=wanted.channels)
    result = train_classifier(cases, wanted, tmp_path / "bundle")
    classifier = load_classifier(result.bundle)
    assert classifier.spatial_dims == 3
    assert classifier.channels == ("t1", "t2")
    assert result.labels.accuracy == 1


@pytest.mark.slow
def test_weights_of_another_training_are_begun_with(tmp_path, pictures):
    first = train_classifier(discover(pictures), settings(), tmp_path / "first")
    folder = write_pictures(tmp_path / "three", {"small": 6, "large": 6}, first_seed=300)
    write_pictures(folder, {"large": 0})
    (folder / "none").mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).normal(60, 8, (EDGE, EDGE))
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / "none" / f"{number}.png")
    wanted = settings(epochs=1, weights=first.bundle / "models" / "model.pt", learning_rate=1e-12)
    result = train_classifier(discover(folder), wanted, tmp_path / "second")
    assert any("class_layers.out.weight" in note and "random" in note for note in result.notes)
    old, new = (
        torch.load(one.bundle / "models" / "model.pt", weights_only=True) for one in (first, result)
    )
    assert torch.allclose(old["features.conv0.weight"], new["features.conv0.weight"], atol=1e-6)
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    with error_with(ErrorCode.MODEL_WEIGHTS, "other.pt", "DenseNet"):
        train_classifier(
            discover(folder),
            dataclasses.replace(wanted, weights=tmp_path / "other.pt"),
            tmp_path / "third",
        )


@pytest.mark.parametrize(
    ("counts", "changes", "words"),
    [
        ({"small": 8, "large": 1}, {}, "class 'large' has 1 image, and needs 3"),
        ({"small": 8, "large": 8}, {"network": "DenseNet12"}, "Did you mean 'DenseNet121'"),
        ({"small": 8, "large": 8}, {"network": "torch.load"}, "refused"),
        ({"small": 8, "large": 8}, {"classes": ("small", "huge")}, "label huge.*: large, small"),
        ({"small": 8, "large": 8}, {"classes": ("small",)}, "'small'"),
        ({"small": 8, "large": 8}, {"intensity": "zscor"}, "Did you mean 'zscore'"),
        ({"small": 8, "large": 8}, {"learning_rate": 1e30}, "lower --learning-rate"),
        ({"small": 8, "large": 8}, {"weights": Path("gone.pt")}, "gone.pt cannot be read"),
        ({"small": 8, "large": 8}, {"size": (EDGE,)}, "spatial|2D|positive|2 or 3"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_bundle(tmp_path, counts, changes, words):
    folder = write_pictures(tmp_path / "pictures", counts)
    with pytest.raises(InputError, match=words) as caught:
        train_classifier(discover(folder), settings(**changes), tmp_path / "bundle")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_labels_of_one_class_only_or_of_none_are_refused(tmp_path, pictures):
    cases = discover(pictures)
    with error_with(ErrorCode.LABELS, "'small'"):
        train_classifier(
            [case for case in cases if case.label == "small"], settings(), tmp_path / "bundle"
        )
    bare = [dataclasses.replace(case, label=None) for case in cases]
    with error_with(ErrorCode.LABELS, "case, image, label"):
        train_classifier(bare, settings(), tmp_path / "bundle")
    mixed = [dataclasses.replace(cases[0], label="SMALL"), *cases[1:]]
    with error_with(ErrorCode.LABELS, "'SMALL'", "'small'"):
        train_classifier(mixed, settings(), tmp_path / "bundle")


def test_images_of_different_sizes_want_one_size(tmp_path, pictures):
    Image.fromarray(draw("large", 5)[:-2]).save(pictures / "large" / "03.png")
    with error_with(ErrorCode.GRID_MISMATCH, "large-03", "14x16", "large-00", "16x16", "--size"):
        train_classifier(discover(pictures), settings(size=None), tmp_path / "bundle")


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path, pictures, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    out = tmp_path / "bundle"
    monkeypatch.setattr(epochs, "atomic_file", full)
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "No space left on device"):
        train_classifier(discover(pictures), settings(), out)
    assert not out.exists()


def test_a_last_batch_of_one_image_does_not_stop_batch_normalisation(tmp_path, pictures):
    # 12 images to learn from in batches of 11: one is left over each time.
    result = train_classifier(
        discover(pictures), settings(epochs=2, batch_size=11), tmp_path / "bundle"
    )
    assert all(math.isfinite(epoch["loss"]) for epoch in record_of(result.bundle)["history"])


@pytest.mark.slow
def test_the_callers_chances_and_threads_are_left_alone(tmp_path, pictures):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train_classifier(discover(pictures), settings(epochs=1), tmp_path / "bundle")
    assert torch.equal(torch.rand(4), expected)
    assert not torch.are_deterministic_algorithms_enabled()
