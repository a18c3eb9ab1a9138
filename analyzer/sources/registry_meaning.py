"""What the values of CrashControl and of a driver's service key mean, in words.

Sources: crashdmp.wordpress.com (configuration), carrona.org/bsodreg.html, Microsoft's documentation
of CrashControl and of driver service keys. Standard library only.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from ..absence import Absent
from ..names import drivers, locations
from .registry_keys import KeyValues

DUMP_KINDS = {
    0: "no dump",
    1: "complete memory dump",
    2: "kernel memory dump",
    3: "small memory dump (minidump)",
    7: "automatic memory dump",
}
ACTIVE = "active memory dump (complete dump without the pages that are filtered out)"
_SWITCHES = {
    "autoreboot": ("restarts after a crash", "stays at the blue screen"),
    "enablelogfile": ("DumpStack.log is written", "no DumpStack.log is written"),
    "dumploglevel": ("write rates are logged too", "the log has no write rates"),
    "alwayskeepmemorydump": ("the dump is always kept", "the dump can be deleted to save space"),
    "logevent": ("an event is logged after a crash", "no event is logged after a crash"),
    "overwrite": ("a new dump replaces the old one", "an old dump stays and a new one is lost"),
    "sendalert": ("an alert is sent", "no alert is sent"),
    "ignorepagefilesize": ("page file size is not checked", "page file size is checked"),
    "displayparameters": ("parameters are shown at a crash", "parameters are not shown"),
    "nmicrashdump": ("an NMI makes the machine crash", "an NMI does not make the machine crash"),
}  # fmt: skip
_TEXTS = {
    "dumpfile": "where a complete, kernel, automatic or active dump is put",
    "minidumpdir": "where minidumps are put",
    "dedicateddumpfile": "the dump is written to this file and not to the page file",
}
_START = {
    0: "started by the boot loader",
    1: "started by the kernel at boot",
    2: "started automatically",
    3: "started on demand",
    4: "disabled",
}
_TYPE = {1: "kernel driver", 2: "file system driver"}


def meaning_of(name: str, data: object, key: KeyValues) -> str | Absent:
    """One value in words; absent when its meaning is not known."""
    lower = name.lower()
    if lower.startswith("pagingfiles["):
        return _page_file(str(data))
    if lower.startswith("existingpagefiles["):
        return "a page file that Windows opened"
    if lower.startswith("dumpfilters["):
        return _filter(str(data), int(re.sub(r"\D", "", lower) or 0))
    if lower == "dumpfilters":
        return "no dump filter is registered"
    if lower == "crashdumpenabled" and isinstance(data, int):
        if data == 1 and key.get("FilterPages") == 1:
            return ACTIVE
        return DUMP_KINDS.get(data, "a number with no documented meaning")
    if lower == "filterpages" and isinstance(data, int):
        kind = "with CrashDumpEnabled 1: active memory dump"
        return kind if data == 1 else "pages are not filtered out"
    if lower in _SWITCHES and isinstance(data, int):
        return _SWITCHES[lower][0 if data else 1]
    if lower in _TEXTS and isinstance(data, str):
        return _TEXTS[lower]
    if lower == "minidumpscount" and isinstance(data, int):
        return f"the newest {data} minidumps are kept"
    if lower == "dumpfilesize" and isinstance(data, int):
        return f"size of the dedicated dump file: {data} MB" if data else "Windows chooses the size"
    if lower == "pagefiletoosmall":
        return "Windows found the page file too small for the dump" + _megabytes(data)
    if lower == "simulateerror" and isinstance(data, int):
        return f"simulate a failure when {locations.name(data)}" if data else "nothing is simulated"
    if lower == "lastcrashtime":
        return _time(data)
    if lower == "service start" and isinstance(data, int):
        return _START.get(data, "a number with no documented meaning")
    if lower == "service type" and isinstance(data, int):
        return _TYPE.get(data, "not a driver type")
    if lower == "service imagepath":
        return "the driver's file"
    return Absent("not-found", "no meaning of this value is known")


def text_of(data: object) -> str:
    """A value as text."""
    if isinstance(data, bool) or data is None:
        return str(data)
    if isinstance(data, int):
        return f"{data:#x}" if data > 9 else str(data)
    if isinstance(data, bytes):
        return data[:256].hex(" ") + (" ..." if len(data) > 256 else "")
    if isinstance(data, (list, tuple)):
        return "; ".join(str(part) for part in data)
    return str(data)


def _filter(entry: str, index: int) -> str:
    driver = drivers.known(entry.strip())
    owner = driver.owner if driver else "owner not known to this tool"
    order = "first" if index == 0 else f"number {index + 1}"
    return f"dump filter, {order} to be called; {owner}"


def page_file_limit(entry: str) -> int | None:
    """The largest size in bytes that a page file may have; None where Windows chooses it."""
    match = re.fullmatch(r"(.+?)\s+(\d{1,9})\s+(\d{1,9})\s*", entry)
    return int(match[3]) << 20 if match and int(match[3]) else None


def _page_file(entry: str) -> str:
    limit = page_file_limit(entry)
    if limit is None:
        return "page file; Windows chooses its size"
    return f"page file of at most {limit >> 20:,} MB"


def _number(data: object) -> int | None:
    if isinstance(data, bytes) and len(data) == 8:
        return int.from_bytes(data, "little")
    return data if isinstance(data, int) else None


def _megabytes(data: object) -> str:
    number = _number(data)
    # REG_QWORD; taken for bytes, because smaller numbers would be no size of a page file
    return f"; {number >> 20} MiB are asked for" if number and number >= 1 << 20 else ""


def _time(data: object) -> str | Absent:
    number = _number(data)
    if number is None or not 1 << 56 < number < 1 << 58:
        return Absent("unknown-layout", "not a FILETIME of this century")
    moment = datetime(1601, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=number // 10)
    return f"taken as FILETIME: {moment:%Y-%m-%d %H:%M:%S} UTC"
