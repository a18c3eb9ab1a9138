"""The sessions of a debugger's log: which dump or target each line is of, and what is said of it.

Invariant: what one dump's part of a log states is never told of another's: each session has its own
records under its own source name. A time is a crash time only in the session of a dump. Standard
library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..absence import Absent, is_absent
from ..layouts import mindumpdef
from ..layouts.modules import NO_STAMPS
from ..names import bugchecks, drivers, ntstatus
from ..records import Anomaly, Evidence, Extension, Machine, Origin, Records, Text
from . import windbg_text as words
from .capture_reader import CaptureReader
from .windbg_stack import MOST_FRAMES, Stacks

#: the last line of the log of a dump that was written to its end
COMPLETED = "Dump completed successfully."
#: no Windows runs with fewer images (XP has about 100); a shorter list is of some of them
LEAST_MODULES = 30
_LOADING = re.compile(r"^Loading [Dd]ump [Ff]ile \[?(?P<path>[^\]]{1,260}?)\]?\s*$")
_CONNECTED = re.compile(f"^{words.CONNECTED}")
_DUMP_KIND = re.compile(
    r"^((?:Mini Kernel|User Mini|Kernel Summary|Kernel Complete|Kernel Bitmap|Full Kernel)"
    r" Dump File)\b"
)
#: where Windows keeps the dumps that it makes of itself while it runs
_LIVE_FOLDER = "\\livekernelreports\\"
#: of || and version, and of .dumpdebug
_OPENED = re.compile(
    r"^(?:\. +\d+ +)?(?:32|64)-bit (?P<kind>(?:Full kernel|Kernel [a-z]+) dump): (?P<path>\S.*)"
    r"|^----- (?:32|64) bit (?P<named>Kernel [A-Z][a-z]+ Dump) Analysis\b"
)
#: kinds of a dump that holds nothing but the crash itself, as the debugger calls them
_SMALL = re.compile("Mini Kernel |Kernel (?:triage|Mini) ")
_TRUNCATED = "WARNING: Dump file has been truncated."
_NOT_OPENED = re.compile(r"^Could not open dump file \[[^\]]{1,260}\], (.{1,60}?)\s*$", re.I)
_STATE = re.compile(r"^(Primary dump contents written (?:successfully|.{1,60}))\s*$")
#: only of a dump
_OF_A_DUMP = re.compile(
    r"^(?:DUMP_FILE_ATTRIBUTES: |FILE_IN_CAB: |KernelMode Dump Path: |\s*Key  : Dump\.Attributes\.)"
)
#: of !analyze, and of !di of the extension MEX
_CAB = re.compile(r"^(?:FILE_IN_CAB|KernelMode Dump Path): +(\S.{0,259}?)\s*$")
_KEY = re.compile(r"^\s*Key\s+: (Dump\.Attributes\.\w{1,40})\s*$")
_VALUE = re.compile(r"^\s*Value: (.{0,300}?)\s*$")
_ATTRIBUTES = re.compile(r"^DUMP_FILE_ATTRIBUTES: (0x[0-9a-f]{1,8})\b", re.I)
#: a row of dumpchk: field of the header and its value in hexadecimal
_FIELD = re.compile(r"^([A-Z]\w{3,30})\s{1,24}([0-9a-f]{8}(?:`[0-9a-f]{8})?)\s*$", re.I)
_FIELDS = {
    "MinorVersion": "build", "NumberProcessors": "processors", "BugCheckCode": "bugcheck",
    "BugCheckParameter1": "parameter1", "BugCheckParameter2": "parameter2",
    "BugCheckParameter3": "parameter3", "BugCheckParameter4": "parameter4",
    "MachineImageType": "machine_type", "Attributes": "attributes", "BootId": "boot_id",
    "DirectoryTableBase": "directory_table_base", "WriterStatus": "writer_status",
    "PsLoadedModuleList": "ps_loaded_module_list", "KdDebuggerDataBlock": "kd_debugger_data_block",
    "SecondaryDataState": "secondary_data_state",
}  # fmt: skip


class Session:
    """One dump that was opened, one target that was connected to, or a log that says neither."""

    def __init__(self, source: str) -> None:
        self.path = self.source = source
        self.reader = CaptureReader(source, "WinDbg log")
        self.stacks = Stacks()
        self.bugcheck = words.Bugcheck()
        self.kind = ""  #: "dump", "live" or "" where the log does not say
        self.dump = ""  #: path of the dump
        self.dump_kind = self.state = ""
        self.begin = 0  #: offset
        self.is_empty = True
        self.time: int | None = None
        self.is_zone_missing = False
        self.fields: dict[str, int] = {}
        self.is_in_header = False  #: behind the heading of dumpchk's table
        self.blamed: dict[str, str] = {}  #: what !analyze blames, as fields of the machine
        self.attributes: dict[str, tuple[str, int]] = {}  #: Dump.Attributes.*: value, offset
        self.modules: set[tuple[str, int, bool]] = set()
        self.extensions: list[Extension] = []
        self.anomalies: list[Anomaly] = []
        self.open: dict[object, list[int]] = {}  #: id -> numbers of script calls under way
        self.next_call = 0
        self._key = ""

    # -- lines ---------------------------------------------------------------------------------

    def line(self, line: str, offset: int) -> bool:
        """True when the line tells of the session's dump or target as a whole."""
        if _OF_A_DUMP.match(line) and not self.kind:
            self.kind = "dump"
        key = _KEY.match(line)
        if key:
            self._key = key.group(1).rpartition(".")[2]
            return True
        value = _VALUE.match(line) if self._key else None
        if value:
            self.attributes.setdefault(self._key, (value.group(1), offset))
            self._key = ""
            return True
        time = words.session_time(line)
        if time is not None:
            self.time = time
            return True
        if line.startswith("Debug session time: "):  # debuggers of 2004 give no zone
            self.is_zone_missing = True
            return True
        cab = _CAB.match(line)
        if cab:
            self.dump = self.dump or cab.group(1)
            return True
        for pattern, name in ((_DUMP_KIND, "dump_kind"), (_STATE, "state")):
            match = pattern.match(line)
            if match:
                setattr(self, name, match.group(1))
                self.kind = self.kind or "dump"
                return True
        opened = _OPENED.match(line)
        if opened:
            self.kind = self.kind or "dump"
            self.dump_kind = self.dump_kind or opened["kind"] or opened["named"]
            self.dump = self.dump or (opened["path"] or "").rstrip()
            return True
        refused = _NOT_OPENED.match(line)
        if refused:
            self.state = f"which could not be opened ({refused.group(1)})"
            return True
        if line.startswith(_TRUNCATED):
            text = "WinDbg says that the dump file has been truncated and data may be missing."
            self.anomalies.append(Anomaly("dump-file-cut", text, self._origin("warning", offset)))
            return True
        attributes = _ATTRIBUTES.match(line)
        if attributes:
            self.fields.setdefault("attributes", int(attributes.group(1), 16))
            return True
        blamed = words.blamed(line)
        if blamed:
            self.blamed.update(blamed)
            return True
        return self._header(line, offset)

    def _header(self, line: str, offset: int) -> bool:
        """The header as dumpchk prints it, behind its heading."""
        if line.startswith(("DUMP_HEADER64:", "DUMP_HEADER32:")):
            self.kind, self.is_in_header = "dump", True
            size = 8 if line[11:13] == "64" else 4
            self.reader.take({"fact": "machine", "pointer_size": size}, offset)
            return True
        match = _FIELD.match(line) if self.is_in_header else None
        if match is None or match.group(1) not in _FIELDS:
            return False
        value = words.number(match.group(2))
        if value != mindumpdef.FILLER32:
            self.fields[_FIELDS[match.group(1)]] = value
        return True

    # -- telling -------------------------------------------------------------------------------

    def records(self, size: int) -> Records:
        """Everything that this part of the log tells."""
        code = self.bugcheck.bucket if self.bugcheck.bucket is not None else self.stacks.code
        bugcheck = self.bugcheck.values or [code] * (code is not None) + [None] * 4
        if bugcheck[0] is not None:
            self.reader.bugcheck = tuple(bugcheck)
        images = [str(module.name) for module in self.reader.modules if module.loaded]
        out = self.reader.records(size)
        is_timed = self.is_zone_missing or self.time is not None
        is_dump = self.kind == "dump"
        if out["machine"] or self.fields or self.attributes or self.blamed or is_timed or is_dump:
            known = out["machine"]
            machine = known[0] if known else self.reader.machine_record()
            out.tables["machine"] = [self._machine(machine)]
        source = out["sources"][0]
        if not self.reader.header:
            out.tables["sources"] = [source._replace(subtype=self._what())]
        out.add(*self.stacks.all_frames(self._is_crash(out["machine"])))
        out.add(*self.extensions, *self.anomalies)
        is_whole = any(map(drivers.is_kernel, images)) and len(images) >= LEAST_MODULES
        if images and not self.reader.header and not is_whole:
            text = (
                f"The log lists {len(images)} image{'' if len(images) == 1 else 's'}, which is not "
                "all that a running Windows has loaded; nothing is said to be missing."
            )
            out.add(Anomaly("log-modules-partial", text, self._origin("module list", self.begin)))
        if self.stacks.is_cut:
            text = f"Only the first {MOST_FRAMES:,} frames of stacks were kept."
            out.add(Anomaly("log-limit-reached", text, self._origin("stack", self.begin)))
        out.add(*self._ended())
        return out if self.source == self.path else out.under(self.path, self.source)

    def _is_crash(self, machines: Sequence[Machine]) -> bool:
        """True when the stack of the analysis is one of a crash."""
        for row in machines:
            if is_absent(row.bugcheck):
                continue
            is_live = bugchecks.is_of_running_system(row.attributes, row.bugcheck)
            return not is_live and row.dump_type_name != mindumpdef.LIVE_DUMP
        return bool(self.stacks.in_bugcheck)

    def _origin(self, how: str, offset: int) -> Origin:
        return Origin(self.path, f"{how} in the log", "certain", offset)

    def detail(self, line: str) -> bool:
        """True for a line of ``lm v`` that says more of the module before it."""
        found = words.module_detail(line)
        if found is None or not self.reader.modules:
            return False
        what, value = found
        module = self.reader.modules[-1]
        if what == "image":
            stem = value.lower().rpartition(".")[0]
            named = module._replace(name=value) if stem == str(module.name).lower() else module
        elif what == "checksum":
            named = module._replace(checksum=int(value, 16))
        elif int(value, 16) not in (0, *NO_STAMPS):
            key = f"{value}{module.size:x}" if isinstance(module.size, int) else module.image_key
            named = module._replace(time_date_stamp=int(value, 16), image_key=key)
        else:
            return True
        self.reader.modules[-1] = named
        return True

    def _what(self) -> Text:
        if self.kind == "live":
            return "a live target"
        if self.kind != "dump":
            return Absent("not-recorded", "the log does not say whether of a dump or a live target")
        parts = [
            f"of the dump {self.dump}" if self.dump else "of a dump",
            self.dump_kind,
            self.state,
        ]
        return ", ".join(filter(None, parts))

    def _machine(self, machine: Machine) -> Machine:
        values: dict[str, Any] = {**self.fields, **self.blamed}
        if "bugcheck" in values:
            values["bugcheck_name"] = bugchecks.name(values["bugcheck"])
        if "machine_type" in values:
            name = mindumpdef.IMAGE_FILE_MACHINES.get(values["machine_type"])
            values.update({"architecture": name} if name else {})
        attributes = self._number("AsUlong")
        if attributes is not None:
            values["attributes"] = attributes
        if "attributes" in values:
            values["attribute_names"] = mindumpdef.attribute_names(values["attributes"])
        for name in ("writer_status", "secondary_data_state"):
            if name in values:
                values[f"{name}_name"] = ntstatus.name(values[name])
        if self.dump_kind:
            values["dump_type_name"] = self.dump_kind
            values.update({"dump_type": 4} if _SMALL.match(self.dump_kind) else {})
        elif self.kind == "dump":
            values["dump_type_name"] = "kernel dump"
        if self.bugcheck.is_live or _LIVE_FOLDER in self.dump.lower():
            values["dump_type_name"] = mindumpdef.LIVE_DUMP
        if "LastLine" in self.attributes:
            values["last_dump_line"] = self.attributes["LastLine"][0]
        if self.time is not None and self.kind == "dump":
            values["system_time"] = self.time
        elif self.kind == "dump" and self.is_zone_missing:
            why = "the log has the time of the dump without its zone"
            values["system_time"] = Absent("not-recorded", why)
        elif self.kind == "live":
            values["system_time"] = Absent("not-applicable", "the log is of a live target")
        return machine._replace(**values)

    def _number(self, name: str, base: int = 16) -> int | None:
        """A value of Dump.Attributes: hexadecimal with or without 0x, or a plain percentage."""
        text = self.attributes.get(name, ("", 0))[0]
        try:
            return int(text, 16 if text.startswith("0x") else base) & 0xFFFFFFFF
        except ValueError:
            return None

    def _ended(self) -> Iterator[Anomaly]:
        """A dump whose header says that it was not written to its end."""
        error, percent = self._number("ErrorCode"), self._number("ProgressPercentage", 10)
        last, at = self.attributes.get("LastLine", ("", self.begin))
        if not error and (not last or last == COMPLETED):
            return
        text, evidence = (
            "By its header, as WinDbg shows it, this dump was not written to its end",
            [],
        )
        if error:
            name = ntstatus.name(error)
            text += f": error {error:#010x}"
            text += "" if name.startswith("0x") else f" ({name})"
            evidence.append(Evidence("Dump.Attributes.ErrorCode", error, "Code", name))
        if percent is not None:
            text += f", at {percent} %" if error else f": it came to {percent} %"
            evidence.append(Evidence("Dump.Attributes.ProgressPercentage", percent, "Number"))
        if last:
            text += f"; the last line of its dump log is {last!r}"
            evidence.append(Evidence("Dump.Attributes.LastLine", last))
        if self.state:
            evidence.append(Evidence("WinDbg says", self.state))
        facts = {"error": error, "percent": percent}
        origin = self._origin("Dump.Attributes", at)
        yield Anomaly("dump-header-failure", text + ".", origin, "dump", tuple(evidence), facts)


class Sessions:
    """The sessions of a log in order; the last one takes the lines."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.all = [Session(path)]
        self._is_named = False  #: the dump whose kind follows

    @property
    def now(self) -> Session:
        """The session under way."""
        return self.all[-1]

    def line(self, line: str, offset: int) -> bool:
        """Begins another session when the line says that another dump or target follows.

        True when lines before it were of that session already.
        """
        now, loading = self.now, _LOADING.match(line)
        if loading:
            self._is_named = True
            self._begin("dump", loading["path"], offset)
        elif _CONNECTED.match(line) and not now.reader.header:
            # a target that comes back in a capture's log is the same target
            self._begin("live", "", offset)
        elif _DUMP_KIND.match(line):
            if now.dump_kind and not self._is_named:
                self.another(offset)
            self._is_named = False
        elif now.kind == "dump" and now.time is not None:
            if words.session_time(line) in (None, now.time):
                return False
            fresh = self.another(offset)  # under the same name, as MEMORY.DMP is
            fresh.kind, fresh.dump, fresh.dump_kind = "dump", now.dump, now.dump_kind
            return True
        return False

    def _begin(self, kind: str, dump: str, offset: int) -> None:
        now = self.now
        if dump and now.dump.lower() == dump.lower():
            return  # dumpchk says it twice
        if not now.kind and not now.dump and (now.is_empty or kind == "live"):
            now.kind, now.dump, now.begin = kind, dump, offset
            return
        before = next(
            (s for s in reversed(self.all) if dump and s.dump.lower() == dump.lower()), None
        )
        if before is not None:  # opened again
            self.all.remove(before)
            self.all.append(before)
            return
        fresh = Session(self.path)
        fresh.kind, fresh.dump, fresh.begin = kind, dump, offset
        self.all.append(fresh)

    def another(self, offset: int) -> Session:
        """Begins a session without a heading of its own: what follows is of another crash."""
        fresh = Session(self.path)
        fresh.kind = self.now.kind if self.now.kind == "live" else ""
        fresh.begin = offset
        self.all.append(fresh)
        return fresh

    def named(self) -> list[Session]:
        """Those that tell something; of several, each has a source name of its own."""
        told = [session for session in self.all if not session.is_empty] or self.all[:1]
        if len(told) == 1:
            return told
        used: set[str] = set()
        for number, session in enumerate(sorted(told, key=lambda one: one.begin), 1):
            name = re.split(r"[/\\]", session.dump)[-1] or f"session {number}"
            name = f"{name} ({number})" if name.lower() in used else name
            used.add(name.lower())
            session.source = f"{self.path}!{name}"
        return sorted(told, key=lambda one: one.begin)
