"""The probabilities after the voxels at a place are replaced."""

from __future__ import annotations

from dataclasses import replace

from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import check_grid
from SaliencyExplain.engine.wire.requests import ProbeRequest
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.probe_result import Probe


class ProbeHandler(Handler[ProbeRequest, Probe], answers=ProbeRequest):
    """Removes balls about a point, or a segment, and predicts again."""

    def check(self, request: ProbeRequest) -> None:
        """Refuses a classifier that is not open."""
        self.context.classifiers.get(request.classifier)

    def volumes(self, request: ProbeRequest) -> set[str]:
        """The image and the segment."""
        return {request.volume} | ({request.segment} if request.segment is not None else set())

    def run(self, request: ProbeRequest, reporter: Reporter) -> Probe:
        """Probes, with the feature maps of the last click where they are of the same image."""
        volumes = self.context.volumes
        segment = volumes.get(request.segment) if request.segment else None
        image = volumes.get(request.volume)
        prober = self.context.prober.get(request, reporter)
        if segment is not None:
            name = request.segment_name or "segment"
            check_grid(f"The segment '{name}'", segment, segment.values.shape, image)
            mask = segment.values.astype(bool)
            found = prober.segment(mask, name, progress=reporter.progress)
        elif request.point_ras is not None:
            found = prober.at(request.point_ras, request.radii_mm, progress=reporter.progress)
        else:
            raise InputError(ErrorCode.OPTION_MISSING, "A probe needs a point or a segment.")
        return replace(found, notes=(*prober.notes, *request.segment_notes, *found.notes))
