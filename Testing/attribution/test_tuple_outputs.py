"""Feature maps of blocks that return a tuple, as those of transformers do."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.methods.cam import GradCAM

Pair = namedtuple("Pair", ["features", "weights"])
FORMS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda features: (features, None),
    "list": lambda features: [features, None],
    "named tuple": lambda features: Pair(features, None),
}


class Block(nn.Module):
    """A residual convolution; its sum is no layer's output but the block's own."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(images + self.convolution(images).sigmoid())


class Network(nn.Module):
    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.block = Block(form)
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        found = self.block(self.stem(images))
        features = found if isinstance(found, Tensor) else found[0]
        return self.head(features.mean((2, 3)))


@pytest.mark.parametrize("form", FORMS)
def test_the_map_is_that_of_the_plain_tensor(task, form) -> None:
    image = torch.rand(1, 1, 16, 12, generator=torch.Generator().manual_seed(1))
    (expected,) = GradCAM().attribute(task(Network(lambda features: features), image)).values()
    job = task(Network(FORMS[form]), image)
    # The second time the tensor is looked for where it was found the first time.
    for _ in range(2):
        (found,) = GradCAM().attribute(job).values()
        assert torch.equal(found, expected)
    assert expected.std() > 0
