"""Methods that need backgrounds say so before anything is computed."""

from __future__ import annotations

import pytest
import torch

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("expected-gradients", {}),
        ("deepshap", {}),
        *(
            (name, {"baseline": "backgrounds"})
            for name in (
                "integrated-gradients",
                "guided-ig",
                "smoothgrad-ig",
                "smoothgrad-ig-squared",
                "deeplift",
            )
        ),
    ],
)
def test_the_refusal_comes_with_the_cost(task, convolutional, name, settings):
    job = task(convolutional(2), torch.randn(1, 1, 12, 10))
    with error_with(ErrorCode.BACKGROUNDS, name, "--background"):
        find_method(name)(**settings).forward_passes(job)
