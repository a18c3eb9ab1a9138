"""What is odd in one DumpStack.log: its rows -> anomalies.

Invariant: a log that is full, cut or damaged is never called a dead crash path; every threshold has
its reason beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..names import progress
from ..records import Anomaly, Evidence, Origin
from .dumpstack_log_lines import Log, Row
from .dumpstack_log_text import LONGEST_LINE, READ_LIMIT

#: first clock value: 1.3 to 8.0 s in 19 public logs, 171.7 s in one more
START_SLOW_MS = 10_000
#: write rate: 37 to 347 MB/s in public logs, 7.8 MB/s in one more
WRITE_SLOW_MB_PER_S = 20
#: rate of one chunk of the memory write: the slowest of a public log is 41 MB/s; at 2 MB/s and less
#: a chunk of a twentieth of 4 GB takes over 100 s, which is a disk that hardly answers
STALLED_MB_PER_S = 2
#: so many unrecognised lines are reported one by one, the rest as one count
SINGLE_LINES = 20


def draw(log: Log) -> list[Anomaly]:
    """All anomalies of a log, in the order of the stages."""
    found = list(_container(log))
    found += _lines(log)
    found += _start(log)
    found += _writing(log)
    found += _reduced(log)
    found += _end(log)
    return found


def _at(log: Log, row: Row | None, how: str = "log line", confidence: str = "certain") -> Origin:
    return Origin(log.path, how, confidence, row.offset if row else 0)


def _quoted(line: str) -> str:
    """A line of the log as a sentence quotes it, without its own full stop."""
    return repr(line[:200].rstrip(". "))


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.10g} s"


def _container(log: Log) -> Iterator[Anomaly]:
    text = log.text
    if text.encoding != "8-bit" or text.line_ends not in ("CRLF", "none"):
        words = f"encoding {text.encoding}, line ends {text.line_ends}"
        yield Anomaly(
            "log-rewritten",
            f"The file is not as Windows wrote it ({words}): a program such as git or an editor "
            "saved it again.",
            _at(log, None, "whole file"),
            evidence=(Evidence("", words),),
        )
    if text.encoding == "8-bit":
        yield from _header(log)
    behind = [*log.behind, *text.leftover]
    if behind:
        first = behind[0]
        yield Anomaly(
            "log-leftover",
            "Left out, as most likely the rest of an older, longer log: "
            f"{len(behind)} line{'' if len(behind) == 1 else 's'} behind the end of this one.",
            Origin(log.path, "text behind the stated end", "likely", first.offset),
            evidence=tuple(Evidence("line", line.text[:100]) for line in behind[:3]),
        )
    if text.is_limited:
        yield Anomaly(
            "log-limit-reached",
            f"Only the first {READ_LIMIT:,} bytes of the file were read; the log of a crash has "
            "12,288.",
            _at(log, None, "whole file"),
        )
    if not text.lines:
        yield Anomaly(
            "log-empty",
            "The log has a header but no line: no crash has been logged in it.",
            _at(log, None, "whole file"),
        )


def _header(log: Log) -> Iterator[Anomaly]:
    """What the header says of the text, where the two do not agree."""
    text = log.text
    if text.is_end_confirmed or text.is_cut or text.is_unclosed or text.is_limited:
        return
    evidence: tuple[Evidence, ...] = ()
    origin = Origin(log.path, "header field", file_offset=0x14)
    if text.has_header:
        stated = "cannot be read" if text.stated_end is None else f"says {text.stated_end}"
        words = f"The length in the header {stated}, but the text ends at {text.original_end}: the "
        words += "header or the text was changed"
        evidence = (
            Evidence("length in header", text.stated_end, "Number"),
            Evidence("end of text", text.original_end, "Number"),
        )
    elif log.around:
        return  # log-excerpt says where it stands, and text in a post or a mail has no header
    else:
        words = "The file has no binary header, only text, as when another program saved it"
        origin = Origin(log.path, "start of the file", file_offset=0)
    words += ". Lines of an older log may be mistaken for lines of this one."
    yield Anomaly("log-header-damaged", words, origin, evidence=evidence)


def _lines(log: Log) -> Iterator[Anomaly]:
    unknown = log.unrecognised
    for row in unknown[:SINGLE_LINES]:
        yield Anomaly(
            "log-line-unrecognised",
            f"A line is not understood: {_quoted(row.text)}.",
            _at(log, row),
            evidence=(Evidence("line", row.text[:200]),),
        )
    if len(unknown) > SINGLE_LINES:
        rest = unknown[SINGLE_LINES:]
        yield Anomaly(
            "log-line-unrecognised",
            f"{len(rest)} more lines were not understood.",
            _at(log, rest[0]),
        )
    for row in log.failures[:SINGLE_LINES]:
        yield Anomaly(
            "log-failure-line",
            f"The log says {_quoted(row.text)}.",
            _at(log, row, "log line, by its words", "likely"),
            evidence=(Evidence("line", row.text[:200]),),
        )
    for (before, _), (after, row) in zip(log.clocks, log.clocks[1:]):
        if after < before:
            yield Anomaly(
                "log-clock-backwards",
                f"The elapsed time goes back from {before} to {after} ms, so the lines from there "
                "on may belong to another crash.",
                _at(log, row),
                evidence=(Evidence("elapsed_ms", before), Evidence("then", after)),
            )
            return


def _start(log: Log) -> Iterator[Anomaly]:
    elapsed, row = log.clocks[0] if log.clocks else (0, None)
    if log.utc is not None and elapsed > START_SLOW_MS:
        yield Anomaly(
            "log-start-slow",
            f"The first elapsed time in the log is {_seconds(elapsed)} after the bugcheck. "
            "Dump_Start of all filters lies before it, but so do the screen, triage data and the "
            "dump port driver.",
            _at(log, row),
            evidence=(Evidence("first elapsed_ms", elapsed), Evidence("limit_ms", START_SLOW_MS)),
        )


def _writing(log: Log) -> Iterator[Anomaly]:
    slowest = min(log.chunks, key=lambda chunk: chunk[0], default=None)
    where: tuple[Evidence, ...] = ()
    if slowest:
        percent = f"at {slowest[1]} %" if slowest[1] is not None else "before the first percentage"
        where = (Evidence("slowest chunk", f"{slowest[0]:g} MB/s {percent}"),)
    rates = ((row.rate, row) for row in log.rows if row.stage == "write-memory-data")
    rate, whole = next(((rate, row) for rate, row in rates if rate is not None), (None, None))
    if rate is not None and whole is not None and rate < WRITE_SLOW_MB_PER_S:
        took = whole.duration
        yield Anomaly(
            "log-write-slow",
            f"Memory was written at {rate:g} MB/s"
            + (f" ({whole.amount:,} pages in {_seconds(took)})." if took is not None else "."),
            _at(log, whole),
            evidence=(
                Evidence("rate", f"{rate:g} MB/s"),
                Evidence("limit", f"{WRITE_SLOW_MB_PER_S} MB/s"),
                *where,
            ),
        )
    if slowest and slowest[0] <= STALLED_MB_PER_S:
        yield Anomaly(
            "log-write-stalled",
            f"The memory write fell to {slowest[0]:g} MB/s (slowest chunk: {where[0].value}).",
            _at(log, slowest[2]),
            evidence=(*where, Evidence("limit", f"{STALLED_MB_PER_S} MB/s")),
        )
    pages = log.pages
    if pages and pages[1] < pages[0]:
        yield Anomaly(
            "log-pages-missing",
            f"{pages[0] - pages[1]:,} of {pages[0]:,} pages were not written.",
            _at(log, pages[2]),
            evidence=_pages(log),
        )


def _pages(log: Log) -> tuple[Evidence, ...]:
    pages = log.pages[:2] if log.pages else ()
    names = ("total pages", "pages written")
    return tuple(Evidence(name, n, "Number") for name, n in zip(names, pages))


def _reduced(log: Log) -> Iterator[Anomaly]:
    """That a smaller dump was written, and why as far as the log states it."""
    kinds = [size[0] for size in log.sizes]
    types = tuple(Evidence("dump type", kind, "Number") for kind in kinds[:4])
    retry, reduced, driver = log.retry, log.reduced, log.given_up
    if retry is not None:
        if driver is not None:
            yield _faulted(log, driver, retry)
        why = f"the secondary callback of {driver.driver} was never left" if driver else (
            "the log does not say why")  # fmt: skip
        yield Anomaly(
            "log-dump-type-reduced",
            f"Windows gave the dump up and wrote a minidump in its place: {why}.",
            _at(log, retry),
            evidence=(Evidence("line", retry.text[:200]), *types),
        )
    elif reduced is not None:
        yield Anomaly(
            "log-dump-type-reduced",
            f"The dump was reduced: {reduced.text[:200]}",
            _at(log, reduced, "log line, by its words", "likely"),
            evidence=(Evidence("line", reduced.text[:200]), *types),
            facts={"too_small": "too small" in reduced.text},
        )
    elif len(set(kinds)) > 1 and kinds[-1] == 4:
        yield Anomaly(
            "log-dump-type-reduced",
            f"The dump type went from {kinds[0]} to {kinds[-1]}: only a minidump was written.",
            _at(log, log.sizes[-1][2]),
            evidence=types,
        )


def _faulted(log: Log, driver: Row, retry: Row) -> Anomaly:
    pages = log.pages
    written = ""
    if pages and pages[2].offset < driver.offset and pages[0] == pages[1]:
        written = f" All {pages[0]:,} pages had been written by then."
    return Anomaly(
        "log-driver-faulted",
        f"The secondary callback of {driver.driver} was entered and never left; Windows then began "
        f"again with a minidump, so it most likely faulted there.{written}",
        _at(log, driver, confidence="likely"),
        str(driver.driver),
        (
            Evidence("entered", driver.text[:200]),
            Evidence("then", retry.text[:200], origin=_at(log, retry)),
            *_pages(log),
        ),
    )


def _excerpt(log: Log, last: Row | None, last_line: str) -> Anomaly:
    around = log.around
    count = "1 line was" if len(around) == 1 else f"{len(around)} lines were"
    so = "."
    if not log.completed:
        so = (
            f", so it may be a part only: that its last line here is {_quoted(last_line)} does "
            "not show that the dump stopped there."
        )
    return Anomaly(
        "log-excerpt",
        f"The log stands in another text, of which {count} left out{so}",
        _at(log, last, "whole file"),
        evidence=tuple(Evidence("line", line.text[:100]) for line in around[:3]),
    )


def _end(log: Log) -> Iterator[Anomaly]:
    """What a log without its end shows."""
    text, last, last_line = log.text, log.last, log.last_line[:200]
    if log.around:
        yield _excerpt(log, last, last_line)
    if log.completed or not text.lines or text.is_limited or log.around:
        return
    evidence: tuple[Evidence, ...] = (Evidence("last line", last_line),)
    if log.progress is not None:
        words = progress.name(log.progress)
        evidence += (Evidence("last progress", log.progress, "Code", words),)
    if text.is_cut:
        words = (
            f"The file ends before the {text.stated_end:,} bytes that its header announces, so "
            f"what came after {_quoted(last_line)} is not known."
        )
        yield Anomaly("log-cut", words, _at(log, last), evidence=evidence)
        return
    if text.room is not None and text.room < LONGEST_LINE:
        words = (
            f"The log is full ({text.room} bytes left), so its end is missing: that the last line "
            f"is {_quoted(last_line)} does not show that the dump stopped there."
        )
        yield Anomaly("log-full", words, _at(log, last), evidence=evidence)
        return
    sure = "likely" if text.is_end_confirmed or text.is_unclosed else "guess"
    if text.is_unclosed:
        what = f"{text.stated_end}, the whole file: it was never closed"
        evidence += (Evidence("length in header", what),)
    opened = [row for row in log.rows if row.is_open]
    driver = log.entered
    never_left = driver or (opened[-1] if opened else None)
    hung = {} if never_left is None else {"never_left_offset": never_left.offset}
    if driver is not None:
        words = (
            f"The secondary callback of {driver.driver} was entered and never left, and no later "
            "step is logged: the crash path most likely died or hung in that driver."
        )
        where = _at(log, driver, "log line", sure)
        yield Anomaly("log-driver-stuck", words, where, str(driver.driver), evidence, hung)
    elif any(row.stage == "write-memory-data" for row in opened):
        percent = log.percent
        reached = f"at {percent} %" if percent is not None else "before the first percentage"
        yield Anomaly(
            "log-write-stalled",
            f"The memory write never finished; the log stops {reached}.",
            _at(log, last, "last line of the log", sure),
            evidence=evidence,
        )
    yield Anomaly(
        "log-unfinished",
        f"The log has no end; its last line is {_quoted(last_line)}. The machine was reset, hung "
        "or failed there, or the log could not be written any more.",
        _at(log, last, "last line of the log", sure),
        str(driver.driver) if driver is not None else "",
        evidence,
        hung,
    )
