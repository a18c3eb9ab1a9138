"""Captures of a fake machine that does things at random, with a digest of all that they told.

As in damaged.py the digests say that something changed, not what is right; test_live_capture.py
and the runs with real debuggers do that. ``python tests/live_runs.py`` writes them again.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import damaged
import fake_pykd
from conftest import REPOSITORY, SAMPLE_TRACES
from fake_machine import Bugcheck, Call, Exception_, FakeMachine, Load, Pause
from live_command import capture_here

import analyzer
from analyzer.errors import AnalyzerError

DIGESTS = REPOSITORY / "tests" / "live_runs.json"
KNOWN: dict[str, str] = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
DUMPS = ("healthy-x64-kernel", "la57-x64-kernel", "broken-x64-worst")
RUNS = range(90)
STATUSES = (0, 0, 0, 0, 0xC000000D, 0xC0000001, 0x103, 0x80000005)
TICKS = (0, 150, 1000, 99_999, 2_000_000, 1_999_999_999, 6_000_000_001)


def script(source: random.Random, dump: Any) -> list[Any]:
    """What the machine does, until it is gone."""
    rows = [row for row in dump["callbacks"] if isinstance(row.routine, int)]
    base = next(m.base for m in dump["modules"] if m.name == "crashdmp.sys")
    return [_step(source, rows, base, 2) for _ in range(source.randrange(1, 14))]


def _step(source: random.Random, rows: list[Any], base: int, depth: int) -> Any:
    kind = source.randrange(16)
    if kind == 0 and depth == 2:
        return Pause(source.randrange(1, 10**10))
    if kind == 1 and depth == 2:
        return Bugcheck((source.randrange(1, 0x200), *(source.randrange(1 << 48) for _ in "1234")))
    if kind == 2 and depth == 2:
        name = ("dump_new.sys", "disk.sys", "hiber_new.sys")[source.randrange(3)]
        return Load(name, 0xFFFFF80700000000 + 0x10000 * source.randrange(4))
    if kind == 3:
        return Exception_((0x80000003, 0xC0000005, 0x80000004)[source.randrange(3)])
    row = rows[source.randrange(len(rows))]
    extension = row.extension if isinstance(row.extension, int) else 0
    writes = ()
    if extension and source.randrange(3) == 0:
        writes = (
            (extension + 4 * source.randrange(24), source.randrange(1 << 32).to_bytes(4, "little")),
        )
    inner = ()
    if depth and source.randrange(4) == 0:
        inner = tuple(_step(source, rows, base, depth - 1) for _ in range(source.randrange(1, 3)))
    return Call(
        row.routine, extension + 0x100 * (source.randrange(12) == 0),
        ticks=TICKS[source.randrange(len(TICKS))],
        status=STATUSES[source.randrange(len(STATUSES))], writes=writes, inner=inner,
        returns=source.randrange(10) > 0, cpu=source.randrange(4) // 3,
        second=source.randrange(1 << 20), back=base + 0x1300 * (source.randrange(8) == 0),
    )  # fmt: skip


def options(source: random.Random) -> list[str]:
    """What the user asked for."""
    found = []
    for option, values in {
        "--writes": ("off", "first:1", "first:2,last:1", "all", "last:2"),
        "--calls": ("1", "2", "5"), "--first-bytes": ("16", "256"), "--tsc-hz": ("2000000000",),
        "--callback": ("acme=crashdmp+0x1300", "0x10", "dump_acmeflt+0x1000"),
    }.items():  # fmt: skip
        if source.randrange(3) == 0:
            found += [option, values[source.randrange(len(values))]]
    return found


def digest(number: int, folder: Path) -> str:
    """One run: what was printed, what was written, what the report makes of that."""
    source = random.Random(number)
    path = SAMPLE_TRACES / f"{DUMPS[source.randrange(len(DUMPS))]}.dmp"
    machine = FakeMachine(str(path), script(source, analyzer.open(path).records))
    if number % 30 == 0:
        machine.msrs.clear()  # a second is spent on learning the frequency
    said: list[str] = []
    file = folder / "c.jsonl"
    words = ["com:port=com1", "--backend=pykd", "--output", str(file), *options(source)]
    with mock.patch.dict(sys.modules, pykd=fake_pykd.make(machine)):
        try:
            capture_here(*words, say=said.append)
        except AnalyzerError as error:
            said.append(str(error))
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [_timeless(at, line) for at, line in enumerate(lines)]
    file.write_text("\n".join(lines), encoding="utf-8")
    report = analyzer.open(file).report(details=True) if lines else ""
    whole = "\n".join([*said, *lines, report]).replace(str(folder), ".")
    whole = re.sub(r"\d+\.\d{3} s ", "T ", whole)  # since the capture began, by this clock
    if not machine.msrs:  # so are these then
        whole = re.sub(r"at most [\d.]+ \w+", "at most T", whole)
    whole = damaged.CHECKS.sub("", whole)
    return hashlib.sha256(whole.encode()).hexdigest()[:8]


def _timeless(at: int, line: str) -> str:
    """A fact with another time of this machine's clock, a millisecond a line."""
    fact = json.loads(line)
    for name in ("host", "started", "ended"):
        if fact.get(name) is not None:
            fact[name] = 1_700_000_000_000_000_000 + at * 1_000_000
    return json.dumps(fact)


def main() -> int:
    """Writes the digests."""
    found = {}
    for number in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            found[str(number)] = digest(number, Path(folder))
    changed = [number for number in found if KNOWN.get(number) != found[number]]
    print("changed:", *changed)
    DIGESTS.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
