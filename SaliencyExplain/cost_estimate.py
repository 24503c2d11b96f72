"""What an explanation will cost, without torch: in the library, on the wire and in the panels."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Estimate:
    """What an explanation will cost, known before it starts.

    Attributes:
        forward_passes: Of one image; backward passes, and what a method computes beside the
            network, counted as their equal in time.
        seconds: From the time of the forward pass that made the prediction; batches
            and incremental methods can be faster.
        unstoppable: Names of the methods that have no map before they end, so that no budget
            of time stops them, and the seconds of each; they are in ``seconds``.
        notes: What a user should be told of it.
    """

    forward_passes: float
    seconds: float
    unstoppable: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    def within(self, budget: float | None) -> Estimate:
        """The estimate with a budget in seconds; a note names the methods it does not stop."""
        if budget is None:
            return self
        note = self.not_stopped(budget)
        return replace(
            self,
            seconds=self.seconds_within(budget),
            notes=(*self.notes, *([note] if note else [])),
        )

    def seconds_within(self, budget: float) -> float:
        """Seconds that it takes at most where the other methods are stopped for a budget."""
        needed = sum(seconds for _, seconds in self.unstoppable)
        return needed + min(self.seconds - needed, max(budget - needed, 0.0))

    def not_stopped(self, budget: float) -> str:
        """Which methods a budget in seconds does not stop, as a sentence; empty where none lasts.

        Those that take a second or a tenth of the budget are named.
        """
        lasting = [
            f"{name} (about {seconds_text(seconds)})"
            for name, seconds in self.unstoppable
            if seconds >= min(1.0, 0.1 * budget)
        ]
        if not lasting:
            return ""
        return (
            f"The budget of {budget:g} s does not stop {', '.join(lasting)}: they have no map "
            "before they end, and run whole."
        )


def seconds_text(seconds: float) -> str:
    """Seconds in words, to two digits or whole."""
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
