"""What the engine prints, read independently of the package: modules, tags, registers, memory.

Formats: WinDbg's documentation of ``lm``, ``.enumtag``, ``r``, ``dq``; seen with DbgEng 10.0.15063.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class EngineModule(NamedTuple):
    """One line of ``lm t n``; ``stamp`` is None in the list of unloaded modules."""

    base: int
    end: int
    image: str
    stamp: int | None


def number(text: str) -> int:
    """An address as the engine prints it."""
    return int(text.replace("`", ""), 16)


def modules(text: str) -> tuple[list[EngineModule], list[EngineModule]]:
    """``lm t n``: (loaded, unloaded)."""
    address = r"([0-9a-f]{8}`[0-9a-f]{8}) ([0-9a-f]{8}`[0-9a-f]{8})"
    loaded_text, _, unloaded_text = text.partition("Unloaded modules:")
    loaded = [
        EngineModule(number(base), number(end), image.strip(), int(stamp, 16))
        for base, end, image, stamp in re.findall(
            rf"^{address}   \S+ +(\S+) .*\(([0-9A-F]{{8}})\)$", loaded_text, re.M
        )
    ]
    unloaded = [
        EngineModule(number(base), number(end), image.strip(), None)
        for base, end, image in re.findall(rf"^{address}   (.+)$", unloaded_text, re.M)
    ]
    return loaded, unloaded


def tags(text: str) -> list[tuple[str, bytes]]:
    """``.enumtag``: GUID (as the package spells it) and content of each block."""
    found = []
    parts = re.split(r"^(\{[0-9A-F-]+\}) - 0x([0-9a-f]+) bytes\n", text, flags=re.M)
    for guid, size, dump in zip(parts[1::3], parts[2::3], parts[3::3]):
        content = b"".join(bytes.fromhex(line[2:50]) for line in dump.splitlines() if line.strip())
        assert len(content) == int(size, 16)
        digits = guid.strip("{}").lower()  # the engine leaves out the last hyphen
        found.append((digits[:23] + "-" + digits[23:], content))
    return found


def registers(text: str) -> dict[str, int]:
    """``r``: name -> value."""
    return {name: int(value, 16) for name, value in re.findall(r"\b(\w+)=([0-9a-f]{16})\b", text)}


def words(text: str) -> list[int]:
    """``dq``: the words."""
    return [
        number(word)
        for line in text.splitlines()
        for word in re.findall(r"[0-9a-f]{8}`[0-9a-f]{8}", line)[1:]
    ]
