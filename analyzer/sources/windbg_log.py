"""A log of WinDbg or kd: our own sessions and scripts, and what ordinary sessions hold.

Invariant: each line is read on its own, so noise between the lines (prompts, driver prints, path
checks) changes nothing; the facts of a session are those of a capture file and are handed to the
same reader. Standard library only.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..absence import Absent
from ..errors import InputError
from ..files import reason
from ..layouts.ntdddump import FILTER_DUMP_TYPES, MEDIA_TYPES, PARTITION_STYLES, filter_extension
from ..records import Anomaly, Extension, Origin, Records
from . import windbg_text as words
from .capture_file import compare
from .capture_format import Fact, decode, number, raw
from .capture_reader import CaptureReader
from .windbg_sessions import Session, Sessions

_MARK = re.compile(r"dumpstart:(\d{1,3}) (.*)$")
#: in front of a mark: a command that the host echoed, not its output
_TYPED = re.compile(r"\.(?:echo|printf)\b|\"|^b[pu]")
_PAIR = re.compile(r"(\w+)=(\S*)")
_UNLOADED = re.compile(r"^Unloaded modules:")
#: lines of that list that are no modules
_BELOW_UNLOADED = ("Timestamp", "Checksum", "CheckSum", "ImageSize")
#: registers of a call in the order of preference, by architecture
_RESULTS = ("eax", "rax", "x0", "w0")
_FIRST = ("rcx", "x0")
#: what a debugger prints in one line is shorter
_LONGEST_LINE = 4096
_MOST_AT_ONCE = 1 << 24
#: members that are looked at of what dt prints at once
_LONGEST_BLOCK = 1000
#: an extension is no longer than this
_LONGEST = 0x100
#: member of FILTER_EXTENSION as ``dt`` names it -> field of the record
_MEMBERS = {
    "DumpType": "dump_type", "DeviceObject": "device_object", "Cylinders": "cylinders",
    "MediaType": "media_type", "TracksPerCylinder": "tracks_per_cylinder",
    "SectorsPerTrack": "sectors_per_track", "BytesPerSector": "bytes_per_sector",
    "DiskSize": "disk_size", "SizeOfPartitionInfo": "size_of_partition_info",
    "PartitionStyle": "partition_style", "DumpData": "dump_data", "Size": "size", "Flags": "flags",
}  # fmt: skip
_NAMED = (
    ("dump_type", FILTER_DUMP_TYPES), ("media_type", MEDIA_TYPES),
    ("partition_style", PARTITION_STYLES),
)  # fmt: skip
#: members that together no other structure has
_PROOF = {"DumpType", "DeviceObject", "DiskSize", "DumpData"}


def collect(path: str, baseline: Sequence[str] = ()) -> Records:
    """Records of one log; ``baseline`` are captures whose durations are what is usual."""
    size = os.path.getsize(path)
    records = Records()
    told = read(path)
    for session in told:
        records.extend(session.records(size))
    origin = Origin(told[-1].source, "end of the file", "certain", size)
    if not any(len(session.reader.calls) for session in told):
        text = "No line of a capture or of a breakpoint script is in this log, so it tells no call "
        records.add(Anomaly("log-no-session", text + "of a filter's callback.", origin))
    if any(session.reader.header and session.reader.end is None for session in told):
        text = "The session in the log has no end: what happened after its last line is not known."
        records.add(Anomaly("capture-cut", text, origin))
    for other in baseline:
        records.add(*compare(path, records, other))
    return records


def read(path: str) -> list[Session]:
    """What each session of a log tells."""
    log = _Log(path)
    try:
        for offset, line in _lines(path):
            log.line(line, offset)
    except OSError as error:
        raise InputError(path, f"the file cannot be read: {reason(error)}") from None
    log.finish()
    return log.sessions.named()


def _lines(path: str) -> Iterator[tuple[int, str]]:
    with open(path, "rb") as file:
        mark = file.read(2)
        file.seek(0)
        wide = "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else ""
        wide = "utf-16-le" if mark[1:] == b"\0" else wide  # without a byte order mark
        # no line without end: what has none is read in pieces
        source: Iterator[bytes] = iter(lambda: file.readline(_MOST_AT_ONCE), b"")
        if wide:  # offsets are those of the decoded text
            text = io.TextIOWrapper(file, wide, "replace", newline="")
            source = (line.encode("utf-8", "replace") for line in text)
        offset = 0
        for line in source:
            # a carriage return inside a line is progress that was printed over
            decoded = line.decode("utf-8", "replace").rstrip("\r\n").lstrip("\ufeff")
            yield offset, words.unquoted(decoded)
            offset += len(line)


#: HV_X64_MSR_TSC_FREQUENCY (Hyper-V top level functional specification): Hz
_TSC_FREQUENCY = 0x40000022
_PLAUSIBLE = range(100_000_000, 20_000_000_000)


class _Log:
    """Looks at the lines in order."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sessions = Sessions(path)
        self._is_unloaded = False
        self._is_example = False  #: behind !analyze -show
        self._pending: tuple[Fact, int] | None = None  #: entry or return that more lines fill
        self._block: list[words.Member] = []
        self._block_at = 0
        self._wanted = self._armed = 0  #: routines of scripts, and those that a line tells of
        self._version: dict[str, object] = {}  #: what was told last of a system
        #: id -> filter of those that wait for their module
        self._unfound: dict[object, object] = {}
        self._waiting: dict[object, list[object]] = {}  #: filter -> their ids
        self._script: tuple[CaptureReader, int] | None = None  #: where the last one began

    @property
    def now(self) -> Session:
        """The session that the line is of."""
        return self.sessions.now

    @property
    def session(self) -> CaptureReader:
        """Takes the facts of that session."""
        self.now.is_empty = False
        return self.now.reader

    def line(self, line: str, offset: int) -> None:
        """One line."""
        if "dumpstart:" in line:
            match = _MARK.search(line)
            if match and not _TYPED.search(words.bare(line[: match.start()])):
                self._flush()
                self._marked(match.group(2).strip(), offset)
                return
        shown = words.unmarked(line[:_LONGEST_LINE])
        line = words.bare(shown)
        if line != shown:  # a prompt: what follows is of another command
            self._is_unloaded = False
            self._is_example = line.startswith("!analyze -show ")
            self.now.stacks.end()
        msr = words.msr(line)
        if msr is not None and msr[0] == _TSC_FREQUENCY and msr[1] in _PLAUSIBLE:
            how = "told by the hypervisor, MSR 0x40000022"
            self.session.take({"fact": "clock", "hz": msr[1], "how": how}, offset)
            return
        member = words.member(line)
        if member is not None:
            if not self._block:
                self._block_at = offset
            if len(self._block) < _LONGEST_BLOCK:
                self._block.append(member)
            return
        self._end_block()
        if self._pending is not None and self._fills(line):
            return
        self._ordinary(line, offset)

    def finish(self) -> None:
        """The log is over."""
        self._flush()
        self._end_block()
        missing = max(0, self._wanted - self._armed) + len(self._unfound)
        if missing > 0:
            text = f"{missing} of {max(missing, self._wanted)} callbacks were not found by the "
            text += "debugger, as when their module is not loaded, and no call of their filter "
            text += "is in the log"
            error = {"fact": "error", "rule": "capture-not-armed", "text": text}
            reader, at = self._script or (self.session, 0)
            reader.take(error, at)

    # -- lines of ours -------------------------------------------------------------------------

    def _marked(self, text: str, offset: int) -> None:
        if text.startswith("{"):
            fact = decode(text)
            if fact is None:
                self.session.odd(offset)
            else:
                self.session.take(fact, offset)
            return
        kind, _, rest = text.partition(" ")
        fact = {
            "fact": kind,
            **{name: value.replace("`", "") for name, value in _PAIR.findall(rest)},
        }
        if kind in ("enter", "leave"):
            self.session.end = None  # of a log that was closed and opened again
            self._begin(fact, offset)
        elif kind == "script":
            self.session.end = None
            count = str(fact.get("routines", ""))
            self._wanted += int(count) if count.isdecimal() and len(count) < 4 else 0
            self._script = (self.session, offset)
            self.session.take({"dumpstart": "capture", "backend": "WinDbg script", **fact}, offset)
        else:
            if kind == "clock":
                fact["hz"] = int(fact["hz"]) if str(fact.get("hz", "")).isdecimal() else 0
            if "why" in fact:
                fact["why"] = str(fact["why"]).replace("_", " ")
            for name in ("filter", "stack"):
                if fact.get(name) == "-":
                    del fact[name]
            if kind == "armed":
                self._armed += self._wanted > 0
                if number(fact, "routine") is None:  # a breakpoint that waits for its module
                    fact.pop("routine", None)
                    self._unfound[fact.get("id")] = fact.get("filter")
                    self._waiting.setdefault(fact.get("filter"), []).append(fact.get("id"))
            self.session.take(fact, offset)

    def _begin(self, fact: Fact, offset: int) -> None:
        key, session = fact.get("id"), self.now
        if fact["fact"] == "enter":
            if key in self._unfound:  # its module is there now
                for other in self._waiting.pop(self._unfound[key], ()):
                    self._unfound.pop(other, None)
            session.open.setdefault(key, []).append(session.next_call)
            self._pending = ({"fact": "call", "n": session.next_call, "id": key}, offset)
            session.next_call += 1
            return
        under_way = session.open.get(key)
        call: Fact = {"fact": "return", "id": key}
        if under_way:
            call["n"] = under_way.pop()
        self._pending = (call, offset)

    def _fills(self, line: str) -> bool:
        """True when the line belongs to the entry or return under way."""
        assert self._pending is not None
        fact, _ = self._pending
        msr = words.msr(line)
        if msr is not None:
            if msr[0] == 0x10:
                fact.setdefault("tsc", hex(msr[1]))
            return True
        time = words.echo_time(line)
        if time is not None:
            fact.setdefault("host", time)
            return True
        memory = words.memory(line)
        if memory is not None and fact["fact"] == "call":
            held = raw(fact, "ext") or b""
            address = int(str(fact.get("extension", "0")), 16)
            if memory[0] == address + len(held) and len(held) < _LONGEST:
                fact["ext"] = (held + memory[1]).hex()
                return True
        is_call = fact["fact"] == "call"
        value = words.evaluated(line)
        if value is not None and is_call:  # x86: the argument is on the stack
            mask = (1 << 8 * self.session.target.pointer_size) - 1
            fact.setdefault("extension", hex(value & mask))
            return True
        found = words.registers(line)
        for name in _FIRST if is_call else _RESULTS:
            if name in found:
                key = "extension" if is_call else "status"
                fact.setdefault(key, hex(found[name] & (~0 if is_call else 0xFFFFFFFF)))
                return True
        return False

    def _flush(self) -> None:
        if self._pending is not None:
            fact, offset = self._pending
            self._pending = None
            self.session.take(fact, offset)

    # -- lines of anybody ----------------------------------------------------------------------

    def _ordinary(self, line: str, offset: int) -> None:
        if not line:
            self.now.stacks.blank()
            return
        plain = line.lstrip()  # who pastes code often indents it
        if self.sessions.line(plain, offset):
            self.session.take({"fact": "machine", **self._version}, offset)
        session = self.now
        if session.stacks.line(self.path, line, offset) or session.line(plain, offset):
            session.is_empty = False
            return
        if _UNLOADED.match(plain):
            self._is_unloaded = True
            return
        module = words.module(plain)
        if module is not None:
            is_loaded = not self._is_unloaded
            key = (module.name.lower(), module.base, is_loaded)
            if key not in session.modules:
                session.modules.add(key)
                fact: Fact = {
                    "fact": "module", "name": module.name, "base": hex(module.base),
                    "size": module.end - module.base, "loaded": is_loaded,
                }  # fmt: skip
                if module.stamp is not None:
                    fact["stamp"] = hex(module.stamp)
                self.session.take(fact, offset)
                if "pointer_size" not in self.session.machine:
                    size = 8 if module.is_wide else 4
                    self.session.take({"fact": "machine", "pointer_size": size}, offset)
            return
        if session.detail(line):
            return
        if not line[0].isspace() and not line.startswith(_BELOW_UNLOADED):
            self._is_unloaded = False
        ended = words.ending(plain)
        if ended:
            if session.reader.header and session.reader.end is None:
                self.session.take({"fact": "end", "reason": ended}, offset)
            return
        told = words.version(plain)
        if told:
            # the line of the kernel comes first; what !analyze says of 22631 is 22621
            fresh = {
                name: value for name, value in told.items() if name not in self.session.machine
            }
            self.session.take({"fact": "machine", **fresh}, offset)
            self._version = told if "processors" in told else {**self._version, **told}
            return
        if self._is_example:
            return  # !analyze -show explains a code that did not happen
        other = session.bugcheck.other(plain)
        if other is not None:
            self.sessions.another(offset).bugcheck = other
        session = self.now
        session.bugcheck.line(plain)
        bugcheck = session.bugcheck
        if bugcheck.values or bugcheck.bucket is not None:
            session.is_empty = False

    def _end_block(self) -> None:
        block, self._block = self._block, []
        if not {member.name for member in block} >= _PROOF:
            return
        why = Absent("not-recorded", "the log does not print this member")
        values: dict[str, Any] = dict.fromkeys(Extension._fields, why)
        values.update(is_reconstructed=False, filter=why, stack=None)
        first = block[0].indent
        layout = filter_extension(self.session.target.pointer_size, 2)
        for member in block:
            name = _MEMBERS.get(member.name)
            if name is None or member.value is None or not isinstance(values[name], Absent):
                continue
            values[name] = member.value
            place = getattr(layout, member.name, None)
            if member.indent == first and place is not None and place.offset != member.offset:
                text = f"The log shows FILTER_EXTENSION.{member.name} at offset "
                text += f"{member.offset:#x}; the WDK has it at {place.offset:#x}."
                origin = Origin(self.path, "dt in the log", "certain", self._block_at)
                self.now.anomalies.append(Anomaly("log-dt-inconsistent", text, origin, member.name))
        for name, known in _NAMED:
            value = values[name]
            told = value if isinstance(value, Absent) else known.get(value, "invalid")
            values[f"{name}_name"] = told
        values["origin"] = Origin(self.path, "dt in the log", "certain", self._block_at)
        self.now.is_empty = False
        self.now.extensions.append(Extension(**values))
