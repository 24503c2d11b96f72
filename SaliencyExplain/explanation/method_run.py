"""One method on a prepared case: its maps, as they grow, become attributions."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from SaliencyExplain.attribution.method import Method, check_finite_map
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.zero_maps import zero_map_note
from SaliencyExplain.cost_estimate import seconds_text
from SaliencyExplain.errors import DeviceMemoryError
from SaliencyExplain.explanation.loaded_references import reference_hashes
from SaliencyExplain.explanation.prepared_case import PreparedCase, cpu_note
from SaliencyExplain.figures import CHANNEL
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.progress import Progress
from SaliencyExplain.quantities import whole_percent
from SaliencyExplain.results.attribution_map import Attribution

#: Given an attribution, and the share of the computation that is in it.
Publish = Callable[[Attribution, float], None]


class MethodRun:
    """One run of a method.

    Args:
        case: What is explained.
        task: The case as methods take it, on the device where it is computed.
        method: With its parameters.
        provenance: What the maps of all methods have in common.
        progress: Told of forward passes done and to do.
        publish: Given each attribution, finished or partial; None: nobody is.

    Attributes:
        case: What is explained, where it is computed now.
        notes: What a user must be told of the run; complete when it has ended.
    """

    def __init__(
        self,
        case: PreparedCase,
        task: Task,
        method: Method,
        provenance: Mapping[str, Any],
        progress: Progress,
        publish: Publish | None,
    ) -> None:
        self.case = case
        self.notes: list[str] = []
        self._method = method
        self._provenance = {**provenance, **reference_hashes(case.references, method)}
        self._publish = publish
        self._started = time.perf_counter()
        self._share = 1.0
        self._figures: dict[str, Any] = {}
        self._map_notes: list[str] = []
        self._resolutions: dict[str, float] = {}
        self._task = dataclasses.replace(
            task,
            progress=progress,
            record=self._figures.update,
            note=self._map_notes.append,
            resolution=self._resolutions.__setitem__,
        )
        if publish is not None:
            self._task = dataclasses.replace(self._task, publish=self._receive)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started

    def end_within(self, seconds: float) -> None:
        """Sets the time after which a map that grows is returned as it is."""
        self._task = dataclasses.replace(
            self._task, deadline=time.perf_counter() + seconds, publish=self._receive
        )

    def moved(self, task: Task) -> Task:
        """A task on the device where the run has ended."""
        if task.input.device == self._task.input.device:
            return task
        return dataclasses.replace(task, input=self._task.input)

    def attributions(self) -> list[Attribution]:
        """Computes the method's maps, on a GPU or, where its memory is short, on the CPU."""
        method = self._method
        try:
            maps = method.attribute(self._task)
        except DeviceMemoryError as error:
            self.case = self.case.on_cpu(error)
            self.case.classifier.to(self.case.device)
            self.notes.append(f"{method.name}: {cpu_note(error)}")
            self._figures.clear()
            self._map_notes.clear()
            self._task = dataclasses.replace(self._task, input=self._task.input.cpu())
            maps = method.attribute(self._task)
        activation = self.case.classifier.network.activation
        self._map_notes += [
            zero_map_note(method, name, activation) for name, one in maps.items() if not one.any()
        ]
        found = self._restored(maps)
        if self._share < 1:
            self.notes.append(
                f"{method.name}: stopped after {seconds_text(self.seconds)} with "
                f"{whole_percent(self._share)} of the {method.parts}, for the budget of "
                f"{self.case.compute.limits.seconds:g} s in all; the best map so far."
            )
        self.notes += [f"{method.name}: {note}" for note in self._map_notes]
        for attribution in found:
            if self._publish is not None:
                self._publish(attribution, self._share)
        return found

    def _receive(self, maps: dict[str, torch.Tensor], share: float) -> None:
        self._share = share
        # The finished map comes back from the method, and is restored once.
        if self._publish is not None and share < 1:
            for attribution in self._restored(maps):
                self._publish(attribution, share)

    def _restored(self, maps: Mapping[str, torch.Tensor]) -> list[Attribution]:
        """The maps on the image's own grid."""
        case, method, seconds = self.case, self._method, self.seconds
        classifier, image, limits = case.classifier, case.image, case.compute.limits
        provenance = {**self._provenance, "device": str(case.device)}
        provenance["precision"] = limits.precision if method.lower_precision else "float32"
        if self._figures:
            provenance["figures"] = dict(self._figures)
        notes = [*classifier.network.repeatability.notes, *self._map_notes]
        if notes:
            provenance["notes"] = notes
        if self._share < 1:
            provenance |= {"share_done": round(self._share, 4), "budget_seconds": limits.seconds}
        parameters = dataclasses.asdict(method.resolved(self._task))
        if "output" in parameters:
            # Where the probability cannot move a method watches the score instead.
            parameters["output"] = self._figures.get("output", parameters["output"])
        found = []
        for layer, values in maps.items():
            restored = case.restore(values.detach().float().cpu())
            check_finite_map(method.name, restored)
            found.append(
                Attribution(
                    values=restored,
                    affine=np.asarray(image.affine, dtype=np.float64),
                    method=method.name,
                    method_title=method.title,
                    layer=layer,
                    signed=method.signed,
                    target=case.target,
                    target_name=case.target_name,
                    parameters=parameters,
                    provenance={
                        **provenance,
                        RESOLUTION_MM: round(self._resolutions.get(layer, 0.0), 4),
                        **_of_channel(method.channel_of(layer, self._task)),
                    },
                    seconds=seconds,
                    share_done=self._share,
                )
            )
        return found


def _of_channel(channel: int | None) -> dict[str, int]:
    """For the provenance of a map; nothing where it is of all channels."""
    return {} if channel is None else {CHANNEL: channel}
