from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from monai.visualize import SmoothGrad as MonaiSmoothGrad
from monai.visualize import VanillaGrad

from SaliencyExplain.attribution.methods.gradient import Gradient, SmoothGrad, noise_like
from SaliencyExplain.attribution.network.score_network import ScoreNetwork


def image_for(name, dims):
    """The smallest that the network takes: DenseNet121 halves it five times."""
    return torch.randn(1, 1, *((36, 33, 34) if name == "densenet" else (20, 17, 18))[:dims])


def make(name, dims):
    if name == "densenet":
        return DenseNet121(spatial_dims=dims, in_channels=1, out_channels=3).eval()
    return resnet18(spatial_dims=dims, n_input_channels=1, num_classes=3).eval()


@pytest.fixture
def known_noise(monkeypatch):
    """Makes MONAI draw the noise that ours draws for the same seed."""

    def install(seed):
        drawn = iter(range(1000))

        def normal(mean, deviation, size, **_):
            return noise_like(torch.empty(size), seed, next(drawn)) * deviation + mean

        monkeypatch.setattr(torch, "normal", normal)

    return install


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 5, 6), (2, 4, 5, 6)])
def test_gradient_of_a_linear_network_is_its_weights(task, linear, shape):
    weights = torch.randn(shape)
    job = task(linear(weights), torch.randn(1, *shape))
    torch.testing.assert_close(Gradient().raw(job), weights)
    torch.testing.assert_close(Gradient().attribute(job)[""], weights.abs().amax(0))
    torch.testing.assert_close(Gradient(channels="sum").attribute(job)[""], weights.abs().sum(0))


def test_smoothgrad_of_a_linear_network_is_its_gradient_whatever_the_noise(task, linear):
    weights = torch.randn(2, 5, 6)
    job = task(linear(weights), torch.randn(1, 2, 5, 6))
    torch.testing.assert_close(SmoothGrad(samples=3, squared=False).raw(job), weights)
    torch.testing.assert_close(SmoothGrad(samples=3, squared=True).raw(job), weights.abs())


def test_one_logit_gives_both_classes_opposite_gradients(task):
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    network = ScoreNetwork(body, one_logit=True)
    image = torch.randn(1, 1, 3, 4)
    yes, no = (Gradient().raw(task(network, image, target)) for target in (1, 0))
    torch.testing.assert_close(yes, body[1].weight.detach().reshape(1, 3, 4))
    torch.testing.assert_close(yes, -no)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["densenet", "resnet"])
def test_gradient_equals_monai(task, name, dims):
    network, image = make(name, dims), torch.randn(1, 1, *(40, 33, 36)[:dims])
    theirs = VanillaGrad(network)(image.clone(), index=1)[0]
    ours = Gradient().raw(task(network, image))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dims"), [("densenet", 2), ("resnet", 2), ("resnet", 3)])
@pytest.mark.parametrize("squared", [True, False])
def test_smoothgrad_equals_monai_with_the_same_noise(task, known_noise, name, dims, squared):
    network, image = make(name, dims), image_for(name, dims)
    known_noise(seed=7)
    theirs = MonaiSmoothGrad(
        network, stdev_spread=0.1, n_samples=2, magnitude=squared, verbose=False
    )(image.clone(), index=1)[0]
    if squared:
        # MONAI takes the root of the sum and then divides by n: its scale falls with n.
        theirs = theirs * 2**0.5
    # One by one as MONAI: another batch size is another convolution algorithm, and where a ReLU's
    # input is within rounding of 0 the gradient jumps.
    job = task(network, image, seed=7, batch_size=1)
    ours = SmoothGrad(samples=2, noise=0.1, squared=squared).raw(job)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_same_seed_same_map_whatever_the_batches(task):
    network, image = make("resnet", 2), torch.randn(1, 1, 32, 32)
    method = SmoothGrad(samples=5)
    once, again, chosen = (
        method.attribute(task(network, image, seed=3, batch_size=size))[""] for size in (2, 2, None)
    )
    other = method.attribute(task(network, image, seed=4))[""]
    assert torch.equal(once, again)
    torch.testing.assert_close(once, chosen, rtol=1e-4, atol=1e-6 * float(once.max()))
    assert not torch.allclose(once, other, rtol=1e-2)


def test_noise_is_a_share_of_the_value_range(task, monkeypatch):
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, images):
            seen.append(images.detach().clone())
            return images.flatten(1)[:, :2]

    image = torch.zeros(1, 1, 50, 50)
    image[..., 0, 0] = 40.0
    SmoothGrad(samples=8, noise=0.2).attribute(task(Watch(), image))
    spread = torch.cat(seen) - image
    assert len(spread) == 8
    assert float(spread.std()) == pytest.approx(0.2 * 40, rel=0.02)


def test_target_stays_fixed_on_noisy_copies(task, linear):
    # The noise changes the predicted class in half of the copies; the gradient must not.
    weights = torch.ones(1, 4, 4)
    job = task(linear(weights), torch.zeros(1, 1, 4, 4).index_fill(3, torch.tensor([0]), 1e-3))
    torch.testing.assert_close(SmoothGrad(samples=6, noise=5.0, squared=False).raw(job), weights)


def test_caller_in_no_grad_changes_nothing(task, linear):
    weights = torch.randn(1, 4, 4)
    with torch.no_grad():
        raw = Gradient().raw(task(linear(weights), torch.randn(1, 1, 4, 4)))
    torch.testing.assert_close(raw, weights)
