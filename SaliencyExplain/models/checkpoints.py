"""What lies in a checkpoint, and which of it are the weights of a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.file_kinds import some
from SaliencyExplain.models.targets import shown

#: Under these keys training scripts and MONAI's CheckpointSaver keep the state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights", "module")
#: How many dictionaries deep the weights may lie.
_DEEPEST = 4
#: Dots in a name before which a prefix may end.
_LONGEST_PREFIX = 16
#: Bytes that a tensor may claim by repeating its values.
_CLAIMED_FREE = 1024**3
#: BatchNorm's step counter came with torch 0.4.1; evaluation does not need it.
_NOT_NEEDED = "num_batches_tracked"
#: Tensors of losses and metrics, which take no part in what a network says of an image.
_NO_PART = re.compile(
    r"(^|[._])(criterion\w*|loss\w*|losses|metric\w*|acc\d*|accuracy|auc|auroc|auprc|ap|f1|f1score|"
    r"precision|recall|specificity|sensitivity|kappa|mcc|dice|iou|confmat|confusion_?matrix|"
    r"pos_weight|class_weights?|optimizer\w*|scheduler\w*|scaler)([._]|$)",
    re.IGNORECASE,
)
#: Tables that a network computes from its sizes; older versions of timm and others saved them.
_MADE_ANEW = re.compile(
    r"(^|\.)(relative_position_index|relative_coords_table|attn_mask|position_ids|"
    r"num_batches_tracked)$"
)
#: Single numbers that change the scores, by the last part of their name.
_TAKES_PART = re.compile(
    r"(mean|std|scale|temperature|shift|offset|bias|weight|alpha|beta|gamma|threshold)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a weight file.

    Attributes:
        name: The file's name, for messages.
        groups: ``{path: {key: tensor}}`` for each dictionary in the file that holds tensors, the
            path being the keys that lead to it with dots between them; "" is the file's own.
    """

    name: str
    groups: dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Fitted:
    """Weights under the names that a network has for them.

    Attributes:
        state: Parameters and buffers by name.
        notes: What a user must be told: what was taken off the names, what was left out.
    """

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def checkpoint_of(content: Any, name: str) -> Checkpoint:
    """The tensors in what ``torch.load`` gave.

    Raises:
        ClassifierError: There are none, or one of them is not a plain tensor.
    """
    groups = {path: group for path, group in _groups(content, "", 0, set()) if group}
    if not groups:
        found = (
            f"a dictionary with {some([shown(key)[1:-1] for key in content]) or 'nothing in it'}"
            if isinstance(content, Mapping)
            else f"a {type(content).__name__}"
        )
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} holds no state dict of a network but {found}. "
            "Save the weights alone: torch.save(network.state_dict(), …).",
        )
    for group in groups.values():
        for key, tensor in group.items():
            check_tensor(key, tensor, name)
    return Checkpoint(name, groups)


def check_tensor(key: str, tensor: Tensor, name: str) -> None:
    """Refuses a tensor that is no plain one with all of its values in the memory.

    Raises:
        ClassifierError: It is sparse, quantised, nested, on no device, or claims more values
            than it has.
    """
    if tensor.is_quantized:
        what = "a quantised tensor"
    elif tensor.is_nested:
        what = "a nested tensor"
    elif tensor.layout is not torch.strided:
        what = "a sparse tensor"
    elif tensor.device.type == "meta":
        what = "a tensor of the device meta, without values"
    else:
        claimed = tensor.numel() * tensor.element_size()
        held = tensor.untyped_storage().nbytes()
        if claimed <= max(held, _CLAIMED_FREE):
            return
        what = f"a tensor that claims {claimed} bytes and has {held}"
    raise ClassifierError(
        ErrorCode.MODEL_WEIGHTS,
        f"{name} holds {what} ({shown(key)}); only plain tensors are read.",
    )


def fit(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> Fitted | None:
    """Finds the weights of a network under whatever stands before their names.

    They are found where one prefix, such as Lightning's ``model.``, gives every parameter and
    buffer of the network with its shape.

    Args:
        checkpoint: The file's tensors.
        expected: The network's own parameters and buffers by name.

    Returns:
        The weights; None where no prefix gives all of them.

    Raises:
        ClassifierError: Different weights fit, or tensors beside them may take part in the
            network's scores.
    """
    found = [
        (path, prefix)
        for path, group in checkpoint.groups.items()
        for prefix in _complete(group, expected)
    ]
    if not found:
        return None
    chosen, others = _choose(checkpoint, found, expected)
    path, prefix = chosen
    group = checkpoint.groups[path]
    state = {key: group[prefix + key] for key in expected if prefix + key in group}
    copies = {
        copy + key
        for one, copy in found
        if one == path and (one, copy) not in others
        for key in state
    }
    rest = [key for key in group if key not in copies]
    notes = []
    if prefix:
        before = shown(prefix)
        notes.append(f"The weights in {checkpoint.name} are those whose names begin with {before}")
    if rest:
        harmless = [key for key in rest if _takes_no_part(key, group[key], prefix)]
        if len(harmless) < len(rest):
            apart = [shown(key)[1:-1] for key in rest if key not in harmless]
            where = f" beside those that begin with {shown(prefix)}" if prefix else ""
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"The weights in {checkpoint.name} do not fit the network: all "
                f"{len(state)} of its tensors are there, and{where} {len(apart)} not in the "
                f"network ({some(apart)}), which may change its scores. Choose the network that "
                "has them, or save the weights without them.",
            )
        names = some([shown(key)[1:-1] for key in rest])
        notes.append(f"{len(rest)} tensors in {checkpoint.name} are not the network's: {names}")
    if others:
        names = some([shown(".".join(filter(None, place)))[1:-1] for place in others])
        notes.append(
            f"{checkpoint.name} holds further weights of this network that are not used: {names}"
        )
    return Fitted(state, tuple(f"{note}." for note in notes))


def nearest(
    checkpoint: Checkpoint, expected: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    """The tensors that have most of a network's names, and the prefix before these names."""
    best = ("", max(checkpoint.groups.values(), key=len))
    most = 0
    for group in checkpoint.groups.values():
        for prefix, count in _prefixes(group, expected).items():
            if count > most:
                most = count
                inner = {
                    key[len(prefix) :]: value
                    for key, value in group.items()
                    if key.startswith(prefix)
                }
                best = (prefix, inner)
    return best


def _groups(
    content: Any, path: str, depth: int, seen: set[int]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or depth > _DEEPEST or id(content) in seen:
        return
    seen.add(id(content))
    yield path, {str(key): one for key, one in content.items() if isinstance(one, Tensor)}
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _groups(value, f"{path}.{key}" if path else str(key), depth + 1, seen)


def _prefixes(group: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Counter[str]:
    """How many of a network's names stand in a group behind each prefix."""
    found: Counter[str] = Counter()
    for key in group:
        if key in expected:
            found[""] += 1
        place = key.find(".")
        for _ in range(_LONGEST_PREFIX):
            if place < 0:
                break
            if key[place + 1 :] in expected:
                found[key[: place + 1]] += 1
            place = key.find(".", place + 1)
    return found


def _complete(group: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The prefixes under which a group has all that the network has, shapes and all."""
    return [
        prefix
        for prefix in _prefixes(group, expected)
        if all(
            group[prefix + key].shape == value.shape
            if prefix + key in group
            else key.endswith(_NOT_NEEDED)
            for key, value in expected.items()
        )
    ]


def _choose(
    checkpoint: Checkpoint, found: list[tuple[str, str]], expected: Mapping[str, Tensor]
) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    """The one of several that is meant, and those that hold other values."""

    def values(place: tuple[str, str]) -> list[Tensor]:
        path, prefix = place
        group = checkpoint.groups[path]
        return [group[prefix + key] for key in expected if prefix + key in group]

    usual = [place for place in found if not place[0] or set(place[0].split(".")) <= set(_WRAPPERS)]
    named = usual or found
    first = next((place for place in named if not place[1]), named[0])
    others = [
        place for place in found if place != first and not _same(values(first), values(place))
    ]
    if any(place in named for place in others):
        where = [".".join(part for part in (path, prefix) if part) for path, prefix in named]
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{checkpoint.name} holds {len(named)} different sets of weights that fit the network "
            f"({some([shown(one)[1:-1] or 'no prefix' for one in where])}): save the one that is "
            "meant alone.",
        )
    return first, others


def _same(some_values: list[Tensor], others: list[Tensor]) -> bool:
    return len(some_values) == len(others) and all(
        torch.equal(one, other) for one, other in zip(some_values, others, strict=True)
    )


def _takes_no_part(key: str, tensor: Tensor, prefix: str) -> bool:
    """Whether a tensor beside a network's own cannot change what the network says."""
    if prefix and key.startswith(prefix):
        inner = key[len(prefix) :]
        return bool(_NO_PART.search(inner) or _MADE_ANEW.search(inner))
    if _NO_PART.search(key) or _MADE_ANEW.search(key):
        return True
    return tensor.numel() == 1 and not _TAKES_PART.search(key)
