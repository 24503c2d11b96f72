"""Beginning with weights of a network that has learnt something else."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.weights import read_weights, unwrapped
from SaliencyExplain.plain_text import some_of


def begin_with(network: nn.Module, path: Path) -> str:
    """Loads the weights that fit by name and shape.

    Args:
        network: Whose weights are set.
        path: The weight file.

    Returns:
        What fitted and what did not, in words.

    Raises:
        InputError: The file cannot be read.
        ClassifierError: It holds no weights, or none of them fit.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
        ) from error
    expected = network.state_dict()
    given = unwrapped(read_weights(content, path.name), expected)
    fitting = {
        name: value
        for name, value in given.items()
        if name in expected and value.shape == expected[name].shape
    }
    if not fitting:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{path.name}: none of its weights fit the network {type(network).__name__}. Give the "
            "weights of this network.",
        )
    network.load_state_dict(fitting, strict=False)
    rest = [name for name in expected if name not in fitting]
    random = f"; random initial values: {some_of(rest, 4)}"
    return (
        f"{len(fitting)} of {len(expected)} tensors are initialised from {path.name}"
        f"{random if rest else ''}."
    )
