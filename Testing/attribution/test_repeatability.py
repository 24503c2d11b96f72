"""A score belongs to its image alone, and the network is the user's, whatever its forward does."""

from __future__ import annotations

import pickle
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor, nn
from torch.nn import functional

from SaliencyExplain.attribution.network.repeatability import examine
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prediction import predict
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.classifier import Classifier

_CPU = Compute("cpu")


class _Network(nn.Module):
    """A small classifier; ``tame`` is what it would be if it were a function of the image."""

    def __init__(self, tame: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.tame = tame
        self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.h = nn.Linear(6, 3)
        self.h.weight.data.mul_(4)

    def prepared(self, images: Tensor) -> Tensor:
        return images

    def kept(self, features: Tensor) -> Tensor:
        return features

    def forward(self, images: Tensor) -> Tensor:
        features = self.kept(torch.relu(self.a(self.prepared(images))))
        features = torch.relu(self.b(functional.max_pool2d(features, 2)))
        return self.h(features.mean((2, 3)))


class _InPlace(_Network):
    def prepared(self, images: Tensor) -> Tensor:
        if self.tame:
            return images / 2 - 0.1
        images /= 2
        images -= 0.1
        return images


class _InPlaceBehindTorch(_Network):
    def prepared(self, images: Tensor) -> Tensor:
        if self.tame:
            return images.detach() / 2
        images.data.div_(2)
        return images.detach()


class _BatchNorm(_Network):
    def __init__(self, tame: bool) -> None:
        super().__init__(tame)
        kind = nn.InstanceNorm2d if tame else nn.BatchNorm2d
        self.norm = kind(6, track_running_stats=False, affine=False)

    def kept(self, features: Tensor) -> Tensor:
        return self.norm(features)


class _BatchMaximum(_Network):
    def prepared(self, images: Tensor) -> Tensor:
        return images / (images.abs().amax((1, 2, 3), keepdim=True) if self.tame else images.max())


class _FirstOfBatch(_Network):
    def prepared(self, images: Tensor) -> Tensor:
        return images - (images.mean((1, 2, 3), keepdim=True) if self.tame else images[0].mean())


class _Buffer(_Network):
    def __init__(self, tame: bool) -> None:
        super().__init__(tame)
        self.register_buffer("centre", torch.zeros(6, 1, 1))

    def kept(self, features: Tensor) -> Tensor:
        centre = self.centre.clone()
        if not self.tame:
            mean = features.detach().mean((0, 2, 3)).view(6, 1, 1)
            self.centre.mul_(0.9).add_(0.1 * mean)
        return features - centre


class _NewBuffer(_Buffer):
    def kept(self, features: Tensor) -> Tensor:
        centre = self.centre
        if not self.tame:
            mean = features.detach().mean((0, 2, 3)).view(6, 1, 1)
            self.centre = 0.9 * self.centre + 0.1 * mean
        return features * (1 + centre)


class _BufferBehindTorch(_Buffer):
    def kept(self, features: Tensor) -> Tensor:
        centre = self.centre.clone()
        if not self.tame:
            self.centre.data += 0.1 * features.detach().mean()
        return features - centre


class _Counter(_Network):
    def __init__(self, tame: bool) -> None:
        super().__init__(tame)
        self.passes = 0

    def kept(self, features: Tensor) -> Tensor:
        scaled = features * (1 + 0.3 * self.passes)
        if not self.tame:
            self.passes += 1
        return scaled


class _Queue(_Network):
    def __init__(self, tame: bool) -> None:
        super().__init__(tame)
        self.queue = deque([torch.zeros(())], maxlen=5)

    def kept(self, features: Tensor) -> Tensor:
        shifted = features - torch.stack(list(self.queue)).mean()
        if not self.tame:
            self.queue.append(features.detach().mean())
        return shifted


class _Calibrated(_Network):
    """Keeps the scale of the first image it sees; as it was given it has seen none."""

    def prepared(self, images: Tensor) -> Tensor:
        if self.tame:
            return images / images.detach().amax((1, 2, 3), keepdim=True)
        if not hasattr(self, "scale"):
            self.scale = images.detach().max()
        return images / self.scale


_AWKWARD = {
    "in place": _InPlace,
    "batch norm": _BatchNorm,
    "maximum of the batch": _BatchMaximum,
    "first of the batch": _FirstOfBatch,
    "buffer": _Buffer,
    "new buffer": _NewBuffer,
    "buffer behind torch": _BufferBehindTorch,
    "counter": _Counter,
    "queue": _Queue,
    "calibrated": _Calibrated,
}

#: What a user has to be told of.
_NOTED = set(_AWKWARD) - {"in place"}

_METHODS = sorted(
    name
    for name, method in methods().items()
    if method.family != "control" and name not in ("cam", "expected-gradients", "deepshap")
)

#: The others tell nothing new of these.
_FEW = ("gradient", "integrated-gradients", "lime", "lrp", "occlusion", "smoothgrad")


def _image() -> np.ndarray:
    values = np.random.default_rng(0).random((1, 16, 16)).astype(np.float32)
    values[0, 4:8, 8:13] += 1
    return values


def _classifier(network: nn.Module, name: str = "awkward") -> Classifier:
    return Classifier(
        name,
        ("a", "b", "c"),
        ("i",),
        2,
        ScoreNetwork(network.eval()),
        Compose([]),
        "0" * 64,
        Path("n"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", _AWKWARD)
def test_each_method_gives_the_map_of_one_image_at_a_time(kind: str) -> None:
    image = to_image(_image(), np.diag([-1.0, -1, 1, 1]), name="x")
    network, tame = (_AWKWARD[kind](tame).eval() for tame in (False, True))
    tame.load_state_dict(network.state_dict())
    before, voxels, refused = pickle.dumps(network), image.clone(), []
    classifier, expected = _classifier(network), _classifier(tame)
    names = _METHODS if kind in ("in place", "batch norm", "buffer") else _FEW
    for name in names:
        method = find_method(name)()
        try:
            done = explain(prepare(image, classifier, "1", compute=_CPU), [method])
        except InputError:
            refused.append(name)
            continue
        true = explain(prepare(image, expected, "1", compute=_CPU), [method])
        found, right = done.attributions[0].values, true.attributions[0].values
        scale = float(np.abs(right).max())
        assert np.allclose(found, right, atol=2e-3 * scale + 1e-9), (name, scale)
        # What a method says of its own map is another matter.
        said, of_tame = (
            [note for note in one.notes if not note.startswith(f"{name}:")] for one in (done, true)
        )
        assert bool(said) == (kind in _NOTED), (name, said)
        assert not of_tame, (name, of_tame)
        for note in said:
            assert note in done.attributions[0].provenance["notes"]
        assert pickle.dumps(network) == before, name
        assert torch.equal(image, voxels), name
    # They walk through the layers with two images in a batch.
    assert refused in ([], sorted({"lrp", "deeplift"} & set(names)))


@pytest.mark.parametrize("kind", _AWKWARD)
def test_prediction_and_click_are_those_of_one_image_at_a_time(kind: str) -> None:
    image = to_image(_image(), np.diag([-1.0, -1, 1, 1]), name="x")
    network, tame = (_AWKWARD[kind](tame).eval() for tame in (False, True))
    tame.load_state_dict(network.state_dict())
    before = pickle.dumps(network)
    classifier, expected = _classifier(network), _classifier(tame)
    first = predict(image, classifier, device="cpu").probabilities
    assert np.array_equal(first, predict(image, classifier, device="cpu").probabilities)
    assert np.allclose(first, predict(image, expected, device="cpu").probabilities, atol=1e-6)
    point = (image.affine.numpy() @ [6, 10, 0, 1])[:3]
    clicks = [
        Prober(prepare(image, one, compute=_CPU)).at(point, [1.0, 2.0, 4.0])
        for one in (classifier, expected)
    ]
    for found, right in zip(clicks[0].removals, clicks[1].removals, strict=True):
        assert np.allclose(found.probabilities, right.probabilities, atol=1e-5)
    assert pickle.dumps(network) == before


class _Dropout(_Network):
    def kept(self, features: Tensor) -> Tensor:
        return functional.dropout(features, 0.3)


class _Noise(_Network):
    """One draw for a whole batch."""

    def prepared(self, images: Tensor) -> Tensor:
        return images * (1 + 0.2 * torch.randn(()))


_SEEN: list[float] = []


class _Remembers(_Network):
    """Outside of the network, where nothing can be put back."""

    def kept(self, features: Tensor) -> Tensor:
        _SEEN.append(float(features.mean()))
        return features * len(_SEEN)


@pytest.mark.parametrize("kind", [_Dropout, _Noise, _Remembers])
def test_a_network_that_draws_random_numbers_is_refused_by_name(kind: type[_Network]) -> None:
    image = to_image(_image(), np.diag([-1.0, -1, 1, 1]), name="x")
    classifier = _classifier(kind(False), "dice.pt")
    for ask in (
        lambda: predict(image, classifier, device="cpu").probabilities,
        lambda: prepare(image, classifier, "predicted", _CPU),
        lambda: Prober(prepare(image, classifier, compute=_CPU)),
        lambda: classifier.scores(classifier.prepare(image)),
    ):
        with pytest.raises(InputError) as error:
            ask()
        assert error.value.code is ErrorCode.MODEL_NOT_REPEATABLE
        assert "dice.pt" in str(error.value)


class _Counting(_Network):
    def forward(self, images: Tensor) -> Tensor:
        _PASSES.append(len(images))
        return super().forward(images)


_PASSES: list[int] = []


def test_a_network_is_examined_once_with_four_images() -> None:
    _PASSES.clear()
    network = ScoreNetwork(_Counting(True).eval())
    image = torch.from_numpy(_image())[None]
    examine(network, image)
    assert sum(_PASSES) == 4
    examine(network, image)
    assert sum(_PASSES) == 4
    assert not network.repeatability.notes
    network(image.repeat(3, 1, 1, 1))
    assert _PASSES[-1] == 3


def test_a_count_of_passes_that_changes_no_score_goes_on() -> None:
    class Counted(_Counter):
        def kept(self, features: Tensor) -> Tensor:
            self.passes += 1
            return features

    network = ScoreNetwork(Counted(False).eval())
    image = torch.from_numpy(_image())[None]
    examine(network, image)
    assert network.network.passes == 0
    network(image)
    assert network.network.passes == 1
    assert not network.repeatability.notes


def test_a_cache_is_not_left_in_the_network() -> None:
    class Cached(_Network):
        def kept(self, features: Tensor) -> Tensor:
            if not hasattr(self, "mask"):
                self.mask = torch.ones_like(features[:1])
            return features * self.mask

    network = Cached(False).eval()
    before = pickle.dumps(network.__dict__)
    image = to_image(_image(), np.diag([-1.0, -1, 1, 1]), name="x")
    done = explain(prepare(image, _classifier(network), compute=_CPU), [find_method("occlusion")()])
    assert pickle.dumps(network.__dict__) == before
    assert not done.notes


def test_a_script_that_writes_into_a_buffer_starts_anew_in_each_pass() -> None:
    network, tame = (_Scripted(tame).eval() for tame in (False, True))
    tame.load_state_dict(network.state_dict())
    script = torch.jit.script(network)
    image = to_image(_image(), np.diag([-1.0, -1, 1, 1]), name="x")
    done, true = (
        explain(prepare(image, _classifier(one), "1", compute=_CPU), [find_method("occlusion")()])
        for one in (script, tame)
    )
    assert np.allclose(done.attributions[0].values, true.attributions[0].values, atol=1e-6)
    assert done.notes
    assert torch.equal(script.centre, network.centre)


class _Scripted(nn.Module):
    def __init__(self, tame: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.tame = tame
        self.a, self.h = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 3)
        self.register_buffer("centre", torch.zeros(6, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.a(images))
        centre = self.centre.clone()
        if not self.tame:
            self.centre.mul_(0.9).add_(0.1 * features.mean((0, 2, 3)).view(6, 1, 1))
        return self.h(torch.relu(features - centre).mean((2, 3)))


def test_training_sees_the_network_as_it_is() -> None:
    network = ScoreNetwork(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(256, 2)))
    before = network.network[0].running_mean.clone()
    network(torch.from_numpy(_image())[None] + 5)
    assert not torch.equal(network.network[0].running_mean, before)
