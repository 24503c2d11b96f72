"""Lengths of a picture without a size are told in pixels, those of other images in mm."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Resized
from PIL import Image
from rich.console import Console

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.cli.terminal_tables import agreement_table
from SaliencyExplain.comparison.table import rows
from SaliencyExplain.engine.client.click_history import ClickAnswer
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.cost import CostTier
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from SaliencyExplain.length_unit import joined, length_unit
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.records.case_record import EXPLANATION
from SaliencyExplain.studies.case_folder import write_case
from SaliencyExplain.viewer.page_plots import probability_plot

SIDE = 24


def spot():
    values = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE)).astype(np.uint8)
    values[6:12, 8:14] += 180
    return values, (values > 150).astype(np.uint8)


def written(folder, sized):
    """An image of a bright spot and its mask: PNG, or NIfTI with pixels of 2 mm."""
    paths = []
    for name, values in zip(("image", "mask"), spot(), strict=True):
        if sized:
            paths.append(folder / f"{name}.nii.gz")
            affine = np.diag([-2.0, -2.0, 1.0, 1.0])
            nibabel.save(nibabel.Nifti1Image(values.T, affine), paths[-1])
        else:
            paths.append(folder / f"{name}.png")
            Image.fromarray(values).save(paths[-1])
    return paths


class Brightest(torch.nn.Module):
    def forward(self, images):
        score = torch.nn.functional.avg_pool2d(images, 4).amax((1, 2, 3)) / 50 - 2
        return torch.stack([-score, score], 1)


def classifier(*steps):
    return Classifier(
        name="brightest", classes=("dark", "bright"), channels=("image",), spatial_dims=2,
        network=ScoreNetwork(Brightest().eval()), preprocessing=Compose(list(steps)),
        identity="0" * 64, source=Path("brightest"),
    )  # fmt: skip


#: The network's grid is another one than the image's, with pixels of 0.5 or 1 mm.
FINER = Resized(["image"], (2 * SIDE, 2 * SIDE))


@pytest.fixture(params=[False, True], ids=["px", "mm"])
def asked(request, tmp_path):
    """An image, its segmentation, and the unit of its lengths."""
    path, mask = written(tmp_path, request.param)
    image = read_image(path)
    return image, read_segmentation(mask, image), "mm" if request.param else "px"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_pictures_have_pixels(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(spot()[0]).save(path)
    image = read_image(path)
    assert length_unit(image.affine.numpy(), image.shape[1:]) == "px"


@pytest.mark.parametrize(
    ("affine", "shape", "unit"),
    [
        (np.diag([-1.0, -1.0, 1.0, 1.0]), (9, 8), "px"),
        (np.diag([-1.0, -1.0, 1.0, 1.0]), (9, 8, 1), "px"),  # as 3D Slicer holds a picture
        (np.diag([-1.0, -1.0, 1.0, 1.0]), (9, 8, 7), "mm"),
        (np.diag([-0.5, -0.5, 1.0, 1.0]), (9, 8), "mm"),
        (np.diag([1.0, 1.0, 1.0, 1.0]), (9, 8), "mm"),
        (np.array([[-1.0, 0, 0, 30], [0, -1, 0, 9], [0, 0, 1, 5], [0, 0, 0, 1]]), (9, 8), "mm"),
    ],
)
def test_the_grid_says_whether_an_image_has_a_size(affine, shape, unit):
    assert length_unit(affine, shape) == unit


def test_images_with_and_without_a_size_have_both_units():
    assert joined(["px", "mm", "px"]) == "mm or px"
    assert joined(["px"]) == "px"
    assert joined([]) == "mm"


def test_a_click_is_answered_in_the_unit_of_the_image(asked):
    image, _, unit = asked
    other = {"px": "mm", "mm": "px"}[unit]
    prober = Prober(prepare(image, classifier(FINER), compute=Compute("cpu")))
    place = image.affine.numpy() @ [10, 8, 0, 1]
    found = prober.at(place[:3], [0.1, 4.0])
    assert found.length_unit == unit
    assert [removal.name for removal in found.removals] == [f"0.1 {unit}", f"4 {unit}"]
    assert f"0.1 {unit} is less than half a voxel" in found.notes[0]
    assert f" {other}" not in " ".join(found.notes)
    with pytest.raises(InputError) as error:
        prober.at((900.0, 0, 0), [4.0])
    assert error.value.code is ErrorCode.PLACE_OUTSIDE
    assert f"900.0, 0.0, 0.0) {unit}" in str(error.value)
    answer = ClickAnswer(1, (0.0, 0.0, 0.0), "image", found)
    labels = [one["text"] for one in probability_plot(answer)["labels"]]
    assert f"removed radius, {unit}" in labels
    assert answer.short(1).endswith(unit)


def test_a_window_that_does_not_fit_is_told_in_the_unit_of_the_image(asked):
    image, _, unit = asked
    with pytest.raises(InputError) as error:
        explain(prepare(image, classifier(FINER), "bright"), [Occlusion(window_mm=500.0)])
    assert error.value.code is ErrorCode.WINDOW
    size = {"px": 24, "mm": 48}[unit]
    assert f"{size} x {size} {unit})" in str(error.value)
    assert f"500 {unit} " in str(error.value)


def test_results_and_tables_name_the_unit(asked, tmp_path):
    image, segmentation, unit = asked
    given = LoadedReferences(segmentation=segmentation)
    method = Occlusion(window_mm=8.0)
    done = explain(prepare(image, classifier(FINER), "bright", references=given), [method])
    values = {one.label: one.values for one in done.attributions}
    table = rows("case", "bright", values, segmentation, image.affine.numpy())
    assert {row.length_unit for row in table} == {unit}
    assert {row.as_json()["length_unit"] for row in table} == {unit}
    write_case(tmp_path, "case", done, image, segmentation=segmentation, rows=table)
    document = json.loads((tmp_path / "case" / EXPLANATION).read_text())
    assert document["image"]["length_unit"] == unit
    (entry,) = document["attributions"]
    assert entry["parameters"]["window_mm"] == {"value": 8.0, "unit": unit}
    assert entry["parameters"]["fill"]["unit"] is None
    console = Console(width=140)
    with console.capture() as captured:
        console.print(agreement_table(table))
    words = captured.get().splitlines()[1].split()
    assert words.count(unit) == 2
    assert {"px", "mm"} & set(words) == {unit}


def test_an_evaluation_tells_its_lengths_in_the_unit_of_the_image(asked):
    image, segmentation, unit = asked
    case = prepare(
        image,
        classifier(FINER),
        "bright",
        Compute("cpu"),
        LoadedReferences(segmentation=segmentation),
    )
    cost_tier = CostTier(random_maps=1, seeds=0, noisy=0, shifted=True, searched=0, refined=0)
    found = evaluate_maps(
        case, [Occlusion(window_mm=16.0, stride_mm=8.0)],
        parts=["faithfulness", "stability", "agreement"], cost_tier=cost_tier,
    )  # fmt: skip
    (one,) = found.evaluation.maps
    words = [answer.words for answer in one.answers]
    words += [change.words for change in one.stability.changes]
    words += [one.faithfulness.baseline, one.faithfulness.boxes]
    told = [word.strip(".,;:") for line in words for word in line.split()]
    assert told.count(unit) >= 5
    assert {"px", "mm"} & set(told) == {unit}
    assert f"within 5 {unit}" in " ".join(words)
