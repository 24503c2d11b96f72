"""The map of a single channel is drawn over that channel, not over the first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.records.case_record import EXPLANATION
from SaliencyExplain.studies.case_folder import write_case


class Mean(torch.nn.Module):
    def forward(self, images):
        score = images.flatten(1).mean(1)
        return torch.stack([-score, score], 1)


def classifier():
    return Classifier(
        name="mean",
        classes=("other", "bright"),
        channels=("T1", "FLAIR"),
        spatial_dims=2,
        network=ScoreNetwork(Mean().eval()),
        preprocessing=Compose([]),
        identity="0" * 64,
        source=Path("mean"),
    )


@pytest.mark.parametrize("channel", ["each", "FLAIR"])
def test_pictures_and_provenance_name_the_channel(tmp_path, channel):
    # T1 is a ramp from left to right, FLAIR from top to bottom.
    ramp = np.linspace(0, 1, 48, dtype=np.float32)
    values = np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp])
    image = to_image(values, np.diag([-1.0, -1.0, 1.0, 1.0]), name="two")
    method = Occlusion(channel=channel, window_mm=6.0, output="score", fill="value", value=0.5)
    done = explain(prepare(image, classifier()), [method])
    places = {"T1": 0, "FLAIR": 1}
    assert {one.layer: one.channel for one in done.attributions} == {
        name: at for name, at in places.items() if channel in ("each", name)
    }
    # Where nothing is drawn as heat, what is seen is the anatomy.
    quiet = tuple(
        dataclasses.replace(one, values=np.zeros_like(one.values)) for one in done.attributions
    )
    done = dataclasses.replace(done, attributions=quiet)
    write_case(tmp_path, "case", done, image)
    document = json.loads((tmp_path / "case" / EXPLANATION).read_text())
    assert "channel" not in document["provenance"]
    for entry in document["attributions"]:
        assert entry["channel"] == places[entry["layer"]]
        with Image.open(tmp_path / "case" / entry["files"]["picture"]) as picture:
            grey = np.asarray(picture.convert("L"), dtype=float)
        middle = grey[grey.shape[0] // 4 : grey.shape[0] // 2]
        part = middle[:, grey.shape[1] // 8 : grey.shape[1] // 3]
        down, across = (
            abs(np.corrcoef(part.mean(axis=a), np.arange(part.shape[1 - a]))[0, 1]) for a in (1, 0)
        )
        assert (down > across) == (entry["layer"] == "FLAIR")


def test_a_map_of_all_channels_is_drawn_over_the_first():
    values = np.random.default_rng(0).random((2, 12, 12), dtype=np.float32)
    image = to_image(values, np.diag([-1.0, -1.0, 1.0, 1.0]), name="two")
    (one,) = explain(prepare(image, classifier()), [Occlusion(window_mm=4.0)]).attributions
    assert "channel" not in one.provenance
    assert one.channel == 0
