"""Checks over several sources: what one says against what another says.

Invariant: every statement needs two sources and names both; sources of a crash are brought together
only when they were grouped as the same crash (the registry is the machine's, not a crash's).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..absence import is_absent
from ..names import ntstatus, progress
from ..records import Anomaly, Crash, Machine, Module, Origin, Records, Setting
from ..tables import iso_time
from . import rules_case
from .crashes import FAILED, SMALLER, WRITTEN, called, crash_of, numbers

_LOAD_FILTERS = 0x2005
#: OBJECT_NAME_NOT_FOUND, OBJECT_PATH_NOT_FOUND, NO_SUCH_FILE
_NO_FILE = (0xC0000034, 0xC000003A, 0xC000000F)
_PORT_WRITE = 0x5001
_NO_SPACE = (0xC000007F, 0xC0000099)  # DISK_FULL, ALLOTTED_SPACE_EXCEEDED
#: crash or not, event 45 that lies so near to a failed hibernation is of the same attempt
_SAME_ATTEMPT_NS = 60 * 10**9
_IN_BOX = "dumpfve.sys"
_SMALL_DUMP = 4
#: CrashDumpEnabled that asks for more than a small dump
_LARGER = {
    "1": "a complete or active memory dump",
    "2": "a kernel memory dump",
    "7": "an automatic memory dump",
}


class _Seen:
    """All that was told, sorted for these checks."""

    def __init__(self, records: Records, anomalies: Sequence[Anomaly]) -> None:
        self.records, self.anomalies = records, anomalies
        self.crashes: list[Crash] = records["crashes"]
        self.kinds = {s.path: s.kind for s in records["sources"] if not is_absent(s.kind)}
        self.registries = [p for p, kind in self.kinds.items() if str(kind).startswith("registry")]

    def told(self, *rules: str) -> list[Anomaly]:
        """What sources and checks said under these rules."""
        return [a for rule in rules for a in self.anomalies if a.rule == rule]

    def crash(self, anomaly: Anomaly) -> int | None:
        """The crash it is of."""
        return crash_of(self.crashes, anomaly.origin)

    def others(self, anomaly: Anomaly) -> list[Crash]:
        """What other sources tell of the same crash."""
        number = self.crash(anomaly)
        return [
            row
            for row in self.crashes
            if number is not None
            and row.crash == number
            and row.origin.source != anomaly.origin.source
        ]

    def settings(self, registry: str, name: str) -> list[Setting]:
        """Values of CrashControl: of that name, or the entries ``name[0]``, ``name[1]``..."""
        pattern = re.compile(rf"{name}(\[\d+\])?", re.IGNORECASE)
        return [
            s
            for s in self.records["settings"]
            if s.origin.source == registry
            and str(s.key).lower().endswith("crashcontrol")
            and pattern.fullmatch(str(s.name))
        ]

    def registered(self, registry: str) -> list[Setting]:
        """The entries of DumpFilters, in call order."""
        return [s for s in self.settings(registry, "DumpFilters") if str(s.name).endswith("]")]

    def doubtful(self, registry: str) -> dict[str, str]:
        """Registered filters (lower case) whose service is missing or disabled."""
        words = {
            "registry-filter-service-missing": "which has no service key",
            "registry-filter-service-disabled": "whose service is disabled",
        }
        return {
            a.subject.lower(): words[a.rule]
            for a in self.told(*words)
            if a.origin.source == registry
        }


def check(records: Records, anomalies: Sequence[Anomaly]) -> Iterator[Anomaly]:
    """Everything this module checks; nothing when there is only one source."""
    seen = _Seen(records, anomalies)
    if len(seen.kinds) < 2:
        return
    for one in _CHECKS:
        yield from one(seen)


def value(anomaly: Anomaly, name: str) -> int | None:
    """A number out of an evidence line "name = 0x2005 (words)"."""
    for line in anomaly.evidence:
        match = re.match(rf"{name} = (0x[0-9a-fA-F]+|\d+)", str(line))
        if match:
            return int(match[1], 0)
    return None


def _say(rule: str, text: str, first: Any, subject: str, *evidence: tuple[Any, str]) -> Anomaly:
    """A finding at its first source; each evidence line names its source."""
    lines = tuple(f"{called(origin.source)}: {words}" for origin, words in evidence)
    return Anomaly(rule, text, first, subject, lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


# -- filters -----------------------------------------------------------------------------------


def _file_missing(seen: _Seen) -> Iterator[Anomaly]:
    found = [
        a
        for a in seen.told("event-dump-driver-load-failed")
        if value(a, "location") == _LOAD_FILTERS and value(a, "status") in _NO_FILE
    ]
    for registry in seen.registries if found else []:
        entries = seen.registered(registry)
        doubtful = seen.doubtful(registry)
        names = [str(entry.value) for entry in entries]
        suspects = [n for n in names if n.lower() in doubtful]
        suspects = suspects or [n for n in names if n.lower() != _IN_BOX] or names
        if not suspects:
            continue
        last, times = found[-1], f" ({len(found)} times)" if len(found) > 1 else ""
        status = value(last, "status") or 0
        why = doubtful.get(suspects[0].lower(), "")
        about = f" {_listed(suspects)}" + (f", {why}" if why and len(suspects) == 1 else "")
        text = (
            f"{called(last.origin.source)} has event 45{times}: loading the dump filters failed "
            f"(location {_LOAD_FILTERS:#x}) with {ntstatus.name(status)} ({status:#010x}), and "
            f"{called(registry)} registers{about}: the driver file of that filter is most "
            "probably missing, so the crash dump stack did not load."
        )
        if len(suspects) > 1:
            text = text.replace("of that filter", "of one of them")
        else:
            text += f" Without it: {_without(suspects[0], names)}"
        yield _say(
            "case-filter-file-missing",
            text,
            last.origin,
            suspects[0],
            (last.origin, f"event 45, location {_LOAD_FILTERS:#x}, status {status:#010x}"),
            *((e.origin, f"{e.name} = {e.value}") for e in entries),
        )


def _without(name: str, names: Sequence[str]) -> str:
    """The command that leaves the other filters registered."""
    left = [other for other in names if other.lower() != name.lower()]
    # what is quoted goes into a command line, so only plain names are written out
    if all(re.fullmatch(r"[\w.-]{1,60}", other) for other in left) and left:
        data = "\\0".join(left)
        return f"reg add {rules_case.CONTROL} /v DumpFilters /t REG_MULTI_SZ /d {data} /f"
    return f"regedit, {rules_case.CONTROL}, DumpFilters"


def _complete_dumps(seen: _Seen) -> Iterator[tuple[str, list[Module]]]:
    """Dumps of a crash whose list of loaded modules was read to its end and has a dump stack."""
    doubted = {a.origin.source for a in seen.told("modules-incomplete", "not-a-crash")}
    for path, kind in seen.kinds.items():
        if kind != "kernel dump" or path in doubted:
            continue
        modules = [m for m in seen.records["modules"] if m.origin.source == path]
        loaded = [m for m in modules if m.loaded and m.stack == "crash"]
        if loaded:
            yield path, loaded


def _loaded_or_registered(seen: _Seen) -> Iterator[Anomaly]:
    for path, modules in _complete_dumps(seen):
        names = {str(m.name).lower().removesuffix(".sys"): m for m in modules}
        for registry in seen.registries:
            entries = seen.registered(registry)
            doubtful = seen.doubtful(registry)
            for entry in entries:
                name = str(entry.value)
                if "dump_" + name.lower().removesuffix(".sys") in names:
                    continue
                why = doubtful.get(name.lower())
                text = f"{called(registry)} registers the dump filter {name}"
                text += f", {why}" if why else ""
                text += f", but the modules in {called(path)} show that it was not loaded."
                if why:
                    text += f" Without it: {_without(name, [str(e.value) for e in entries])}"
                yield _say(
                    "case-leftover-filter" if why else "case-filter-not-loaded",
                    text,
                    entry.origin,
                    name,
                    (entry.origin, f"{entry.name} = {name}"),
                    (modules[0].origin, f"{len(modules)} modules of the crash stack, not this one"),
                )
            known = {"dump_" + str(e.value).lower().removesuffix(".sys") for e in entries}
            for name, module in names.items():
                if entries and module.role == "dump filter" and name not in known:
                    yield _say(
                        "case-filter-not-registered",
                        f"{module.name} is loaded as a dump filter in {called(path)}, but "
                        f"DumpFilters in {called(registry)} does not name it.",
                        module.origin,
                        str(module.name),
                        (module.origin, f"module {module.name}, role {module.role}"),
                        *((e.origin, f"{e.name} = {e.value}") for e in entries),
                    )


def _disabled(seen: _Seen) -> Iterator[Anomaly]:
    for anomaly in seen.told("filter-disabled"):
        module = anomaly.subject.split(" ")[0]
        name = re.sub(r"(?i)^(dump|hiber)_", "", module)
        entries = [
            entry
            for registry in seen.registries
            for entry in seen.registered(registry)
            if str(entry.value).lower().removesuffix(".sys") == name.lower().removesuffix(".sys")
        ]
        rows = [row for row in seen.others(anomaly) if row.outcome in (WRITTEN, SMALLER)]
        said = [f"{called(e.origin.source)} registers it as number {_place(e)}" for e in entries]
        said += [f"{called(row.origin.source)} says that the dump was written" for row in rows]
        if not said:
            continue
        text = (
            f"{called(anomaly.origin.source)} shows that the filter {module} was switched off "
            f"after a failure, and {_listed(said[:3])}: the dump went on without it. If this "
            "filter encrypts, the dump may hold memory in plain text."
        )
        yield _say(
            "case-filter-disabled",
            text,
            anomaly.origin,
            module,
            (anomaly.origin, f"{module} is disabled"),
            *((e.origin, f"{e.name} = {e.value}") for e in entries),
            *((row.origin, f"{row.tells}: {row.outcome}") for row in rows),
        )


def _place(entry: Setting) -> int:
    match = re.search(r"\[(\d+)\]", str(entry.name))
    return int(match[1]) + 1 if match else 1


def _hibernation(seen: _Seen) -> Iterator[Anomaly]:
    failed = [
        a
        for a in seen.told("event-dump-stack-failed")
        if a.evidence and str(a.evidence[0]).endswith(" 7")
    ]
    for registry in seen.registries if failed else []:
        others = [e for e in seen.registered(registry) if str(e.value).lower() != _IN_BOX]
        if not others:
            continue
        last = failed[-1]
        status = value(last, "status")
        words = "" if status is None else f" with {ntstatus.name(status)} ({status:#010x})"
        text = (
            f"{called(last.origin.source)} has Kernel-Dump event 7: the dump stack for hibernation "
            f"could not be initialised{words}, and {called(registry)} registers "
            f"{_listed([str(e.value) for e in others])} besides {_IN_BOX}: hibernation and fast "
            "startup fall back to a shutdown or the lock screen, and a dump filter is the first "
            "suspect."
        )
        yield _say(
            "case-hibernation-fallback",
            text,
            last.origin,
            str(others[0].value),
            (last.origin, "Kernel-Dump event 7" + (f", status {status:#010x}" if status else "")),
            *((e.origin, f"{e.name} = {e.value}") for e in others),
        )


# -- writing the dump --------------------------------------------------------------------------


def _stuck(seen: _Seen) -> Iterator[Anomaly]:
    for anomaly in seen.told("log-driver-stuck"):
        rows = [r for r in seen.others(anomaly) if r.outcome in (FAILED, None)]
        if not rows:
            continue
        second = min(rows, key=lambda row: row.outcome is None)
        words = _told(second)
        text = (
            f"{called(anomaly.origin.source)} ends with the call of {anomaly.subject}, which never "
            f"returned, and {called(second.origin.source)} has {words} of the same crash: the "
            f"crash path most probably died or hung in the secondary callback of "
            f"{anomaly.subject}."
        )
        yield _say(
            "case-driver-stuck",
            text,
            anomaly.origin,
            anomaly.subject,
            (anomaly.origin, str(anomaly.evidence[0])),
            *((row.origin, _told(row)) for row in rows),
        )


def _told(row: Crash) -> str:
    says = {FAILED: "dump failed", WRITTEN: "dump written", SMALLER: "smaller dump written"}
    return f"{row.tells} ({says[str(row.outcome)]})" if row.outcome else str(row.tells)


def _stalled(seen: _Seen) -> Iterator[Anomaly]:
    for anomaly in seen.told("log-write-stalled"):
        number = seen.crash(anomaly)
        said: list[tuple[Origin, str]] = []
        for other in seen.told("event-dump-failed"):
            if value(other, "location") == _PORT_WRITE and seen.crash(other) == number:
                said.append((other.origin, "event 161 says that the port driver's write failed"))
        # not of one event: the errors lie before a restart, which is what is known of them
        said += [
            (other.origin, "storage errors were logged before a restart")
            for other in seen.told("event-storage-errors")
            if len(numbers(seen.crashes)) == 1
        ]
        for other in seen.told("storage-request-failed", "storage-request-slow"):
            if seen.crash(other) == number:
                said.append((other.origin, "the dump shows slow or failed storage requests"))
        if said:
            words = _listed([f"in {called(origin.source)} {text}" for origin, text in said[:3]])
            text = (
                f"{called(anomaly.origin.source)} shows that writing memory to the disk stalled, "
                f"and {words}: the disk, its driver or a filter's Dump_Write does not keep up."
            )
            first = (anomaly.origin, str(anomaly.evidence[0]))
            yield _say("case-write-stalled", text, anomaly.origin, "storage", first, *said)


def _too_small(seen: _Seen) -> Iterator[Anomaly]:
    for anomaly in seen.told("log-dump-type-reduced", "dump-space-insufficient"):
        if anomaly.rule.startswith("log") and "too small" not in anomaly.text:
            continue
        said: list[tuple[Origin, str]] = []
        for other in seen.told("registry-page-file-too-small"):
            said.append((other.origin, "PageFileTooSmall is set"))
        for registry in seen.registries:
            for setting in seen.settings(registry, "DumpFileSize"):
                size = str(setting.value)
                if size not in ("0", "0x0"):
                    words = f"DumpFileSize is {int(size, 0):,} MB" if _is_number(size) else size
                    said.append((setting.origin, words))
        for other in seen.told("event-dump-failed"):
            if value(other, "status") in _NO_SPACE and seen.crash(other) == seen.crash(anomaly):
                said.append((other.origin, "event 161 says that there was no space"))
        said = [pair for pair in said if pair[0].source != anomaly.origin.source]
        if not said:
            continue
        needed = [
            m.required_dump_space
            for m in seen.records["machine"]
            if m.origin.source == anomaly.origin.source and not is_absent(m.required_dump_space)
        ]
        need = f" ({int(needed[0]):,} bytes announced)" if needed else ""
        words = _listed([f"in {called(origin.source)} {text}" for origin, text in said[:3]])
        text = (
            f"{called(anomaly.origin.source)} says that the dump file was too small{need}, and "
            f"{words}: the file that takes the dump is too small."
        )
        first = (anomaly.origin, str(anomaly.evidence[0]) if anomaly.evidence else anomaly.text)
        yield _say("case-dump-too-small", text, anomaly.origin, "dump file", first, *said)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"0x[0-9a-f]{1,16}|\d{1,19}", text) is not None


def _type_smaller(seen: _Seen) -> Iterator[Anomaly]:
    smaller = {r.origin.source: r for r in seen.crashes if r.outcome == SMALLER}
    for machine in seen.records["machine"]:
        source = machine.origin.source
        row = smaller.get(source)
        if row is None and not _is_small_by_log(seen, machine):
            continue
        for registry in seen.registries:
            for setting in seen.settings(registry, "CrashDumpEnabled"):
                wanted = _LARGER.get(str(setting.value))
                if wanted is None:
                    continue
                kind = machine.dump_type_name
                kind = "a smaller dump" if is_absent(kind) else str(kind)
                yield _say(
                    "case-dump-type-smaller",
                    f"{called(registry)} asks for {wanted}, but {called(source)} tells of "
                    f"{kind}: Windows switched to a smaller dump, or the setting was changed later.",
                    machine.origin,
                    "dump type",
                    (machine.origin, f"dump type = {machine.dump_type}"),
                    (setting.origin, f"CrashDumpEnabled = {setting.value}"),
                )


def _is_small_by_log(seen: _Seen, machine: Machine) -> bool:
    """Only a log tells the type that was written; a minidump file may be made of a larger dump."""
    is_log = seen.kinds.get(machine.origin.source) == "dumpstack.log"
    return is_log and machine.dump_type == _SMALL_DUMP


def _switched_off(seen: _Seen) -> Iterator[Anomaly]:
    for anomaly in seen.told("registry-dump-disabled"):
        rows = [row for row in seen.crashes if row.tells != "kernel dump"]
        if rows:
            row = rows[-1]
            yield _say(
                "case-dump-disabled",
                f"CrashDumpEnabled is 0 in {called(anomaly.origin.source)}, and "
                f"{called(row.origin.source)} tells of a crash ({_told(row)}): such a crash leaves "
                "no dump.",
                anomaly.origin,
                "CrashDumpEnabled",
                (anomaly.origin, "CrashDumpEnabled = 0"),
                (row.origin, _told(row)),
            )
    logs = {row.crash for row in seen.crashes if row.tells == "dump log"}
    without = [row for row in seen.crashes if row.crash not in logs]
    for anomaly in seen.told("registry-log-disabled") if without else []:
        row = without[-1]
        yield _say(
            "case-log-switched-off",
            f"{called(row.origin.source)} tells of a crash ({_told(row)}), but no dump log of it "
            f"was given: by {called(anomaly.origin.source)} EnableLogFile is off, so Windows "
            "writes none.",
            anomaly.origin,
            "EnableLogFile",
            (anomaly.origin, str(anomaly.evidence[0])),
            (row.origin, _told(row)),
        )


def _contradictory(seen: _Seen) -> Iterator[Anomaly]:
    for number in numbers(seen.crashes):
        rows = [row for row in seen.crashes if row.crash == number]
        good = [row for row in rows if row.outcome in (WRITTEN, SMALLER)]
        bad = [row for row in rows if row.outcome == FAILED]
        pairs = [(g, b) for g in good for b in bad if g.origin.source != b.origin.source]
        if pairs:
            one, other = pairs[0]
            yield _say(
                "case-outcome-contradictory",
                f"{called(one.origin.source)} says that the dump of crash {number} was written "
                f"({one.tells}), {called(other.origin.source)} says that it failed "
                f"({other.tells}).",
                one.origin,
                f"crash {number}",
                *((row.origin, f"{_told(row)}; {row.why}") for row in (one, other)),
            )


def _progress(seen: _Seen) -> Iterator[Anomaly]:
    for anomaly in seen.told("event-dump-failed"):
        stage = value(anomaly, "stage")
        logs = {r.origin.source for r in seen.others(anomaly) if r.tells == "dump log"}
        last = [
            s
            for s in seen.records["stages"]
            if s.origin.source in logs and str(s.stage).startswith("progress-")
        ]
        if stage is None or not last:
            continue
        own = int(str(last[-1].stage).removeprefix("progress-"), 16)
        agree = "the same" if own & progress.STAGE_MASK == stage & progress.STAGE_MASK else "another"
        yield _say(
            "case-progress",
            f"Event 161 in {called(anomaly.origin.source)} says that the dump stopped at progress "
            f"{stage:#x} ({progress.name(stage)}); the last one in "
            f"{called(last[-1].origin.source)} is {agree}: {own:#x} ({progress.name(own)}).",
            anomaly.origin,
            "progress",
            (anomaly.origin, f"progress = {stage:#x}"),
            (last[-1].origin, f"last progress = {own:#x}"),
        )


def _several(seen: _Seen) -> Iterator[Anomaly]:
    found = numbers(seen.crashes)
    if len(found) < 2:
        return
    lines = []
    for number in found:
        rows = [row for row in seen.crashes if row.crash == number]
        code = next((f"{row.bugcheck:#x}" for row in rows if not is_absent(row.bugcheck)), "?")
        when = next((iso_time(int(r.time or 0)) for r in rows if not is_absent(r.time)), "time unknown")
        lines.append((rows[0].origin, f"crash {number}, bugcheck {code}, {when}"))
    sources = sorted({called(row.origin.source) for row in seen.crashes})
    yield _say(
        "case-several-crashes",
        f"The inputs are of {len(found)} crashes ({_listed(sources[:5])}); they are told apart.",
        lines[0][0],
        "",
        *lines,
    )


_CHECKS = (
    _file_missing, _stuck, _stalled, _too_small, _disabled, _switched_off, _loaded_or_registered,
    _hibernation, _contradictory, _type_smaller, _progress, _several,
)  # fmt: skip
