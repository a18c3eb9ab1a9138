"""An event as named properties (PowerShell) or by the order of its fields (Event Viewer).

Invariant: a time without a zone is never put on the UTC axis; a name that the form cut off is not
used as if it were whole. Property names are PowerShell's, which no language changes. Standard
library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone

from ..absence import Absent
from ..windows_events import RawEvent

_Parts = tuple[tuple[int, int, int], tuple[int, int, int]]  #: of a date, as they stand; clock
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s*(Z|[+-]\d\d:?\d\d)?"
)
_JSON_DATE = re.compile(r"\\?/Date\((-?\d{1,15})(?:[+-]\d{4})?\)\\?/")
#: the levels of an event in the words of Event Viewer and PowerShell, by language
_LEVEL_WORDS = {
    1: (
        "critical kritisch critique crítico critico критический 重大 关键 關鍵 위험 kritiek "
        "krytyczny"
    ),
    2: "error fehler erreur errore erro ошибка エラー 错误 錯誤 오류 fout błąd fel",
    3: (
        "warning warnung avertissement advertencia avviso aviso предупреждение 警告 경고 "
        "waarschuwing ostrzeżenie varning"
    ),
    4: (
        "info information informationen información informazioni informações сведения 情報 信息 "
        "資訊 정보 informatie informacje"
    ),
    5: (
        "verbose ausführlich commentaires detallado dettagliato detalhado подробности 詳細 详细 "
        "자세히 uitgebreid pełne"
    ),
}
LEVELS = {word: level for level, words in _LEVEL_WORDS.items() for word in words.split()}
#: a property by what other commands call it (Get-EventLog, own columns)
_ALIASES = {
    "source": "providername", "provider": "providername", "eventid": "id", "event id": "id",
    "instanceid": "id",
    "timegenerated": "timecreated", "timewritten": "timecreated", "date": "timecreated",
    "date and time": "timecreated", "entrytype": "leveldisplayname", "index": "recordid",
    "eventrecordid": "recordid", "log": "logname", "channel": "logname", "log name": "logname",
    "description": "message", "replacementstrings": "properties",
    # NXLog
    "providerguid": "providerid", "opcodevalue": "opcode", "taskvalue": "task",
    "recordnumber": "recordid", "executionprocessid": "processid",
    "executionthreadid": "threadid", "eventtype": "leveldisplayname",
}  # fmt: skip
_CUT = ("...", "\u2026")
_CLOCK = re.compile(r"(?<![0-9A-Za-z])\d{1,2}[:.]\d\d(?![0-9A-Za-z])|T\d\d:\d\d:")
_MARKS = re.compile("[\u200e\u200f\u202a-\u202e\ufeff]")
_AFTERNOON = re.compile(r"(?i)\bp\.?\s?m\b|\u4e0b\u5348|\uc624\ud6c4|\u5348\u5f8c|\bμμ\b")
_MORNING = re.compile(r"(?i)\ba\.?\s?m\b|\u4e0a\u5348|\uc624\uc804|\u5348\u524d|\bπμ\b")


def time_of(text: str) -> int | Absent:
    """A time that states its zone, as ns since 1970; absent for a local or an impossible one."""
    text = _MARKS.sub("", text).strip()
    stamp = _JSON_DATE.fullmatch(text)
    if stamp:
        return _in_range(int(stamp[1]) * 10**6, text)
    if not text:
        return Absent("not-recorded", "the event has no time")
    match = _ISO.fullmatch(text)
    if not match or not match[4]:
        return Absent(
            "not-recorded", f"a local time, zone unknown: {text[:40]!r}",
            "the .evtx file or an XML export",
        )  # fmt: skip
    try:
        zone = "+0000" if match[4] == "Z" else match[4].replace(":", "")
        moment = datetime.strptime(f"{match[1]} {match[2]} {zone}", "%Y-%m-%d %H:%M:%S %z")
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return Absent("out-of-range", f"{text[:40]!r} is not a time")
    return _in_range(seconds * 10**9 + int((match[3] or "0").ljust(9, "0")), text)


def _in_range(ns: int, text: str) -> int | Absent:
    if 0 <= ns < 1 << 63:
        return ns
    return Absent("out-of-range", f"{text[:40]!r} is not in 1970 to 2262")


def local_times(texts: Sequence[str]) -> list[int | None]:
    """Times without a zone as ns, to be compared with each other only.

    None where the times of the file do not tell whether the day or the month comes first.
    """
    parts = [_local_parts(text) for text in texts]
    dates = {p[0] for p in parts if p is not None}
    is_day_first: bool | None = any(a > 12 for a, _, c in dates if c > 31) or None
    if any(b > 12 for _, b, c in dates if c > 31):
        is_day_first = None if is_day_first else False
    if is_day_first is None and any("." in text.split()[0] for text in texts[:1] if text.split()):
        is_day_first = True  # dots separate day, month, year in every locale of Windows
    if is_day_first is None and len(dates) == 1:
        is_day_first = True  # one day: either order compares alike
    return [_local_ns(part, is_day_first) for part in parts]


def _local_parts(text: str) -> _Parts | None:
    text = _MARKS.sub("", text)
    numbers = re.findall(r"\d{1,9}", text)
    if len(numbers) < 5:
        return None
    first, second, third, hour, minute = map(int, numbers[:5])
    tail = numbers[5] if len(numbers) > 5 else "0"
    if _AFTERNOON.search(text) and hour < 12:
        hour += 12
    elif _MORNING.search(text) and hour == 12:
        hour = 0
    return (first, second, third), (hour, minute, int(tail))


def _local_ns(parts: _Parts | None, is_day_first: bool | None) -> int | None:
    if parts is None:
        return None
    (one, two, three), clock = parts
    if one > 31:
        year, month, day = one, two, three
    elif is_day_first is None:
        return None
    else:
        year, month, day = (three, two, one) if is_day_first else (three, one, two)
    try:
        year += 2000 if year < 100 else 0
        day_start = datetime(year, month, day, tzinfo=timezone.utc)
        hour, minute, second = clock
    except (ValueError, TypeError):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    moment = day_start + timedelta(hours=hour, minutes=minute, seconds=second)
    return ((moment - _EPOCH) // timedelta(seconds=1)) * 10**9


def looks_like_time(text: str) -> bool:
    """True for a date with a time of day, in any language; an address has digits, too."""
    if _CLOCK.search(text) is None:
        return _JSON_DATE.fullmatch(text.strip()) is not None
    return _local_parts(text) is not None


def whole(text: str) -> str:
    """The text, "" when the form cut it off."""
    return "" if text.endswith(_CUT) else text


def from_properties(given: Mapping[str, object]) -> RawEvent | None:
    """An event of PowerShell's properties; None when provider or id is missing."""
    values: dict[str, object] = {}
    for name, value in given.items():
        key = name.strip().strip('"').lower()
        key = _ALIASES.get(key, key)
        if values.get(key) in (None, ""):
            values[key] = value
    provider, number = _text(values.get("providername")), _int(values.get("id"))
    if number is None or not whole(provider):
        return None
    data, binary = _data(values.get("properties"))
    keywords = _int(values.get("keywords"))
    when = _text(values.get("timecreated"))
    return RawEvent(
        provider=provider,
        guid=_text(values.get("providerid")).strip("{}").lower(),
        event_id=number & 0xFFFF if number > 0xFFFF else number,
        version=_int(values.get("version")),
        level=_level(values.get("level"), values.get("leveldisplayname")),
        task=_int(values.get("task")),
        opcode=_int(values.get("opcode")),
        # PowerShell and NXLog take the highest bit, which all classic events have, for the sign
        keywords=None if keywords is None else keywords & 0xFFFF_FFFF_FFFF_FFFF,
        time=time_of(when),
        local=when,
        record_id=_int(values.get("recordid")),
        process_id=_int(values.get("processid")),
        thread_id=_int(values.get("threadid")),
        channel=whole(_text(values.get("logname"))),
        data=data,
        binary=binary,
        message=_text(values.get("message")),
    )


def from_fields(
    provider: str, number: str, when: str, level: str, message: str, channel: str = ""
) -> RawEvent | None:
    """An event of Event Viewer's own forms, whose fields stand in a fixed order."""
    return from_properties(
        {
            "providername": provider, "id": number, "timecreated": when, "leveldisplayname": level,
            "message": message, "logname": channel,
        }
    )  # fmt: skip


def _level(number: object, word: object) -> int | None:
    found = _int(number)
    if found is not None:
        return found
    for text in (_text(word), _text(number)):
        level = LEVELS.get(text.strip().lower())
        if level is not None:
            return level
    return None


def _text(value: object) -> str:
    if isinstance(value, dict):  # Windows PowerShell: {"value": ..., "DateTime": ...}
        value = value.get("value", value.get("DateTime", ""))
    return "" if value is None else str(value).strip()


def _int(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else None
    text = _text(value)
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}", text):
        return int(text, 16)
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None


def _data(value: object) -> tuple[list[tuple[str, str]], bytes | None]:
    """The values of ``Properties``; a list of bytes among them is the binary data."""
    if not isinstance(value, list):
        return [], None
    data: list[tuple[str, str]] = []
    binary: bytes | None = None
    for item in value:
        item = item.get("Value", item.get("value")) if isinstance(item, dict) else item
        if isinstance(item, bytes) or (isinstance(item, list) and item and _are_bytes(item)):
            binary = bytes(item)
        elif item is not None and not isinstance(item, (list, dict)):
            text = str(item)
            if text.startswith("System.Diagnostics."):  # what a shallow export leaves of a value
                return [], None
            data.append(("", text))
    return data, binary


def _are_bytes(items: Iterable[object]) -> bool:
    return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= 255 for n in items)
