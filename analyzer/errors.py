"""The errors this package raises on purpose, and nothing else.

Invariant: any input gives records or one of these; another exception is a bug and keeps its
traceback. Missing data is *not* an error: see :mod:`analyzer.absence`.
"""

from __future__ import annotations


class AnalyzerError(Exception):
    """Base of all errors raised on purpose; ``str()`` is one sentence for the user."""

    exit_code = 2


class InputError(AnalyzerError):
    """A file cannot be read as what it claims to be: path, offset, what was expected and found."""

    def __init__(
        self,
        path: str,
        problem: str,
        *,
        offset: int | None = None,
        expected: str = "",
        found: str = "",
        advice: str = "",
    ) -> None:
        self.path, self.problem, self.offset = path, problem, offset
        self.expected, self.found, self.advice = expected, found, advice
        text = f"{path}: {problem.rstrip('.')}"  # some reasons of the system end with a full stop
        if offset is not None:
            text += f" at offset {offset:#x}"
        details = [f"expected {expected}"] if expected else []
        details += [f"found {found}"] if found else []
        if details:
            text += " (" + ", ".join(details) + ")"
        super().__init__(text + (f"; {advice}" if advice else "") + ".")


class UnsupportedError(InputError):
    """The file is valid but of a kind this package does not open; the sentence names the kind."""


class SessionError(AnalyzerError):
    """The debugger session failed or is gone."""


class UsageError(AnalyzerError):
    """The command line or a call's arguments are off."""
