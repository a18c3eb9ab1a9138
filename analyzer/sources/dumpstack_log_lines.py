"""The lines of a DumpStack.log -> stage rows and facts.

Invariant: every line of the log becomes a row or part of one; a line that is not understood is a
row ``unrecognised-line``. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..names import progress
from .dumpstack_log_text import Line, LogText

_HEX = "0x([0-9A-Fa-f]+)"
_N = r"(\d{1,18})"
_VERB = "(Calling|Return from|Writing)"
_DRIVER = "(?P<driver>.*)"
_PAGES = rf"Total pages: ?{_N} Pages written: ?{_N}"
# at the end of two kinds of line since 2025
_TRANSFER = r"(?:, MaxTransferSize: \d{1,18})?"
_RATE = r"(?: MB/s: ?(\d{1,9}))?"
# the lines of 22 real logs (2022 to 2025) and of three more quoted in public issues
_LINES = [
    ("initialized", r"Dump stack initialized at UTC: (?P<utc>[^,]*), local time: .*"),
    ("guid", r"Dump Guid: \{[0-9A-Fa-f-]{36}\}"),
    ("bugcheck", rf"#BugCheck(?P<field>Code|P[1-4]) {_HEX}"),
    ("progress", rf"Progress {_HEX}"),
    ("elapsed", r"Elapsed BugCheck duration (?P<ms>\d{1,12})ms"),
    ("size", rf"Dump Type: {_N}, Total Dump Size: {_N}, Secondary Dump Size: {_N}{_TRANSFER}\."),
    ("percent", r"Dumping physical memory to disk: +(\d{1,3})%"),
    ("rate", r"WriteBitmapDump: pages written = (\d{1,15}), MB per sec = (\d{1,9})\."),
    ("pages", rf"Finish write of bitmap dump data\. {_PAGES}{_RATE}"),
    ("callback", rf"{_VERB} {_DRIVER} secondary callback( data| data done)?\."),
    ("part", rf"(Starting|Finish) {_DRIVER} multi-part secondary callback\."),
    ("ended", r"Dump ended at UTC: (?P<utc>[^,]*),?.*"),
    ("completed", r"Dump completed successfully\."),
    # one real log of 2026: a secondary callback faulted, and Windows wrote a minidump instead
    ("retry", r"Initiating RetryAsMinidump!"),
    ("skipped", rf"MiniDumpDumpWriteRetry in progress, skipping .+?(?:; Type: {_HEX})?\."),
]  # fmt: skip
_PATTERNS = [(kind, re.compile(pattern + r"\s*$")) for kind, pattern in _LINES]
# "Starting x" ... "Finish x": opening words -> stage id; closing words -> stage id
_OPENING = {
    "Starting get secondary dump callbacks size.": "secondary-data-size",
    "Starting write of dump header.": "write-dump-header",
    "Starting write of kernel bitmap dump header.": "write-bitmap-header",
    "Starting write of full bitmap dump header.": "write-bitmap-header",
    "Starting write of memory dump data.": "write-memory-data",
    "Starting write of minidump data.": "write-minidump-data",
    "Starting invoking secondary dump callbacks.": "secondary-callbacks",
    "Calling secondary multi-part dump callbacks.": "multi-part-callbacks",
}
_CLOSING = {
    "Finish get secondary dump callbacks size.": "secondary-data-size",
    "Finish write of dump header.": "write-dump-header",
    "Finish write of bitmap dump header.": "write-bitmap-header",
    "Finish write of memory dump data.": "write-memory-data",
    "Finish write of minidump data.": "write-minidump-data",
    "Finish calling secondary multi-part dump callbacks.": "multi-part-callbacks",
    "Finish invoking secondary dump callbacks.": "secondary-callbacks",
}
# later logs: "Starting ...; Type: 0x04." and "Finished ..."; those before: "Starting ...", "Finish"
_COMPLETE = re.compile(
    rf"(Starting|Finish(?:ed)?) invoking dump complete callbacks(?:; Type: {_HEX})?\.\s*$"
)
# One public log has such a line ("Dump file is too small - switching to minidump. Dump file size =
# ..."), so these two go by words; their stages are marked "likely".
_REDUCED = re.compile(r"(?i)\bswitch\w* to .*dump")
_FAILED = re.compile(
    r"(?i)\b(fail\w*|error|unable|cannot|could not|insufficient|not enough|too small|abort\w*)\b"
)
_STATUS = re.compile(r"0x([8CDcd][0-9A-Fa-f]{7})\b")


#: what a post puts in front of a line, and what numbers it; no line of the log begins with a digit
_QUOTE = re.compile(r"^(?:[ \t]*>)*[ \t]*(?:(?:\S{1,80}\.log\S{0,4}:)?\d{1,5}[:.|) \t]+)?")
#: how the line begins that says that a driver is called
_ENTERS = ("Calling ", "Starting ")
#: stages whose lines do not show that a driver's callback was left
_SAYS_NOTHING = ("progress-", "elapsed", "unrecognised-line", "failure", "cut-line")


class Row:
    """A stage while its lines are being read."""

    def __init__(self, stage: str, text: str, offset: int, driver: str | None = None) -> None:
        self.stage, self.text, self.offset, self.driver = stage, text, offset, driver
        self.is_open = False
        self.elapsed: int | None = None
        self.duration: int | None = None
        self.amount: int | None = None
        self.unit: str | None = None
        self.rate: float | None = None
        self.status: int | None = None
        self.progress: int | None = None
        self.confidence = "certain"


class Log:
    """What the lines said; the findings are drawn from this."""

    def __init__(self, path: str, text: LogText) -> None:
        self.path, self.text = path, text
        self.rows: list[Row] = []  #: in the order they were opened
        self.open: dict[tuple[str, str | None], list[Row]] = {}  #: by stage and driver
        self.around: list[Line] = []  #: of a post, before and behind the log
        self.behind: list[Line] = []  #: behind the line that says that it is complete
        self.unrecognised: list[Row] = []
        self.failures: list[Row] = []
        self.bugcheck: dict[str, int] = {}  #: "Code", "P1" to "P4"
        self.utc: str | None = None  #: when it began
        self.ended: str | None = None
        self.completed = False
        self.first_offset: int | None = None
        self.last: Row | None = None
        self.last_line, self.last_offset = "", 0
        self.entered: Row | None = None  #: a driver was called and did nothing else that is logged
        self.given_up: Row | None = None  #: that row, when Windows began again
        self.retry: Row | None = None
        self.reduced: Row | None = None
        self.progress: int | None = None
        self.percent: int | None = None
        self.clocks: list[tuple[int, Row]] = []
        self.sizes: list[tuple[int, int, Row]] = []  #: dump type, bytes
        self.chunks: list[tuple[float, int | None, Row]] = []  #: MB/s, percent before
        self.pages: tuple[int, int, Row] | None = None  #: all of them, those written


def read_lines(path: str, text: LogText) -> Log:
    """Turns the lines into stage rows, in the order they were opened."""
    log = Log(path, text)
    own = _own_lines(text)
    places = {line.offset for line in own}
    log.around = [line for line in text.lines if line.offset not in places]
    for line in own:
        # 9 of 22 real logs have their last mark, Progress 0x53, behind the line that says completed
        if log.completed and "Progress " not in line.text:
            log.behind.append(line)
            continue
        words = _QUOTE.sub("", line.text).rstrip()
        row = _take(log, words, line.offset, line.is_ended)
        log.last, log.last_line, log.last_offset = row, words, line.offset
        if row.driver is not None and row.is_open and row.text.startswith(_ENTERS):
            log.entered = row
        elif not row.stage.startswith(_SAYS_NOTHING):
            log.entered = None
    return log


def _own_lines(text: LogText) -> list[Line]:
    """Those of the log: one without its header can stand in a post, among the words of a person."""
    if text.has_header:
        return text.lines
    known = [n for n, line in enumerate(text.lines) if _is_known(_QUOTE.sub("", line.text))]
    if not known:
        return []
    end = known[-1] + 1
    while end < len(text.lines) and not text.lines[end].is_apart:
        end += 1  # a line of a kind not seen before, which may be the last
    return text.lines[known[0] : end]


def _is_known(words: str) -> bool:
    words = words.rstrip()
    if words in _OPENING or words in _CLOSING or _COMPLETE.match(words):
        return True
    return any(pattern.match(words) for _, pattern in _PATTERNS)


def _take(log: Log, words: str, offset: int, is_ended: bool) -> Row:
    """Files one line; returns the row it belongs to."""
    if words in _OPENING:
        return _open(log, _OPENING[words], words, offset)
    if words in _CLOSING:
        return _touch(log, _CLOSING[words], words, offset)
    complete = _COMPLETE.match(words)
    if complete:
        step = _open if complete.group(1) == "Starting" else _touch
        return step(log, "dump-complete-callbacks", words, offset)
    for kind, pattern in _PATTERNS:
        match = pattern.match(words)
        if match:
            handler: Handler = _HANDLERS[kind]
            return handler(log, match, offset)
    row = Row("unrecognised-line", words, offset)
    if not is_ended:
        row.stage = "cut-line"
    elif _REDUCED.search(words):
        row.stage, row.confidence = "dump-type-reduced", "likely"
        log.reduced = row
    elif _FAILED.search(words):
        row.stage, row.confidence = "failure", "likely"
        log.failures.append(row)
    else:
        log.unrecognised.append(row)
    status = _STATUS.search(words)
    row.status = int(status.group(1), 16) if status else None
    log.rows.append(row)
    return row


def _open(log: Log, stage: str, words: str, offset: int, driver: str | None = None) -> Row:
    row = Row(stage, words, offset, driver)
    row.is_open = True
    log.rows.append(row)
    log.open.setdefault((stage, driver), []).append(row)
    return row


def _touch(
    log: Log, stage: str, words: str, offset: int, driver: str | None = None, closes: bool = True
) -> Row:
    """The newest open row of that stage gets the words; without one the line is its own row."""
    still_open = log.open.get((stage, driver))
    if not still_open:
        row = Row(stage, words, offset, driver)
        log.rows.append(row)
        return row
    row = still_open[-1]
    row.text = words
    if closes:
        row.is_open = False
        still_open.pop()
    return row


def _add(log: Log, stage: str, match: re.Match[str], offset: int) -> Row:
    row = Row(stage, match.string, offset)
    log.rows.append(row)
    return row


def _initialized(log: Log, match: re.Match[str], offset: int) -> Row:
    log.utc = match["utc"] if log.utc is None else log.utc
    log.first_offset = offset if log.first_offset is None else log.first_offset
    return _add(log, "dump-stack-initialized", match, offset)


def _guid(log: Log, match: re.Match[str], offset: int) -> Row:
    return _add(log, "dump-guid", match, offset)


def _bugcheck(log: Log, match: re.Match[str], offset: int) -> Row:
    """The code and its parameters are one stage, as long as their lines follow each other."""
    log.bugcheck.setdefault(match["field"], int(match[2][:32], 16))
    log.first_offset = offset if log.first_offset is None else log.first_offset
    last = log.last
    if last is not None and last.stage == "bugcheck" and match["field"] != "Code":
        last.text += " " + match.string
        return last
    return _add(log, "bugcheck", match, offset)


def _progress(log: Log, match: re.Match[str], offset: int) -> Row:
    value = int(match[1][:32], 16)
    row = _add(log, f"progress-{value:#04x}", match, offset)
    row.text = f"{match.string}: {progress.name(value)}"
    log.progress = row.progress = value
    return row


def _elapsed(log: Log, match: re.Match[str], offset: int) -> Row:
    """The clock line belongs to the line before it; crashdmp prints the two together."""
    row = log.last
    # a closing line shares the row of its opening line, whose time this is not
    if row is None or row.elapsed is not None or row.offset != log.last_offset:
        row = _add(log, "elapsed", match, offset)
    row.elapsed = int(match["ms"])
    log.clocks.append((row.elapsed, row))
    return row


def _size(log: Log, match: re.Match[str], offset: int) -> Row:
    row = _add(log, "dump-size", match, offset)
    row.amount, row.unit = int(match[2]), "bytes"
    log.sizes.append((int(match[1]), int(match[2]), row))
    return row


def _percent(log: Log, match: re.Match[str], offset: int) -> Row:
    row = _add(log, "memory-data-percent", match, offset)
    row.amount, row.unit = int(match[1]), "percent"
    log.percent = row.amount
    return row


def _rate(log: Log, match: re.Match[str], offset: int) -> Row:
    row = _add(log, "memory-data-chunk", match, offset)
    row.amount, row.unit, row.rate = int(match[1]), "pages", float(match[2])
    log.chunks.append((float(match[2]), log.percent, row))
    return row


def _pages(log: Log, match: re.Match[str], offset: int) -> Row:
    row = _touch(log, "write-memory-data", match.string, offset)
    row.amount, row.unit = int(match[2]), "pages"
    row.rate = float(match[3]) if match[3] else None
    log.pages = (int(match[1]), int(match[2]), row)
    return row


def _callback(log: Log, match: re.Match[str], offset: int) -> Row:
    stage, driver = "secondary-callback", match["driver"]
    if match[1] == "Calling":
        return _open(log, stage, match.string, offset, driver)
    return _touch(log, stage, match.string, offset, driver, closes=match[3] == " data done")


def _part(log: Log, match: re.Match[str], offset: int) -> Row:
    step = _open if match[1] == "Starting" else _touch
    return step(log, "multi-part-callback", match.string, offset, match["driver"])


def _ended(log: Log, match: re.Match[str], offset: int) -> Row:
    log.ended = match["utc"]  # the clock stands still while the dump is written
    return _add(log, "dump-ended", match, offset)


def _completed(log: Log, match: re.Match[str], offset: int) -> Row:
    log.completed = True
    return _add(log, "dump-completed", match, offset)


def _retry(log: Log, match: re.Match[str], offset: int) -> Row:
    """What was open then was given up; the lines that follow are of the new dump."""
    log.retry = row = _add(log, "retry-as-minidump", match, offset)
    log.given_up = log.entered
    log.open.clear()
    for given_up in log.rows:
        given_up.is_open = False
    return row


def _skipped(log: Log, match: re.Match[str], offset: int) -> Row:
    return _add(log, "skipped-callbacks", match, offset)


Handler = Callable[[Log, "re.Match[str]", int], Row]
_HANDLERS: dict[str, Handler] = {
    "initialized": _initialized, "guid": _guid, "bugcheck": _bugcheck, "progress": _progress,
    "elapsed": _elapsed, "size": _size, "percent": _percent, "rate": _rate, "pages": _pages,
    "callback": _callback, "part": _part, "ended": _ended, "completed": _completed,
    "retry": _retry, "skipped": _skipped,
}  # fmt: skip
