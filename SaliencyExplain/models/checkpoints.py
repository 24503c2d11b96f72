"""The content of a checkpoint, and which part of it is the weights of a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from SaliencyExplain.errors import ClassifierError, ErrorCode, unknown_name
from SaliencyExplain.models.file_kinds import some
from SaliencyExplain.models.pickle_stand_ins import Inert, RefusedError
from SaliencyExplain.models.saved_content import Group, groups_of, is_other_tensor, kind_of
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.torch_files import SAVE_ALONE

_Value = TypeVar("_Value")
#: Under these keys training scripts and MONAI's CheckpointSaver keep the state dict.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights"),
    *("net_state_dict", "network_weights", "network_state_dict", "module", "params"),
)
#: Prefixes of names of weights that are an average over the training.
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|avg|shadow)([._]|$)", re.IGNORECASE)
#: Dots in a name before which a prefix may end.
_LONGEST_PREFIX = 16
#: Bytes that a tensor may claim by repeating its values.
_CLAIMED_FREE = 1024**3
#: BatchNorm's step counter came with torch 0.4.1; evaluation does not need it.
_NOT_NEEDED = "num_batches_tracked"
#: Tensors of losses and metrics, which do not affect a network's scores.
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
        groups: The dictionaries in the file that hold tensors, by the keys that lead to them with
            dots between; "" is the file's own.
        notes: Notes for the user on a choice by --state-key or --strip-prefix.
    """

    name: str
    groups: dict[str, Group]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """Weights under the network's own names.

    Attributes:
        state: Parameters and buffers by name.
        notes: Notes for the user: the prefix that was removed from the names, and what was left
            out.
    """

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def checkpoint_of(content: Any, name: str) -> Checkpoint:
    """The tensors in what a weight file holds.

    Args:
        content: See :func:`~SaliencyExplain.models.saved_content.groups_of`.
        name: The file's name, for messages.

    Raises:
        ClassifierError: There are none, or one of them is not a plain tensor.
    """
    try:
        groups = groups_of(content)
    except (RefusedError, RuntimeError) as error:
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} is damaged: {shown(str(error))[1:-1]}. Download or copy it again.",
        ) from error
    if not groups:
        if isinstance(content, Inert):
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                f"{name} is refused: it is a pickle of {kind_of(content)} and not only weights; "
                f"reading it would run code. {SAVE_ALONE} With --trust its code is run.",
            )
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} holds no state dict of a network but {_instead(content)}. {SAVE_ALONE}",
        )
    for group in groups.values():
        for key, tensor in group.tensors.items():
            check_tensor(key, tensor, name)
    return Checkpoint(name, groups)


def _instead(content: Any) -> str:
    """A description of the content of a file without tensors."""
    if not isinstance(content, Mapping):
        return kind_of(content)
    keys = [
        f"{shown(key)[1:-1]} ({kind_of(value)})" if isinstance(value, Inert) else shown(key)[1:-1]
        for key, value in content.items()
    ]
    return f"a dictionary with {some(keys) or 'no entries'}"


def select(checkpoint: Checkpoint, state_key: str | None, prefix: str | None) -> Checkpoint:
    """The weights that a user selected from a file.

    Args:
        checkpoint: The file's tensors.
        state_key: The key of the weights, nested keys joined by dots; None: any.
        prefix: The prefix to be removed from the names of the weights; None: found automatically.

    Raises:
        InputError: The file has no such key, or no tensor whose name begins so.
    """
    groups = checkpoint.groups
    if state_key is not None:
        inner = f"{state_key}."
        groups = {
            path: group
            for path, group in groups.items()
            if path == state_key or path.startswith(inner)
        }
        if not groups:
            known = [shown(path)[1:-1] for path in checkpoint.groups if path]
            raise unknown_name(f"key with weights in {checkpoint.name}", state_key, known)
    if prefix is None:
        return Checkpoint(checkpoint.name, groups)
    names = [key for group in groups.values() for key in group.tensors]
    if not prefix.endswith(".") and any(key.startswith(f"{prefix}.") for key in names):
        prefix = f"{prefix}."
    found = {
        path: Group(_under(prefix, group.tensors), _under(prefix, group.others), group.network)
        for path, group in groups.items()
    }
    found = {path: group for path, group in found.items() if group.tensors}
    if not found:
        starts = sorted({shown(key.partition(".")[0])[1:-1] + "." for key in names if "." in key})
        raise unknown_name(f"beginning of a weight's name in {checkpoint.name}", prefix, starts)
    left = [key for path in found for key in groups[path].tensors if not key.startswith(prefix)]
    starts = sorted({shown(key.partition(".")[0])[1:-1] for key in left})
    note = (
        f"In {checkpoint.name} only the tensors whose names begin with {shown(prefix)} are read. "
        f"Left out: {len(left)}, under {some(starts)}."
    )
    return Checkpoint(checkpoint.name, found, (note,) if left else ())


def check_tensor(key: str, tensor: Tensor, name: str) -> None:
    """Refuses a tensor that is not dense, or not entirely in memory.

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
    """Finds the weights of a network whatever the prefix of their names.

    They are found where one prefix, such as Lightning's ``model.``, gives every parameter and
    buffer of the network with its shape.

    Args:
        checkpoint: The file's tensors.
        expected: The network's own parameters and buffers by name.

    Returns:
        The weights; None where no prefix gives all of them.

    Raises:
        ClassifierError: Different weights fit, or further tensors may affect the network's scores.
    """
    found = [
        (path, prefix)
        for path, group in checkpoint.groups.items()
        for prefix in _complete(group.tensors, expected)
    ]
    if not found:
        return None
    chosen, others = _choose(checkpoint, found, expected)
    path, prefix = chosen
    group = checkpoint.groups[path].tensors
    _check_others(checkpoint.groups[path].others, prefix, checkpoint.name)
    state = {key: group[prefix + key] for key in expected if prefix + key in group}
    # Copies of these weights and further sets of weights, which the notes name.
    sets = {start + key for one, start in found if one == path for key in state}
    rest = [key for key in group if key not in sets]
    notes = [note.removesuffix(".") for note in checkpoint.notes]
    network = checkpoint.groups[path].network
    if network:
        notes.append(
            f"{checkpoint.name} holds a whole network of the class {shown(network)[1:-1]}: its "
            "parameters and buffers were taken, and none of its code was run"
        )
    if path and not set(path.split(".")) <= set(_WRAPPERS):
        notes.append(f"The weights in {checkpoint.name} are those under {shown(path)}")
    if prefix:
        before = shown(prefix)
        notes.append(f"The weights in {checkpoint.name} are those whose names begin with {before}")
    if rest:
        harmless = [key for key in rest if takes_no_part(key, group[key], prefix)]
        if len(harmless) < len(rest):
            apart = [shown(key)[1:-1] for key in rest if key not in harmless]
            where = f" beside those that begin with {shown(prefix)}" if prefix else ""
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"The weights in {checkpoint.name} do not fit the network: all {len(state)} of "
                f"its tensors are there, and{where} {len(apart)} not in the network "
                f"({some(apart)}), which may change its scores. Choose the network that has them. "
                "If they do not belong to it, give --strip-prefix: names without the prefix are "
                "left out.",
            )
        names = some([shown(key)[1:-1] for key in rest])
        notes.append(
            f"{checkpoint.name} has {len(rest)} tensor{'' if len(rest) == 1 else 's'} that the "
            f"network does not have: {names}"
        )
    if others:
        names = some([shown(".".join(filter(None, place)))[1:-1] for place in others])
        notes.append(
            f"{checkpoint.name} holds further weights of this network that are not used "
            f"(--state-key and --strip-prefix choose): {names}"
        )
    return Fitted(state, tuple(f"{note}." for note in notes))


@dataclass(frozen=True)
class Nearest:
    """The tensors of a file that have most of a network's names.

    Attributes:
        path: Keys that lead to them.
        prefix: What stands before the network's names.
        tensors: Those with the prefix, by name without it.
        others: Objects among them that are not dense tensors, by name without the prefix.
    """

    path: str
    prefix: str
    tensors: dict[str, Tensor]
    others: dict[str, str]


def nearest(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> Nearest:
    """The tensors that have most of a network's names, where not all are there."""
    best = (max(checkpoint.groups, key=lambda path: len(checkpoint.groups[path].tensors)), "")
    most = 0
    for path, group in checkpoint.groups.items():
        for prefix, count in _prefixes(group.tensors, expected).items():
            if count > most:
                most, best = count, (path, prefix)
    path, prefix = best
    group = checkpoint.groups[path]
    return Nearest(path, prefix, _under(prefix, group.tensors), _under(prefix, group.others))


def _under(prefix: str, named: Mapping[str, _Value]) -> dict[str, _Value]:
    return {
        key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)
    }


def _check_others(others: Mapping[str, str], prefix: str, name: str) -> None:
    """Refuses tensors of other kinds beside those of a network."""
    for key, what in others.items():
        if key.startswith(prefix) and is_other_tensor(what):
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{name} holds {what} ({shown(key)}); only plain tensors are read.",
            )


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
    """The set of weights to use out of several, and those that hold other values."""

    def values(place: tuple[str, str]) -> list[Tensor]:
        path, prefix = place
        group = checkpoint.groups[path].tensors
        return [group[prefix + key] for key in expected if prefix + key in group]

    named = [place for place in found if set(_parts(place[0])) <= set(_WRAPPERS)] or found
    # A dictionary of weights in the file stands before tensors beside it, and the weights
    # themselves before an average of them.
    named = [place for place in named if place[0]] or named
    named = [place for place in named if not _AVERAGED.search(place[1])] or named
    first = next((place for place in named if not place[1]), named[0])
    others = [
        place for place in found if place != first and not _same(values(first), values(place))
    ]
    if any(place in named for place in others):
        where = [".".join(part for part in (path, prefix) if part) for path, prefix in named]
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{checkpoint.name} holds {len(named)} different sets of weights that fit the network "
            f"({some([shown(one)[1:-1] or 'no prefix' for one in where])}): choose one with "
            "--state-key or --strip-prefix, or save only the right one.",
        )
    return first, others


def _parts(dotted: str) -> list[str]:
    return [part for part in dotted.split(".") if part]


def _same(some_values: list[Tensor], others: list[Tensor]) -> bool:
    return len(some_values) == len(others) and all(
        torch.equal(one, other) for one, other in zip(some_values, others, strict=True)
    )


def takes_no_part(key: str, tensor: Tensor, prefix: str) -> bool:
    """Whether a tensor that the network does not have cannot affect its scores."""
    if prefix and key.startswith(prefix):
        inner = key[len(prefix) :]
        return bool(_NO_PART.search(inner) or _MADE_ANEW.search(inner))
    if _NO_PART.search(key) or _MADE_ANEW.search(key):
        return True
    return tensor.numel() == 1 and not _TAKES_PART.search(key)
