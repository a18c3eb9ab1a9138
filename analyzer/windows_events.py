"""What one Windows event says, whatever held it: in words and as typed facts.

Invariant: an event log, its exports, a trace and the buffers of a dump hand over a
:class:`RawEvent` and get the same :class:`Decoded`; a field is decoded only
at its documented place, and what a form of text has lost is not made up. Standard library only.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from .names import bugchecks, events, locations, ntstatus, progress
from .names.events import KnownEvent
from .records import Time, filetime_to_ns

_SECOND = 10**9


class RawEvent(NamedTuple):
    """One event as its file holds it."""

    provider: str
    guid: str = ""
    event_id: int = 0
    version: int | None = None
    level: int | None = None
    task: int | None = None
    opcode: int | None = None
    keywords: int | None = None
    time: Time = None
    record_id: int | None = None
    process_id: int | None = None
    thread_id: int | None = None
    channel: str = ""
    data: Sequence[tuple[str, str]] = ()  #: name ("" where there is none) and text
    binary: bytes | None = None
    message: str = ""  #: rendered text, only in exports
    offset: int | None = None
    local: str = ""  #: time of an export that states no zone, as it stands there

    @property
    def known(self) -> KnownEvent | None:
        """What is known of it."""
        if self.key == events.PROBLEM and not self._is_blue_screen:
            return None
        if self.key == events.HYPERV and not guest_bugcheck(self):
            return None
        return events.EVENTS.get((self.key, self.event_id))

    @property
    def _is_blue_screen(self) -> bool:
        return "BlueScreen" in self.message or any(text == "BlueScreen" for _, text in self.data)

    @property
    def key(self) -> str:
        """Its provider as the table spells it."""
        return events.provider_key(self.provider, self.guid)

    @property
    def is_storage_trouble(self) -> bool:
        """True for a warning or error of a disk or storage port driver.

        StorPort also logs each port without a device as an error; of its events those count that
        are of the boot disk or speak of an error or a time-out.
        """
        if not events.is_storage(self.key) or self.level not in events.STORAGE_LEVELS:
            return False
        if self.key != events.STORPORT:
            return True
        told = dict(self.data).get("MiniportEventDescription", "").lower()
        return is_boot_device(self) or "error" in told or is_timeout(self)


class Packet(NamedTuple):
    """The fields of an IO_ERROR_LOG_PACKET that name a failure."""

    error_code: int
    location: int  #: UniqueErrorValue
    status: int  #: FinalStatus


class Decoded(NamedTuple):
    """An event in words, with the facts that findings and the joining of crashes need."""

    text: str
    packet: Packet | None = None
    progress: int | None = None
    status: int | None = None
    bugcheck: tuple[int, ...] = ()  #: code and parameters, those behind a gap left out; or ()
    dump_path: str = ""
    report_id: str = ""
    happened: int | None = None  #: ns: the power button, or the last moment alive
    is_power_button: bool = False
    in_sleep: bool = False  #: a sleep transition was under way
    no_bugcheck: bool = False  #: the event states that there was none


def decode(event: RawEvent) -> Decoded:
    """The payload in words and numbers."""
    key = event.key
    if key == events.VOLMGR or events.is_storage(key):
        return _io_error(event)
    if (key, event.event_id) == (events.KERNEL_POWER, 41):
        return _dirty(event)
    if (key, event.event_id) == (events.EVENTLOG, 6008):
        return _unexpected(event)
    if key == events.WER:
        return _error_reporting(event)
    if key == events.PROBLEM:
        return _problem(event)
    if key == events.SYSTEM_ERROR:
        return _system_error(event)
    if key == events.HYPERV:
        return _guest(event)
    if key == events.CLEARING:  # who did it is of no use here
        return Decoded(dict(event.data).get("Channel", ""))
    status = _status(event)
    words = [f"{name} = {text}" if name else text for name, text in event.data if text]
    words = words or ([event.message] if event.message else [])
    if status is not None:
        words.append(_coded("status", status))
    return Decoded("; ".join(words), status=status)


def _named(event: RawEvent) -> dict[str, str]:
    """The data by name; names that a form of text has lost are those of the table, in order."""
    values = {name: text for name, text in event.data if name}
    if not values and event.known and len(event.data) >= 1:
        texts = [text for _, text in event.data]
        values = dict(zip(event.known.fields, texts))
    return values


def _status(event: RawEvent) -> int | None:
    """The NTSTATUS among the fields, or the one in the message of an export."""
    for name, text in _named(event).items():
        if "status" in name.lower():
            status = number_of(text)
            if status is not None:
                return status & 0xFFFFFFFF
    if event.known and event.known.rule and not event.data:
        told = re.findall(r"\b0x([89A-Fa-f][0-9A-Fa-f]{7})\b", event.message)
        return int(told[0], 16) if len(set(told)) == 1 else None
    return None


def packet_of(binary: bytes | None) -> Packet | None:
    """Error code at 0x0C, UniqueErrorValue at 0x10, FinalStatus at 0x14 (wdm.h)."""
    if binary is None or len(binary) < 0x18:
        return None
    return Packet(*struct.unpack_from("<III", binary, 0x0C))


def _io_error(event: RawEvent) -> Decoded:
    words = [f"{name} = {text}" if name else text for name, text in event.data if text]
    words = words or ([event.message] if event.message else [])
    packet = packet_of(event.binary)
    stage: int | None = None
    if (event.key, event.event_id) == (events.VOLMGR, 161):
        # message text of newer builds: "BugCheckProgress was: %2"; %1 is the device
        stage = next((number_of(text) for _, text in event.data[1:2]), None)
        if stage is None:
            stated = re.search(_PROGRESS, event.message)
            stage = int(stated[1], 16) if stated else None
        if stage is None and packet and packet.location <= progress.STAGE_MASK:
            # seen in a public event 161: the location is the stage (0x46) and no 0x2001... code
            stage = packet.location
    if packet:
        if event.key == events.VOLMGR and packet.location != stage:
            words.append(f"location {packet.location:#x}: {locations.name(packet.location)}")
        words.append(_coded("status", packet.status))
    if stage is not None:
        words.append(f"BugCheckProgress {stage:#x}: {progress.name(stage)}")
    status = packet.status if packet else None
    return Decoded("; ".join(words), packet, stage, status)


def _dirty(event: RawEvent) -> Decoded:
    """Kernel-Power 41: the bugcheck, and what was going on when the machine ended."""
    values = {name: number_of(text) for name, text in _named(event).items()}
    code = values.get("BugcheckCode")
    if code is not None and -(1 << 31) <= code < 0:  # exports of signed numbers
        code += 1 << 32
    words: list[str] = []
    bugcheck: tuple[int, ...] = ()
    given = (values.get(f"BugcheckParameter{n}") for n in range(1, 5))
    # one that is not there is not 0
    numbers = [n for n in itertools.takewhile(lambda n: n is not None, given) if n is not None]
    if code and not 0 < code < 1 << 32:  # the field has 32 bits: the value is of something else
        stated = ", ".join(f"{number:#x}" for number in numbers)
        words.append(f"BugcheckCode {code:#x}, which is not a bugcheck code")
        words[-1] += f", with {stated}" if stated else ""
    elif code:
        bugcheck = (code, *numbers)
        words.append(_bugcheck_words(code, numbers))
    elif code == 0:
        words.append("no bugcheck code: power loss, reset, or a hang")
    elif event.message:
        words.append(event.message)
    pressed = filetime_to_ns(values.get("PowerButtonTimestamp") or 0)
    is_long = _named(event).get("LongPowerButtonPressDetected", "").lower() in _TRUE
    is_pressed = isinstance(pressed, int) or is_long
    if is_pressed:
        words.append(f"the power button was {'held' if is_long else 'pressed'}")
        if isinstance(pressed, int):
            words[-1] += f" at {utc(pressed)}"
            if isinstance(event.time, int) and 0 <= event.time - pressed < 86400 * _SECOND:
                words[-1] += f", {_ago(event.time - pressed)} before this event"
    sleep = _named(event).get("SleepInProgress", "")  # "false" and "true" in older versions
    in_sleep = bool(number_of(sleep)) or sleep.lower() == "true"
    if in_sleep:
        words.append("this was during a sleep transition")
    status = values.get("BootAppStatus")
    if status:
        words.append(_coded("BootAppStatus", status))
    happened = pressed if isinstance(pressed, int) else None
    return Decoded(
        "; ".join(words), bugcheck=bugcheck, happened=happened, is_power_button=is_pressed,
        in_sleep=in_sleep, no_bugcheck=code == 0,
    )  # fmt: skip


def _coded(label: str, status: int) -> str:
    """A status with its name, the number once where it has none."""
    name = ntstatus.name(status)
    code = f"{status & 0xFFFFFFFF:#010x}"
    return f"{label} {name}" if name.startswith(code) else f"{label} {code} {name}"


def _ago(ns: int) -> str:
    """A number of seconds, minutes or hours, of which a reader sees the size at once."""
    seconds = ns // _SECOND
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


_TRUE = ("true", "1")


def _unexpected(event: RawEvent) -> Decoded:
    """EventLog 6008: its data are SYSTEMTIMEs of the last moment alive, local, then UTC."""
    alive = None
    if event.binary is not None and len(event.binary) >= 32:
        year, month, _, day, hour, minute, second, milli = struct.unpack_from(
            "<8H", event.binary, 16
        )
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
            alive = int(moment.timestamp()) * _SECOND + min(milli, 999) * 10**6
        except ValueError:
            alive = None
    words = " ".join(text for _, text in event.data[:2] if text) or event.message
    # the time and the date hold marks for the direction of writing
    words = re.sub("[\u200e\u200f]", "", words)
    if alive is not None:
        words = f"last alive at {utc(alive)}"
    return Decoded(words, happened=alive)


# Patterns that are compiled when they are first searched for: few events of a dump need one.
#: a number that the form of text has cut off is none
_PROGRESS = r"BugCheckProgress[^0-9]*(0x[0-9A-Fa-f]{1,8})(?![0-9A-Fa-f]|\.{2,3}|\u2026)"
_BUGCHECK = r"(0x[0-9A-Fa-f]{1,8})\s*\(((?:0x[0-9A-Fa-f]{1,16}[,;\s]*){4})\)"
_BUGCHECK_CUT = r"(0x[0-9A-Fa-f]{8})\s*\(0x[0-9A-Fa-f]{0,16}(?:\.{2,3}|\u2026)"  #: by a table
_DUMP_PATH = r"[A-Za-z]:\\[^\r\n\"<>|:*?]{1,250}?\.(?i:dmp)\b"
_MINIDUMP = r"\b\d{6}-\d{1,9}-\d{2}\.dmp\b"  #: a list of files may leave out the folder
_ERROR_CODE = r"\b[^\W\d]+ ?[0-4] ?: ?(0x[0-9A-Fa-f]{1,16})\b"
_SIGNATURE = r"\b(P[1-5]|BCCode|BCP[1-4]):\s*([0-9A-Fa-f]{1,16})\b"
_REPORT = r"\b([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\d{6}-\d{1,9}-\d{2})\b(?!\.dmp)"


def _error_reporting(event: RawEvent) -> Decoded:
    texts = [text for _, text in event.data if text] or [event.message]
    stated = re.search(_BUGCHECK, " ".join(texts))
    if not stated and event.message and event.data:
        return _error_reporting(event._replace(data=[]))
    if not stated:
        cut = re.search(_BUGCHECK_CUT, " ".join(texts))
        return Decoded("; ".join(texts), bugcheck=(int(cut[1], 16),) if cut else ())
    code = int(stated[1], 16)
    numbers = [int(part, 16) for part in re.findall(r"0x[0-9A-Fa-f]+", stated[2])]
    if event.data:
        path, report = (texts[n] if len(texts) > n else "" for n in (1, 2))
    else:
        paths, reports = re.search(_DUMP_PATH, event.message), re.search(_REPORT, event.message)
        path, report = paths[0] if paths else "", reports[1] if reports else ""
    words = [_bugcheck_words(code, numbers)]
    words += [f"dump {path}"] if path else []
    words += [f"report {report}"] if report else []
    return Decoded("; ".join(words), bugcheck=(code, *numbers), dump_path=path, report_id=report)


def _system_error(event: RawEvent) -> Decoded:
    """Event 1003 of XP: code and parameters, in hexadecimal without a mark."""
    words = " ".join(text for _, text in event.data if text) or event.message
    found = [int(digits, 16) for digits in re.findall(r"\b[0-9a-fA-F]{8}\b", words)[:5]]
    if len(found) < 5:
        return Decoded(words)
    return Decoded(_bugcheck_words(found[0], found[1:]), bugcheck=tuple(found))


def _guest(event: RawEvent) -> Decoded:
    """The crash of a virtual machine, which the host names."""
    bugcheck = guest_bugcheck(event)
    quoted = re.match(r"'([^'\n]{1,100})'", event.message)
    name = dict(event.data).get("VmName", quoted[1] if quoted else "")
    words = _bugcheck_words(bugcheck[0], bugcheck[1:]) if bugcheck else event.message
    return Decoded(f"virtual machine {name}; {words}" if name else words, bugcheck=bugcheck)


def guest_bugcheck(event: RawEvent) -> tuple[int, ...]:
    """Code and parameters that a guest of Hyper-V told; () where they are not those of Windows."""
    named = [text for name, text in event.data if re.fullmatch(r"VmErrorCode[0-4]", name)]
    stated = named or re.findall(_ERROR_CODE, event.message)
    numbers = [number_of(text) for text in stated]
    known = tuple(number for number in numbers if number is not None)
    if len(stated) != 5 or len(known) != 5 or bugchecks.is_foreign(*known[:2]):
        return ()
    return known


def _problem(event: RawEvent) -> Decoded:
    """The signature of a problem report: numbers in hexadecimal without a mark."""
    values = _named(event) or dict(re.findall(_SIGNATURE, event.message))
    for row in (("P1", "P2", "P3", "P4", "P5"), ("BCCode", "BCP1", "BCP2", "BCP3", "BCP4")):
        found = [number_of(f"0x{values.get(name, '')}") for name in row]
        known = [number for number in found if number is not None]
        if len(known) == len(row):
            path = re.search(_DUMP_PATH, event.message) or re.search(_MINIDUMP, event.message)
            words = _bugcheck_words(known[0], known[1:])
            return Decoded(words, bugcheck=tuple(known), dump_path=path[0] if path else "")
    return Decoded(event.message)


def _bugcheck_words(code: int, numbers: Iterable[int]) -> str:
    parameters = ", ".join(f"{number:#x}" for number in numbers)
    named = f"bugcheck {code:#x} {bugchecks.name(code)}"
    return f"{named} ({parameters})" if parameters else named


def number_of(text: str) -> int | None:
    """A number as event data spell it: decimal, negative decimal, or 0x..."""
    text = text.strip()
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}", text):
        return int(text, 16)
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else None


def utc(ns: int) -> str:
    """A time as text."""
    return f"{datetime.fromtimestamp(ns // _SECOND, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def is_boot_device(event: RawEvent) -> bool:
    """True for an event of StorPort that says it is of the boot disk."""
    return dict(event.data).get("BootDevice", "").lower() in _TRUE


def is_timeout(event: RawEvent) -> bool:
    """True for an event of StorPort that speaks of a time-out."""
    told = dict(event.data).get("MiniportEventDescription", "").lower()
    return "timeout" in told or "timed out" in told
