"""Many forward passes in batches that fit the memory, with progress and cancel."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ClassifierError, DeviceMemoryError, ErrorCode

#: Cost of a gradient with frozen parameters, in forward passes: the backward pass then
#: does one convolution per convolution of the forward pass.
GRADIENT_COST = 2.0

#: Share of the free memory that a batch may take; the rest is for others on the machine.
_MEMORY_SHARE = 0.5

#: Without a gradient a network holds few of its feature maps at a time. This many at
#: the image's full resolution are more than any classifier of MONAI holds.
_CHANNELS_HELD = 128

#: Voxels in a batch beyond which larger batches are not faster (on two and on eight CPU
#: cores 4 to 8 images of 96^3 are best; a GPU is busy with a few times as many).
_VOXELS_WORTHWHILE = {"cpu": 8 * 96**3, "cuda": 32 * 96**3}
_MOST_IMAGES = {"cpu": 32, "cuda": 128}

#: Bytes of a feature map up to which a CPU's allocator uses memory again (the most that
#: M_MMAP_THRESHOLD of glibc becomes by itself). Larger ones are fetched from the system page
#: by page each time: for the gradient of DenseNet121 at 224^2 a fifth of the time.
_USED_AGAIN = 32 * 2**20
#: Images that are worth it all the same.
_FEW_IMAGES = 4

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


def in_batches(
    task: Task,
    count: int,
    compute: Callable[[range], Tensor],
    *,
    gradient: bool,
    total: float,
) -> Iterator[tuple[range, Tensor]]:
    """Calls ``compute`` for ``range(count)`` in batches, and reports to ``task.progress``.

    The size of a batch is ``task.batch_size`` or is chosen from the free memory; with
    gradients the first batch is a single image, whose need is measured. When memory
    runs out, the batch is halved and computed again. A network that takes only one
    image at a time (exported with a fixed batch) gets one at a time.

    Args:
        task: Network, input and progress.
        count: Images to compute.
        compute: Gives the results of the images with these indices, stacked along the
            first axis. It may be called again for the same indices.
        gradient: Whether ``compute`` runs backward too.
        total: Forward passes in all, for the progress.

    Yields:
        The indices and their results. Progress is reported before the next batch.

    Raises:
        DeviceMemoryError: Memory is exhausted with a batch of one.
        Cancelled: Out of ``task.progress``.
    """
    yield from in_stages(task, [count], compute, gradient=gradient, total=total)


def in_stages(
    task: Task,
    counts: Iterable[int],
    compute: Callable[[range], Tensor],
    *,
    gradient: bool,
    total: float,
    share: float = 1.0,
) -> Iterator[tuple[range, Tensor]]:
    """Like :func:`in_batches` for images that become known stage by stage.

    Args:
        task: See there, as the others.
        counts: Images of each stage; the next stage is read after the last batch of the stage
            before. Indices continue through the stages, and no batch spans two.
        compute: See there.
        gradient: See there.
        total: See there.
        share: Of a forward pass that an image takes.

    Raises:
        DeviceMemoryError: Memory is exhausted with a batch of one.
        Cancelled: Out of ``task.progress``.
    """
    cost = GRADIENT_COST if gradient else 1.0
    fixed = task.batch_size
    size = fixed or (1 if gradient else batch_size(task, forward_memory(task), share))
    start = 0
    for count in counts:
        end = start + count
        while start < end:
            indices = range(start, min(start + size, end))
            measure = gradient and fixed is None and start == 0
            need = _Kept()
            failure: str | None = None
            try:
                with _saved_bytes(need) if measure else torch.enable_grad():
                    result = compute(indices)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    if len(indices) == 1:
                        raise
                    failure = "one"
                else:
                    failure = "half"
                message = str(error).splitlines()[0] if str(error) else type(error).__name__
            except (ClassifierError, AssertionError, ValueError):
                if len(indices) == 1:
                    raise
                failure = "one"
            # Outside of the except block: its traceback would keep the failed batch alive.
            if failure == "half":
                gc.collect()
                if task.input.device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(indices) == 1:
                    raise memory_error(task, message)
                fixed = size = len(indices) // 2
                continue
            if failure == "one":
                fixed = size = 1
                continue
            yield indices, result
            del result
            start = indices.stop
            task.progress(cost * start, total)
            if measure:
                size = batch_size(task, need.total + forward_memory(task))
                if task.input.device.type == "cpu":
                    size = min(size, max(_FEW_IMAGES, _USED_AGAIN // max(1, need.largest)))


def memory_error(task: Task, reason: str) -> DeviceMemoryError:
    """The error for memory that is too small for a single image."""
    return DeviceMemoryError(
        ErrorCode.MEMORY,
        f"Memory of {task.input.device}: it is too small for a single image of "
        f"{tuple(task.input.shape[2:])} voxels ({reason}). Use a coarser spacing or another "
        "device.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that a device's or the machine's memory is exhausted."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (MemoryError, torch.cuda.OutOfMemoryError)):
            return True
        if any(words in str(cause).lower() for words in _OUT_OF_MEMORY):
            return True
        # Libraries wrap it in other errors.
        cause = cause.__cause__
    return False


def batch_size(task: Task, bytes_per_image: float, share: float = 1.0) -> int:
    """Images per batch that the free memory holds, at least one.

    Args:
        task: The image, and how much memory may be taken.
        bytes_per_image: Of a whole pass.
        share: Of a whole pass that each image takes. A GPU needs more images then to be
            busy; on a CPU 4 to 8 are best all the same.
    """
    kind = "cpu" if task.input.device.type == "cpu" else "cuda"
    free = memory_left(task.input.device, task.memory_bytes)
    fit = int(free * _MEMORY_SHARE / bytes_per_image)
    if kind == "cpu":
        share = 1.0
    worthwhile = math.ceil(_VOXELS_WORTHWHILE[kind] / (task.input[0, 0].numel() * share))
    return max(1, min(fit, worthwhile, _MOST_IMAGES[kind]))


def forward_memory(task: Task) -> float:
    """Bytes that a forward pass of one image takes without a gradient, at most."""
    return task.input[0, 0].numel() * 4.0 * (_CHANNELS_HELD + task.input.shape[1])


def free_memory(device: torch.device) -> int:
    """Free bytes of a device; of the machine or, if it has a limit, of the container."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    free = _available_memory()
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no control group of version 2: the machine's figure holds
    return max(free, 0)


def _available_memory() -> int:
    """Bytes of the machine that programs may still take."""
    try:
        import psutil
    except ImportError:  # a bare machine: torch, numpy and MONAI alone
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.virtual_memory().available)


def memory_left(device: torch.device, most: float) -> float:
    """The free bytes of a device, or as many as may be taken where that is less."""
    return min(free_memory(device), most)


@contextmanager
def kept_bytes_below(most: float) -> Iterator[None]:
    """Lets a forward pass keep at most so many bytes for its backward pass.

    Raises:
        MemoryError: It would keep more.
    """
    with _saved_bytes(_Kept(), most):
        yield


@dataclass
class _Kept:
    """What a forward pass keeps for the backward pass, in bytes: all of it, the largest map."""

    total: int = 0
    largest: int = 0


@contextmanager
def _saved_bytes(need: _Kept, most: float = math.inf) -> Iterator[None]:
    """Measures what the forward pass keeps for the backward pass.

    Raises:
        MemoryError: It is more than ``most`` bytes.
    """
    seen: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            need.total += storage.nbytes()
            need.largest = max(need.largest, storage.nbytes())
            if need.total > most:
                raise MemoryError("not enough memory for a backward pass")
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        yield
