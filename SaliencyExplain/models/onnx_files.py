"""Networks in ONNX files, converted to PyTorch by the library onnx2torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from SaliencyExplain.confinement import unconfined
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.file_kinds import some
from SaliencyExplain.models.programs import ExportedNetwork
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.torchvision_operators import with_torchvision

_MOST_NODES = 20_000
#: Domains of the standard's own operators.
_STANDARD = ("", "ai.onnx")
#: ``TensorProto.FLOAT`` and ``TensorProto.EXTERNAL`` of the format.
_FLOAT = 1
EXTERNAL = 1
#: onnx2torch knows the operators of this version, and only few operators that later versions
#: changed.
_LAST_OPSET = 17
#: Operators to which later versions only added types of numbers, or attributes and inputs that are
#: checked.
_MORE_TYPES = frozenset(
    {
        *("Reshape", "Shape", "Size", "Identity", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
        *("Constant", "ConstantOfShape", "Cast", "Equal", "Dropout", "Pad", "Resize"),
        *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
        *(
            "InstanceNormalization",
            "Elu",
            "Selu",
            "Softplus",
            "Softsign",
            "HardSigmoid",
            "HardSwish",
        ),
    }
)
#: Their new attributes that change nothing: of casts to float8, and steps of 1 within a window.
_WITHOUT_EFFECT = frozenset({"saturate", "dilations"})
#: Operators whose axes became an input.
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"}
)


def load_onnx(content: bytes, name: str) -> nn.Module:
    """The network of an ONNX file, as layers of PyTorch, so that gradients pass through it.

    The file has no code, and its names are not used: nodes and values are renumbered, since
    onnx2torch and torch.fx write their names into Python code.

    Args:
        content: The file's bytes.
        name: The file's name, for messages.

    Returns:
        The network in eval mode. Where the file was exported for batches of a fixed size, others
        go through it in parts.

    Raises:
        ClassifierError: A package is missing, the file is damaged, keeps weights in other files,
            has several inputs, or has operators that are not converted; they are named.
    """
    onnx, onnx2torch = libraries(name)
    model = read_model(onnx, content, name)
    try:
        _check(model, name)
        _fold_constants(model.graph, name)
        batch = _batch(model.graph, name)
        _check_operators(model, onnx, name)
        _number(model.graph)
        network = onnx2torch.convert(model)
    except ClassifierError:
        raise
    except Exception as error:
        # A damaged file may raise any exception.
        lines = str(error).splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"{name} cannot be converted to PyTorch: {shown(lines[0])[1:-1]}.",
        ) from error
    return ExportedNetwork(network.eval(), batch)


def read_model(onnx: Any, content: bytes, name: str) -> Any:
    """The parsed file; weights in other files are not read.

    Raises:
        ClassifierError: It is damaged.
    """
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} is an ONNX file that is cut off or damaged. Export or download it again.",
        ) from error


def libraries(name: str) -> tuple[Any, Any]:
    """The packages onnx and onnx2torch.

    Raises:
        ClassifierError: One of them is not installed.
    """
    try:
        # The packages are the program's own; torchvision makes folders when it is imported.
        with unconfined():
            return (
                importlib.import_module("onnx"),
                with_torchvision(lambda: importlib.import_module("onnx2torch")),
            )
    except ImportError as error:
        raise ClassifierError(
            ErrorCode.PACKAGE_MISSING,
            f"{name} is an ONNX file, which needs the packages onnx and onnx2torch: "
            "pip install 'saliency-explain[onnx]'.",
        ) from error


def _check(model: Any, name: str) -> None:
    """Refuses unsupported content before any of it is used."""
    graph = model.graph
    if len(graph.node) > _MOST_NODES:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED, f"{name} is refused: it has more than {_MOST_NODES} nodes."
        )
    if any(tensor.data_location == EXTERNAL for tensor in tensors(graph)):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{name} keeps its weights in another file, which is not supported in a bundle: make "
            "the bundle from the exported file, with the file of its weights in the same folder.",
        )
    nested = sorted(
        {node.op_type for node in graph.node for one in node.attribute if one.g.node or one.graphs}
    )
    if nested or model.functions or graph.sparse_initializer:
        what = some([shown(one)[1:-1] for one in nested]) or "functions or sparse weights"
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT, f"{name} contains {what}, which cannot be converted."
        )


def tensors(graph: Any) -> Iterator[Any]:
    """All tensors of a graph: its weights, and those of its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _fold_constants(graph: Any, name: str) -> None:
    """Makes weights of nodes that hold or repeat one.

    Newer exporters let several layers share a bias by nodes of the kind ``Identity``, for which
    onnx2torch finds no weights.
    """
    weights = {tensor.name for tensor in graph.initializer}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        inputs = [same.get(one, one) for one in node.input]
        del node.input[:]
        node.input.extend(inputs)
        repeats = node.op_type == "Identity" and len(inputs) == 1 and inputs[0] in weights
        values = [one.t for one in node.attribute if one.name == "value"]
        constant = node.op_type == "Constant" and len(values) == 1
        if node.domain not in _STANDARD or len(node.output) != 1 or not (repeats or constant):
            kept.append(node)
        elif repeats:
            same[node.output[0]] = inputs[0]
        else:
            tensor = graph.initializer.add()
            tensor.CopyFrom(values[0])
            tensor.name = node.output[0]
            weights.add(tensor.name)
    if any(one.name in same or one.name in weights for one in graph.output):
        raise ClassifierError(
            ErrorCode.MODEL_OUTPUT, f"{name} has an output that does not depend on the image."
        )
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)


def _batch(graph: Any, name: str) -> int | None:
    """How many images the file's one input takes at a time; None: any number."""
    weights = {tensor.name for tensor in graph.initializer}
    images = [one for one in graph.input if one.name not in weights]
    if len(images) != 1:
        raise ClassifierError(
            ErrorCode.MODEL_INPUT,
            f"{name} has {len(images)} inputs ({some([shown(one.name)[1:-1] for one in images])})"
            ". Only networks with one input, the image, are supported.",
        )
    kind = images[0].type.tensor_type
    if kind.elem_type != _FLOAT:
        raise ClassifierError(
            ErrorCode.MODEL_INPUT, f"The input of {name} is not of the type float32."
        )
    first = kind.shape.dim[0].dim_value if kind.shape.dim else 0
    return first if first > 0 else None


def _check_operators(model: Any, onnx: Any, name: str) -> None:
    """Refuses operators that are not converted, by their names.

    A file of a later opset is written as one of the last opset that onnx2torch knows all of.
    """
    registry = importlib.import_module("onnx2torch.node_converters.registry")
    version = _opset(model)
    lacking = set()
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape":
            _without_zeros(node, weights, onnx, name)
    if version > _LAST_OPSET:
        for node in model.graph.node:
            if not _lowered(node, version, weights, onnx):
                lacking.add(node.op_type)
    for node in model.graph.node:
        if node.domain not in _STANDARD:
            lacking.add(node.op_type)
            continue
        try:
            registry.get_converter(node.op_type, min(version, _LAST_OPSET))
        except NotImplementedError:
            lacking.add(node.op_type)
    if lacking:
        named = some(sorted(shown(one)[1:-1] for one in lacking))
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"{name} has operators that cannot be converted to PyTorch ({named}; opset "
            f"{version}): use the PyTorch network that it was exported from, or export it "
            "with another opset.",
        )
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", min(version, _LAST_OPSET)))


def _lowered(node: Any, version: int, weights: dict[str, Any], onnx: Any) -> bool:
    """Writes one node as in the last opset that is known; False where that cannot be done."""
    if node.domain not in _STANDARD:
        return False
    try:
        now = onnx.defs.get_schema(node.op_type, version, "")
        then = onnx.defs.get_schema(node.op_type, _LAST_OPSET, "")
    except onnx.defs.SchemaError:
        return False
    if now.since_version == then.since_version:
        return True
    attributes = {one.name: one for one in node.attribute}
    if node.op_type in _REDUCTIONS:
        noop = attributes.pop("noop_with_empty_axes", None)
        if len(node.input) > 2 or (noop is not None and noop.i):
            return False
        if noop is not None:
            node.attribute.remove(noop)
        if len(node.input) == 2 and node.input[1]:
            if node.input[1] not in weights:
                return False
            axes = onnx.numpy_helper.to_array(weights[node.input[1]]).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", [int(one) for one in axes]))
        del node.input[1:]
        return True
    if node.op_type not in _MORE_TYPES or len(node.input) > len(then.inputs):
        return False
    new = [one for name, one in attributes.items() if name not in then.attributes]
    if not all(one.name in _WITHOUT_EFFECT and set(one.ints) <= {1} for one in new):
        return False
    for one in new:
        node.attribute.remove(one)
    return True


def _without_zeros(node: Any, weights: dict[str, Any], onnx: Any, name: str) -> None:
    """Takes off that a zero in a new shape is a size, where there is none: no image is empty."""
    zeros = [one for one in node.attribute if one.name == "allowzero" and one.i]
    if not zeros:
        return
    shape = weights.get(node.input[1]) if len(node.input) > 1 else None
    if shape is not None and 0 in onnx.numpy_helper.to_array(shape):
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"{name} has an empty tensor (Reshape to 0), which cannot be converted.",
        )
    node.attribute.remove(zeros[0])


def _opset(model: Any) -> int:
    versions = {one.domain: one.version for one in model.opset_import}
    return int(versions.get("", versions.get("ai.onnx", 1)))


def _number(graph: Any) -> None:
    """Renumbers nodes and values."""
    numbers: dict[str, str] = {"": ""}

    def renamed(value: str) -> str:
        return numbers.setdefault(value, f"value_{len(numbers)}")

    for one in (*graph.input, *graph.output, *graph.initializer):
        one.name = renamed(one.name)
    for number, node in enumerate(graph.node):
        node.domain = ""
        node.name = f"node_{number}"
        for values in (node.input, node.output):
            found = [renamed(value) for value in values]
            del values[:]
            values.extend(found)
    del graph.value_info[:]
    del graph.quantization_annotation[:]
