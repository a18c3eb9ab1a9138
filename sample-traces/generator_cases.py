"""Writes case folders: the files that one crash leaves behind, one story each, always the same.

``stories()`` gives every story; three small ones are shipped as zip archives in ``cases``.
Run it to write those again: ``python sample-traces/generator_cases.py``; ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import struct
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import generator_logs as logs
from generator import Spec, build

FOLDER = Path(__file__).parent / "cases"
VOLMGR_CODES = {45: 0xC004002D, 46: 0xC004002E, 161: 0xC00400A1, 162: 0x000400A2}
FILE_TIME_ZERO = 116444736000000000


class Crash(NamedTuple):
    """What all sources of one crash must agree on."""

    code: int
    parameters: tuple[int, ...]
    day: str  #: 2026/03/01
    clock: str  #: 10:20:30


class Story(NamedTuple):
    """One case: its files and what they are meant to tell."""

    tells: str
    files: dict[str, bytes]


#: the crash of the logs of generator_logs
CRASH = Crash(0xD1, (0x28, 2, 0, 0xFFFFF80312345678), "2026/03/01", "10:20:30")
LATER = Crash(0x9F, (3, 0xFFFFC08BE4031010, 0xFFFFF80612345000, 0x10), "2026/03/04", "17:45:10")


# ---------------------------------------------------------------- dumps and logs


def dump(variant: str = "healthy", dump_type: int = 6) -> tuple[bytes, Crash]:
    """A 64-bit dump, and the crash its header states."""
    data = build(Spec("x64", dump_type, "win8", variant)).data
    code, *parameters = struct.unpack_from("<I4x4Q", data, 0x38)
    # SystemTime: 2024-03-05 14:07:09.123 UTC
    return data, Crash(code, tuple(parameters), "2024/03/05", "14:07:09")


def log(lines: list[str], crash: Crash = CRASH) -> bytes:
    """A DumpStack.log of this crash; the lines are those of generator_logs."""
    old = dict(zip(logs.opening(), logs.opening(crash.code)))
    for number, value in enumerate(crash.parameters, 1):
        old[logs.opening()[1 + number]] = f"#BugCheckP{number} 0x{value:016X}"
    said = [old.get(line, line) for line in lines]
    said = [line.replace("2026/03/01 10:20:30", f"{crash.day} {crash.clock}") for line in said]
    local = f"{crash.day} {int(crash.clock[:2]) + 1:02d}{crash.clock[2:]}"
    return logs.build([line.replace("2026/03/01 11:20:30", local) for line in said])


def until(lines: list[str], last: str) -> list[str]:
    """The lines up to this one."""
    return lines[: lines.index(last) + 1]


# ---------------------------------------------------------------- event log of Event Viewer


class EventLog:
    """Collects events; ``xml()`` gives the file."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def add(
        self,
        when: str,
        provider: str,
        number: int,
        data: dict[str, str] | list[str] | tuple[str, ...] = (),
        binary: bytes = b"",
        level: int = 4,
        guid: str = "",
    ) -> EventLog:
        """One event; ``when`` is "2026-03-01T10:22:00"."""
        pairs = data.items() if isinstance(data, dict) else (("", text) for text in data)
        body = "".join(
            f"<Data Name='{name}'>{text}</Data>" if name else f"<Data>{text}</Data>"
            for name, text in pairs
        )
        body += f"<Binary>{binary.hex().upper()}</Binary>" if binary else ""
        about = f"Name='{provider}'" + (f" Guid='{{{guid}}}'" if guid else "")
        record = len(self.events) + 101
        self.events.append(
            "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
            f"<Provider {about}/><EventID>{number}</EventID><Version>0</Version>"
            f"<Level>{level}</Level><Task>0</Task><Opcode>0</Opcode>"
            f"<Keywords>0x80000000000000</Keywords><TimeCreated SystemTime='{when}.5000000Z'/>"
            f"<EventRecordID>{record}</EventRecordID><Channel>System</Channel>"
            f"<Computer>example</Computer></System><EventData>{body}</EventData></Event>"
        )
        return self

    def volmgr(
        self, when: str, number: int, location: int = 0, status: int = 0, progress: str = ""
    ) -> EventLog:
        """A volmgr event with its IO_ERROR_LOG_PACKET."""
        code = VOLMGR_CODES[number]
        packet = struct.pack("<12xIII16x", code, location, status)
        texts = [r"\Device\HarddiskVolume3"] + ([progress] if progress else [])
        return self.add(when, "volmgr", number, texts, packet, 4 if number == 162 else 2)

    def power(self, when: str, crash: Crash | None) -> EventLog:
        """Kernel-Power 41; without a crash, of a machine that lost its power."""
        code, parameters = (crash.code, crash.parameters) if crash else (0, (0, 0, 0, 0))
        data = {"BugcheckCode": str(code)}
        data.update({f"BugcheckParameter{n}": f"{v:#x}" for n, v in enumerate(parameters, 1)})
        guid = "331c3b3a-2005-44c2-ac5e-77220c37d6b4"
        return self.add(when, "Microsoft-Windows-Kernel-Power", 41, data, level=1, guid=guid)

    def reporting(self, when: str, crash: Crash, path: str) -> EventLog:
        """WER-SystemErrorReporting 1001."""
        numbers = ", ".join(f"0x{value:016x}" for value in crash.parameters)
        data = {
            "param1": f"0x{crash.code:08x} ({numbers})",
            "param2": path,
            "param3": "2f4c1f5e-0001-4a5b-9a3c-000000000001",
        }
        guid = "abce23e7-de45-4366-8631-84fa6c525952"
        provider = "Microsoft-Windows-WER-SystemErrorReporting"
        return self.add(when, provider, 1001, data, level=2, guid=guid)

    def xml(self) -> bytes:
        """The file."""
        head = '<?xml version="1.0" encoding="utf-8" standalone="yes"?>\r\n<Events>'
        return (head + "\r\n".join(self.events) + "</Events>").encode("utf-8")


# ---------------------------------------------------------------- registry


def registry(filters: list[str], *services: str, **values: object) -> bytes:
    """A .reg export of CrashControl, with a service for each of these drivers."""
    control: dict[str, object] = {
        "AutoReboot": 1,
        "CrashDumpEnabled": 7,
        "DumpFile": r"@%SystemRoot%\MEMORY.DMP",
        "DumpFilters": filters,
        "DumpLogLevel": 1,
        "EnableLogFile": 1,
        "LogEvent": 1,
        "Overwrite": 1,
    }
    control.update(values)
    keys = {logs.CONTROL: control}
    for name in ("disk", *services):
        path = rf"@System32\drivers\{name}.sys"
        keys[logs.SERVICES + "\\" + name] = {"Start": 0, "Type": 1, "ImagePath": path}
    return logs.reg(keys).encode("utf-16")


# ---------------------------------------------------------------- stories

START = "2026-03-01T10:2"  # the minutes after the crash of the logs
DUMP_START = "2024-03-05T14:1"
MEMORY_DMP = r"C:\WINDOWS\MEMORY.DMP"
STATUS = {"missing": 0xC0000034, "denied": 0xC0000022, "failed": 0xC0000001, "timeout": 0xC00000B5}


def stories() -> dict[str, Story]:
    """Name -> story."""
    made = {}

    def story(name: str, tells: str, **files: bytes) -> None:
        made[name] = Story(tells, {FILES[key]: data for key, data in files.items()})

    healthy, crash = dump()
    filters = ["dumpfve.sys", "acmeflt.sys"]
    good = registry(filters, "acmeflt")
    after = EventLog().power(DUMP_START + "1:02", crash).volmgr(DUMP_START + "1:40", 162)
    after.reporting(DUMP_START + "1:41", crash, MEMORY_DMP)
    full = log(logs.kernel(rates=[205, 210, 198]), crash)

    events = EventLog()
    for when in ("2026-02-27T08:00:10", "2026-03-01T07:59:44"):
        events.volmgr(when, 45, 0x2005, STATUS["missing"])
    events.power(START + "1:05", CRASH)
    story(
        "filter-file-missing",
        "the file of a registered filter is gone, so the dump stack did not load",
        events=events.xml(),
        registry=registry(["dumpfve.sys", "oldvendor.sys"]),
    )

    failed, _ = dump("filter-failed")
    story(
        "filter-disabled",
        "Dump_Start of a filter failed; it was silently switched off and the dump was written",
        dump=failed,
        log=full,
        events=after.xml(),
        registry=good,
    )

    files = logs.files()
    events = EventLog().power(START + "1:05", CRASH).volmgr(START + "1:30", 162)
    events.reporting(START + "1:31", CRASH, r"C:\WINDOWS\Minidump\030126-9515-01.dmp")
    story(
        "dump-file-too-small",
        "the page file was too small, so only a minidump was written",
        log=files["reduced-to-minidump.log"],
        events=events.xml(),
        registry=registry(["dumpfve.sys"], PageFileTooSmall=b"\0\0\0\x80\x01\0\0\0"),
    )

    events = EventLog().power(START + "1:05", CRASH)
    events.volmgr(START + "1:30", 161, 0x43, STATUS["failed"], "0x43")
    story(
        "driver-stuck",
        "the crash path died in the secondary callback of a driver",
        log=files["driver-stuck.log"],
        events=events.xml(),
        registry=registry(["dumpfve.sys"]),
    )

    events = EventLog()
    for second in range(5):
        port = [r"\Device\RaidPort0"]
        events.add(f"2026-03-01T10:19:0{second}", "storahci", 129, port, bytes(40), 3)
    events.power("2026-03-01T10:27:05", CRASH)
    events.volmgr("2026-03-01T10:27:30", 161, 0x5001, STATUS["timeout"])
    story(
        "write-stalled",
        "the disk stopped answering while memory was written",
        log=files["write-stopped.log"],
        events=events.xml(),
        registry=registry(["dumpfve.sys"]),
    )

    events = EventLog().power(START + "1:05", CRASH)
    events.volmgr(START + "1:30", 161, 0x46, STATUS["failed"], "0x46")
    story(
        "progress-0x46",
        "event 161 with progress 0x46: the dump broke when it was being closed",
        log=log(until(logs.kernel(), "Progress 0x00000046")),
        events=events.xml(),
        registry=registry(["dumpfve.sys"]),
    )

    events = EventLog()
    guid = "17d2a329-4539-5f4d-3435-f510634ce3b9"
    provider, status = "Microsoft-Windows-Kernel-Dump", {"NTStatus": str(STATUS["denied"])}
    events.add("2026-03-02T22:10:00", provider, 7, status, level=3, guid=guid)
    story(
        "hibernation-fallback",
        "hibernation fell back because the dump stack could not be started; there was no crash",
        events=events.xml(),
        registry=registry(["dumpfve.sys", "veracrypt.sys"], "veracrypt"),
    )

    story(
        "leftover-filter",
        "a filter of removed software is still registered; the dump is well",
        dump=healthy,
        registry=registry(["dumpfve.sys", "acmeflt.sys", "oldvendor.sys"], "acmeflt"),
    )

    story(
        "healthy",
        "everything worked",
        dump=healthy,
        log=full,
        events=after.xml(),
        registry=good,
        note=b"The machine crashed on Tuesday. Please advise.\r\n",
    )

    events = EventLog().power(START + "1:05", CRASH)
    events.volmgr(START + "1:30", 161, 0x5001, STATUS["failed"])
    story(
        "contradictory",
        "the log says that the dump was completed, event 161 says that it failed",
        log=files["healthy-kernel.log"],
        events=events.xml(),
        registry=registry(["dumpfve.sys"]),
    )

    small, of_small = dump("healthy", 4)
    events = EventLog().power("2024-03-05T14:11:02", of_small)
    events.reporting("2024-03-05T14:11:40", of_small, r"C:\WINDOWS\Minidump\030524-5515-01.dmp")
    events.power("2026-03-04T17:47:00", LATER)
    events.volmgr("2026-03-04T17:47:30", 161, 0x44, STATUS["failed"], "0x44")
    stuck = until(
        logs.kernel(drivers=["CRASHDUMP", "badnic"]), "Calling badnic secondary callback."
    )
    story(
        "two-crashes",
        "the minidump is of one crash, the log of a later one; the event log has both",
        small=small,
        log=log(stuck, LATER),
        events=events.xml(),
        registry=registry(["dumpfve.sys", "acmeflt.sys"], "acmeflt"),
    )
    return made


#: as the files are called on the machine
FILES = {
    "dump": "MEMORY.DMP",
    "small": "Minidump/030524-5515-01.dmp",
    "log": "DumpStack.log",
    "events": "System.xml",
    "registry": "CrashControl.reg",
    "note": "mail.txt",
}
SHIPPED = ("filter-file-missing", "driver-stuck", "two-crashes")


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of the files; stored, because compressed bytes differ between versions of zlib."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, data in files.items():
            member = zipfile.ZipInfo(name, (2026, 3, 5, 12, 0, 0))
            member.create_system = 0
            target.writestr(member, data, compression)
    return out.getvalue()


def make() -> dict[str, bytes]:
    """Name in sample-traces/cases -> content, the manifest included."""
    known = stories()
    made = {f"{name}.zip": archive(known[name].files) for name in SHIPPED}
    command = "python sample-traces/generator_cases.py"
    rows = [f"# Made by `{command}`; do not edit.", f'made_by = "{command}"']
    for name in SHIPPED:
        data = made[f"{name}.zip"]
        files = ", ".join(f'"{file}"' for file in known[name].files)
        rows += [
            "",
            "[[case]]",
            f'file = "{name}.zip"',
            f'tells = "{known[name].tells}"',
            f"holds = [{files}]",
            f"size = {len(data)}",
            f'sha256 = "{hashlib.sha256(data).hexdigest()}"',
        ]
    made["MANIFEST.toml"] = ("\n".join(rows) + "\n").encode("utf-8")
    return made


def main() -> int:
    """Writes or compares; 1 when a comparison fails."""
    parser = argparse.ArgumentParser(description="Writes the shipped case archives.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    different = 0
    for name, content in make().items():
        path = FOLDER / name
        if path.exists() and path.read_bytes() == content:
            continue
        different += 1
        print(("differs: " if check else "written: ") + name)
        if not check:
            FOLDER.mkdir(exist_ok=True)
            path.write_bytes(content)
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
