"""``model check`` on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import SaliencyExplain as se
from SaliencyExplain.models.check_record import FILE
from Testing.weighted_network import CLASSES, TRUE, network, write_weighted


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose orientation and intensity are wrong."""
    return write_weighted(tmp_path, orientation="PL", intensity="zscore")


def test_the_command_records_a_check_and_its_status_says_whether_it_agrees(
    bundle, tmp_path, command
):
    random = np.random.default_rng(8)
    files = []
    for number in range(3):
        values = random.gamma(2, 40, size=(40, 31)).clip(7, 240).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        files.append(tmp_path / f"{number}.png")
    true = se.Model(network(), CLASSES, **TRUE)
    said = []
    for file in files:
        probabilities = true.predict(se.read_image(file))
        best = int(probabilities.argmax())
        said.append(f"{file}={CLASSES[best]}:{probabilities[best]:.6f}")
    ended = command("model", "check", bundle, *said, "--trust", "--tolerance", "0.0001", "--json")
    assert ended.status == 1
    assert not ended.document["agrees"]
    fixed = tmp_path / "fixed"
    words = ["--trust", "--tolerance", "0.0001", "--write", fixed]
    ended = command("model", "check", bundle, *said, *words)
    assert ended.status == 1
    assert str(fixed) in ended.out + ended.err
    ended = command("model", "check", fixed, *said, "--trust", "--tolerance", "0.0001", "--json")
    assert ended.status == 0, ended.err
    document = json.loads((fixed / FILE).read_text())
    assert document["images"] == 3
    ended = command("model", "check", fixed, str(files[0]), "--trust")
    assert ended.status == 2
