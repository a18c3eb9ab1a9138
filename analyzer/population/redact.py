"""Records without what could name a person, a machine, a disk or a place in a network.

Invariant: a text leaves only when its column is listed here, and then only in the form stated here;
every other text, a new column's too, becomes absent with the reason "redacted". Numbers stay:
codes, times, sizes, memory addresses. Names of drivers stay, without their folder: they are what
the records are about. What stands where a driver's name belongs and is not shaped like one gets a
number.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Union

from ..absence import Absent
from ..checks import RULES
from ..names import bugchecks, drivers
from ..records import TABLES, Evidence, Finding, Origin, Records, Text
from ..records.base import Cell
from ..tables import SCHEMA, rows_of

REDACTED = Absent("redacted")
#: numbers that tell one disk or one machine from all others
_UNIQUE = {("extensions", "mbr_signature"), ("extensions", "mbr_checksum")}
_HOW = frozenset(
    "header field|list walk|content match|log line|log lines|file header and text|file signature|"
    "trace header|event records|opening the file|whole file|end of the file|file header|capture|"
    "key lookup|recognition by content|module list of the debugger|by content".split("|")
)
_IMAGE = re.compile(r"(?=[^.]*[A-Za-z])[\w$-][\w.$-]{0,55}\.(sys|exe|dll)", re.IGNORECASE)
#: what crashdmp calls its copies, and what images are called in symbols
_COPY = re.compile(r"(dump|hiber)_[\w$-]{1,40}", re.IGNORECASE)
_PLAIN = frozenset({"crashdmp", "hal", "crashdump"})
#: names that are shaped like a driver's and are not one
_NOT_ONE = re.compile(
    r"S-1-\d|[0-9a-f]{8}-([0-9a-f]{4}-){3}|(\d{1,3}[.-]){3}\d{1,3}", re.IGNORECASE
)
_OFFSET = re.compile(r"(.*?)(\+0x[0-9a-fA-F]{1,16})?")
_NUMBER = re.compile(r"(0x[0-9a-fA-F]{1,16}|-?\d[\d,.]{0,25})( (ns|us|ms|s|bytes|pages|MB|GB|%))?")
_SERVICE = re.compile(r"\\(CrashControl|Services\\[\w.$-]{1,60})$", re.IGNORECASE)
_SETTINGS = frozenset(
    "AlwaysKeepMemoryDump AutoReboot CrashDumpEnabled DedicatedDumpFile DisplayParameters DumpFile "
    "DumpFileSize DumpFilters DumpLogLevel EnableLogFile FilterPages IgnorePagefileSize "
    "KernelDumpOnly LogEvent MinidumpDir MinidumpsCount NMICrashDump Overwrite PageFileTooSmall "
    "SendAlert ErrorControl Group ImagePath Start Tag Type".split()
)


class Names:
    """Names of drivers: those that are one stay, the others get numbers, the same name the same."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.drivers: set[str] = set()  #: names as they were, where a driver's name belongs

    def driver(self, text: str) -> str:
        """A driver's file name, without its folder."""
        name = _base(text)
        self.drivers.add(text)
        if _is_driver(name):
            return name
        return f"driver-{self._numbers.setdefault(name, len(self._numbers) + 1)}"

    def symbol(self, text: str) -> str:
        """A driver with an offset; of a function of it, the driver alone."""
        match = _OFFSET.fullmatch(text.partition("!")[0])
        return self.driver(match.group(1)) + (match.group(2) or "") if match else "driver"


def _is_driver(name: str) -> bool:
    if _NOT_ONE.search(name):
        return False
    shaped = _IMAGE.fullmatch(name) or _COPY.fullmatch(name)
    is_known = drivers.known(name) is not None or drivers.is_kernel(name)
    return bool(shaped or is_known or name.lower() in _PLAIN)


_Keep = Callable[[str, Names], Union[str, Absent]]


def _base(text: str) -> str:
    return re.split(r"[\\/!]", text)[-1]


def _driver(text: str, names: Names) -> str:
    return names.driver(text)


def _symbol(text: str, names: Names) -> str:
    return names.symbol(text)


def _shape(pattern: str) -> _Keep:
    """Texts of one form that leaves no room for a name."""
    known = re.compile(pattern)
    return lambda text, _: text if known.fullmatch(text) else REDACTED


def _one_of(*words: str) -> _Keep:
    known = frozenset(words)
    return lambda text, _: text if text in known else REDACTED


def _as_is(text: str, _: Names) -> str:
    """A column that only our own tables of names fill."""
    return text


_GUID = _shape(r"\{?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?")
_STATUS = _shape(r"STATUS_[A-Z0-9_]{1,80}")
_STACK = _one_of("crash", "hibernation")
_ROUTINE = _shape(r"(Filter_?Initialization|Dump_?)(Start|Write|Finish|Unload|Read|PreReadWrite)?")
_ARCHITECTURE = _one_of("x64", "x86", "x86-pae", "arm64", "arm", "ia64")
#: fact of a finding -> how its text may leave; numbers leave as they are
_FACTS: dict[str, _Keep] = {"filter": _driver, "stack": _STACK, "callback": _ROUTINE}

#: table -> column -> how its text may leave
_KEPT: dict[str, dict[str, _Keep]] = {
    "sources": {"kind": _as_is, "architecture": _ARCHITECTURE},
    "machine": {
        "build_lab": _shape(r"\d{4,6}\.\d{1,6}\.\w{1,12}\.[a-z0-9_]{1,24}\.\d{6}-\d{4}"),
        "architecture": _ARCHITECTURE,
        "dump_type_name": _as_is,
        "attribute_names": _as_is,
        "writer_status_name": _as_is,
        "secondary_data_state_name": _as_is,
        "faulting_symbol": _symbol,
        "faulting_module": _driver,
    },
    "crashes": {"tells": _as_is, "outcome": _as_is},
    "modules": {
        "name": _driver,
        "role": _as_is,
        "stack": _STACK,
        "image_key": _shape(r"[0-9A-Fa-f]{1,24}"),
        "original": _driver,
        "original_match": _one_of("same image", "different image"),
    },
    "structures": {"stack": _STACK, "symbol": _symbol},
    "filters": {
        "product": _as_is,
        "filter": _driver,
        "stack": _STACK,
        "last_failing_routine": _symbol,
        "last_failing_status_name": _STATUS,
    },
    "extensions": {
        "filter": _driver,
        "stack": _STACK,
        "dump_type_name": _as_is,
        "media_type_name": _as_is,
        "partition_style_name": _as_is,
    },
    "callbacks": {
        "filter": _driver,
        "stack": _STACK,
        "callback": _ROUTINE,
        "symbol": _symbol,
        "was_called": _one_of("yes", "likely", "no"),
        "status_name": _STATUS,
    },
    "stages": {"stage": _as_is, "driver": _driver, "status_name": _STATUS, "unit": _as_is},
    "requests": {"operation": _as_is, "status_name": _STATUS, "driver": _driver},
    "events": {"provider_id": _GUID},
    "processors": {
        "symbol": _symbol,
        "module": _driver,
        "filter": _driver,
        "callback": _ROUTINE,
    },
    "frames": {"symbol": _symbol, "module": _driver, "how": _as_is},
    "residue": {"symbol": _symbol, "module": _driver},
    "tags": {"guid": _GUID},
    "settings": {"name": lambda text, _: text if text in _SETTINGS else REDACTED},
}


#: labels of evidence that are ours: names of columns
_FIELDS = frozenset(column.name for columns in SCHEMA.values() for column in columns)


def redact(records: Records) -> Records:
    """A copy that names no person, machine, disk, address of a network or folder."""
    out = Records()
    names = Names()
    sources: dict[str, str] = {}
    for source in records["sources"]:
        sources.setdefault(source.origin.source, f"source-{len(sources) + 1}")
    for table, columns in SCHEMA.items():
        if table == "findings":
            continue
        record, kept = TABLES[table], _KEPT.get(table, {})
        kinds = [(column.name, column.kind) for column in columns[: len(record._fields) - 1]]
        for row in rows_of(records[table]):
            cells = [
                _cell((table, name), kind, value, kept, names)
                for (name, kind), value in zip(kinds, row)
            ]
            made = record._make((*cells, _origin(row.origin, sources)))
            out.add(_special(made, row, names))
    out.add(*(_finding(row, names, sources) for row in records["findings"]))
    return out


def _cell(
    column: tuple[str, str], kind: str, value: object, kept: dict[str, _Keep], names: Names
) -> object:
    if isinstance(value, Absent):
        return Absent(value.reason)  # the detail may hold words of the input
    if value is None:
        return None
    if column in _UNIQUE:
        return REDACTED
    if kind != "Text":
        return value
    keep = kept.get(column[1])
    return REDACTED if keep is None else keep(str(value), names)


def _special(row: Any, before: Any, names: Names) -> Any:
    """What two columns say together."""
    fields = row._fields
    if "path" in fields:
        return row._replace(path=row.origin.source)
    if "bugcheck" in fields and isinstance(row.bugcheck, int):
        return row._replace(bugcheck_name=bugchecks.name(row.bugcheck))
    if "owner" in fields and isinstance(row.guid, str):
        return row._replace(owner=before.owner)  # looked up by the GUID
    if "key" in fields:
        key = _SERVICE.search(str(before.key))
        is_number = _NUMBER.fullmatch(str(before.value)) and row.name != REDACTED
        value = str(before.value) if is_number else REDACTED
        if row.name == "DumpFilters":
            value = "; ".join(map(names.driver, _words(before.value)))
        return row._replace(key=key.group(1) if key else REDACTED, value=value)
    return row


def _words(value: Text) -> list[str]:
    return [word for word in re.split(r"[;,\s]+", str(value)) if word]


def _origin(origin: Origin, sources: dict[str, str]) -> Origin:
    name = sources.setdefault(origin.source, f"source-{len(sources) + 1}")
    how = origin.how if origin.how in _HOW else "left out"
    sure = origin.confidence if origin.confidence in ("certain", "likely", "guess") else "guess"
    places = [p if isinstance(p, int) else None for p in (origin.file_offset, origin.address)]
    return Origin(name, how, sure, *places)


def _finding(row: Finding, names: Names, sources: dict[str, str]) -> Finding:
    """The rule in its own words, with the driver that it names; of the evidence, the numbers."""
    rule = RULES[str(row.rule)]
    subject: Any = row.facts.get("filter", row.subject)
    text = f"{rule.title}."
    if isinstance(subject, str):
        if subject in names.drivers or _is_driver(_base(subject)):
            subject = names.driver(subject)
            text = f"{rule.title}: {subject}."
        else:
            subject = REDACTED
    evidence = tuple(
        Evidence(piece.label, piece.value, piece.kind)
        for piece in row.evidence
        if isinstance(piece.value, (int, float)) and piece.label in _FIELDS
    )
    facts: dict[str, Cell] = {n: v for n, v in row.facts.items() if isinstance(v, (int, bool))}
    told = {n: v for n in _FACTS if isinstance(v := row.facts.get(n), str)}
    facts.update({n: _FACTS[n](value, names) for n, value in told.items()})
    origin = _origin(row.origin, sources)
    return Finding(rule.id, row.severity, subject, text, rule.next_step, evidence, facts, origin)
