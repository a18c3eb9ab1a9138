"""The log of a virtual machine's host (libvirt, QEMU) -> the bugchecks that its guest reported.

Windows tells the hypervisor the code and the parameters of a bugcheck before it writes a dump;
libvirt writes them as ``panic hyper-v: arg1='0x...'``, QMP as the event GUEST_PANICKED. A guest
whose host ends it at that moment, which is QEMU's default, never writes a dump.

Invariant: that the host ended the guest is said only where the log says it after the panic and
before the next start. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ..absence import Absent
from ..errors import InputError
from ..files import reason
from ..names import bugchecks
from ..records import Anomaly, Evidence, Machine, Origin, Records, Source
from .text_file import encoding_of

KIND = "host log"
#: a longer line is none of these
LONGEST_LINE = 1 << 16
#: a machine that panics more often restarts endlessly; the rest is counted
MOST_PANICS = 10_000
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?([+-]\d\d:?\d\d|Z)")
_PANIC = re.compile(r"\bpanic hyper-v: (.*)")
_ARGUMENT = re.compile(r"\barg([1-5])='?(0[xX][0-9a-fA-F]{1,16}|\d{1,20})")
_STARTED = re.compile(r"\bstarting up libvirt version\b")
#: "destroyed" is what somebody did later, with a dump written or not
_ENDED = re.compile(r"\bshutting down, reason=(crashed)\b")
_QMP = re.compile(r'"event"\s*:\s*"(GUEST_PANICKED|GUEST_CRASHLOADED|SHUTDOWN|RESET|STOP)"')
_ENDING_ACTIONS = ("poweroff", "shutdown", "exit-failure")


class _Panic(NamedTuple):
    """One panic of the guest, as the log tells it."""

    arguments: tuple[int, ...]  #: code and four parameters; () when it is only told that it was
    time: int | None
    offset: int
    line: int
    is_dump_to_follow: bool = False  #: the guest said that it has a dump to write
    ended_by: str = ""  #: the words by which the host ended it


def is_host_log(text: str) -> bool:
    """True for the log of a guest, or for QMP events, that can hold a panic."""
    return bool(
        _PANIC.search(text)
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
        if panic.arguments:
            records.add(_machine(panic, origin))
        else:
            records.add(_unnamed(panic, origin))
        if panic.ended_by:
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
    match = _PANIC.search(line)
    if match:
        found = _ARGUMENT.findall(match[1])
        given = {int(k): int(v, 16 if v[:2] in ("0x", "0X") else 10) for k, v in found}
        if 1 not in given:
            return None
        arguments = tuple(given.get(n, 0) & (1 << 64) - 1 for n in range(1, 6))
        return _Panic(arguments, _time(line[: match.start()]), offset, number)
    event = _qmp(line)
    if event is None or event["event"] not in ("GUEST_PANICKED", "GUEST_CRASHLOADED"):
        return None
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    info = data.get("info")
    arguments = ()
    if isinstance(info, dict) and info.get("type") == "hyper-v":
        values = [info.get(f"arg{n}") for n in range(1, 6)]
        if all(isinstance(value, int) and 0 <= value < 1 << 64 for value in values):
            arguments = tuple(int(value) for value in values if value is not None)
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


def _qmp(line: str) -> dict[str, Any] | None:
    match = _QMP.search(line)
    if not match:
        return None
    begin = line.find("{")
    try:
        event = json.loads(line[begin : line.rfind("}") + 1])
    except (json.JSONDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) and event.get("event") == match[1] else None


def _qmp_time(event: dict[str, Any]) -> int | None:
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


def _machine(panic: _Panic, origin: Origin) -> Machine:
    other = Absent("not-recorded", "a host does not record it", "a kernel dump")
    code, *parameters = panic.arguments
    fields: dict[str, Any] = dict.fromkeys(Machine._fields, other)
    untimed = Absent("not-recorded", "the line has no time with its zone")
    wide = Absent("out-of-range", "more than 32 bits")
    fields.update(
        bugcheck=code if code < 1 << 32 else wide,
        bugcheck_name=bugchecks.name(code) if code < 1 << 32 else wide,
        system_time=panic.time if panic.time is not None else untimed,
        origin=origin,
    )
    fields.update({f"parameter{n}": value for n, value in enumerate(parameters, 1)})
    return Machine(**fields)


def _ended(panic: _Panic, origin: Origin) -> Anomaly:
    code = f" of bugcheck {panic.arguments[0]:#x}" if panic.arguments else ""
    return Anomaly(
        "host-ended-guest",
        f"The host ended the guest at its panic{code} ({panic.ended_by}), so the guest had no time "
        "to write a dump.",
        origin,
        "host",
        (
            Evidence("bugcheck", panic.arguments[0] if panic.arguments else None, "Code"),
            Evidence("ended by", panic.ended_by),
        ),
        {"ended": True},
    )


def _unnamed(panic: _Panic, origin: Origin) -> Anomaly:
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
