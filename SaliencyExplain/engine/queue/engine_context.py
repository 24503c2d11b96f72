"""What an engine holds and allows, as the handlers of its requests use it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from SaliencyExplain.engine.queue.allowed_paths import Places
from SaliencyExplain.engine.queue.cache import ClassifierStore, PredictionStore, VolumeStore
from SaliencyExplain.engine.queue.cached_prober import CachedProber
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.question import Compute


@dataclass(frozen=True)
class EngineContext:
    """The state of an engine that its handlers share.

    Attributes:
        compute: On which device, and within which limits.
        volumes: The volumes that it holds.
        classifiers: The open classifiers.
        predictions: The probabilities that it has computed lately.
        prober: What the last click has computed of its image.
        allowed_paths: The folders of its own disk that requests may name.
        trusts: Whether code that comes with a classifier may run if a request asks for it.
    """

    compute: Compute
    volumes: VolumeStore
    classifiers: ClassifierStore
    predictions: PredictionStore
    prober: CachedProber
    allowed_paths: Places
    trusts: bool

    def compute_with(self, precision: str) -> Compute:
        """The compute settings with the precision of a request.

        Raises:
            InputError: There is no such precision.
        """
        return replace(self.compute, precision=precision)

    def check_trust(self) -> None:
        """Raises ClassifierError where the engine was not started to run others' code."""
        if not self.trusts:
            raise ClassifierError(
                ErrorCode.MODEL_UNTRUSTED,
                "This engine runs no code that comes with a classifier; start it with --trust "
                "if you know where the classifier comes from.",
            )
