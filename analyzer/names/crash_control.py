"""Values of the registry key CrashControl, and whether an input shows the whole key.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable

#: values that Windows sets up on every machine
_ON_EVERY_MACHINE = {
    "autoreboot", "crashdumpenabled", "dumpfile", "logevent", "minidumpdir", "overwrite",
}  # fmt: skip
_ENOUGH = 3


def is_whole(names: Iterable[str]) -> bool:
    """False for what shows some values only: then one that is not there may be set all the same."""
    return len(_ON_EVERY_MACHINE & {name.lower() for name in names}) >= _ENOUGH
