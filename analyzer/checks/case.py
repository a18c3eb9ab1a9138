"""Checks over several sources: what one says against what another says.

Invariant: every statement needs two sources and names both; sources of a crash are brought together
only when they were grouped as the same crash (the registry is the machine's, not a crash's).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..absence import is_absent, known
from ..files import called
from ..names import progress
from ..records import Anomaly, Crash, Evidence, Machine, Origin, Records
from . import case_filters, case_history
from .case_seen import CaseSeen, fact_number, in_words, joined, leading, listed
from .crashes import FAILED, SMALLER, WRITTEN

_PORT_WRITE = 0x5001
_NO_SPACE = (0xC000007F, 0xC0000099)  # DISK_FULL, ALLOTTED_SPACE_EXCEEDED
_SMALL_DUMP = 4
_KERNEL_DUMPS = (2, 6, 8)  # kernel memory only: summary, bitmap kernel, range kernel
#: CrashDumpEnabled that asks for more than a small dump
_LARGER = {
    "1": "a complete or active memory dump",
    "2": "a kernel memory dump",
    "7": "an automatic memory dump",
}


def check(records: Records, anomalies: Sequence[Anomaly]) -> Iterator[Anomaly]:
    """Everything this module checks; nothing when there is only one source."""
    seen = CaseSeen(records, anomalies)
    if len(seen.kinds) < 2:
        return
    for one in _CHECKS:
        yield from one(seen)


# -- writing the dump --------------------------------------------------------------------------


def _stuck(seen: CaseSeen) -> Iterator[Anomaly]:
    for anomaly in seen.anomalies_of("log-driver-stuck"):
        others = seen.others(anomaly)
        # that a crash was logged does not say how its dump ended; a dump that is cut short does
        rows = [r for r in others if r.outcome == FAILED]
        rows += [r for r in others if r.outcome is None and r.tells == "kernel dump"]
        if not rows or any(r.outcome in (WRITTEN, SMALLER) for r in others):
            continue
        second = rows[0]
        words = ("is a " if second.tells == "kernel dump" else "has ") + _outcome(second)
        if second.origin.confidence != "guess":
            words += " of the same crash"
        text = (
            f"The crash path probably died or hung in the secondary callback of {anomaly.subject}: "
            f"{called(anomaly.origin.source)} ends with its call, and "
            f"{called(second.origin.source)} {words}."
        )
        yield joined(
            "case-driver-stuck",
            text,
            anomaly.origin,
            anomaly.subject,
            leading(anomaly),
            *(in_words(row.origin, _outcome(row)) for row in rows),
        )


def _outcome(row: Crash) -> str:
    says = {FAILED: "dump failed", WRITTEN: "dump written", SMALLER: "smaller dump written"}
    told = [says[str(row.outcome)]] if row.outcome else []
    if row.tells == "kernel dump" and not row.outcome:
        told.append("cut short")
    if row.origin.confidence == "guess":
        told.append("taken for this crash by a guess")
    return f"{row.tells} ({', '.join(told)})" if told else str(row.tells)


def _stalled(seen: CaseSeen) -> Iterator[Anomaly]:
    for anomaly in seen.anomalies_of("log-write-stalled"):
        number = seen.crash(anomaly)
        said: list[tuple[Origin, str]] = [
            (other.origin, "event 161 says that the port driver's write failed")
            for other in seen.anomalies_of("event-dump-failed")
            if other.facts.get("location") == _PORT_WRITE and seen.crash(other) == number
        ]
        # not of one event: the errors lie before a restart, which is what is known of them
        said += [
            (other.origin, "storage errors were logged before a restart")
            for other in seen.anomalies_of("event-storage-errors")
            if len(seen.index.by_number) == 1
        ]
        for other in seen.anomalies_of("storage-request-failed", "storage-request-slow"):
            if seen.crash(other) == number:
                said.append((other.origin, "the dump shows slow or failed storage requests"))
        if said:
            words = listed([f"in {called(origin.source)} {text}" for origin, text in said[:3]])
            text = (
                f"{called(anomaly.origin.source)} shows that writing memory to the disk stalled, "
                f"and {words}: the disk, its driver or a filter's Dump_Write does not keep up."
            )
            pieces = [in_words(*pair) for pair in said]
            yield joined(
                "case-write-stalled", text, anomaly.origin, "storage", leading(anomaly), *pieces
            )


def _too_small(seen: CaseSeen) -> Iterator[Anomaly]:
    for anomaly in seen.anomalies_of("log-dump-type-reduced", "dump-space-insufficient"):
        if anomaly.rule.startswith("log") and not anomaly.facts.get("too_small"):
            continue
        said: list[tuple[Origin, str]] = [
            (other.origin, "PageFileTooSmall is set")
            for other in seen.anomalies_of("registry-page-file-too-small")
        ]
        needed = _needed(seen, anomaly.origin.source)
        for registry in seen.registries:
            for setting in seen.settings(registry, "DumpFileSize"):
                size = str(setting.value)
                # a size that would have been enough, or was set later, agrees with nothing
                if _is_number(size) and 0 < int(size, 0) << 20 < needed:
                    said.append((setting.origin, f"DumpFileSize is {int(size, 0):,} MB"))
            said += _page_file_limit(seen, registry, needed)
        said += [
            (other.origin, "event 161 says that there was no space")
            for other in seen.anomalies_of("event-dump-failed")
            if other.facts.get("status") in _NO_SPACE and seen.crash(other) == seen.crash(anomaly)
        ]
        said = [pair for pair in said if pair[0].source != anomaly.origin.source]
        if not said:
            continue
        need = f" ({needed:,} bytes were announced)" if needed else ""
        words = listed([f"in {called(origin.source)} {text}" for origin, text in said[:3]])
        text = (
            f"{called(anomaly.origin.source)} says that the dump file was too small{need}, and "
            f"{words}: the file that takes the dump is too small."
        )
        pieces = [in_words(*pair) for pair in said]
        yield joined(
            "case-dump-too-small", text, anomaly.origin, "dump file", leading(anomaly), *pieces
        )


def _page_file_limit(seen: CaseSeen, registry: str, needed: int) -> list[tuple[Origin, str]]:
    """That the page file may not become as large as the dump, where it takes the dump."""
    if seen.settings(registry, "DedicatedDumpFile"):
        return []
    files = [
        s
        for s in seen.records["settings"]
        if s.origin.source == registry and str(s.name).lower().startswith("pagingfiles[")
    ]
    from ..sources.registry_meaning import page_file_limit  # not loaded without a registry

    limits = [page_file_limit(str(s.value)) for s in files]
    known = [limit for limit in limits if limit is not None]
    if not known or len(known) < len(limits) or max(known) >= needed:
        return []
    words = f"the page file may have {max(known) >> 20:,} MB at most"
    return [(files[known.index(max(known))].origin, words)]


def _needed(seen: CaseSeen, source: str) -> int:
    """Bytes of the largest dump that was to be written, 0 when that is not known."""
    sizes = [
        stage.amount
        for stage in seen.records["stages"]
        if stage.origin.source == source and stage.stage == "dump-size"
    ]
    sizes += [m.required_dump_space for m in seen.records["machine"] if m.origin.source == source]
    return max((size for size in map(known, sizes) if size is not None), default=0)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"0x[0-9a-f]{1,16}|\d{1,19}", text) is not None


def _type_smaller(seen: CaseSeen) -> Iterator[Anomaly]:
    smaller = {r.origin.source: r for r in seen.crashes if r.outcome == SMALLER}
    for machine in seen.records["machine"]:
        source = machine.origin.source
        row = smaller.get(source)
        by_kernel = machine.dump_type == _SMALL_DUMP and (known(machine.attributes) or 0) & 0x8
        if row is None and not by_kernel and not _is_small_by_log(seen, machine):
            continue
        for registry in seen.registries:
            for setting in seen.settings(registry, "CrashDumpEnabled"):
                wanted = _LARGER.get(str(setting.value))
                if wanted is None or not _is_less(str(setting.value), machine.dump_type):
                    continue
                kind = machine.dump_type_name
                kind = "a smaller dump" if is_absent(kind) else str(kind)
                yield joined(
                    "case-dump-type-smaller",
                    f"{called(registry)} asks for {wanted}, but {called(source)} tells of "
                    f"{kind}: Windows switched to a smaller dump, or the setting is newer.",
                    machine.origin,
                    "dump type",
                    Evidence("dump type", machine.dump_type, "Number", origin=machine.origin),
                    Evidence("CrashDumpEnabled", setting.value, origin=setting.origin),
                )


def _is_less(asked: str, dump_type: object) -> bool:
    """True for a kind of dump below the one that was asked for."""
    return dump_type == _SMALL_DUMP or (asked == "1" and dump_type in _KERNEL_DUMPS)


def _is_small_by_log(seen: CaseSeen, machine: Machine) -> bool:
    """Only a log tells the type that was written; a minidump file may be made of a larger dump."""
    is_log = seen.kinds.get(machine.origin.source) == "dumpstack.log"
    return is_log and machine.dump_type == _SMALL_DUMP


def _switched_off(seen: CaseSeen) -> Iterator[Anomaly]:
    for anomaly in seen.anomalies_of("registry-dump-disabled"):
        left = {row.crash for row in seen.crashes if row.outcome in (WRITTEN, SMALLER)}
        rows = [row for row in seen.crashes if row.crash not in left]
        if rows and not any(row.tells in ("kernel dump", "dump log") for row in rows):
            row = rows[-1]
            yield joined(
                "case-dump-disabled",
                f"CrashDumpEnabled is 0 in {called(anomaly.origin.source)}, and "
                f"{called(row.origin.source)} tells of a crash ({_outcome(row)}): such a crash "
                "leaves no dump, unless the setting is newer.",
                anomaly.origin,
                "CrashDumpEnabled",
                leading(anomaly),
                in_words(row.origin, _outcome(row)),
            )
    logs = {row.crash for row in seen.crashes if row.tells == "dump log"}
    without = [row for row in seen.crashes if row.crash not in logs]
    for anomaly in seen.anomalies_of("registry-log-disabled") if without else []:
        row = without[-1]
        yield joined(
            "case-log-switched-off",
            f"{called(row.origin.source)} tells of a crash ({_outcome(row)}), but no dump log of "
            f"it was given: by {called(anomaly.origin.source)} EnableLogFile is off, so Windows "
            "writes none.",
            anomaly.origin,
            "EnableLogFile",
            leading(anomaly),
            in_words(row.origin, _outcome(row)),
        )


def _contradictory(seen: CaseSeen) -> Iterator[Anomaly]:
    for number, rows in seen.index.by_number.items():
        good = [row for row in rows if row.outcome in (WRITTEN, SMALLER)]
        bad = [row for row in rows if row.outcome == FAILED]
        pairs = [(g, b) for g in good for b in bad if g.origin.source != b.origin.source]
        if pairs:
            one, other = pairs[0]
            yield joined(
                "case-outcome-contradictory",
                f"{called(one.origin.source)} says that the dump of crash {number} was written "
                f"({one.tells}), but {called(other.origin.source)} says that it failed "
                f"({other.tells}).",
                one.origin,
                f"crash {number}",
                *(in_words(row.origin, f"{_outcome(row)}, {row.why}") for row in (one, other)),
            )


def _progress(seen: CaseSeen) -> Iterator[Anomaly]:
    for anomaly in seen.anomalies_of("event-dump-failed"):
        stage = fact_number(anomaly, "progress")
        logs = {r.origin.source for r in seen.others(anomaly) if r.tells == "dump log"}
        last = [
            (s.progress, s.origin)
            for s in seen.records["stages"]
            if s.origin.source in logs and isinstance(s.progress, int)
        ]
        if stage is None or not last:
            continue
        own, origin = last[-1]
        agree = "another" if (own ^ stage) & progress.STAGE_MASK else "the same"
        yield joined(
            "case-progress",
            f"Event 161 in {called(anomaly.origin.source)} says that the dump stopped at progress "
            f"{stage:#x} ({progress.name(stage)}); the last one in "
            f"{called(origin.source)} is {agree}: {own:#x} ({progress.name(own)}).",
            anomaly.origin,
            "progress",
            Evidence("progress", stage, "Code", progress.name(stage), anomaly.origin),
            Evidence("last progress", own, "Code", progress.name(own), origin),
        )


_CHECKS = (
    _stuck, _stalled, _too_small, *case_filters.CHECKS, _switched_off, _contradictory,
    _type_smaller, _progress, case_history.several,
)  # fmt: skip
