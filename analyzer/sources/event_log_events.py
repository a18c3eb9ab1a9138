"""Which events concern the dump path, and what one of them says in words.

Invariant: a field is decoded only at its documented place; a payload that is too short is said to
be short. Sources: provider manifests (Kernel-Dump, Kernel-IO, Kernel-Boot, Crashdump), the message
table of I/O errors, IO_ERROR_LOG_PACKET of wdm.h. Standard library only.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

from ..names import bugchecks, locations, ntstatus, progress

KERNEL_POWER = "microsoft-windows-kernel-power"
KERNEL_DUMP = "microsoft-windows-kernel-dump"
KERNEL_IO = "microsoft-windows-kernel-io"
KERNEL_BOOT = "microsoft-windows-kernel-boot"
CRASHDUMP = "microsoft-windows-crashdump"
WER = ("microsoft-windows-wer-systemerrorreporting", "bugcheck", "save dump")

#: (provider in lower case, event id) -> what it means
MEANINGS: dict[tuple[str, int], str] = {
    **{("volmgr", number): words for number, words in locations.VOLMGR.items()},
    (KERNEL_POWER, 41): "the machine restarted without shutting down",
    ("eventlog", 6008): "the previous shutdown was unexpected",
    (KERNEL_DUMP, 1): "dump operation",
    (KERNEL_DUMP, 2): "dump policy value with status",
    (KERNEL_DUMP, 3): "dump policy value",
    (KERNEL_DUMP, 4): "disabling the crash dump failed",
    (KERNEL_DUMP, 5): "crash dump initialisation failed",
    (KERNEL_DUMP, 6): "loading a dump driver failed",
    (KERNEL_DUMP, 7): "initialising the dump stack failed (hibernation; this starts the filters)",
    (KERNEL_DUMP, 8): "freeing the dump stack failed",
    (KERNEL_DUMP, 9): "loading the dump stack failed",
    (KERNEL_DUMP, 10): "crash dump was disabled",
    (KERNEL_DUMP, 11): "crash dump was reconfigured",
    (KERNEL_DUMP, 12): "dumps are disabled by force",
    (KERNEL_IO, 1207): "dump encryption failed",
    (KERNEL_IO, 1304): "crash dump initialisation at boot starts",
    (KERNEL_IO, 1305): "crash dump initialisation at boot ended",
    (CRASHDUMP, 1): "whether the dump stack can resume",
    (CRASHDUMP, 2): "transfer sizes of the dump stack",
    (CRASHDUMP, 3): "a dump file was created",
    (CRASHDUMP, 4): "preparing early crash dump failed",
    (CRASHDUMP, 5): "initialising early crash dump failed",
    (CRASHDUMP, 6): "early crash dump is initialised",
    (CRASHDUMP, 7): "early crash dump is supported",
    **{(KERNEL_BOOT, n): "early dump support could not be loaded" for n in range(257, 268)},
    **{(who, n): "Windows Error Reporting after a crash" for who in WER for n in range(1000, 1020)},
}  # fmt: skip
_WER_WORDS = {
    1000: "restarted from a bugcheck, a full dump was not saved",
    1001: "restarted from a bugcheck",
    1002: "the saved dump could not be converted to a minidump",
    1003: "the shutdown settings could not be read from the registry",
    1004: "the dump could not be moved to its final place",
    1005: "no minidump could be made from the full dump",
    1006: "restarted from a bugcheck, a dump was not saved",
    1019: "a driver is suspected",
}
MEANINGS.update({(name, number): words for name in WER for number, words in _WER_WORDS.items()})
#: disk and storage port drivers that log errors under their own name
STORAGE = re.compile(
    r"disk|storahci|stornvme|storport|microsoft-windows-storport|iastor\w*|amdsata|amd_sata|"
    r"megasas\w*|lsi_\w+|nvme\w*|secnvme\w*|viostor|vioscsi|pvscsi|atapi|mpio|storvsc"
)
#: warning and worse; level 0 is what some drivers log errors with
STORAGE_LEVELS = (1, 2, 3)


class RawEvent(NamedTuple):
    """One event as its file holds it."""

    provider: str
    guid: str
    event_id: int
    version: int | None
    level: int | None
    task: int | None
    opcode: int | None
    keywords: int | None
    time: Any  #: ns, or Absent with the reason
    record_id: int | None
    process_id: int | None
    thread_id: int | None
    channel: str
    data: list[tuple[str, str]]  #: name ("" where there is none) and text
    binary: bytes | None
    message: str  #: rendered text, only in exports
    offset: int | None


class Packet(NamedTuple):
    """The fields of an IO_ERROR_LOG_PACKET that name a failure."""

    error_code: int
    location: int  #: UniqueErrorValue
    status: int  #: FinalStatus


class Decoded(NamedTuple):
    """An event in words, with the numbers that findings need."""

    text: str
    packet: Packet | None
    progress: int | None
    status: int | None
    bugcheck: tuple[int, ...]  #: code and four parameters, or ()


def is_wanted(provider: str, event_id: int) -> bool:
    """True for the events of the dump path and of storage drivers."""
    lower = provider.lower()
    return (lower, event_id) in MEANINGS or STORAGE.fullmatch(lower) is not None


def is_storage(event: RawEvent) -> bool:
    """True for an event of a disk or storage port driver."""
    return STORAGE.fullmatch(event.provider.lower()) is not None


def meaning(event: RawEvent) -> str | None:
    """What the event means, None for a storage event (its text says it)."""
    return MEANINGS.get((event.provider.lower(), event.event_id))


def decode(event: RawEvent) -> Decoded:
    """The payload in words."""
    provider = event.provider.lower()
    if provider == "volmgr" or is_storage(event):
        return _io_error(event)
    if provider == KERNEL_POWER:
        return _kernel_power(event)
    if provider in WER:
        return _error_reporting(event)
    values = {name: text for name, text in event.data if name}
    status = next(
        (_number(text) for name, text in values.items() if "status" in name.lower()), None
    )
    words = [f"{name} = {text}" if name else text for name, text in event.data if text]
    if status is not None:
        words.append(f"status {status & 0xFFFFFFFF:#010x} {ntstatus.name(status)}")
        status &= 0xFFFFFFFF
    return Decoded("; ".join(words) or event.message, None, None, status, ())


def packet_of(binary: bytes | None) -> Packet | None:
    """Error code at 0x0C, UniqueErrorValue at 0x10, FinalStatus at 0x14 (wdm.h)."""
    if binary is None or len(binary) < 0x18:
        return None
    return Packet(*struct.unpack_from("<III", binary, 0x0C))


def _io_error(event: RawEvent) -> Decoded:
    words = [text for _, text in event.data if text] or ([event.message] if event.message else [])
    packet = packet_of(event.binary)
    stage: int | None = None
    if event.provider.lower() == "volmgr" and event.event_id == 161:
        # message text of newer builds: "BugCheckProgress was: %2"; %1 is the device
        stage = next((_number(text) for _, text in event.data[1:2]), None)
        if stage is None:
            said = re.search(r"BugCheckProgress[^0-9]*(0x[0-9A-Fa-f]{1,8})", event.message)
            stage = int(said[1], 16) if said else None
        if stage is None and packet and packet.location <= progress.STAGE_MASK:
            # seen in a public event 161: the location is the stage (0x46) and no 0x2001... code
            stage = packet.location
    if packet:
        if stage is None or packet.location != stage:
            words.append(f"location {packet.location:#x}: {locations.name(packet.location)}")
        status = f"{packet.status:#010x}"
        words.append(f"status {status} {ntstatus.name(packet.status)}")
    if stage is not None:
        words.append(f"BugCheckProgress {stage:#x}: {progress.name(stage)}")
    return Decoded("; ".join(words), packet, stage, packet.status if packet else None, ())


def _kernel_power(event: RawEvent) -> Decoded:
    values = dict(event.data)
    code = _number(values.get("BugcheckCode", ""))
    if not code:
        text = "no bugcheck code: power loss, reset, or a hang" if code == 0 else event.message
        return Decoded(text, None, None, None, ())
    numbers = [_number(values.get(f"BugcheckParameter{n}", "")) or 0 for n in range(1, 5)]
    return Decoded(_bugcheck_words(code, numbers), None, None, None, (code, *numbers))


def _error_reporting(event: RawEvent) -> Decoded:
    texts = [text for _, text in event.data if text] or [event.message]
    found = re.search(
        r"(0x[0-9A-Fa-f]{1,8})\s*\(((?:0x[0-9A-Fa-f]{1,16}[,\s]*){4})\)", " ".join(texts)
    )
    if not found:
        return Decoded("; ".join(texts), None, None, None, ())
    code = int(found[1], 16)
    numbers = [int(part, 16) for part in re.findall(r"0x[0-9A-Fa-f]+", found[2])]
    words = [_bugcheck_words(code, numbers)]
    if len(texts) > 1:
        words.append(f"dump {texts[1]}")
    if len(texts) > 2:
        words.append(f"report {texts[2]}")
    return Decoded("; ".join(words), None, None, None, (code, *numbers))


def _bugcheck_words(code: int, numbers: list[int]) -> str:
    parameters = ", ".join(f"{number:#x}" for number in numbers)
    return f"bugcheck {code:#x} {bugchecks.name(code)} ({parameters})"


def _number(text: str) -> int | None:
    """A number as event data spell it: decimal, negative decimal, or 0x..."""
    text = text.strip()
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}", text):
        return int(text, 16)
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else None
