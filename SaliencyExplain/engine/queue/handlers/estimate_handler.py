"""The cost of an explanation."""

from __future__ import annotations

from SaliencyExplain.attribution.method_selection import chosen_methods
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.engine.queue.explain_inputs import (
    check_explain_request,
    references_of,
    volumes_to_explain,
)
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import EstimateRequest
from SaliencyExplain.explanation.method_costs import estimate
from SaliencyExplain.explanation.prepared_case import prepare


class EstimateHandler(Handler[EstimateRequest, Estimate], answers=EstimateRequest):
    """Estimates the forward passes and the seconds of an explanation."""

    def check(self, request: EstimateRequest) -> None:
        """Refuses the requests for which the explanation would be refused."""
        check_explain_request(request.explain, self.context)

    def volumes(self, request: EstimateRequest) -> set[str]:
        """The image, the segments and the backgrounds."""
        return volumes_to_explain(request.explain)

    def run(self, request: EstimateRequest, reporter: Reporter) -> Estimate:
        """Estimates from one forward pass."""
        explain, spec = request.explain, request.explain.spec
        reporter.doing("estimates")
        case = prepare(
            image_of(self.context.volumes.get(explain.volume)),
            self.context.classifiers.get(explain.classifier).twin,
            spec.target,
            self.context.compute_within(spec.limits),
            references_of(explain, self.context, []),
            of_interest=spec.region,
        )
        return estimate(case, chosen_methods(spec.methods)).within(spec.limits.seconds)
