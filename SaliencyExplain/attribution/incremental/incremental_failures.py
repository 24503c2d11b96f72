"""What went wrong in the incremental way, in one line for the log."""

from __future__ import annotations

from SaliencyExplain.attribution.incremental.tracing import NotTraceable
from SaliencyExplain.attribution.passes.batches import is_out_of_memory


def reason_of(error: Exception) -> str:
    """Why whole passes run instead: short memory, an untraceable network, or the error itself."""
    if isinstance(error, NotTraceable):
        return str(error)
    if is_out_of_memory(error):
        return "memory is short"
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{kind}: {lines[0][:200]}" if lines else kind
