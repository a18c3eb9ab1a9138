"""A population of cases of all kinds, always the same for a seed, with or without planted causes.

Planted: version 2 of the filter takes twice as long in Dump_Start; dumps to the large disk are
written at a third of the speed. One case in a hundred is damaged.
Run it to write a folder: ``python tests/population.py FOLDER COUNT``.
"""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "sample-traces")]

from generator import Spec, build  # noqa: E402
from generator_cases import CRASH, Crash, EventLog, log, registry  # noqa: E402
from generator_logs import kernel  # noqa: E402
from test_capture_file import facts  # noqa: E402

FILTER = "dump_x.sys"
VERSIONS = (0x65000001, 0x65A00002)  #: time stamps of two builds of the filter
DISKS = (500107862016, 256060514304, 1000204886016)  #: the last one is slow
DAY = 86_400_000_000_000
START = 1735689600_000_000_000  # 2025-01-01
ROLLOUT = 120  #: day from which the second version is found
DAMAGED = 0.01


def capture(chance: random.Random, disk: int, version: int, day: int, start_ns: float) -> bytes:
    """A capture with three calls of Dump_Start."""
    calls = [(round(start_ns * chance.uniform(0.97, 1.03)), 0) for _ in range(3)]
    lines = []
    for fact in facts(calls):
        if fact.get("fact") == "module":
            fact = {**fact, "stamp": version}
        if fact.get("fact") == "node":
            old, new = (struct.pack("<q", n).hex() for n in (DISKS[0], disk))
            cylinder = 255 * 63 * 512
            was, now = (struct.pack("<q", n // cylinder).hex() for n in (DISKS[0], disk))
            fact = {**fact, "bytes": fact["bytes"].replace(old, new).replace(was, now)}
        for name in ("host", "start"):
            if isinstance(fact.get(name), int):
                fact = {**fact, name: START + day * DAY + fact[name] % 1000}
        lines.append(json.dumps(fact))
    return ("\n".join(lines) + "\n").encode()


def crash(day: int) -> Crash:
    """The crash of a dump log on a day."""
    when = datetime.fromtimestamp(START / 1e9, timezone.utc) + timedelta(days=day)
    return CRASH._replace(day=f"{when:%Y/%m/%d}")


def archive(files: dict[str, bytes]) -> bytes:
    """A zip of the files, always the same."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(
                zipfile.ZipInfo(name, (2026, 3, 5, 12, 0, 0)), data, zipfile.ZIP_DEFLATED
            )
    return out.getvalue()


class Population:
    """Makes one case after the other."""

    def __init__(self, seed: int = 1, planted: bool = True) -> None:
        self.chance, self.planted = random.Random(seed), planted
        kinds = [(4, "healthy"), (6, "healthy"), (6, "filter-failed")]
        self.dumps = [build(Spec("x64", kind, "win8", variant)).data for kind, variant in kinds]

    def case(self, number: int) -> tuple[str, bytes]:
        """Name and content of one case."""
        chance = self.chance
        what = chance.random()
        if what < 0.70:
            name, data = "ticket.zip", self.ticket(number)
        elif what < 0.80:
            data = bytearray(chance.choices(self.dumps, (8, 1, 1))[0])
            struct.pack_into("<Q", data, 0x40, number)  # first bugcheck parameter
            name, data = "MEMORY.DMP", bytes(data)
        elif what < 0.92:
            lines = self.lines(210 * chance.lognormvariate(0, 0.1), number)
            name, data = "DumpStack.log", log(lines, crash(chance.randrange(240)))
        elif what < 0.97:
            day = crash(chance.randrange(240)).day.replace("/", "-")
            events = EventLog().power(f"{day}T10:{number % 60:02d}:05", CRASH)
            events.volmgr(f"{day}T10:59:30", 162)
            name, data = "System.xml", events.xml().replace(b"example", b"m%d" % number)
        else:
            name, data = "crash.reg", registry(["dumpfve.sys", f"x{number}.sys"])
        if chance.random() < DAMAGED:
            data = self.damaged(data)
        return f"{number:06d}-{name}", data

    def ticket(self, number: int) -> bytes:
        """A capture and the dump log of one machine."""
        chance = self.chance
        day = chance.randrange(240)
        is_new = day >= ROLLOUT and chance.random() < 0.6
        disk = chance.choices(DISKS, (5, 3, 2))[0]
        start = 2e6 * chance.lognormvariate(0, 0.15)
        rate = 210 * chance.lognormvariate(0, 0.1)
        if self.planted and is_new:
            start *= 2
        if self.planted and disk == DISKS[-1]:
            rate /= 3
        return archive({
            "capture.jsonl": capture(chance, disk, VERSIONS[is_new], day, start),
            "DumpStack.log": log(self.lines(rate, number), crash(day)),
        })  # fmt: skip

    def lines(self, rate: float, number: int) -> list[str]:
        """The lines of a dump log in which memory is written at this rate, in MB/s."""
        pages = 262144
        took = round(pages * 4096 / (rate * 1e6) * 1000)
        return kernel(write_ms=took, drivers=["CRASHDUMP", f"nic{number}"])

    def damaged(self, data: bytes) -> bytes:
        """The case cut, or with bytes turned over."""
        if self.chance.random() < 0.5:
            return data[: self.chance.randrange(1, len(data))]
        broken = bytearray(data)
        for _ in range(20):
            broken[self.chance.randrange(len(broken))] ^= self.chance.randrange(1, 256)
        return bytes(broken)


def write(folder: Path, count: int, seed: int = 1, planted: bool = True) -> None:
    """Writes so many cases, 500 a folder."""
    made = Population(seed, planted)
    for number in range(count):
        name, data = made.case(number)
        place = folder / f"{number // 500:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
