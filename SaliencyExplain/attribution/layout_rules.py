"""What each function of torch does to the layout of its tensors."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from SaliencyExplain.attribution.layout import Axis, Layout, channels


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Activation functions: what is behind them is rectified, about 0 where a feature is absent.
RECTIFIERS = words(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish softplus threshold"
)
#: Position by position: an output at a place depends on the inputs at that place only.
_POINTWISE = RECTIFIERS | words(
    "hardsigmoid hardtanh sigmoid logsigmoid tanh softsign softshrink hardshrink "
    "tanhshrink exp expm1 log log1p sqrt rsqrt square abs neg pow rpow clamp clip "
    "clamp_min clamp_max sin cos erf sign reciprocal nan_to_num logit add sub mul div "
    "true_divide multiply subtract divide truediv radd rsub rmul rtruediv iadd isub "
    "imul itruediv maximum minimum where lerp addcmul addcdiv masked_fill clone "
    "detach contiguous to type type_as float double half bfloat16 cpu cuda data "
    "requires_grad alias dropout dropout1d dropout2d dropout3d feature_dropout "
    "alpha_dropout feature_alpha_dropout batch_norm channel_shuffle expand expand_as "
    "broadcast_to copy fill zero"
)
#: The same places, but each output depends on several of them.
_NORMALISING = words(
    "softmax log_softmax instance_norm group_norm layer_norm rms_norm local_response_norm normalize"
)
_RESHAPING = words("reshape view flatten unflatten squeeze unsqueeze reshape_as view_as ravel")
_PERMUTING = words("permute transpose swapaxes swapdims movedim moveaxis t T mT H adjoint")
_REDUCING = words(
    "mean sum nanmean nansum amax amin max min logsumexp std var prod norm std_mean "
    "var_mean median all any argmax argmin vector_norm"
)
#: Take a part of the positions.
TAKING = words("getitem select narrow unbind split split_with_sizes chunk")
_DIVIDING = frozenset(["chunk", "split", "split_with_sizes", "tensor_split", "unbind"])

_CONVOLUTION = re.compile(r"conv[123]d|convolution|mkldnn_convolution")
_TRANSPOSED = re.compile(r"conv_transpose[123]d")
_POOLING = re.compile(r"(max|avg|lp)_pool[123]d(_with_indices)?")
_ADAPTIVE = re.compile(r"adaptive_(max|avg)_pool[123]d(_with_indices)?")

#: Functions after which the tensor before serves as well: finer, or the same otherwise laid out.
_THINNING = re.compile(
    rf"({_POOLING.pattern}|{_ADAPTIVE.pattern}|dropout|dropout[123]d|feature_dropout|alpha_dropout|"
    "clone|detach|contiguous|alias|reshape|view|flatten|unflatten|squeeze|unsqueeze|permute|"
    "transpose|movedim|to|float|pad)"
)


@dataclass(frozen=True)
class Call:
    """A function that was called, as far as layouts go.

    Attributes:
        function: Its name without underscores at its ends.
        args: As given.
        kwargs: As given.
        layouts: Gives the layout of a tensor that the image reaches; None where it is not known.
        depends: Whether the image reaches a tensor.
    """

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    layouts: Callable[[Tensor], Layout | None]
    depends: Callable[[Tensor], bool]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument given by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def first(self) -> Layout | None:
        """The layout of the first argument."""
        given = self.argument(0, "input")
        return self.layouts(given) if isinstance(given, Tensor) else None


def is_thinning(function: str) -> bool:
    """Whether it pools, drops, copies or lays out otherwise what it is given."""
    return _THINNING.fullmatch(function) is not None


def is_learnt(function: str) -> bool:
    """Whether it mixes with weights, as convolutions and linear layers do."""
    return is_convolution(function) or function in (
        *("linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "bilinear"),
        *("multi_head_attention_forward", "scaled_dot_product_attention", "lstm", "gru"),
    )


def is_convolution(function: str) -> bool:
    """Whether it is a convolution."""
    return bool(_CONVOLUTION.fullmatch(function) or _TRANSPOSED.fullmatch(function))


def is_local(call: Call) -> bool:
    """Whether each output position depends on the input at that position only."""
    name = call.function
    if name in _POINTWISE | _RESHAPING | _PERMUTING | _DIVIDING or name in (
        *("getitem", "select", "narrow", "cat", "concat", "stack"),
    ):
        return True
    layout = call.first
    if layout is None:
        return False
    last = layout.axes[-1] if layout.axes else Axis()
    if name == "linear":
        return not (last.carries_space or last.has_tokens)
    if name in ("layer_norm", "rms_norm"):
        count = len(call.argument(1, "normalized_shape", ()))
        return not any(axis.carries_space or axis.has_tokens for axis in layout.axes[-count:])
    return False


def layouts_after(call: Call, outputs: Sequence[Tensor]) -> list[Layout | None]:
    """The layouts of a function's outputs; None where it is not known.

    One that does not have the tensor's shape is dropped: then a rule does not fit.
    """
    try:
        found = _layouts(call, outputs)
    except (IndexError, TypeError, ValueError, AttributeError, KeyError):
        # Arguments of another form than the rules know.
        found = [None] * len(outputs)
    return [
        layout if layout is not None and layout.shape == tuple(output.shape) else None
        for layout, output in zip(found, outputs, strict=True)
    ]


def _layouts(call: Call, outputs: Sequence[Tensor]) -> list[Layout | None]:
    name, layout, shape = call.function, call.first, tuple(outputs[0].shape)
    if name in _DIVIDING:
        return _divided(call, outputs)
    if name == "multi_head_attention_forward":
        return [layout, *[None] * (len(outputs) - 1)]
    return [_layout(call, name, layout, shape), *[None] * (len(outputs) - 1)]


def _layout(call: Call, name: str, layout: Layout | None, shape: tuple[int, ...]) -> Layout | None:
    if name in _POINTWISE:
        return _broadcast(call, shape)
    if name in ("cat", "concat", "concatenate"):
        return _concatenated(call)
    if name == "stack":
        return _stacked(call)
    if name in ("matmul", "bmm") and len(shape) > 1:
        return _product(call, shape)
    if name == "einsum":
        return _summed(call, shape)
    if layout is None:
        return None
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return layout.replaced(len(layout.axes) - 1, channels(shape[-1]))
    if name in _NORMALISING or name in ("setitem", "copy"):
        return layout
    if name in _RESHAPING:
        return layout.reshaped(shape)
    if name in _PERMUTING:
        return _permuted(call, layout)
    if name in _REDUCING:
        return _reduced(call, layout, shape)
    if name == "linear":
        return layout.replaced(len(layout.axes) - 1, channels(shape[-1]))
    if name == "mm" and not call.depends(call.argument(1, "mat2")):
        return layout.replaced(len(layout.axes) - 1, channels(shape[-1]))
    if name in ("scaled_dot_product_attention", "transformer_encoder_layer_fwd"):
        # The answer to a query is where the query is.
        return layout.replaced(len(layout.axes) - 1, channels(shape[-1]))
    if name == "getitem":
        return _indexed(layout, call.args[1])
    if name == "select":
        return layout.selected(_axis(call.argument(1, "dim"), layout), call.argument(2, "index"))
    if name == "narrow":
        axis, start = _axis(call.argument(1, "dim"), layout), int(call.argument(2, "start"))
        return layout.sliced(axis, start, start + int(call.argument(3, "length")), 1)
    if name == "pad":
        return _padded(call, layout)
    if name == "flip":
        return _flipped(call, layout)
    return _windowed(call, name, layout, shape)


def _windowed(call: Call, name: str, layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    axes = len(shape) - 2
    if _ADAPTIVE.fullmatch(name) or name in ("interpolate", "upsample"):
        digits = re.findall(r"(\d)d", name)
        axes = int(digits[0]) if digits else axes
        corners = bool(call.argument(4, "align_corners")) and name == "interpolate"
        return _resized(layout, shape, axes, corners=corners)
    if _TRANSPOSED.fullmatch(name) or _CONVOLUTION.fullmatch(name):
        weight = call.argument(1, "weight")
        axes, kernel = weight.ndim - 2, tuple(weight.shape[2:])
        places = (4, 3) if name == "mkldnn_convolution" else (3, 4)
        stride = call.argument(places[0], "stride", 1)
        padding = call.argument(places[1], "padding", 0)
        is_transposed = bool(_TRANSPOSED.fullmatch(name)) or (
            name == "convolution" and bool(call.argument(6, "transposed", False))
        )
        dilation = call.argument(7 if _TRANSPOSED.fullmatch(name) else 5, "dilation", 1)
        changed = layout.replaced(len(shape) - 1 - axes, channels(shape[len(shape) - 1 - axes]))
    elif _POOLING.fullmatch(name):
        first = 1 if not name.startswith("lp") else 2
        axes = int(re.findall(r"(\d)d", name)[0])
        kernel = _each(call.argument(first, "kernel_size"), axes)
        stride = call.argument(first + 1, "stride")
        stride = kernel if stride is None or stride == [] or stride == () else stride
        padding = 0 if name.startswith("lp") else call.argument(3, "padding", 0)
        dilation = call.argument(4, "dilation", 1) if name.startswith("max") else 1
        is_transposed, changed = False, layout
    else:
        return None
    for n in range(axes):
        if changed is None:
            return None
        axis = len(shape) - axes + n
        step, shift = window_step(
            kernel[n], _at(stride, n), _at(dilation, n), _at(padding, n), transposed=is_transposed
        )
        if _POOLING.fullmatch(name) and _is_global(layout, shape, axes):
            changed = changed.replaced(axis, channels(1))
        else:
            changed = changed.moved(axis, shape[axis], step, shift)
    return changed


def _is_global(layout: Layout, shape: tuple[int, ...], axes: int) -> bool:
    """Whether nothing is left of the last axes' places."""
    pooled = set(shape[len(shape) - axes :]) == {1}
    return pooled and any(axis.length > 1 for axis in layout.axes[len(shape) - axes :])


def window_step(
    kernel: int,
    stride: float,
    dilation: float,
    padding: float | str,
    *,
    transposed: bool = False,
) -> tuple[float, float]:
    """Stride and centre of the first output cell, in cells of the input, along an axis."""
    reach = dilation * (kernel - 1)
    if isinstance(padding, str):
        return 1.0, reach / 2 - (0 if padding == "valid" else reach // 2)
    if transposed:
        return 1 / stride, (padding - reach / 2) / stride
    return float(stride), reach / 2 - padding


def _resized(layout: Layout, shape: tuple[int, ...], axes: int, *, corners: bool) -> Layout | None:
    changed: Layout | None = layout
    for axis in range(len(shape) - axes, len(shape)):
        if changed is None:
            return None
        before, after = changed.axes[axis].length, shape[axis]
        if _is_global(layout, shape, axes):
            changed = changed.replaced(axis, channels(1))
        elif corners and after > 1:
            changed = changed.moved(axis, after, (before - 1) / (after - 1), 0.0)
        else:
            scale = before / after
            changed = changed.moved(axis, after, scale, (scale - 1) / 2)
    return changed


def _broadcast(call: Call, shape: tuple[int, ...]) -> Layout | None:
    """Position by position over all arguments; their axes are aligned at the last one."""
    layouts, constants = [], []
    given = call.args if call.function != "where" else call.args[1:]
    for one in (*given, *call.kwargs.values()):
        if isinstance(one, Tensor):
            if not call.depends(one):
                constants.append(one)
            elif (layout := call.layouts(one)) is not None:
                layouts.append(layout)
    layouts.sort(key=lambda layout: (layout.shape != shape, not layout.has_grid))
    if not layouts:
        return None
    if layouts[0].shape == shape:
        return _averaged(layouts[0], layouts[1:])
    axes = []
    for place in range(-len(shape), 0):
        size = shape[place]
        fit = [
            one.axes[place]
            for one in layouts
            if len(one.axes) >= -place and one.axes[place].length == size
        ]
        spatial = [axis for axis in fit if axis.carries_space]
        if not fit and size != 1 and not any(_has_size(one, place, size) for one in constants):
            return None
        axes.append(spatial[0] if spatial else fit[0] if fit else channels(size))
    first = layouts[0]
    counts = tuple(max(one.counts[n] for one in layouts) for n in range(len(first.counts)))
    if any(one.shows_other_part(first) for one in layouts[1:]):
        return None
    return Layout(tuple(axes), counts, first.scale, first.offset, cut=first.cut).settled()


def _has_size(tensor: Tensor, place: int, size: int) -> bool:
    return tensor.ndim >= -place and tensor.shape[place] == size


def _averaged(layout: Layout, others: Sequence[Layout]) -> Layout | None:
    """Where branches whose cells lie a part of a cell apart meet: in the middle.

    None where one of them is mirrored or transposed, or shows another part of the image.
    """
    for one in others:
        if one.shows_other_part(layout) or _is_transposed(one, layout):
            return None
        turned = any(a * b < 0 for a, b in zip(one.scale, layout.scale, strict=True))
        if turned and one.has_grid and one.axes == layout.axes:
            return None
    alike = [one for one in others if one.axes == layout.axes and one.scale == layout.scale]
    if all(one.offset == layout.offset for one in alike):
        return layout
    offsets = [layout.offset, *(one.offset for one in alike)]
    middle = tuple(math.fsum(along) / len(offsets) for along in zip(*offsets, strict=True))
    return dataclasses.replace(layout, offset=middle)


def _is_transposed(one: Layout, other: Layout) -> bool:
    """Whether along an axis of both tensors other spatial axes of the image lie."""
    pairs = [(one.whole(n), other.whole(n)) for n in range(min(len(one.axes), len(other.axes)))]
    same_rank = len(one.axes) == len(other.axes)
    return same_rank and any(a is not None and b is not None and a != b for a, b in pairs)


def _concatenated(call: Call) -> Layout | None:
    tensors = list(call.argument(0, "tensors"))
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0))
    axis = dim % tensors[0].ndim
    known = [(one, call.layouts(one)) for one in tensors if call.depends(one)]
    layouts = [layout for _, layout in known if layout is not None]
    grids = [one for one in layouts if one.axes[axis].carries_space]
    if not grids:
        if not layouts:
            return None
        first = max(layouts, key=lambda one: one.has_grid)
        merged = _averaged(first, [one for one in layouts if one is not first])
        if merged is None:
            return None
        return merged.replaced(axis, channels(sum(one.shape[axis] for one in tensors)))
    if len(grids) > 1:
        # Space in pieces.
        return None
    (grid,) = grids
    place = next(n for n, one in enumerate(tensors) if call.layouts(one) is grid)
    before = sum(one.shape[axis] for one in tensors[:place])
    after = sum(one.shape[axis] for one in tensors[place + 1 :])
    old = grid.axes[axis]
    return grid.replaced(axis, Axis(old.runs, old.before + before, old.after + after))


def _product(call: Call, shape: tuple[int, ...]) -> Layout | None:
    """Of matrices: its rows are those of the first, its columns those of the second.

    Where both carry space (queries times keys), the rows do: an answer is where its query is.
    """
    one, other = call.argument(0, "input"), call.argument(1, "other", call.kwargs.get("mat2"))
    rows = call.layouts(one) if call.depends(one) else None
    columns = call.layouts(other) if call.depends(other) else None
    if (call.depends(one) and rows is None) or (call.depends(other) and columns is None):
        return None
    if rows is not None and len(rows.axes) == len(shape):
        kept = rows.replaced(len(shape) - 1, channels(shape[-1]))
        if (kept is not None and max(kept.counts) > 0) or columns is None:
            return kept
    if columns is not None and len(columns.axes) == len(shape):
        return columns.replaced(len(shape) - 2, channels(shape[-2]))
    return None


def _summed(call: Call, shape: tuple[int, ...]) -> Layout | None:
    """Of ``einsum``: each letter of the output is an axis of one that is given."""
    sides = str(call.args[0]).replace(" ", "").split("->")
    operands = list(call.args[1] if isinstance(call.args[1], (list, tuple)) else call.args[1:])
    if len(sides) != 2 or "." in sides[0]:
        return None
    found: dict[str, Axis] = {}
    layouts = []
    for letters, one in zip(sides[0].split(","), operands, strict=True):
        if not call.depends(one):
            continue
        layout = call.layouts(one)
        if layout is None:
            return None
        layouts.append(layout)
        for letter, axis in zip(letters, layout.axes, strict=True):
            if letter not in found or not found[letter].carries_space:
                found[letter] = axis
    axes: list[Axis] = []
    for letter, size in zip(sides[1], shape, strict=True):
        axis = found.get(letter, channels(size))
        taken = {(run.space, run.step) for old in axes for run in old.runs if run.space is not None}
        # Queries times keys: an answer is where its query is.
        twice = any((run.space, run.step) in taken for run in axis.runs)
        axes.append(channels(size) if twice else axis)
    first = max(layouts, key=lambda one: one.has_grid)
    return Layout(tuple(axes), first.counts, first.scale, first.offset, cut=first.cut).settled()


def _stacked(call: Call) -> Layout | None:
    tensors = list(call.argument(0, "tensors"))
    layouts = [call.layouts(one) for one in tensors if call.depends(one)]
    known = [one for one in layouts if one is not None]
    if not known:
        return None
    axis = call.argument(1, "dim", 0) % (tensors[0].ndim + 1)
    merged = _averaged(known[0], known[1:])
    if merged is None:
        return None
    axes = (*merged.axes[:axis], channels(len(tensors)), *merged.axes[axis:])
    return dataclasses.replace(merged, axes=axes)


def _divided(call: Call, outputs: Sequence[Tensor]) -> list[Layout | None]:
    layout = call.first
    if layout is None:
        return [None] * len(outputs)
    if call.function == "unbind":
        axis = _axis(call.argument(1, "dim", 0), layout)
        return [layout.selected(axis, index) for index in range(len(outputs))]
    axis = _axis(call.argument(2, "dim", 0), layout)
    found, start = [], 0
    for output in outputs:
        stop = start + output.shape[axis]
        found.append(layout.sliced(axis, start, stop, 1))
        start = stop
    return found


def _permuted(call: Call, layout: Layout) -> Layout | None:
    name, count = call.function, len(layout.axes)
    order = list(range(count))
    if name == "permute":
        given: Sequence[Any] = call.args[1:] or (call.kwargs["dims"],)
        if isinstance(given[0], Sequence):
            given = given[0]
        return layout.permuted([int(axis) % count for axis in given])
    if name in ("movedim", "moveaxis"):
        source = _several(call.argument(1, "source"), count)
        target = _several(call.argument(2, "destination"), count)
        order = [axis for axis in order if axis not in source]
        for axis, place in sorted(zip(source, target, strict=True), key=lambda pair: pair[1]):
            order.insert(place, axis)
        return layout.permuted(order)
    if name in ("transpose", "swapaxes", "swapdims"):
        one = _axis(call.argument(1, "dim0", call.kwargs.get("axis0")), layout)
        other = _axis(call.argument(2, "dim1", call.kwargs.get("axis1")), layout)
    else:
        one, other = count - 2, count - 1
    order[one], order[other] = order[other], order[one]
    return layout.permuted(order)


def _reduced(call: Call, layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    dim = call.argument(1, "dim", call.kwargs.get("axis"))
    count = len(layout.axes)
    if call.function == "norm":
        dim = call.argument(2, "dim")
    if isinstance(dim, Tensor):
        return None
    axes = list(range(count)) if dim is None else _several(dim, count)
    keep = len(shape) == count
    changed: Layout | None = layout
    for axis in sorted(axes, reverse=True):
        if changed is not None:
            changed = changed.replaced(axis, channels(1) if keep else None)
    return changed


def _indexed(layout: Layout, index: Any) -> Layout | None:
    given = list(index) if isinstance(index, tuple) else [index]
    missing = len(layout.axes) - sum(one is not None and one is not Ellipsis for one in given)
    if Ellipsis in [one for one in given if not isinstance(one, Tensor)]:
        place = next(n for n, one in enumerate(given) if one is Ellipsis)
        given[place : place + 1] = [slice(None)] * missing
    changed: Layout | None = layout
    axis = 0
    for one in given:
        if changed is None:
            return None
        if one is None:
            axes = (*changed.axes[:axis], Axis(), *changed.axes[axis:])
            changed = dataclasses.replace(changed, axes=axes)
            axis += 1
        elif isinstance(one, slice):
            changed = changed.sliced(axis, *one.indices(changed.axes[axis].length))
            axis += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            changed = changed.selected(axis, one)
        else:
            return None
    return changed


def _padded(call: Call, layout: Layout) -> Layout | None:
    pad = list(call.argument(1, "pad"))
    changed: Layout | None = layout
    for n in range(0, len(pad), 2):
        axis = len(layout.axes) - 1 - n // 2
        if changed is not None and (pad[n] or pad[n + 1]):
            space, length = changed.whole(axis), changed.axes[axis].length + pad[n] + pad[n + 1]
            changed = changed.moved(axis, length, 1.0, -float(pad[n]))
            if changed is not None and space is not None:
                scale = changed.scale[space]
                changed = changed.with_cut(space, scale, -pad[n], -pad[n + 1])
    return changed


def _flipped(call: Call, layout: Layout) -> Layout | None:
    dims = call.args[1] if len(call.args) == 2 else call.args[1:] or call.kwargs["dims"]
    changed: Layout | None = layout
    for axis in _several(dims, len(layout.axes)):
        if changed is not None and changed.axes[axis].carries_space:
            size = changed.axes[axis].length
            changed = changed.moved(axis, size, -1.0, size - 1.0)
    return changed


def _axis(dim: Any, layout: Layout) -> int:
    return int(dim) % len(layout.axes)


def _several(dims: Any, count: int) -> list[int]:
    return [int(dim) % count for dim in (dims if isinstance(dims, Sequence) else (dims,))]


def _each(setting: Any, axes: int) -> tuple[int, ...]:
    return tuple(_at(setting, n) for n in range(axes))


def _at(setting: Any, axis: int) -> Any:
    if isinstance(setting, (str, int, float)):
        return setting
    return setting[axis] if len(setting) > 1 else setting[0]
