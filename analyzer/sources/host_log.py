"""The log of a virtual machine's host (libvirt, QEMU, VMware, Xen) -> the bugchecks of its guest.

Windows tells the hypervisor the code and the parameters of a bugcheck before it writes a dump;
libvirt writes them as ``panic hyper-v: arg1='0x...'``, QMP as the event GUEST_PANICKED, VMware as
a line ``WinBSOD: Synthetic MSR[0x4000010n] 0x...`` for each number, Xen as ``VIRIDIAN CRASH: ...``.
A guest whose host ends it at that moment, which is QEMU's default, never writes a dump. Linux uses
the same registers.

Invariant: that the host ended the guest is said only where the log says it after the panic and
before the next start. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from ..absence import Absent
from ..errors import InputError
from ..files import reason
from ..names import bugchecks
from ..records import Anomaly, Evidence, Machine, Origin, Records, Source, untold
from .text_file import encoding_of

KIND = "host log"
#: a longer line is none of these
LONGEST_LINE = 1 << 16
#: a machine that panics more often restarts endlessly; the rest is counted
MOST_PANICS = 10_000
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?([+-]\d\d:?\d\d|Z)")
_PANIC = re.compile(r"\bpanic hyper-v: (.*)")
_ARGUMENT = re.compile(r"\barg([1-5])='?(0[xX][0-9a-fA-F]{1,16}|\d{1,20})")
_VMWARE = re.compile(r"\bWinBSOD: Synthetic MSR\[0x4000010([0-4])\] (0[xX][0-9a-fA-F]{1,16})\b")
_XEN = re.compile(r"\bVIRIDIAN (?:GUEST_)?CRASH:((?: (?:0x)?[0-9a-fA-F]{1,16}\b){5})")
_STARTED = re.compile(r"\bstarting up libvirt version\b|\bLog for VMware ")
#: "destroyed" is what somebody did later, with a dump written or not
_ENDED = re.compile(r"\bshutting down, reason=(crashed)\b")
_QMP = re.compile(r'"event"\s*:\s*"(GUEST_PANICKED|GUEST_CRASHLOADED|SHUTDOWN|RESET|STOP)"')
_ENDING_ACTIONS = ("poweroff", "shutdown", "exit-failure")


class _Panic(NamedTuple):
    """One panic of the guest, as the log tells it."""

    #: code and four parameters, None for one that is not there; () when it is only told that it was
    arguments: tuple[int | None, ...]
    time: int | None
    offset: int
    line: int
    is_dump_to_follow: bool = False  #: the guest said that it has a dump to write
    ended_by: str = ""  #: the words by which the host ended it

    @property
    def code(self) -> int | None:
        """The bugcheck; None when it is not told, or of another system than Windows."""
        if not self.arguments or self.arguments[0] is None:
            return None
        code = self.arguments[0]
        return None if bugchecks.is_foreign(code, self.arguments[1] or 0) else code


def is_host_log(text: str) -> bool:
    """True for the log of a guest, or for QMP events, that can hold a panic."""
    return bool(
        _PANIC.search(text)
        or _VMWARE.search(text)
        or _XEN.search(text)
        or _STARTED.search(text)
        or re.search(r'"GUEST_(PANICK|CRASHLOAD)', text)
    )


def collect(path: str) -> Records:
    """Reads one log of a host."""
    try:
        size = os.stat(path).st_size
        panics, left_out = _panics(path)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    records = Records()
    records.add(_source(path, size, len(panics)))
    for panic in panics:
        origin = Origin(path, f"line {panic.line}", file_offset=panic.offset)
        if panic.code is not None:
            records.add(_machine(panic, panic.code, origin))
        else:
            records.add(_unnamed(panic, origin))
        if panic.ended_by and (panic.code is not None or not panic.arguments):
            records.add(_ended(panic, origin))
    if left_out:
        text = f"Only the first {MOST_PANICS:,} panics were read; {left_out:,} more were counted."
        records.add(Anomaly("input-limit-reached", text, Origin(path, "whole file"), "panics"))
    return records


def _panics(path: str) -> tuple[list[_Panic], int]:
    found: list[_Panic] = []
    kept = left_out = 0
    for number, offset, line in _lines(path):
        if _STARTED.search(line):
            found.append(_Panic((), None, offset, number))  # a mark: what follows is another run
            continue
        vmware = _VMWARE.search(line)
        if vmware and vmware[1] != "0":  # the code came first, each parameter has its own line
            if found and found[-1].arguments and found[-1].arguments[int(vmware[1])] is None:
                values = list(found[-1].arguments)
                values[int(vmware[1])] = int(vmware[2], 16)
                found[-1] = found[-1]._replace(arguments=tuple(values))
            continue
        panic = _panic_of(line, number, offset)
        if panic is not None:
            if kept >= MOST_PANICS:
                left_out += 1
                continue
            if not panic.arguments and found and found[-1].time is not None:
                # GUEST_CRASHLOADED beside the panic that states the bugcheck
                more = found[-1].is_dump_to_follow or panic.is_dump_to_follow
                found[-1] = found[-1]._replace(is_dump_to_follow=more)
                continue
            found.append(panic)
            kept += 1
        if found and (found[-1].time is not None or found[-1].arguments):
            ended = _ending(line)
            if ended and not found[-1].ended_by:
                found[-1] = found[-1]._replace(ended_by=ended)
    return [p for p in found if p.time is not None or p.arguments], left_out


def _lines(path: str) -> Iterator[tuple[int, int, str]]:
    """(line number, offset, text)."""
    encoding = encoding_of(path)
    codec = "utf-8" if encoding == "utf-8-sig" else encoding
    offset = 0
    with open(path, "rb") as file:
        if codec.startswith("utf-16"):
            for number, text in enumerate(file.read().decode(codec, "replace").splitlines(), 1):
                yield number, 0, text
            return
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            yield number, offset, raw.decode(codec, "replace")
            offset += len(raw)


def _panic_of(line: str, number: int, offset: int) -> _Panic | None:
    match = _VMWARE.search(line)
    if match:
        nothing: list[None] = [None] * 4
        return _Panic((int(match[2], 16), *nothing), _time(line[: match.start()]), offset, number)
    match = _XEN.search(line)
    if match:
        numbers = tuple(int(number, 16) for number in match[1].split())
        return _Panic(numbers, _time(line[: match.start()]), offset, number)
    match = _PANIC.search(line)
    if match:
        found = _ARGUMENT.findall(match[1])
        given = {int(k): int(v, 16 if v[:2] in ("0x", "0X") else 10) for k, v in found}
        if 1 not in given:
            return None
        values = (given.get(n) for n in range(1, 6))
        stated = tuple(None if value is None else value & (1 << 64) - 1 for value in values)
        return _Panic(stated, _time(line[: match.start()]), offset, number)
    event = _qmp(line)
    if event is None or event["event"] not in ("GUEST_PANICKED", "GUEST_CRASHLOADED"):
        return None
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    info = data.get("info")
    arguments: tuple[int | None, ...] = ()
    if isinstance(info, dict) and info.get("type") == "hyper-v":
        told = [info.get(f"arg{n}") for n in range(1, 6)]
        if all(isinstance(value, int) and 0 <= value < 1 << 64 for value in told):
            arguments = tuple(told)
    ended = ""
    if data.get("action") in _ENDING_ACTIONS:
        ended = f"the action {data['action']}"
    is_loaded = event["event"] == "GUEST_CRASHLOADED"
    return _Panic(arguments, _qmp_time(event), offset, number, is_loaded, ended)


def _ending(line: str) -> str:
    """The words by which the host ends or resets a guest."""
    match = _ENDED.search(line)
    if match:
        return f"'shutting down, reason={match[1]}'"
    event = _qmp(line)
    if event is not None:
        data = event.get("data")
        reason = data.get("reason") if isinstance(data, dict) else None
        if event["event"] in ("SHUTDOWN", "RESET") and reason == "guest-panic":
            return f"the event {event['event']}, reason {reason}"
    return ""


def _qmp(line: str) -> dict[str, object] | None:
    match = _QMP.search(line)
    if not match:
        return None
    begin = line.find("{")
    try:
        event = json.loads(line[begin : line.rfind("}") + 1])
    except (json.JSONDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) and event.get("event") == match[1] else None


def _qmp_time(event: dict[str, object]) -> int | None:
    stamp = event.get("timestamp")
    if not isinstance(stamp, dict):
        return None
    seconds, micro = stamp.get("seconds"), stamp.get("microseconds", 0)
    if not isinstance(seconds, int) or not isinstance(micro, int) or not 0 <= seconds < 1 << 33:
        return None
    return seconds * 10**9 + max(0, min(micro, 999_999)) * 1000


def _time(text: str) -> int | None:
    match = _STAMP.search(text)
    if not match:
        return None
    zone = "+0000" if match[4] == "Z" else match[4].replace(":", "")
    try:
        moment = datetime.strptime(f"{match[1]} {match[2]} {zone}", "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds())
    return seconds * 10**9 + int((match[3] or "0").ljust(9, "0")) if seconds >= 0 else None


def _machine(panic: _Panic, code: int, origin: Origin) -> Machine:
    other = Absent("not-recorded", "a host does not record it", "a kernel dump")
    untimed = Absent("not-recorded", "the line has no time with its zone")
    left_out = Absent("not-recorded", "the line of the log does not have it")
    one, two, three, four = (left_out if n is None else n for n in panic.arguments[1:])
    return untold(Machine, other, origin)._replace(
        bugcheck=code,
        bugcheck_name=bugchecks.name(code),
        system_time=panic.time if panic.time is not None else untimed,
        parameter1=one, parameter2=two, parameter3=three, parameter4=four,
    )  # fmt: skip


def _ended(panic: _Panic, origin: Origin) -> Anomaly:
    code = "" if panic.code is None else f" of bugcheck {panic.code:#x}"
    return Anomaly(
        "host-ended-guest",
        f"The host ended the guest at its panic{code} ({panic.ended_by}), so the guest had no time "
        "to write a dump.",
        origin,
        "host",
        (Evidence("bugcheck", panic.code, "Code"), Evidence("ended by", panic.ended_by)),
        {"ended": True},
    )


def _unnamed(panic: _Panic, origin: Origin) -> Anomaly:
    if panic.arguments:
        stated = ", ".join("?" if value is None else f"{value:#x}" for value in panic.arguments)
        return Anomaly(
            "host-guest-panicked",
            f"The guest told its host of a crash that is not a bugcheck of Windows ({stated}): "
            "Linux and others use the same way.",
            origin,
            "host",
            (Evidence("time", panic.time, "Time"),),
        )
    follows = "it has a dump to write" if panic.is_dump_to_follow else "it writes no dump"
    event = "GUEST_CRASHLOADED" if panic.is_dump_to_follow else "GUEST_PANICKED"
    return Anomaly(
        "host-guest-panicked",
        f"The guest told its host of a crash, without the bugcheck, and that {follows} ({event}).",
        origin,
        "host",
        (Evidence("time", panic.time, "Time"),),
        {"dump_to_follow": panic.is_dump_to_follow},
    )


def _source(path: str, size: int, count: int) -> Source:
    return Source(
        path=path,
        kind=KIND,
        subtype=f"{count} panic{'' if count == 1 else 's'} of the guest",
        size_bytes=size,
        architecture=Absent("not-recorded", "the log does not name the architecture of the guest"),
        can_tell="bugcheck and parameters that the guest reported to its host, by the host's "
        "clock; whether the host ended it then",
        cannot_tell="anything of the dump stack; what the guest did after it was ended",
        origin=Origin(path, "recognition by content"),
    )
