"""What the API gives is what the engine and the command give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import SaliencyExplain as se
from SaliencyExplain.cli.main import application
from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.errors import ErrorCode, SaliencyExplainError
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.specification.spec import Limits


@pytest.fixture(scope="module")
def files(cases: Path) -> tuple[Path, Path]:
    return min(cases.parent.glob("*_image*")), min(cases.parent.glob("*_mask*"))


def test_values_are_the_engines_to_the_bit(phantom: Phantom, model: Classifier) -> None:
    methods = [se.SmoothGrad(samples=3), se.Occlusion(window_mm=40)]
    own = explain(prepare(phantom.image, model, "glioma-like"), methods, seed=5)
    found = se.explain(phantom.image, model, methods, target="glioma-like", seed=5)
    assert len(found) == 2
    for one, other in zip(found, own.attributions, strict=True):
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.affine, other.affine)
    assert found["smoothgrad"] is found[0]
    other_seed = se.explain(phantom.image, model, methods[0], target="glioma-like", seed=6)
    assert not np.array_equal(other_seed[0].values, found[0].values)


def test_the_limits_that_are_given_hold(phantom: Phantom, model: Classifier) -> None:
    found = se.explain(
        phantom.image, model, se.Occlusion(window_mm=16),
        device="cpu", memory="1 GB", precision="bfloat16", batch_size=2, seconds=0,
    )  # fmt: skip
    assert found.case.compute == Compute("cpu", Limits(1024**3, "bfloat16", 2, 0.0))
    assert 0 < found[0].share_done < 1
    assert found[0].provenance["budget_seconds"] == 0


def test_tensors_give_the_engines_map_to_the_bit(phantom: Phantom, model: Classifier) -> None:
    case = prepare(phantom.image, model, "glioma-like")
    network, tensor = model.network.network, case.input.as_tensor()[None]
    for method in (se.IntegratedGradients(steps=4), se.GradCAM(), se.Occlusion(window_mm=40)):
        task = case.task()
        expected = next(iter(method.attribute(task).values()))
        found = se.attribute(
            network, tensor, method, case.target, spacing=task.spacing, seed=task.seed
        )
        assert torch.equal(found, expected)


@pytest.mark.parametrize("classes", [1, 2])
def test_a_single_logit_speaks_for_the_second_class(classes: int) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    image = torch.rand(1, 1, 4, 4)
    first, second = (
        se.attribute(network, image, "gradient-times-input", target) for target in (0, 1)
    )
    weights = network[1].weight.detach()
    np.testing.assert_allclose(second, weights[-1].reshape(4, 4) * image[0, 0], rtol=1e-5)
    if classes == 1:
        np.testing.assert_allclose(first, -second, rtol=1e-5)


class Interrupting(nn.Module):
    """Is interrupted in one of its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)
        self.passes_left = 10**9

    def forward(self, images: Tensor) -> Tensor:
        self.passes_left -= 1
        if self.passes_left < 0:
            raise KeyboardInterrupt
        return self.layer(images.flatten(1))


def test_an_interrupt_leaves_the_network_as_it_was() -> None:
    network = Interrupting().train()
    image = torch.rand(1, 1, 4, 4)
    se.attribute(network, image, "gradient", 1)
    network.passes_left = 0
    with pytest.raises(KeyboardInterrupt):
        se.attribute(network, image, se.IntegratedGradients(steps=64), 1)
    assert network.training
    assert all(one.requires_grad and one.grad is None for one in network.parameters())
    assert not network._forward_hooks


def test_a_network_in_training_is_asked_in_eval_mode_and_trains_on() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2)
    ).train()
    image = torch.rand(1, 1, 4, 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = se.attribute(network, image, "gradient", 1)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    given = image.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(network.eval()(given)[0, 1], given)
    np.testing.assert_allclose(found.abs(), expected[0, 0].abs(), rtol=1e-4, atol=1e-7)


def test_maps_are_evaluated_against_the_segmentation_that_is_given(
    phantom: Phantom, result: se.Result
) -> None:
    found = se.evaluate(
        result["gradient"], {"elsewhere": phantom.masks["tumour"]}, parts=["agreement"]
    )
    assert {row.segment for row in found.maps[0].rows} == {"elsewhere"}


def _content(folder: Path) -> dict[str, Any]:
    """The files of an output folder, but for the times in them."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
            document.pop("timings")
            found[name] = document
        elif path.is_file() and path.name != ".lock":
            found[name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_save_writes_the_files_of_the_command(
    files: tuple[Path, Path], model: Classifier, tmp_path: Path
) -> None:
    image, mask = files
    command = ["explain", str(image), "-c", str(model.source), "-m", "gradcam,gradient"]
    command += ["-s", str(mask), "--out", str(tmp_path / "out"), "--json"]
    assert CliRunner().invoke(application, command).exit_code == 0
    expected = _content(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "of the command")
    result = se.explain(image, model, ["gradcam", se.Gradient()], segmentation=mask)
    folder = result.save(tmp_path / "out")
    assert folder.parent == tmp_path / "out"
    found = _content(tmp_path / "out")
    assert set(found) == set(expected)
    for name, content in expected.items():
        # The report names its folder's time.
        assert found[name] == content or name == "report.html", name


def test_another_methods_result_is_added_to_the_saved_one(
    phantom: Phantom, model: Classifier, tmp_path: Path
) -> None:
    first = se.explain(phantom.image, model, "gradcam", name="head").save(tmp_path)
    se.explain(phantom.image, model, "gradient", name="head").save(tmp_path)
    document = json.loads((first / "explanation.json").read_text(encoding="utf-8"))
    assert [one["method"] for one in document["attributions"]] == ["gradcam", "gradient"]
    other = se.draw_phantom("none", seed=1, dimensions=2).image
    with pytest.raises(SaliencyExplainError) as refusal:
        se.explain(other, model, "gradcam", name="head").save(tmp_path)
    assert refusal.value.code is ErrorCode.OUTPUT_EXISTS


def test_a_notebook_shows_pictures_and_text_is_escaped(result: se.Result) -> None:
    page = result._repr_html_()
    assert page.count("data:image/png;base64,") == len(result)
    assert result[0].plot().png.startswith(b"\x89PNG")
    assert result[0].label in repr(result)


def test_a_comparison_is_a_table_of_pandas(result: se.Result, phantom: Phantom) -> None:
    pandas = pytest.importorskip("pandas")
    table = se.compare(result, phantom.masks).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table.method.tolist() == [one.label for one in result] + ["random", "centre"]
    assert "<table>" in se.compare(result, phantom.masks)._repr_html_()


def test_a_segmentation_is_a_file_masks_or_labels(
    files: tuple[Path, Path], model: Classifier
) -> None:
    image, mask = files
    result = se.explain(image, model, "gradient")
    from_file = se.compare(result[0], mask)
    read = se.read_segmentation(mask, se.read_image(image))
    labels = read.segments[0].mask.astype(np.uint8)
    for given in (read, {"tumour": labels}, labels, (labels, result[0].affine)):
        found = se.compare(result[0], given)
        assert found[0].agreement == from_file[0].agreement
    with pytest.raises(SaliencyExplainError) as refusal:
        se.compare(result[0], labels[:-1])
    assert refusal.value.code is ErrorCode.GRID_MISMATCH


@pytest.mark.slow
def test_a_study_of_a_network_in_memory_runs_in_one_process(cases: Path, tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    model = se.Model(network, classes=["none", "glioma-like"])
    done = se.study(cases, model, se.Gradient(), out=tmp_path / "study")
    assert (done.total, done.failed) == (2, 0)
    again = se.study(cases, model, se.Gradient(), out=tmp_path / "study")
    assert again.resumed == 2
    with pytest.raises(SaliencyExplainError) as refusal:
        se.study(cases, model, se.Gradient(), out=tmp_path / "two", jobs=2)
    assert refusal.value.code is ErrorCode.OPTION_CONFLICT


def test_progress_is_told_and_may_stop_it(phantom: Phantom, model: Classifier) -> None:
    seen: list[tuple[float, float]] = []
    se.explain(phantom.image, model, "gradcam", progress=lambda *now: seen.append(now))
    assert seen[-1][0] == pytest.approx(seen[-1][1])

    def stop(done: float, total: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        se.explain(phantom.image, model, "gradcam", progress=stop)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda image, model: se.explain(image, nn.Flatten(), "gradient"), ErrorCode.VALUE_FORM),
        (lambda image, model: se.explain(image, model, "gradcm"), ErrorCode.NAME_UNKNOWN),
        (lambda image, model: se.explain(image, model, []), ErrorCode.OPTION_MISSING),
        (lambda image, model: se.explain(image, model, [3]), ErrorCode.VALUE_FORM),
        (lambda image, model: se.explain(image, model, "cam", target="x"), ErrorCode.NAME_UNKNOWN),
        (lambda image, model: se.probe(image, model), ErrorCode.OPTION_MISSING),
        (lambda image, model: se.probe(image, model, at=(1, 2)), ErrorCode.VALUE_FORM),
        (lambda image, model: se.compare(3, image), ErrorCode.VALUE_FORM),
        (lambda image, model: se.load_model("w.pth", network="DenseNet"), ErrorCode.OPTION_MISSING),
        (lambda image, model: se.load_model("demo:phantom"), ErrorCode.NAME_UNKNOWN),
        (
            lambda image, model: se.attribute(model.network, torch.ones(3), "gradient", 0),
            ErrorCode.IMAGE_AXES,
        ),
        (
            lambda image, model: se.attribute(model.network, image[None, :], "gradient", 9),
            ErrorCode.VALUE_RANGE,
        ),
        (
            lambda image, model: se.attribute(
                model.network.network, torch.ones(1, 3, 64, 64), "gradient", 0
            ),
            ErrorCode.MODEL_INPUT,
        ),
    ],
)
def test_refusals_have_codes(
    call: Any, code: ErrorCode, phantom: Phantom, model: Classifier
) -> None:
    with pytest.raises(SaliencyExplainError) as refusal:
        call(phantom.image, model)
    assert refusal.value.code is code
