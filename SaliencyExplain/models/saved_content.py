"""The dictionaries of tensors in a weight file, at any depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from SaliencyExplain.models.pickle_stand_ins import Inert, RefusedError, StoredTensor

#: How many dictionaries deep the weights may lie.
_DEEPEST = 4
#: How deep the layers of a network may lie, and how many there may be.
_DEEPEST_LAYER = 64
_MOST_LAYERS = 20_000
#: Tensors of other kinds than the plain ones, by the function that makes them.
_OTHER_KINDS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor of the device meta, without values",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch.nested._internal.nested_tensor._rebuild_njt": "a nested tensor",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another kind of device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another kind of device",
}
_ARRAYS = (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
)


@dataclass
class Group:
    """One dictionary of a file.

    Attributes:
        tensors: Its tensors by name.
        others: Objects in it that are not dense tensors, by name, in words.
        network: Dotted name of the network's class, where it is a whole network that was pickled
            and its parameters and buffers were taken; else "".
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    network: str = ""


def groups_of(content: Any) -> dict[str, Group]:
    """The dictionaries in a file that hold tensors.

    Args:
        content: What :func:`~SaliencyExplain.models.torch_files.read_torch_file` or
            ``torch.load`` gave.

    Returns:
        By the keys that lead to them with dots between; "" is the file's own.

    Raises:
        RefusedError: A tensor reaches beyond its values, or a network is nested too deeply.
    """
    return {path: group for path, group in _groups(content, "", 0, set()) if group.tensors}


def kind_of(value: Any) -> str:
    """A description of an object that is not a tensor."""
    if isinstance(value, StoredTensor):
        return "a Tensor"
    if not isinstance(value, Inert):
        return f"a {type(value).__name__}"
    if value.path in _OTHER_KINDS:
        return _OTHER_KINDS[value.path]
    if value.path in _ARRAYS:
        return "a NumPy array"
    if value.path.startswith("a tensor"):
        return value.path
    return f"an object of the class {ascii(value.path)[1:-1][:100]}"


def is_other_tensor(words: str) -> bool:
    """Whether an object is a tensor of another kind than the plain ones."""
    return "tensor" in words.split(" of the class ")[0]


def _groups(content: Any, path: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Group]]:
    if depth > _DEEPEST or id(content) in seen:
        return
    seen.add(id(content))
    if _is_network(content):
        yield path, _network(content)
        return
    entries = _entries(content)
    if entries is None:
        return
    group = Group()
    for key, value in entries.items():
        _put(group, str(key), value)
    yield path, group
    for key, value in entries.items():
        if not isinstance(value, (Tensor, StoredTensor)):
            yield from _groups(value, f"{path}.{key}" if path else str(key), depth + 1, seen)


def _entries(content: Any) -> Mapping[Any, Any] | None:
    """The entries of a dictionary or a similar class; None: not a dictionary."""
    if isinstance(content, Inert):
        return content.entries or None
    return content if isinstance(content, Mapping) else None


def _put(group: Group, key: str, value: Any) -> None:
    if isinstance(value, Tensor):
        group.tensors[key] = value
    elif isinstance(value, StoredTensor):
        group.tensors[key] = value.tensor()
    elif isinstance(value, Inert) and not _entries(value) and not _is_network(value):
        group.others[key] = kind_of(value)


def _is_network(content: Any) -> bool:
    if isinstance(content, Inert):
        state = content.state
        return isinstance(state, Mapping) and {"_parameters", "_buffers", "_modules"} <= set(state)
    return isinstance(content, nn.Module)


def _network(content: Any) -> Group:
    """The parameters and buffers of a whole network, as its ``state_dict()`` has them."""
    if isinstance(content, nn.Module):
        kind = type(content)
        return Group(dict(content.state_dict()), network=f"{kind.__module__}.{kind.__qualname__}")
    group = Group(network=content.path)
    waiting = [("", content)]
    seen = 0
    while waiting:
        prefix, module = waiting.pop()
        seen += 1
        if seen > _MOST_LAYERS or prefix.count(".") > _DEEPEST_LAYER:
            raise RefusedError("its network has too many layers, or is nested too deeply")
        if not _is_network(module):
            if module is not None:
                group.others[prefix.removesuffix(".")] = kind_of(module)
            continue
        unsaved = _listed(module.state.get("_non_persistent_buffers_set"))
        for part in ("_parameters", "_buffers"):
            held = module.state[part]
            for key, value in held.items() if isinstance(held, Mapping) else ():
                if value is not None and not (part == "_buffers" and key in unsaved):
                    _put(group, f"{prefix}{key}", value)
        inner = module.state["_modules"]
        waiting += [
            (f"{prefix}{key}.", value)
            for key, value in (inner.items() if isinstance(inner, Mapping) else ())
        ]
    return group


def _listed(names: Any) -> list[Any]:
    """The names in a set, which a pickle makes of a list."""
    if isinstance(names, Inert) and names.arguments and isinstance(names.arguments[0], list):
        return names.arguments[0]
    return list(names) if isinstance(names, (set, frozenset)) else []
