"""Scores of images that differ from one image in a window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable
from SaliencyExplain.attribution.incremental.box_propagation import Run, Schedule
from SaliencyExplain.attribution.incremental.boxes import CHANNELS_LAST, Boxes, Integers, inside
from SaliencyExplain.attribution.incremental.folding import fold, pack, weight_bytes
from SaliencyExplain.attribution.incremental.network_steps import network_steps
from SaliencyExplain.attribution.incremental.operations import Call, Step
from SaliencyExplain.attribution.incremental.parallel_batches import Workers
from SaliencyExplain.attribution.network.score_network import ScoreNetwork

#: Windows by which :meth:`IncrementalInference.together` is decided.
_SAMPLE = 64


@dataclass(frozen=True)
class _Group:
    """Changes that run as one batch: their numbers, first voxels, and the common box."""

    numbers: list[int]
    first: Integers
    window: Integers


class IncrementalInference:
    """A network that has seen an image and tells what a change of a window does.

    Holds for the network as it is now: whoever changes its weights makes a new one.

    Args:
        network: The network, in eval mode.
        image: The unchanged image, ``(1, C, *S)``.
        smallest: Voxels per axis of the smallest windows that will be asked for; what even
            these reach as a whole is not kept.
        memory: Bytes that the maps of the unchanged image and the weights, folded and packed,
            may take.

    Attributes:
        scores_unchanged: Scores ``(1, K)`` of the image as it is.
        cached_bytes: What these maps and weights take, beside the network's own weights.
        has_other_operations: Whether operations on feature maps are among the network's whose
            influence is not known: they are computed as a whole.

    Raises:
        NotTraceable: The network cannot be traced, or the memory does not suffice.
    """

    def __init__(
        self,
        network: ScoreNetwork,
        image: Tensor,
        smallest: Sequence[int],
        memory: float = math.inf,
    ) -> None:
        self._network = network
        self._image = image
        self._format = CHANNELS_LAST[image.ndim - 2]
        steps = fold(network_steps(network.network, image, network.output, network.repeatability))
        self.has_other_operations = any(
            isinstance(step.operation, Call)
            and not step.operation.query
            and math.prod(step.shape[2:]) > 1
            for step in steps
        )
        self._schedule = Schedule(steps, smallest, image.device)
        maps = self._schedule.kept_cells() * image.element_size()
        # Packed weights are no smaller; what they take is known when they are there.
        _check(maps + weight_bytes(steps, network), memory)
        pack(steps, self._format)
        self.cached_bytes = maps + weight_bytes(steps, network)
        _check(self.cached_bytes, memory)
        self._workers = Workers()
        self._kept: dict[Step, Tensor] = {}
        whole = {step: Boxes.whole(1, step.size) for step in steps if step.is_map}
        with torch.no_grad():
            run = Run(self._schedule, whole, 1, self._kept, self._format, keep=True)
            self.scores_unchanged = self._finish(
                run.scores(image.contiguous(memory_format=self._format)), 1
            )

    def scores(self, corners: Integers, contents: Tensor, together: int = 0) -> Tensor:
        """Scores ``(batch, K)`` of the image with these windows replaced.

        Args:
            corners: The first voxel of each image's window, ``(batch, axes)``.
            contents: What is put there, ``(batch, C, *window)``.
            together: How many windows, one after another, have boxes of one size; 0: all.
                Where all boxes are whole maps they go on as one batch, one for each worker.
        """
        parts = [slice(0, len(corners))]
        # Each worker goes through all steps, and Python lets only one of them do so at a time.
        if self._schedule.outweighs_steps(corners, contents.shape[2:]):
            parts = self._workers.parts(len(corners), self._image.device)
        work = [partial(self._scores, corners[part], contents[part], together) for part in parts]
        return torch.cat(self._workers.run(work))

    def _scores(self, corners: Integers, contents: Tensor, together: int) -> Tensor:
        size = together or len(corners)
        parts = [slice(start, start + size) for start in range(0, len(corners), size)]
        boxes = [self._schedule.boxes(corners[part], contents.shape[2:]) for part in parts]
        filled = (contents[part].contiguous(memory_format=self._format) for part in parts)
        return self._joined(boxes, [len(corners[part]) for part in parts], filled)

    def together(self, corners: Integers, window: Sequence[int]) -> int:
        """How many windows, in the order of :meth:`ranks`, are best computed in boxes of one size.

        More of them share what a step costs however small it is, fewer are enlarged less.
        """
        corners = corners[self.ranks(corners, window)]
        # Scattered windows as those of a stage of refinement, less alike than neighbours.
        most = self._schedule.costs.together
        corners = corners[:: max(1, len(corners) // max(_SAMPLE, most))]
        size = np.asarray(window)

        def cost(together: int) -> float:
            starts = range(0, len(corners), together)
            return sum(self._schedule.cost(corners[n : n + together], size) for n in starts)

        return min((2**power for power in range(most.bit_length())), key=cost)

    def gain(self, corners: Integers, window: Sequence[int]) -> float:
        """How many times less these windows cost than whole passes, about, in full batches."""
        corners = corners[self.ranks(corners, window)]
        most = self._schedule.costs.together
        starts = range(0, len(corners), max(most, len(corners) // 5))
        parts = [corners[start : start + most] for start in starts]
        return float(np.mean([self._schedule.gain(part, window) for part in parts]))

    def scores_of(self, corners: Sequence[Sequence[int]], contents: Sequence[Tensor]) -> Tensor:
        """Scores ``(changes, K)`` of the image, each time with one box of its own size replaced.

        Boxes of like size run as a batch, others by themselves until they fill the maps; the
        rest of the network runs as one batch.

        Args:
            corners: The first voxel of each box.
            contents: What is put there, ``(C, *box)`` each.
        """
        groups = self._groups(np.asarray(corners), np.array([c.shape[1:] for c in contents]))
        boxes = [self._schedule.boxes(group.first, group.window) for group in groups]
        filled = (self._filled(group, corners, contents) for group in groups)
        scores = self._joined(boxes, [len(group.numbers) for group in groups], filled)
        order = np.argsort(np.concatenate([group.numbers for group in groups]))
        return scores[torch.from_numpy(order)]

    def _joined(
        self, boxes: Sequence[dict[Step, Boxes]], counts: Sequence[int], filled: Iterable[Tensor]
    ) -> Tensor:
        """Scores of several batches, as one batch from where all boxes are whole maps."""
        end = len(self._schedule.steps)
        cut = self._schedule.cut(boxes) if len(boxes) > 1 else end
        runs, scores = [], []
        with torch.no_grad():
            for reached, count, values in zip(boxes, counts, filled, strict=True):
                run = Run(self._schedule, reached, count, self._kept, self._format)
                run.advance(1, values)
                last = run.advance(cut)
                runs.append(run)
                if cut == end:
                    scores.append(self._finish(last, count))
            if cut < end:
                joined = Run.joined(runs)
                runs.clear()
                scores.append(self._finish(joined.advance(end), joined.count))
        return torch.cat(scores)

    def _groups(self, corners: Integers, shapes: Integers) -> list[_Group]:
        """Which changes run as one batch of the largest box: where that takes less."""
        size = np.asarray(self._image.shape[2:])

        def cost(numbers: list[int]) -> tuple[float, _Group]:
            window = shapes[numbers].max(axis=0)
            group = _Group(numbers, np.minimum(corners[numbers], size - window), window)
            return self._schedule.cost(group.first, window), group

        alone = sorted((cost([number]) for number in range(len(corners))), key=lambda one: one[0])
        groups = alone[:1]
        for one in alone[1:]:
            together = cost([*groups[-1][1].numbers, *one[1].numbers])
            if together[0] <= groups[-1][0] + one[0]:
                groups[-1] = together
            else:
                groups.append(one)
        return [group for _, group in groups]

    def _filled(
        self, group: _Group, corners: Sequence[Sequence[int]], contents: Sequence[Tensor]
    ) -> Tensor:
        """The image in a group's boxes, with each change put in."""
        filled = []
        for number, place in zip(group.numbers, group.first.tolist(), strict=True):
            box = self._image[0][inside(place, group.window.tolist())].clone()
            offset = [n - first for n, first in zip(corners[number], place, strict=True)]
            box[inside(offset, contents[number].shape[1:])] = contents[number]
            filled.append(box)
        return torch.stack(filled).contiguous(memory_format=self._format)

    def share(self, corners: Integers, window: Sequence[int]) -> float:
        """Multiplications for these windows, as a share of those for whole images."""
        # Every tenth or so: windows beside each other differ little.
        some = corners[:: max(1, len(corners) // 50)]
        return float(np.mean([self._schedule.share(corner[None], window) for corner in some]))

    def ranks(self, corners: Integers, window: Sequence[int]) -> Integers:
        """An order of windows in which those beside each other have boxes alike.

        Along each axis the starts are ranked by how far they reach; then the windows
        follow a Z-curve (Morton 1966) through these ranks, so that a batch of eight is
        two by two by two ranks wide and its largest box little larger than the others.

        Args:
            corners: First voxels, ``(windows, axes)``.
            window: Voxels per axis.
        """
        ranks = []
        for axis, width in enumerate(window):
            starts, place = np.unique(corners[:, axis], return_inverse=True)
            extent = self._schedule.extent(axis, starts, width)
            # Starts that reach equally far, such as those at both borders, have one rank.
            rank = np.unique(np.round(extent, 6), return_inverse=True)[1]
            ranks.append(rank[place])
        code = np.zeros(len(corners), dtype=np.int64)
        for bit in range(20):
            for axis, rank in enumerate(ranks):
                code |= ((rank >> bit) & 1) << (bit * len(ranks) + axis)
        return np.argsort(code, kind="stable")

    def _finish(self, scores: Tensor, count: int) -> Tensor:
        return self._network.checked(scores, count)


def _check(needed: int, memory: float) -> None:
    """Raises NotTraceable where the memory does not hold what is needed."""
    if needed > memory:
        need = f"{needed / 2**20:.0f} MiB"
        raise NotTraceable(f"{need} for the maps of the image and the weights are not free")
