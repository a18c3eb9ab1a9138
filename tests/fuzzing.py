"""Damaged copies of a file (cuts, bit flips, hostile words where they hurt), and what must hold.

Invariant: the same seed gives the same damage on every Python and platform; `examine` lets no
exception but the package's own pass, ends a hang, and bounds private memory.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pandas as pd  # noqa: F401 - so that no examination pays for the import

import analyzer
from analyzer.errors import AnalyzerError
from analyzer.layouts import mindumpdef
from analyzer.records import TABLES

HANG = 60.0  #: processor seconds after which a file is said to hang; what it needs is one or two
PRIVATE = 300 << 20  #: private memory it may take, in bytes
HOSTILE = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1, 1 << 40)


class Damage(NamedTuple):
    """One damaged copy and how it was made."""

    how: str
    data: bytes


# ---- damage ----------------------------------------------------------------------------------
def cuts(data: bytes, count: int, source: random.Random) -> Iterator[Damage]:
    """The file ended early: half of the places spread evenly, a quarter near its start."""
    size = len(data)
    even = [size * n // (count // 2 + 1) for n in range(1, count // 2 + 1)]
    early = [source.randrange(min(size, 0x4000)) for _ in range(count // 4)]
    other = [source.randrange(size) for _ in range(count - len(even) - len(early))]
    for at in even + early + other:
        yield Damage(f"cut at {at:#x}", data[:at])


def bit_flips(data: bytes, count: int, source: random.Random) -> Iterator[Damage]:
    """1, 8, 64 or 512 random bits of the file flipped."""
    for number in range(count):
        copy = bytearray(data)
        flips = (1, 8, 64, 512)[number % 4]
        where = [source.randrange(8 * len(copy)) for _ in range(flips)]
        for bit in where:
            copy[bit >> 3] ^= 1 << (bit & 7)
        yield Damage(f"{flips} bits flipped, first {where[0] >> 3:#x}", bytes(copy))


def hostile_words(
    data: bytes, places: list[int], count: int, source: random.Random
) -> Iterator[Damage]:
    """Words at places that matter: hostile values, single bits, or words from other such places."""
    for number in range(count):
        copy = bytearray(data)
        words = []
        for _ in range((1, 1, 2, 6)[number % 4]):
            at, size = source.choice(places), source.choice((4, 8))
            if at + size > len(copy):
                continue
            old = int.from_bytes(copy[at : at + size], "little")
            kind = source.randrange(3)
            if kind == 0:
                value = source.choice(HOSTILE)
            elif kind == 1:
                value = old ^ 1 << source.randrange(8 * size)
            else:
                other = source.choice(places)
                value = int.from_bytes(data[other : other + size], "little")
            copy[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            words.append(f"{size} bytes at {at:#x} = {value:#x}")
        yield Damage(", ".join(words), bytes(copy))


def places(path: Path) -> list[int]:
    """File offsets of what a reader of this dump follows.

    Header fields, the page map, page table entries, the words of every structure with a record.
    """
    from analyzer.dumpfile import open_dump
    from analyzer.sources.dump import records_of

    dump = open_dump(str(path))
    records = records_of(dump)
    base, size = dump.file.header_size, dump.file.size
    header = [f.offset for f in mindumpdef.fields(dump.file.layout).values() if f.offset < base]
    table = list(range(base, min(base + 0x140, size), 4))
    run = dump.file.layout.PhysicalMemoryBlock.offset
    table += range(run, run + 0x40, 4)
    structures = []
    for name in TABLES:
        for record in list(records[name])[:64]:
            at = record.origin.file_offset
            if at:
                structures += range(at & ~7, min((at & ~7) + 0xC8, size), 8)
    entries = []
    for frame in getattr(getattr(dump, "walker", None), "_tables", {}).values():
        if 0 <= frame <= size - 0x1000:
            words = dump.file.data.unpack("<512Q", frame)
            entries += [frame + 8 * n for n, word in enumerate(words) if word][:128]
    # each group with the same weight, however many words it has
    longest = max(map(len, (header, table, structures, entries)))
    return [
        at
        for group in (header, table, structures, entries)
        if group
        for at in (group * (longest // len(group) + 1))[:longest]
    ]


# ---- what must hold --------------------------------------------------------------------------
def examine(path: Path) -> str:
    """Everything the product makes of a file: "result", or the error it refused the file with."""
    try:
        case = analyzer.open(path)
        case.report("text")
        case.report("json")
        for name in TABLES:
            getattr(case, name)
        case.exit_code()
    except AnalyzerError as error:
        text = str(error)
        assert text.strip(), "an error without a sentence"
        assert "\n" not in text, "more than one line"
        return type(error).__name__
    return "result"


class HangError(Exception):
    """A file took all the time there is; the traceback tells where."""


@contextlib.contextmanager
def bounded(hang: float = HANG, memory: int = PRIVATE) -> Iterator[None]:
    """Ends a hang, and what asks for more private memory than ``memory`` beyond that of now."""
    if os.name == "nt":
        yield
        return
    import resource

    def stop(*_: Any) -> None:
        raise HangError(f"more than {hang} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGPROF, stop)
    used = private_bytes()
    if used:
        resource.setrlimit(resource.RLIMIT_DATA, (used + memory, hard))
    signal.setitimer(signal.ITIMER_PROF, hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def private_bytes(field: str = "VmData") -> int:
    """A line of /proc/self/status in bytes; 0 where there is no /proc."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) << 10
    return 0


class Tally:
    """What became of many damaged files."""

    def __init__(self, folder: Path, keep: Callable[[Damage, BaseException], None]) -> None:
        self.folder, self.keep = folder, keep
        self.outcomes: dict[str, int] = {}
        self.worst, self.worst_how = 0.0, ""

    def run(self, name: str, damages: Iterator[Damage]) -> None:
        """Examines each; a fault goes to ``keep``."""
        path = self.folder / "damaged.dmp"
        for damage in damages:
            # a new file each time: the last one may still be mapped
            path.unlink(missing_ok=True)
            path.write_bytes(damage.data)
            start = time.process_time()
            try:
                with bounded():
                    outcome = examine(path)
            except Exception as error:  # noqa: BLE001 - finding those is the purpose
                outcome = "fault: " + type(error).__name__
                self.keep(damage, error)
            taken = time.process_time() - start
            if taken > self.worst:
                self.worst, self.worst_how = taken, f"{name}: {damage.how}"
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
