"""What an engine says of itself and of the classifiers that it opens."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from SaliencyExplain.attribution.method_selection import describe_methods
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.errors import ClassifierError, InputError
from SaliencyExplain.models.classifier import Classifier


def test_says_what_it_is_and_which_methods_it_has(engine: Engine):
    about = engine.about()
    assert about.device.startswith("cpu")
    assert 0 < about.memory_free <= about.memory_total
    assert not about.trusts
    assert [method["name"] for method in engine.methods()] == [
        method["name"] for method in describe_methods()
    ]


def test_classifier_is_described_and_known_by_its_content(
    engine: Engine, bundle: Path, classifier: Classifier, tmp_path: Path
):
    info = engine.open_classifier(str(bundle))
    assert info.key == classifier.identity
    assert info.name == "phantom-3d-honest"
    assert info.classes == classifier.classes
    assert info.channels == classifier.channels
    assert info.input_size == classifier.input_size
    assert info.spacing == classifier.spacing
    assert info.layers == tuple(classifier.network.convolutions())
    zipped = tmp_path / "another name.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in bundle.rglob("*"):
            archive.write(file, file.relative_to(bundle))
    assert engine.open_classifier(str(zipped)).key == info.key
    assert engine.open_classifier(str(bundle)) == info


def test_classifiers_that_cannot_be_had_are_told_in_one_line(
    engine: Engine, bundle: Path, tmp_path: Path, data: Path
):
    text = tmp_path / "notes.pt"
    text.write_text("no classifier")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, told in [
        (tmp_path / "nowhere", "nowhere"),
        (text, "notes.pt"),
        (empty, "metadata.json"),
    ]:
        with pytest.raises(ClassifierError, match=told) as raised:
            engine.open_classifier(str(path))
        assert "\n" not in str(raised.value)
        # Not the place among the server's temporary files.
        assert str(tmp_path) in str(raised.value) or str(raised.value).startswith("notes.pt ")
    with pytest.raises(ClassifierError, match="--trust"):
        engine.open_classifier(str(bundle), trust=True)
    with pytest.raises(InputError, match="outside the folders"):
        engine.open_classifier(str(bundle), on_server=True)
    link = data / "linked classifier"
    if not link.is_symlink():
        link.symlink_to(bundle)
    with pytest.raises(InputError, match="outside the folders"):
        engine.open_classifier(str(link), on_server=True)


def test_classifier_on_the_engines_own_disk(engine: Engine, bundle: Path, data: Path):
    import shutil

    place = data / "own classifier"
    if not place.exists():
        shutil.copytree(bundle, place)
    opened = engine.open_classifier(str(place), on_server=True)
    assert opened.name == "own classifier"
