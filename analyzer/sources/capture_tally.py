"""What a capture says of itself (the numbers of its calls, its end line) against what it holds.

Invariant: a call that is missing is told, whatever hides it; a call that stands twice counts once.
Standard library only.
"""

from __future__ import annotations

from ..records import Anomaly, Evidence, Origin
from .capture_format import Fact, number


class Tally:
    """Counts the calls of the sessions of one capture."""

    def __init__(self) -> None:
        self._next: int | None = 0  #: number of the next call, None at the start of a later session
        self.entries = self.returns = 0
        self.unrecorded = 0  #: calls that the capture says it left out
        self._skipped = 0  #: numbers that no entry has
        self._first_gap: tuple[int, int] | None = None  #: number of the call behind it, offset
        self._wrong: list[tuple[Fact, int, int, int]] = []  #: end line, its offset, what was held
        self.missing = 0  #: calls that are known to be missing

    def entered(self, call: int, offset: int) -> bool:
        """A call began; False when one of its number did before."""
        expected = call if self._next is None else self._next
        if call < expected:
            return False
        if call > expected:
            self._skipped += call - expected
            if self._first_gap is None:
                self._first_gap = call, offset
        self._next = call + 1
        self.entries += 1
        return True

    def ended(self, fact: Fact, offset: int) -> None:
        """The end line of a session."""
        calls, returns = number(fact, "calls"), number(fact, "returned")
        lacking = 0 if calls is None else calls - self.entries - self.unrecorded
        # of the calls that were left out any number may have returned
        unreturned = 0 if returns is None else returns - self.returns
        if lacking or not 0 <= unreturned <= self.unrecorded:
            self._wrong.append((fact, offset, self.entries, self.returns))
        self._close(max(lacking, 0))

    def restarted(self) -> None:
        """Another session begins."""
        self._close(0)

    def _close(self, lacking: int) -> None:
        self.missing += max(lacking, self._skipped - self.unrecorded, 0)
        self._next = None
        self.entries = self.returns = self.unrecorded = self._skipped = 0

    def anomalies(self, path: str) -> list[Anomaly]:
        """What is missing; closes the last session."""
        self._close(0)
        if not self.missing and not self._wrong:
            return []
        offset, evidence = None, []
        plural = "call is" if self.missing == 1 else "calls are"
        text = f"At least {self.missing:,} {plural} missing from the capture"
        if not self.missing:
            text = "The end line of the capture states other counts than the capture holds"
        if self.missing and self._first_gap is not None:
            call, offset = self._first_gap
            text += f": the first before call number {call}"
        for fact, at, calls, returns in self._wrong[:1]:
            offset = at if offset is None else offset
            stated = [number(fact, name) for name in ("calls", "returned")]
            text += f"; its end line states {stated[0]} calls and {stated[1]} returns, it holds "
            text += f"{calls} and {returns}"
            origin = Origin(path, "end line of the capture", "certain", at)
            names = ("calls stated", "returns stated", "calls held", "returns held")
            evidence = [
                Evidence(name, value, "Number", origin=origin)
                for name, value in zip(names, (*stated, calls, returns))
                if value is not None
            ]
        origin = Origin(path, "numbers of the calls", "certain", offset)
        return [Anomaly("capture-calls-missing", f"{text}.", origin, evidence=tuple(evidence))]
