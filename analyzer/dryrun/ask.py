"""What can be asked of a dry run, and whether there is an emulator to run it.

Invariant: cheap to import; the command line does so at each start. Standard library only.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from ..errors import UsageError
from ..extras import install

#: called with the callback that is next, how many calls were made and how many there are
Progress = Callable[[str, int, int], None]


class Limits(NamedTuple):
    """Bounds of one call."""

    instructions: int = 1_000_000
    seconds: float = 10.0
    pages: int = 8192


class Ask(NamedTuple):
    """What is wanted of a source; ``always``: also of a machine that had crashed."""

    always: bool = True
    filters: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()
    limits: Limits = Limits()
    progress: Progress | None = None


def is_installed() -> bool:
    """True when the emulator is there; it is not loaded into this process."""
    from importlib.util import find_spec

    return find_spec("unicorn") is not None


def require() -> None:
    """UsageError where the emulator is not installed."""
    if not is_installed():
        raise UsageError(
            f"a dry run needs the emulator Unicorn ('{install('dryrun')}'; GPLv2, it runs in a "
            "process of its own)."
        )
