"""Checks of the dump filters over several sources: registered, loaded, failed, left over.

Invariant: "not loaded" is said only by a dump whose list of modules was read to its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..absence import is_absent
from ..files import called
from ..names import drivers, ntstatus
from ..names.drivers import IN_BOX
from ..records import Anomaly, Evidence, Module, Setting
from . import rules_case
from .case_seen import CaseSeen, fact_number, in_words, joined, leading, listed, setting
from .crashes import SMALLER, WRITTEN
from .machine import knows_filter_state

_LOAD_FILTERS = 0x2005
#: OBJECT_NAME_NOT_FOUND, OBJECT_PATH_NOT_FOUND, NO_SUCH_FILE
_NO_FILE = (0xC0000034, 0xC000003A, 0xC000000F)


def _file_missing(seen: CaseSeen) -> Iterator[Anomaly]:
    found = [
        a
        for a in seen.anomalies_of("event-dump-driver-load-failed")
        if a.facts.get("location") == _LOAD_FILTERS and a.facts.get("status") in _NO_FILE
    ]
    damaged = _damaged(seen)
    for registry in seen.registries if found else []:
        entries = seen.registered(registry)
        doubtful = seen.doubtful(registry)
        names = [str(entry.value) for entry in entries]
        suspects = [n for n in names if n.lower() in doubtful]
        suspects = suspects or [n for n in names if n.lower() != IN_BOX] or names
        if not suspects:
            continue
        last, times = found[-1], f" ({len(found)} times)" if len(found) > 1 else ""
        status = fact_number(last, "status") or 0
        why = doubtful.get(suspects[0].lower(), "")
        about = f" {listed(suspects)}" + (f", {why}" if why and len(suspects) == 1 else "")
        blame = "the driver file of one of them is most probably missing"
        if len(suspects) == 1:
            blame = "its driver file is " + (
                "most probably missing" if why else "the first suspect"
            )
        text = (
            f"{called(last.origin.source)} has event 45{times}: loading the dump filters failed "
            f"(location {_LOAD_FILTERS:#x}) with {ntstatus.name(status)} ({status:#010x}), and "
            f"{called(registry)} registers{about}: {blame}, so the crash dump stack did not load."
        )
        if len(suspects) == 1 and suspects[0].lower() != IN_BOX:
            text += f" Without it: {_without(suspects[0], names, registry in damaged)}"
        yield joined(
            "case-filter-file-missing",
            text,
            last.origin,
            suspects[0],
            Evidence("location", _LOAD_FILTERS, "Code", "loading the dump filters", last.origin),
            Evidence("status", status, "Code", ntstatus.name(status), last.origin),
            *map(setting, entries),
        )


def _is_proven_filter(seen: CaseSeen, module: Module) -> bool:
    """True for a filter known by name, or one whose node was read."""
    if module.role != drivers.FILTER or drivers.known(module.name):
        return module.role == drivers.FILTER
    return any(
        row.filter == module.name and row.origin.source == module.origin.source
        for row in seen.records["filters"]
        if not is_absent(row.node)
    )


def _damaged(seen: CaseSeen) -> set[str]:
    """Registries of which parts are missing: the list may have more filters than were read."""
    return {a.origin.source for a in seen.anomalies_of("registry-damaged")}


def _without(name: str, names: Sequence[str], is_damaged: bool) -> str:
    """The command that leaves the other filters registered."""
    left = [other for other in names if other.lower() != name.lower()]
    # what is quoted goes into a command line, so only plain names are written out
    if all(re.fullmatch(r"[\w.-]{1,60}", other) for other in left) and left and not is_damaged:
        data = "\\0".join(left)
        return f"reg add {rules_case.CONTROL} /v DumpFilters /t REG_MULTI_SZ /d {data} /f"
    return f"regedit, {rules_case.CONTROL}, DumpFilters"


def complete_dumps(seen: CaseSeen) -> Iterator[tuple[str, list[Module]]]:
    """Dumps of a crash whose list of loaded modules was read to its end and has a dump stack."""
    doubted = {a.origin.source for a in seen.anomalies_of("modules-incomplete", "not-a-crash")}
    for path, kind in seen.kinds.items():
        if kind != "kernel dump" or path in doubted:
            continue
        modules = [m for m in seen.records["modules"] if m.origin.source == path]
        loaded = [m for m in modules if m.loaded and m.stack == "crash"]
        if loaded:
            yield path, loaded


def _loaded_or_registered(seen: CaseSeen) -> Iterator[Anomaly]:
    damaged = _damaged(seen)
    for path, modules in complete_dumps(seen):
        names = {drivers.plain_name(m.name): m for m in modules}
        for registry in seen.registries:
            entries = seen.registered(registry)
            doubtful = seen.doubtful(registry)
            for entry in entries:
                name = str(entry.value)
                if drivers.stem(name) in names:
                    continue
                why = doubtful.get(name.lower())
                text = f"{called(registry)} registers the dump filter {name}"
                text += f", {why}" if why else ""
                text += f", but the modules in {called(path)} show that it was not loaded."
                if why:
                    others = [str(e.value) for e in entries]
                    text += f" Without it: {_without(name, others, registry in damaged)}"
                yield joined(
                    "case-leftover-filter" if why else "case-filter-not-loaded",
                    text,
                    entry.origin,
                    name,
                    setting(entry),
                    in_words(
                        modules[0].origin,
                        f"{len(modules)} modules of the crash stack, not this one",
                    ),
                )
            if registry in damaged:
                continue
            known = {drivers.stem(str(e.value)) for e in entries}
            for name, module in names.items():
                # a filter by elimination may be something else, as its lack in the list suggests
                if name not in known and entries and _is_proven_filter(seen, module):
                    yield joined(
                        "case-filter-not-registered",
                        f"{module.name} is loaded as a dump filter in {called(path)}, but "
                        f"DumpFilters in {called(registry)} does not name it.",
                        module.origin,
                        str(module.name),
                        in_words(module.origin, f"module {module.name}, role {module.role}"),
                        *map(setting, entries),
                    )


def _disabled(seen: CaseSeen) -> Iterator[Anomaly]:
    live = {a.origin.source for a in seen.anomalies_of("not-a-crash")}
    for anomaly in seen.anomalies_of("filter-disabled"):
        if anomaly.facts.get("stack") == "hibernation" or anomaly.origin.source in live:
            continue  # that stack did not write a dump
        module = str(anomaly.facts.get("filter") or "")
        name = re.sub(r"(?i)^(dump|hiber)_", "", module)
        entries = [
            entry
            for registry in seen.registries
            for entry in seen.registered(registry)
            if str(entry.value).lower().removesuffix(".sys") == name.lower().removesuffix(".sys")
        ]
        rows = [row for row in seen.others(anomaly) if row.outcome in (WRITTEN, SMALLER)]
        said = [f"{called(e.origin.source)} registers it as number {_position(e)}" for e in entries]
        said += [f"{called(row.origin.source)} says that the dump was written" for row in rows]
        if not said:
            continue
        text = (
            f"{called(anomaly.origin.source)} shows that the filter {module} was switched off "
            f"after a failure{_how_sure(seen, anomaly)}, and {listed(said[:3])}: the dump went on "
            "without it. If this filter encrypts, the dump may hold memory in plain text."
        )
        yield joined(
            "case-filter-disabled",
            text,
            anomaly.origin,
            module,
            leading(anomaly),
            *map(setting, entries),
            *(in_words(row.origin, f"{row.tells}: {row.outcome}") for row in rows),
        )


def _how_sure(seen: CaseSeen, anomaly: Anomaly) -> str:
    """Only on 32-bit Windows 7 it is proven where the state of a filter lies."""
    proven = knows_filter_state(seen.records["machine"], anomaly.origin.source)
    return "" if proven else " (by a state word whose place is inferred on this Windows)"


def _position(entry: Setting) -> int:
    match = re.search(r"\[(\d+)\]", str(entry.name))
    return int(match[1]) + 1 if match else 1


def _hibernation(seen: CaseSeen) -> Iterator[Anomaly]:
    failed = [
        a for a in seen.anomalies_of("event-dump-stack-failed") if a.facts.get("event_id") == 7
    ]
    for registry in seen.registries if failed else []:
        others = [e for e in seen.registered(registry) if str(e.value).lower() != IN_BOX]
        if not others:
            continue
        last = failed[-1]
        status = fact_number(last, "status")
        words = "" if status is None else f" with {ntstatus.name(status)} ({status:#010x})"
        text = (
            f"{called(last.origin.source)} has Kernel-Dump event 7: the dump stack for hibernation "
            f"could not be initialised{words}, and {called(registry)} registers "
            f"{listed([str(e.value) for e in others])} besides {IN_BOX}: hibernation and fast "
            "startup fall back to a shutdown or the lock screen. The event does not name the "
            "driver: the storage driver's copy can fail as well as a filter, and on Windows 7 a "
            "failing Dump_Start alone does not make the stack fail."
        )
        yield joined(
            "case-hibernation-fallback",
            text,
            last.origin,
            str(others[0].value),
            leading(last),
            *map(setting, others),
        )


CHECKS = (_file_missing, _disabled, _loaded_or_registered, _hibernation)
