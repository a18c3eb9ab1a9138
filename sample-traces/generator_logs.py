"""Writes the sample DumpStack logs and registry exports of sample-traces/logs, always the same.

Run it to write them again: ``python sample-traces/generator_logs.py``. Each entry of ``files()``
is one story; the line texts are those of real logs, the failure lines are marked as invented,
because no log of a failed dump is public.
"""

from __future__ import annotations

import struct
from pathlib import Path

SIZE = 12288  # size of the real logs
TYPES = {4: "minidump", 5: "full", 6: "kernel"}


def header(end: int) -> bytes:
    """The 32 bytes before the text."""
    return b"DLOGFILE00010000DUMP" + struct.pack("<I8x", end)


def build(lines: list[str], size: int = SIZE, behind: bytes = b"") -> bytes:
    """A log file as Windows writes it: header, text, what lay behind, zero filler."""
    text = b"\r\n"
    for line in lines:
        if 0x20 + len(text) + len(line) + 2 > size:
            break  # full: no further line fits
        text += line.encode("latin-1") + b"\r\n"
    end = 0x20 + len(text)
    return (header(end) + text + behind).ljust(size, b"\0")[:size]


def opening(code: int = 0xD1, first_ms: int = 1500) -> list[str]:
    """From the first line to the size of the secondary data."""
    lines = [
        "Dump stack initialized at UTC: 2026/03/01 10:20:30, local time: 2026/03/01 11:20:30.",
        f"#BugCheckCode 0x{code:016X}",
    ]
    lines += [
        f"#BugCheckP{n} 0x{value:016X}"
        for n, value in enumerate((0x28, 2, 0, 0xFFFFF80312345678), 1)
    ]
    lines += [
        "Progress 0x00000042",
        f"Elapsed BugCheck duration {first_ms:08d}ms",
        "Starting get secondary dump callbacks size.",
        "Progress 0x00000052",
        "Finish get secondary dump callbacks size.",
    ]
    return lines


def sizes(kind: int, total: int) -> list[str]:
    """Dump type and size, and the dump header."""
    return [
        f"Dump Type: {kind}, Total Dump Size: {total}, Secondary Dump Size: 100000.",
        "Starting write of dump header.",
        "Finish write of dump header.",
    ]


def memory(
    start_ms: int, pages: int, rates: list[int] | None = None, stop_after: int | None = None
) -> list[str]:
    """The memory write in 20 chunks; ``stop_after`` ends it behind that percentage."""
    lines = [
        "Starting write of kernel bitmap dump header.",
        "Finish write of bitmap dump header.",
        "Starting write of memory dump data.",
        f"Elapsed BugCheck duration {start_ms:08d}ms",
        "Dumping physical memory to disk:  0% ",
    ]
    for chunk in range(1, 21):
        if rates:
            rate = rates[(chunk - 1) % len(rates)]
            lines.append(f"WriteBitmapDump: pages written = {pages // 20}, MB per sec = {rate}.")
        lines.append(f"Dumping physical memory to disk:  {chunk * 5}% ")
        if stop_after == chunk * 5:
            return lines
    return [*lines, f"Finish write of bitmap dump data. Total pages:{pages} Pages written:{pages}"]


def callbacks(drivers: list[str]) -> list[str]:
    """The four lines of each secondary callback."""
    lines = ["Starting invoking secondary dump callbacks."]
    for driver in drivers:
        lines += [
            f"Calling {driver} secondary callback.",
            f"Return from {driver} secondary callback.",
            f"Writing {driver} secondary callback data.",
            f"Writing {driver} secondary callback data done.",
        ]
    return lines


def parts() -> list[str]:
    """The multi-part callbacks."""
    lines = ["Calling secondary multi-part dump callbacks."]
    for name in ("TRIAGEDUMPDATA", "Etw"):
        lines += [
            f"Starting {name} multi-part secondary callback.",
            f"Finish {name} multi-part secondary callback.",
        ]
    return [*lines, "Finish calling secondary multi-part dump callbacks."]


def ending(end_ms: int) -> list[str]:
    """Everything after the secondary callbacks of a dump that worked."""
    return [
        *parts(),
        "Progress 0x00000045",
        "Finish invoking secondary dump callbacks.",
        "Starting invoking dump complete callbacks; Type: 0x04.",
        "Finished invoking dump complete callbacks; Type: 0x04.",
        "Progress 0x00000046",
        "Dump ended at UTC: 2026/03/01 10:20:30, local time: 2026/03/01 11:20:30.",
        f"Elapsed BugCheck duration {end_ms:08d}ms",
        "Progress 0x00000053",
        "Dump completed successfully.",
    ]


def written(ms: int, kind: int = 6) -> list[str]:
    """Memory is written; the clock."""
    return [
        f"Progress 0x000000{'44' if kind == 4 else '43'}",
        f"Elapsed BugCheck duration {ms:08d}ms",
    ]


DRIVERS = ["CRASHDUMP", "nvlddmkm.sys", "PortDriverStandard", "Wdf01000"]
PAGES = 262144  # 1 GiB


def kernel(
    first: int = 1500,
    write_ms: int = 5000,
    rates: list[int] | None = None,
    drivers: list[str] = DRIVERS,
) -> list[str]:
    """A whole kernel bitmap dump."""
    start = first + 50
    return [
        *opening(first_ms=first),
        *sizes(6, PAGES * 4096 + 100000),
        *memory(start, PAGES, rates),
        *written(start + write_ms),
        *callbacks(drivers),
        *ending(start + write_ms + 700),
    ]


def minidump() -> list[str]:
    """A whole minidump."""
    mini = ["Starting write of minidump data.", "Finish write of minidump data."]
    return [
        *opening(),
        *sizes(4, 1500000),
        *mini,
        *written(3000, 4),
        *callbacks(DRIVERS),
        *ending(3500),
    ]


def files() -> dict[str, bytes]:
    """File name -> bytes."""
    healthy = build(kernel(rates=[205, 210, 198]))
    stuck = kernel(drivers=["CRASHDUMP", "badnic"])
    stuck = stuck[: stuck.index("Calling badnic secondary callback.") + 1]
    no_room = ["Dump file is too small - switching to minidump."]  # invented wording
    failure = ["Dump failed with status 0xC0000185."]  # invented wording
    older = build(minidump())
    short = [*opening(), *sizes(6, PAGES * 4096)]
    end = len(build(short).rstrip(b"\0"))
    crowd = [f"driver{n:02d}.sys" for n in range(80)]
    return {
        "healthy-kernel.log": healthy,
        "healthy-minidump.log": older,
        "start-slow.log": build(kernel(first=31250)),
        "write-slow.log": build(kernel(write_ms=102400)),
        "write-stalled-chunk.log": build(kernel(write_ms=60000, rates=[200, 210, 1])),
        "write-stopped.log": build(
            [*opening(), *sizes(6, PAGES * 4096), *memory(1550, PAGES, stop_after=35)]
        ),
        "driver-stuck.log": build(stuck),
        "data-write-stuck.log": build(
            [
                *stuck,
                "Return from badnic secondary callback.",
                "Writing badnic secondary callback data.",
            ]
        ),
        "reduced-to-minidump.log": build(
            [*opening(), *sizes(6, PAGES * 4096), *no_room, *minidump()[len(opening()) :]]
        ),
        "failed.log": build([*opening(), *sizes(6, PAGES * 4096), *failure]),
        "pages-missing.log": build(
            [line.replace(f"written:{PAGES}", f"written:{PAGES - 44}") for line in kernel()]
        ),
        "full.log": build(kernel(drivers=crowd), size=8192),
        "leftover.log": build(short, behind=older[end:].rstrip(b"\0")),
        "line-ends-lf.log": healthy.replace(b"\r\n", b"\n"),
        "utf-8.log": build(kernel(drivers=["Grafik-Gerät"])).decode("cp1252").encode("utf-8-sig"),
        "utf-16.log": healthy.rstrip(b"\0").decode("cp1252").encode("utf-16"),
        "conflict-markers.log": build(["<<<<<<< HEAD", *kernel(), ">>>>>>> theirs"]),
        "cut.log": build(kernel())[:1000],
        "header-lost.log": build(kernel())[0x22:].rstrip(b"\0"),
        "empty.log": build([]),
        "crash-control.reg": reg(HEALTHY).encode("utf-16"),
        "crash-control-disabled.reg": reg(DISABLED).encode("ascii"),
        "crash-control-faulty.reg": reg(FAULTY).encode("utf-8-sig"),
    }


# ---------------------------------------------------------------- registry exports

CONTROL = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\CrashControl"
SERVICES = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services"
HEALTHY = {
    CONTROL: {
        "AutoReboot": 1,
        "CrashDumpEnabled": 7,
        "DumpFile": r"@%SystemRoot%\MEMORY.DMP",
        "DumpFilters": ["dumpfve.sys", "veracrypt.sys"],
        "DumpLogLevel": 1,
        "EnableLogFile": 1,
        "LogEvent": 1,
        "MinidumpDir": r"@%SystemRoot%\Minidump",
        "MinidumpsCount": 5,
        "Overwrite": 1,
        "LastCrashTime": b"\x00\x4a\x8c\x71\x9c\xa8\xdc\x01",
    },
    SERVICES + r"\veracrypt": {
        "Start": 0,
        "Type": 1,
        "ImagePath": r"@System32\drivers\veracrypt.sys",
    },
}
DISABLED = {CONTROL: {"CrashDumpEnabled": 0, "DumpFilters": ["dumpfve.sys"], "EnableLogFile": 0}}
FAULTY = {
    CONTROL: {
        "CrashDumpEnabled": 1,
        "FilterPages": 1,
        "EnableLogFile": 1,
        "SimulateError": 0x2005,
        "DumpFilters": ["dumpfve.sys", "oldvendor.sys", "stopped.sys"],
        "DedicatedDumpFile": "D:\\dedicated.dmp",
        "PageFileTooSmall": b"\x00\x00\x00\x80\x01\x00\x00\x00",
    },
    SERVICES + r"\stopped": {"Start": 4, "Type": 1},
}


def reg(keys: dict[str, dict[str, object]]) -> str:
    """A registry export as regedit writes it; "@" before a text makes it REG_EXPAND_SZ."""
    lines = ["Windows Registry Editor Version 5.00", ""]
    for key, values in keys.items():
        lines.append(f"[{key}]")
        for name, value in values.items():
            lines.append(f'"{name}"={_reg_value(name, value)}')
        lines.append("")
    return "\r\n".join([*lines, ""])


def _reg_value(name: str, value: object) -> str:
    if isinstance(value, int):
        return f"dword:{value:08x}"
    if isinstance(value, str) and not value.startswith("@"):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bytes):
        kind, data = "hex(b)", value
    elif isinstance(value, list):
        kind, data = "hex(7)", ("\0".join(value) + "\0\0").encode("utf-16-le")
    else:
        kind, data = "hex(2)", (str(value)[1:] + "\0").encode("utf-16-le")
    # regedit breaks the line before column 80 and goes on with two blanks
    out, line = [], f'"{name}"={kind}:'
    lead = len(f'"{name}"=')
    for number, byte in enumerate(data):
        piece = f"{byte:02x}" + ("," if number + 1 < len(data) else "")
        if len(line) + len(piece) > 78:
            out.append(line + "\\")
            line = "  "
        line += piece
    return "\r\n".join([*out, line])[lead:]


def main() -> None:
    """Writes all files."""
    folder = Path(__file__).parent / "logs"
    folder.mkdir(exist_ok=True)
    for name, data in files().items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
