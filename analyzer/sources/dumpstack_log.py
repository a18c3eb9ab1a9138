"""DumpStack.log -> records: the stages of writing one dump, by crashdmp's own log.

Invariant: times are the ``Elapsed`` values the log states and differences of two of them, nothing
else, because the wall clock stands still during a crash. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

from ..absence import Absent
from ..errors import InputError, UnsupportedError
from ..files import reason
from ..names import bugchecks, ntstatus
from ..records import Machine, Number, Origin, Records, Source, Stage, untold
from . import dumpstack_log_findings
from .dumpstack_log_lines import Log, Row, read_lines
from .dumpstack_log_text import READ_LIMIT, decode

#: dump types as the log numbers them, the same numbers as in the dump's header
DUMP_TYPES = {4: "minidump", 5: "complete bitmap dump", 6: "kernel bitmap dump"}
#: MB of the log's "MB per sec" are 2**20 bytes: the 20 chunks of a public log (1,048,259 pages)
#: then add up to 48.02 s, the log states 48.04 s; with 10**6 they would need more time than passed
MEGABYTE = 1 << 20
PAGE = 4096


def collect(path: str) -> Records:
    """Reads one DumpStack.log or DumpStack.log.tmp."""
    return from_bytes(path, *_read(path))


def from_bytes(path: str, data: bytes, size: int) -> Records:
    """The same from the bytes of a file; ``size`` is that of the whole file."""
    text = decode(data, size)
    if text is None:
        raise _refusal(path, data)
    log = read_lines(path, text)
    if text.lines and len(log.around) == len(text.lines):
        raise InputError(path, "speaks of DumpStack.log, but holds no line of one")
    _set_durations(log.rows)
    records = Records()
    records.add(_source(log, size), _machine(log))
    records.add(*_stages(log))
    records.anomalies.extend(dumpstack_log_findings.draw(log))
    return records


def _read(path: str) -> tuple[bytes, int]:
    try:
        with open(path, "rb") as file:
            return file.read(READ_LIMIT), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error


def _refusal(path: str, data: bytes) -> InputError:
    """Names what carries the name DumpStack.log but is something else."""
    expected = 'the text "DLOGFILE" at the start'
    if not data:
        return InputError(path, "is empty", expected=expected)
    if not data.strip(b"\0"):
        return InputError(
            path, "holds only zero bytes, so no crash has been logged in it", expected=expected
        )
    if data.startswith(b"version https://git-lfs"):
        return UnsupportedError(
            path, "is a Git LFS pointer, not the log", advice="fetch the file with git lfs pull"
        )
    found = repr(data[:16].decode("latin-1"))
    return InputError(path, "is not a DumpStack.log", offset=0, expected=expected, found=found)


def _set_durations(rows: list[Row]) -> None:
    """A clocked row lasts until the next stated time; a written amount then has a rate."""
    clocked = [(index, row) for index, row in enumerate(rows) if row.elapsed is not None]
    for (index, row), (after, following) in zip(clocked, clocked[1:]):
        passed = (following.elapsed or 0) - (row.elapsed or 0)
        if passed < 0:
            continue
        row.duration = passed
        inside = {
            r.stage for r in rows[index + 1 : after]
            if not r.stage.startswith(("memory-data-", "progress-"))
        }  # fmt: skip
        is_alone = row.stage == "write-memory-data" and not row.is_open and not inside
        if is_alone and row.amount and row.duration:
            row.rate = round(row.amount * PAGE / MEGABYTE / (row.duration / 1000), 1)


# ---------------------------------------------------------------- rows -> records


def _stages(log: Log) -> Iterator[Stage]:
    not_clocked = Absent("not-recorded", "the log states no time at this line")
    before: int | None = None
    clocks = iter([elapsed for elapsed, _ in log.clocks])
    after = next(clocks, None)
    # without the line that begins a log, its first time may be any
    bound = log.clocks[0][1] if log.clocks and log.utc is not None else None
    for row in log.rows:
        if row is bound:
            yield _dump_start_bound(log, row)
        elapsed: Number = row.elapsed
        if row.elapsed is None:
            elapsed = _between(before, after)
        else:
            before, after = row.elapsed, next(clocks, None)
        duration: Number = row.duration
        if row.elapsed is None:
            duration = not_clocked
        elif row.duration is None:
            duration = Absent("not-recorded", "the log states no later time that fits")
        yield Stage(
            stage=row.stage,
            progress=row.progress,
            text=row.text,
            driver=row.driver,
            elapsed_ms=elapsed,
            duration_ms=duration,
            time=Absent("not-recorded", "the wall clock stands still during a crash"),
            status=row.status,
            status_name=ntstatus.name(row.status) if row.status is not None else None,
            amount=row.amount,
            unit=row.unit,
            rate_mb_per_s=row.rate,
            origin=Origin(log.path, "log line", row.confidence, row.offset),
        )


def _between(before: int | None, after: int | None) -> Absent:
    if before is None and after is None:
        words = "the log states no time at all"
    elif before is None:
        words = f"the log states no time at this line; it came before {after} ms"
    elif after is None:
        words = f"the log states no time at this line; it came after {before} ms"
    else:
        words = f"the log states no time at this line; it came between {before} and {after} ms"
    return Absent("not-recorded", words)


def _dump_start_bound(log: Log, first: Row) -> Stage:
    """The filters are started before the first log line, so the first clock bounds all of them."""
    return Stage(
        stage="dump-start-upper-bound",
        progress=None,
        text=f"All Dump_Start calls together took at most {first.elapsed} ms: that is the first "
        "elapsed time in the log, which also includes freezing the processors, the bugcheck "
        "screen, triage data and the start of the dump port driver",
        driver=None,
        elapsed_ms=first.elapsed,
        duration_ms=Absent(
            "not-recorded", "the log has no line about Dump_Start",
            "a kernel debugger or the filter driver's own trace",
        ),
        time=Absent("not-recorded", "the wall clock stands still during a crash"),
        status=Absent("not-recorded", "the log has no line about Dump_Start", "a kernel dump"),
        status_name=None,
        amount=None,
        unit=None,
        rate_mb_per_s=None,
        # inferred: the order "filters, then log" is known from Windows 7 and from the log's own
        # words
        origin=Origin(log.path, "bound drawn from the first Elapsed line", "likely", first.offset),
    )  # fmt: skip


def _source(log: Log, size: int) -> Source:
    text = log.text
    end = "completed" if log.completed else "its end not shown" if log.around else "not completed"
    version = f"version {text.version}" if text.version else "header damaged"
    parts = [version if text.has_header else "without its header", end]
    if text.encoding != "8-bit":
        parts.append(f"re-encoded as {text.encoding}")
    if text.line_ends not in ("CRLF", "none"):
        parts.append(f"line ends {text.line_ends}")
    return Source(
        path=log.path,
        kind="dumpstack.log",
        subtype=", ".join(parts),
        size_bytes=size,
        architecture=Absent("not-recorded", "the log does not name the processor architecture"),
        can_tell="stages of writing the dump; elapsed milliseconds at some of them; secondary data "
        "callbacks by driver; upper bound for all Dump_Start calls together",
        cannot_tell="which filters are loaded; status and duration of a single Dump_Start; wall "
        "clock times of the stages",
        origin=Origin(log.path, "file header and text", file_offset=0),
    )


def _machine(log: Log) -> Machine:
    code, sizes = log.bugcheck.get("Code"), log.sizes
    missing = Absent("not-found", "the log has no such line")
    other = Absent("not-recorded", "DumpStack.log does not record it", "a kernel dump")
    bugcheck: Number = missing
    if code is not None:
        wide = Absent("out-of-range", f"bugcheck code {code:#x} has more than 32 bits")
        bugcheck = code if code <= 0xFFFFFFFF else wide
    utc = log.ended if log.utc is None else log.utc
    wide = Absent("out-of-range", "the parameter has more than 64 bits")
    one, two, three, four = (
        missing if value is None else value if value < 1 << 64 else wide
        for value in map(log.bugcheck.get, ("P1", "P2", "P3", "P4"))
    )
    origin = Origin(log.path, "log lines", file_offset=log.first_offset)
    return untold(Machine, other, origin)._replace(
        bugcheck=bugcheck,
        bugcheck_name=bugchecks.name(bugcheck) if isinstance(bugcheck, int) else missing,
        system_time=missing if utc is None else _utc(utc),
        dump_type=sizes[-1][0] if sizes else missing,
        dump_type_name=DUMP_TYPES.get(sizes[-1][0], f"type {sizes[-1][0]}") if sizes else missing,
        required_dump_space=sizes[-1][1] if sizes else missing,
        parameter1=one, parameter2=two, parameter3=three, parameter4=four,
    )  # fmt: skip


def _utc(words: str) -> int | Absent:
    try:
        moment = datetime.strptime(words.strip() + " +0000", "%Y/%m/%d %H:%M:%S %z")
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        return Absent("out-of-range", f"{words[:40]!r} is not a date")
    if not 0 <= seconds < (1 << 63) // 10**9:
        return Absent("out-of-range", f"{words[:40]!r} lies outside 1970 to 2262")
    return seconds * 10**9
