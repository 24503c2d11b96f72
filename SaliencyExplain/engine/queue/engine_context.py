"""The state and permissions of an engine, for the handlers of its requests."""

from __future__ import annotations

from dataclasses import dataclass, replace

from SaliencyExplain.engine.queue.allowed_paths import AllowedPaths
from SaliencyExplain.engine.queue.cache import ClassifierStore, PredictionStore, VolumeStore
from SaliencyExplain.engine.queue.cached_prober import CachedProber
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.specification.spec import Limits


@dataclass(frozen=True)
class EngineContext:
    """The state of an engine that its handlers share.

    Attributes:
        compute: On which device, and within which limits.
        volumes: The volumes that it holds.
        classifiers: The open classifiers.
        predictions: The probabilities that it has computed lately.
        prober: The prober of the last click, with its image's feature maps.
        allowed_paths: The folders of its own disk that requests may name.
        trusts: Whether code that comes with a classifier may run if a request asks for it.
    """

    compute: Compute
    volumes: VolumeStore
    classifiers: ClassifierStore
    predictions: PredictionStore
    prober: CachedProber
    allowed_paths: AllowedPaths
    trusts: bool

    def compute_within(self, limits: Limits) -> Compute:
        """The engine's device within a request's limits, and no more memory than the engine has."""
        memory = limits.within(self.compute.limits.memory)
        return replace(self.compute, limits=replace(limits, memory=memory))

    def check_trust(self) -> None:
        """Raises ClassifierError where the engine was not started with --trust."""
        if not self.trusts:
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                "This engine does not run code that comes with a classifier. Start it with "
                "--trust if you trust the classifier's source.",
            )
