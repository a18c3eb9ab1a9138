"""What the lines of a WinDbg or kd session look like: prompts, numbers, modules, bugchecks, types.

Invariant: each function looks at one line (or one block) and says what it states, or None; what an
unrelated command printed is never taken for a fact. Standard library only.

Sources: output of DbgEng 10.0.15063 on our own modules; public session logs.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ..layouts.modules import NO_STAMPS
from ..names import bugchecks

#: "kd> ", "0: kd> ", "lkd> ", "?: kd> ", "1: kd:x86> ", "[Kernel]0: kd> ", several of them
_PROMPTS = re.compile(
    r"^(?:(?:\[[\w -]{1,30}\] ?)?(?:\|{1,2}\d{1,4}:)?(?:(?:\d{1,4}|\?): ?)?"
    r"l?kd(?::[\w.]{1,10})?> ?)+"
)
#: colours and the like that a terminal was told
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,20}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")
#: markup that newer WinDbg leaves in copied text
_MARKUP = re.compile(r"</?(?:link|exec|altlink|u|b|i|col|tbl|tr|td)(?: [^<>]{0,300})?>")
_ADDRESS = r"(?:[0-9a-f]{8}`[0-9a-f]{8}|[0-9a-f]{16}|[0-9a-f]{8})"
_MODULE = re.compile(
    rf"^({_ADDRESS})\s+({_ADDRESS})\s+([A-Za-z_$][\w$.-]{{0,63}})(?:\s+(?:C\s+)?(.*))?$", re.I
)
_LOADED = re.compile(rf"^ModLoad: ({_ADDRESS}) ({_ADDRESS})\s+(.{{1,300}}?)\s*$", re.I)
_IMAGE = re.compile(r'"?([^"\\/ ]{1,64}\.(?:sys|exe|dll))"?(?=\s|$|")', re.I)
_STAMP = re.compile(
    r"\(([0-9A-F]{8})\)\s*$|\s([0-9A-F]{8}) (?:[0-9A-F]{8}\s*$|\(This is a reproducible build)"
)
#: what lm v prints below a module
_DETAIL = re.compile(
    r"^ +(?:Image name: (?P<image>[\w.$-]{1,64})|Timestamp: .*\((?P<stamp>[0-9A-F]{8})\)"
    r"|CheckSum: +(?P<checksum>[0-9A-F]{8}))\s*$"
)
#: one of them stands in every output of a kernel debugger that says something of a dump or target
_MARKS = (
    "Windows Debugger Version", "Opened log file", "kd> ", "BUGCHECK_CODE:", "TEXTUAL DEMON",
    "dumpstart:1 ", "Loading Dump File [", "Debug session time:", "Bugcheck Analysis",
    "DUMP_FILE_ATTRIBUTES:", "STACK_TEXT:", "*** Fatal System Error: 0x", "Unknown bugcheck code (",
    "Unloaded modules:",
)  # fmt: skip
#: what mail and forums put in front of a line
_QUOTE = re.compile(r"^(?:[ \t]*> ?)+|^#{1,6} |^\*\*(?=[A-Z])|\*\*\s*$")
_BARE = re.compile(
    r"^[> \t]*(?:start +end +module name\s*$|(?:# +)?(?:Child-SP|ChildEBP) +RetAddr|"
    r"BugCheck [0-9A-F]{1,8}, \{|Arg1: (?:[0-9a-f]{8}){1,2}\b|"
    r"(?:BUGCHECK_STR|FAILURE_BUCKET_ID): +(?:LKD_)?0x[0-9A-Fa-f]{1,8}[_\s]|"
    r"[0-9a-f]{8}`[0-9a-f]{8} [0-9a-f]{8}`[0-9a-f]{8} +[A-Za-z_][\w.$-]* )",
    re.M,
)
_HEX_WORD = re.compile(r"^[0-9a-f]{8}$", re.I)
#: "x64 target", "x86 compatible target"; what the boot manager says of itself is not Windows
CONNECTED = r"Connected to Windows (?!Boot Debugger).{1,60}? (\d{4,6}) (\S+)(?: compatible)? target"
_KERNEL = re.compile(r"^(?:Windows\b.{0,60}? Kernel Version (\d{4,6})|" + CONNECTED + ")")
_PROCESSORS = re.compile(r"\bMP \((\d{1,4}) procs\)|\bUP\b")
_ARCHITECTURE = re.compile(r"\b(?:Free|Checked) (x64|x86|ARM64|ARM 64-bit)\b")
_LAB = re.compile(
    r"^(?:Built by|Edition build lab|Kernel build lab|BUILD_VERSION_STRING): +((\d{4,6})?\S{1,80})"
)
#: of !analyze, where the lines above are cut off
_OS_VERSION = re.compile(r"^OS_VERSION: +\d{1,2}\.\d{1,2}\.(\d{4,6})\b")
_OS_PLATFORM = re.compile(r"^OSPLATFORM_TYPE: +(x64|x86|arm64)\b")
#: what !analyze blames: an image and a place in it
_BLAMED = re.compile(
    r"^(?:Probably caused by : (?P<by>[\w.$-]{1,64})(?: \( (?P<at>\S.{0,200}?) \))?"
    r"|IMAGE_NAME: +(?P<image>[\w.$-]{1,64})|SYMBOL_NAME: +(?P<symbol>\S.{0,200}?))\s*$"
)
_UPTIME = re.compile(r"^System Uptime: (\d{1,5}) days? (\d{1,2}):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_REGISTER = re.compile(r"\b([a-z]\w{1,4})=([0-9a-f]{1,16})\b")
_MSR = re.compile(r"^msr\[([0-9a-f]{1,8})\] = ([0-9a-f]{1,8}`[0-9a-f]{8}|[0-9a-f]{1,16})", re.I)
_BYTES = re.compile(rf"^({_ADDRESS})  ((?:[0-9a-f?]{{2}}[ -]){{1,16}})", re.I)
_TIME = re.compile(
    r"^(Debugger \(not debuggee\) time|Debug session time): \w{3} (\w{3}) +(\d{1,2}) "
    r"(\d\d):(\d\d):(\d\d)\.(\d{3}) (\d{4}) \((?:UTC|GMT) ?([+-]) ?(\d{1,2})(?::(\d\d))?\)"
)
_EVALUATED = re.compile(rf"^Evaluate expression: -?\d{{1,20}} = ({_ADDRESS})\s*$", re.I)
#: how a line begins behind which a session has an end
_ENDINGS = {
    "Closing open log file": "the log was closed",
    "Shutdown occurred at": "the target was shut down",
}
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MEMBER = re.compile(r"^( *)\+0x([0-9a-f]{1,6}) (\w{1,64}) +:[ ]?(.*)$")
_VALUE = re.compile(
    r"^(?:_?\w+ )?(?:(0x[0-9a-f]{1,8}`[0-9a-f]{8}|0x[0-9a-f]{1,16})|0n(-?\d{1,20})|(-?\d{1,20})\b"
    r"|(\(null\)))",
    re.I,
)
_BUGCHECK_ONE = re.compile(
    r"^Bug[Cc]heck:? ([0-9A-F]{1,8}),? [{(]([0-9a-f`, ]{1,100})[})]"
    r"|^\*\*\* Fatal System Error: 0x([0-9a-f]{8})"
    r"|^Bugcheck code ([0-9A-F]{8})\b"
    r"|^BUGCHECK_CODE:\s+([0-9a-f]{1,8})\b"
    r"|^([A-Z][A-Z0-9_]{5,80}|Unknown bugcheck code) \(([0-9a-f]{1,8})\)\s*$",
    re.I,
)
#: what !analyze makes of the code ("LKD": live kernel dump)
_BUCKET = re.compile(
    r"^(?:BUGCHECK_STR|(?:FAILURE_)?BUCKET_ID): +(LKD_)?0x([0-9a-f]{1,8})(?![0-9a-z])", re.I
)
_ARGUMENT = re.compile(
    rf"^(?:Arg([1-4]): ({_ADDRESS})|BUGCHECK_P([1-4]): ([0-9a-f`]{{1,17}})\b)", re.I
)
_ARGUMENTS = re.compile(
    rf"^(?:Arguments ({_ADDRESS}(?: {_ADDRESS}){{3}})|\s*\((0x[0-9A-F]+(?:, ?0x[0-9A-F]+){{3}})\))",
    re.I,
)


def is_output(text: str) -> bool:
    """True for the start of what WinDbg, kd or dumpchk printed, whatever was cut off before."""
    return any(mark in text for mark in _MARKS) or _BARE.search(text) is not None


def module_detail(line: str) -> tuple[str, str] | None:
    """(what, value) of a line that lm v prints below a module."""
    match = _DETAIL.match(line)
    if match is None:
        return None
    return next((name, value) for name, value in match.groupdict().items() if value)


def unquoted(line: str) -> str:
    """The line as it was before somebody quoted it in a mail or a forum."""
    return _QUOTE.sub("", line).replace("\\`", "`")


def unmarked(line: str) -> str:
    """The line without colours and without markup."""
    if "\x1b" in line:
        line = _ANSI.sub("", line)
    return _MARKUP.sub("", line) if "<" in line else line


def bare(line: str) -> str:
    """The line without markup and without the prompts in front of it."""
    line = unmarked(line)
    return _PROMPTS.sub("", line) if "kd" in line[:80] else line


def number(text: str) -> int:
    """A hexadecimal number as the debugger prints it, back-tick and 0x or not."""
    return int(text.replace("`", ""), 16)


class Loaded(NamedTuple):
    """A module of a list."""

    name: str
    base: int
    end: int
    stamp: int | None
    is_wide: bool  #: its addresses have 64 bits


def module(line: str) -> Loaded | None:
    """One line of ``lm`` in any of its forms, of "Unloaded modules:", or of ModLoad."""
    match = _LOADED.match(line)
    if match:
        start, end, name = match.group(1), match.group(2), match.group(3)
        rest = ""
        name = name.rsplit("\\", 1)[-1]
    else:
        match = _MODULE.match(line)
        if match is None:
            return None
        start, end, name = match.group(1), match.group(2), match.group(3)
        rest = match.group(4) or ""
        if _HEX_WORD.match(name):  # a row of dd
            return None
    base, limit = number(start), number(end)
    if base & 0xFFF or limit <= base or limit - base > 1 << 30 or len(start) != len(end):
        return None
    image = _IMAGE.search(rest)
    if image and name.lower() != "nt":
        known = image.group(1)
        if known.lower().rsplit(".", 1)[0] == name.lower():
            name = known  # else a copy under another name, as dump_storport of dump_diskdump.sys
    stamp = _STAMP.search(rest)
    value = next((int(g, 16) for g in stamp.groups() if g), None) if stamp else None
    return Loaded(name, base, limit, None if value in NO_STAMPS else value, len(start) > 8)


def version(line: str) -> dict[str, object]:
    """What a line tells of the system: build, architecture, processors, build_lab, uptime_ns."""
    told: dict[str, object] = {}
    match = _KERNEL.match(line)
    if match:
        told["build"] = int(match.group(1) or match.group(2))
        kind = match.group(3)
        found = _ARCHITECTURE.search(line)
        kind = kind or (found.group(1) if found else None)
        if kind:
            told["architecture"] = kind.lower().replace("arm 64-bit", "arm64")
        count = _PROCESSORS.search(line)
        if count:
            told["processors"] = int(count.group(1) or 1)
    match = _LAB.match(line)
    if match:
        told["build_lab"] = match.group(1)
        if match.group(2):
            told["build"] = int(match.group(2))
    match = _OS_VERSION.match(line)
    if match:
        told["build"] = int(match.group(1))
    match = _OS_PLATFORM.match(line)
    if match:
        told["architecture"] = match.group(1)
    match = _UPTIME.match(line)
    if match:
        days, hours, minutes, seconds = (int(g) for g in match.groups()[:4])
        fraction = int((match.group(5) or "").ljust(9, "0"))
        whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if whole or fraction:  # a target that has just been connected to
            told["uptime_ns"] = whole * 1_000_000_000 + fraction
    return told


class Bugcheck:
    """Collects a bugcheck's code and parameters from the lines that tell them."""

    def __init__(self) -> None:
        self.values: list[int | None] = []
        self.bucket: int | None = None  #: the code in the names that !analyze makes
        self.is_live = False  #: and that they say is of a live dump
        self._named: int | None = None  #: by a name that the table does not have
        self._shown: list[int | None] = []  #: what was told since its code was told last

    def other(self, line: str) -> Bugcheck | None:
        """The collector of another bugcheck, where the line tells of one: a crash has one code."""
        known = self.values or [self.bucket]
        if known == [None]:
            return None
        fresh = Bugcheck()
        fresh.values, fresh._shown = list(self._shown), list(self._shown)
        fresh._named = self._named
        fresh.line(line)
        for place, (before, now) in enumerate(zip(known, fresh.values)):
            if before is None or now is None or before == now:
                continue
            # a code has a variant; the same number can be printed with fewer digits
            mask = 0xFFFFFFFF if place else 0xFFFFFFFF & ~bugchecks.MINIDUMP_VARIANT
            if (before ^ now) & mask:
                return fresh
        return None

    def line(self, line: str) -> None:
        """Looks at one line."""
        bucket = _BUCKET.match(line)
        if bucket:
            self.bucket = int(bucket.group(2), 16)
            self.is_live = self.is_live or bucket.group(1) is not None
            return
        match = _BUGCHECK_ONE.match(line)
        if match:
            one, arguments, fatal, code, named, name, shown = match.groups()
            text = one or fatal or code or named or shown
            value = int(text, 16)
            # words and a number count when both mean the same bugcheck, or arguments follow
            if name and bugchecks.name(value) != name.upper():
                self._named = value
                return
            self._shown = [value, None, None, None, None]
            if not self.values or self.values[0] != value:
                self.values = list(self._shown)
            if arguments:
                self._all(re.findall(r"[0-9a-f`]+", arguments, re.I))
            return
        match = _ARGUMENT.match(line)
        if match and self._named is not None:
            self._shown, self._named = [self._named, None, None, None, None], None
            self.values = list(self._shown)
        if not self.values:
            return
        if match:
            place, value_text = match.group(1) or match.group(3), match.group(2) or match.group(4)
            self.values[int(place)] = self._shown[int(place)] = number(value_text)
            return
        match = _ARGUMENTS.match(line)
        if match:
            self._all(re.findall(r"(?:0x)?([0-9a-f`]+)", match.group(1) or match.group(2), re.I))

    def _all(self, found: list[str]) -> None:
        if len(found) == 4:
            self.values[1:] = self._shown[1:] = [number(text) for text in found]


def blamed(line: str) -> dict[str, str]:
    """The image and the place in it that a line of ``!analyze`` blames, as far as it names them."""
    match = _BLAMED.match(line)
    told = match.groupdict() if match else {}
    image, symbol = told.get("by") or told.get("image"), told.get("at") or told.get("symbol")
    found = {"faulting_module": image, "faulting_symbol": symbol}
    return {
        name: value for name, value in found.items()
        if value and not value.lower().startswith(("unknown", "analysis_"))
    }  # fmt: skip


def registers(line: str) -> dict[str, int]:
    """The registers that a line prints, as ``rcx=fffff80020003008``."""
    if "=" not in line:
        return {}
    return {name: int(value, 16) for name, value in _REGISTER.findall(line)}


def msr(line: str) -> tuple[int, int] | None:
    """(number, value) of ``msr[10] = hi`lo``."""
    match = _MSR.match(line)
    return (int(match.group(1), 16), number(match.group(2))) if match else None


def memory(line: str) -> tuple[int, bytes] | None:
    """(address, bytes) of a line of ``db``; it ends at the first byte that could not be read."""
    match = _BYTES.match(line)
    if match is None:
        return None
    words = match.group(2).replace("-", " ").split()
    unread = next((i for i, word in enumerate(words) if "?" in word), len(words))
    return number(match.group(1)), bytes(int(word, 16) for word in words[:unread])


def echo_time(line: str) -> int | None:
    """The debugger's time of ``.echotime`` in ns since 1970."""
    return _time(line, "Debugger (not debuggee) time")


def session_time(line: str) -> int | None:
    """The time of the target, of a dump that of the crash, in ns since 1970."""
    return _time(line, "Debug session time")


def _time(line: str, what: str) -> int | None:
    """A time with its zone: "UTC + 8:00" is a clock eight hours ahead of UTC."""
    match = _TIME.match(line)
    if match is None or match.group(1) != what or match.group(2) not in _MONTHS:
        return None
    _, month, day, hour, minute, second, milli, year, sign, hours, minutes = match.groups()
    try:
        time = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second),
            int(milli) * 1000, tzinfo=timezone.utc,
        )  # fmt: skip
    except ValueError:
        return None
    shift = timedelta(hours=int(hours), minutes=int(minutes or 0))
    time += -shift if sign == "+" else shift
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) * 1000


def evaluated(line: str) -> int | None:
    """The value of ``?``: ``Evaluate expression: -2080374784 = 83ff0000``."""
    match = _EVALUATED.match(line)
    return number(match.group(1)) if match else None


def ending(line: str) -> str:
    """Why nothing more can follow in a session; empty for any other line."""
    return next((why for start, why in _ENDINGS.items() if line.startswith(start)), "")


class Member(NamedTuple):
    """One line of ``dt``."""

    indent: int
    offset: int
    name: str
    value: int | None
    text: str


def member(line: str) -> Member | None:
    """A member of a structure that ``dt`` prints."""
    match = _MEMBER.match(line)
    if match is None:
        return None
    text = match.group(4).strip()
    found = _VALUE.match(text)
    value = None
    if found:
        hexa, decimal, plain, null = found.groups()
        value = number(hexa) if hexa else 0 if null else int(decimal or plain)
    return Member(len(match.group(1)), int(match.group(2), 16), match.group(3), value, text)
