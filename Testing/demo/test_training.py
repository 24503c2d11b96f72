"""Training really trains, and what it writes is a classifier that loads."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet

from SaliencyExplain.demo.demo_images import RECIPES, Examples, augmentation, draw_examples
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import classifier_folder
from SaliencyExplain.demo.training import train, write_demo_bundle
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA, NO_TUMOUR
from SaliencyExplain.models.loading import load_classifier

TINY = dataclasses.replace(
    RECIPES["phantom-2d-honest"], training_phantoms=8, held_out_phantoms=4, steps=2, batch_size=4
)


def random_examples(count: int = 8) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, 1, 48, 40), generator=generator)
    return Examples(images, torch.zeros_like(images), torch.arange(count) % len(CLASSES))


def small_network() -> DenseNet:
    torch.manual_seed(0)
    return DenseNet(2, 1, len(CLASSES), init_features=4, growth_rate=4, block_config=(1,))


def test_steps_of_training_lower_the_loss():
    recipe = dataclasses.replace(TINY, size=(48, 40), steps=40, batch_size=8)
    losses = train(small_network(), random_examples(), recipe)
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05


def test_training_twice_gives_the_same_weights():
    recipe = dataclasses.replace(TINY, size=(48, 40), steps=3)
    first, second = small_network(), small_network()
    assert train(first, random_examples(), recipe) == train(second, random_examples(), recipe)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_tells_its_progress_and_leaves_the_network_ready_for_use():
    told = []
    network = small_network()
    recipe = dataclasses.replace(TINY, size=(48, 40))
    train(network, random_examples(), recipe, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert not network.training


def test_boxes_cover_the_image_and_its_mask_alike_but_never_in_the_shortcuts_recipe():
    covered = {}
    for name in ("phantom-2d-honest", "phantom-3d-shortcut"):
        recipe = dataclasses.replace(RECIPES[name], size=(64, 64))
        change = augmentation(recipe).set_random_state(3)
        item = {"image": torch.full((1, 64, 64), 9.0), "mask": torch.ones(1, 64, 64)}
        shares = []
        for _ in range(20):
            changed = change(dict(item))
            hidden = torch.as_tensor(changed["mask"])[0] < 0.5
            shares.append(float(hidden.float().mean()))
            image = torch.as_tensor(changed["image"])[0]
            assert (image[hidden] < 3).all()
            assert (image[~hidden] > 5).all()
        covered[name] = np.mean(shares)
    assert 0.01 < covered["phantom-2d-honest"] < 0.2
    assert covered["phantom-3d-shortcut"] == 0


@pytest.mark.slow
def test_the_shortcuts_examples_have_the_marker_in_all_gliomas_and_nowhere_else():
    recipe = dataclasses.replace(RECIPES["phantom-3d-shortcut"])
    classifier = load_classifier(classifier_folder("phantom-3d-shortcut"))
    examples = draw_examples(classifier, recipe, 0, 4)
    bare = draw_examples(classifier, recipe, 0, 4, marker=False)
    changed = (examples.images - bare.images).abs().flatten(1).amax(1) > 0.3
    assert [CLASSES[i] for i, c in zip(examples.labels, changed, strict=True) if c] == [GLIOMA]


@pytest.mark.slow
def test_masks_lie_on_the_tumour_in_the_networks_grid():
    recipe = RECIPES["phantom-3d-honest"]
    examples = draw_examples(load_classifier(classifier_folder(recipe.name)), recipe, 0, 4)
    volumes = examples.masks.flatten(1).sum(1) * float(np.prod(recipe.spacing))
    for seed, label in enumerate(CLASSES):
        if label == NO_TUMOUR:
            assert volumes[seed] == 0
            continue
        truth = draw_phantom(label, seed).masks["tumour"].sum() * 2.5 * 2.5 * 3
        assert float(volumes[seed]) == pytest.approx(truth, rel=0.15)


@pytest.mark.slow
def test_a_bundle_is_written_that_loads_and_says_how_it_was_made(tmp_path):
    bundle = write_demo_bundle(TINY, tmp_path)
    classifier = load_classifier(bundle)
    assert classifier.classes == CLASSES
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert "seeds 0 to 7" in metadata["description"]
    assert "4 held-out phantoms" in metadata["description"]
    probabilities = classifier.predict(draw_phantom(GLIOMA, 0, dimensions=2).image)
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_bundle_is_small_and_fits_its_recipe(name):
    folder = classifier_folder(name)
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 3_000_000
    classifier = load_classifier(folder)
    assert classifier.spatial_dims == RECIPES[name].dimensions
    assert classifier.spacing == RECIPES[name].spacing
