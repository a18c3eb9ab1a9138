"""Calls of crash dump filter callbacks, paired from the events of drivers that trace them.

Invariant: a duration is stated only for an entry and a return that belong together; an entry
without a return, a return without an entry, calls inside calls, events lost in between and a clock
that runs backwards are each reported, never smoothed over.

The published schema is in docs/dumpstart-callbacks.man and docs/dumpstart_trace.h; a mapping file
says the same of a vendor's own events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..absence import Absent
from ..errors import InputError
from ..names import ntstatus
from ..names.units import duration as in_words
from ..records import Anomaly, Callback, Event, Evidence, Number, Origin
from . import providers
from .clock import Clock
from .payload import Value, whole

try:
    import tomllib  # novermin
except ImportError:  # Python before 3.11
    import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]

GUID = providers.CALLBACKS
PROVIDER = "Dumpstart-Callbacks"
ENTRY, RETURN = 1, 2
CALLBACKS = providers.CALLBACK_NAMES
SLOW_NS = 1_000_000_000


class Rule(NamedTuple):
    """Which event means which end of which callback, and where its values are."""

    provider: str  #: GUID or name, lower case
    id: int | None
    name: str  #: event name, for TraceLogging
    role: str  #: entry or return
    callback: str = ""  #: fixed, or told by callback_field
    filter: str = ""
    stack: str = ""
    callback_field: str = ""
    filter_field: str = ""
    status_field: str = ""
    extension_field: str = ""
    call_field: str = ""
    clock_field: str = ""
    frequency_field: str = ""
    stack_field: str = ""


def _published() -> list[Rule]:
    rules = []
    for number, role in ((ENTRY, "entry"), (RETURN, "return")):
        name = "CallbackEntry" if role == "entry" else "CallbackReturn"
        told = Rule(
            GUID, number, name, role,
            callback_field="Callback", filter_field="Filter", status_field="Status",
            extension_field="Extension", call_field="Call", clock_field="Clock",
            frequency_field="ClockFrequency", stack_field="Stack",
        )  # fmt: skip
        # TraceLogging has no numbers: there the provider's and the event's name say it.
        rules += [told, told._replace(provider=PROVIDER.lower(), id=None)]
    return rules


PUBLISHED = tuple(_published())
_KEYS = set(Rule._fields)


def load_mapping(path: str) -> list[Rule]:
    """The rules of a TOML mapping file: one [[event]] table per event."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(1 << 20)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {error}") from error
    rules = []
    for k, table in enumerate(_tables(text, path)):
        unknown = set(table) - _KEYS
        role, provider = table.get("role"), table.get("provider")
        problem = (
            f"unknown key {sorted(unknown)[0]}" if unknown
            else "role must be entry or return" if role not in ("entry", "return")
            else "provider is missing" if not isinstance(provider, str)
            else "id or name is missing" if "id" not in table and "name" not in table
            else "callback or callback_field is missing"
            if not table.get("callback") and not table.get("callback_field")
            else ""
        )  # fmt: skip
        if not problem and table.get("callback") not in (None, *CALLBACKS.values()):
            problem = f"callback is one of {', '.join(CALLBACKS.values())}"
        if not problem and not isinstance(table.get("id", 0), int):
            problem = "id is a number"
        if problem:
            raise InputError(path, f"event {k + 1}: {problem}")
        number = table.pop("id", None)
        table["provider"] = str(provider).strip("{}").lower()
        texts = {"name": "", **{key: str(value) for key, value in table.items()}}
        rules.append(Rule(**texts, id=number if isinstance(number, int) else None))
    if not rules:
        raise InputError(path, "no [[event]] in this mapping")
    return rules


def _tables(text: str, path: str) -> list[dict[str, object]]:
    try:
        found = tomllib.loads(text).get("event", [])
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"not TOML: {error}") from error
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


class CallEvent(NamedTuple):
    """One event that is the entry or the return of a call."""

    role: str
    filter: str
    callback: str
    stack: str
    call: int | None
    status: int | None
    extension: int | None
    clock: int | None
    frequency: int | None
    ts: int
    event: Event


def end_of(
    rules: Iterable[Rule], event: Event, ts: int, values: Mapping[str, Value]
) -> CallEvent | None:
    """The entry or return that an event means; None when no rule fits."""
    provider = str(event.provider).lower()
    guid = str(event.provider_id).lower()
    for rule in rules:
        if rule.provider not in (provider, guid):
            continue
        if rule.id is not None and rule.id != event.event_id:
            if not rule.name or rule.name != event.name:
                continue
        elif rule.id is None and rule.name != event.name:
            continue

        def number(field: str) -> int | None:
            return whole(values, field) if field else None

        callback = rule.callback
        if rule.callback_field:
            told = values.get(rule.callback_field)
            callback = CALLBACKS.get(told, "") if isinstance(told, int) else str(told or "")
        if not callback:
            return None
        status = number(rule.status_field)
        return CallEvent(
            rule.role,
            str(values.get(rule.filter_field) or rule.filter or "") or str(event.provider or ""),
            callback, str(values.get(rule.stack_field) or rule.stack or ""),
            number(rule.call_field), None if status is None else status & 0xFFFFFFFF,
            number(rule.extension_field), number(rule.clock_field), number(rule.frequency_field),
            ts, event,
        )  # fmt: skip
    return None


class Paired(NamedTuple):
    """Calls and what is odd about them."""

    callbacks: list[Callback]
    anomalies: list[Anomaly]


def pair(ends: Iterable[CallEvent], clock: Clock, lost: list[tuple[int, int]]) -> Paired:
    """Entries and returns matched per filter, callback and call.

    ``lost`` are (from, to) spans of the session clock in which the trace lost events.
    """
    open_calls: list[CallEvent] = []
    calls: list[tuple[CallEvent, CallEvent | None, CallEvent | None]] = []  # by the first end
    nested: list[tuple[CallEvent, CallEvent]] = []
    for end in ends:
        if end.role == "entry":
            around = [o for o in open_calls if _thread(o) == _thread(end)]
            if around:
                nested.append((around[-1], end))
            open_calls.append(end)
            continue
        match = next((o for o in reversed(open_calls) if _belongs(o, end)), None)
        if match is not None:
            open_calls.remove(match)
        calls.append((match or end, match, end))
    calls += [(entry, entry, None) for entry in open_calls]
    calls.sort(key=lambda call: call[0].ts)
    out = Paired([], [])
    numbers: dict[tuple[str, str], int] = {}
    for some, entry, back in calls:
        key = (some.filter, some.callback)
        number = numbers.get(key, 0)
        numbers[key] = number + 1
        out.callbacks.append(_record(entry, back, number, clock, lost, out.anomalies))
    for outer, inner in nested:
        out.anomalies.append(
            Anomaly(
                "etw-callback-nested",
                f"{_label(inner)} began inside {_label(outer)} on the same thread.",
                inner.event.origin, inner.filter,
            )
        )  # fmt: skip
    return out


def _thread(end: CallEvent) -> tuple[Number, Number]:
    return end.event.process_id, end.event.thread_id


def _belongs(entry: CallEvent, back: CallEvent) -> bool:
    if (entry.filter, entry.callback) != (back.filter, back.callback):
        return False
    if entry.call is not None and back.call is not None:
        return entry.call == back.call
    return _thread(entry) == _thread(back)


def _label(end: CallEvent) -> str:
    return f"{end.callback} of {end.filter}"


def _record(
    entry: CallEvent | None, back: CallEvent | None, number: int, clock: Clock,
    lost: list[tuple[int, int]], anomalies: list[Anomaly],
) -> Callback:  # fmt: skip
    some = entry or back
    assert some is not None
    origin = Origin(
        some.event.origin.source, "events of the filter's own provider", "certain",
        some.event.origin.file_offset, some.event.origin.address,
    )  # fmt: skip
    duration: int | Absent
    low: int | Absent | None = None
    high: int | Absent | None = None
    if entry is None or back is None:
        missing = "return" if back is None else "entry"
        duration = Absent("not-found", f"its {missing} is not in the trace")
        known = _losses(lost, some.ts, None if back is None else some.ts)
        rule = "etw-callback-no-return" if back is None else "etw-callback-no-entry"
        text = f"{_label(some)} has no {missing} event in the trace"
        text += "; the trace lost events around it." if known else "."
        facts = {"callback": some.callback}
        anomalies.append(Anomaly(rule, text, origin, some.filter, facts=facts))
    else:
        duration = _duration(entry, back, clock)
        if isinstance(duration, int) and duration < 0:
            anomalies.append(
                Anomaly(
                    "etw-clock-backwards",
                    f"{_label(some)} returned {-duration} ns before it was entered.",
                    origin, some.filter,
                )
            )  # fmt: skip
            duration = Absent("out-of-range", "the return is earlier than the entry")
        elif _losses(lost, entry.ts, back.ts):
            anomalies.append(
                Anomaly(
                    "etw-callback-events-lost",
                    f"The trace lost events between entry and return of {_label(some)}; other "
                    "calls may be missing, and the pair may be of two calls.",
                    origin, some.filter,
                )
            )  # fmt: skip
            if isinstance(duration, int) and entry.call is None:
                # Without a call number entry and return may be of two calls: the span is a bound.
                low, high = 0, duration
                duration = Absent("not-found", "events were lost between entry and return")
        if isinstance(duration, int) and duration > SLOW_NS:
            anomalies.append(
                Anomaly(
                    "etw-callback-slow", f"{_label(some)} took {in_words(duration)}.", origin,
                    some.filter, (Evidence("duration_ns", duration, "Duration"),),
                    {"callback": some.callback},
                )
            )  # fmt: skip
    status = back.status if back is not None else None
    told = Absent("not-recorded", "the events do not tell it")
    extension = next(
        (h.extension for h in (entry, back) if h is not None and h.extension is not None), None
    )
    named = status is not None
    return Callback(
        filter=some.filter or Absent("not-recorded", "the events name no filter"),
        stack=some.stack or told, node=told, callback=some.callback, routine=told, symbol=told,
        call=number, was_called="yes", processor=some.event.processor,
        entry_time=entry.event.time if entry is not None else Absent("not-found", "no entry event"),
        entry_clock=_clock_of(entry), return_clock=_clock_of(back), duration_ns=duration,
        duration_low_ns=low, duration_high_ns=high,
        status=status if named else told if back else Absent("not-found", "no return event"),
        status_name=ntstatus.name(status) if status is not None else None,
        extension=extension if extension is not None else told, origin=origin,
    )  # fmt: skip


def _clock_of(end: CallEvent | None) -> int | Absent:
    if end is None:
        return Absent("not-found", "its event is not in the trace")
    return end.clock if end.clock is not None else end.ts & 0xFFFFFFFFFFFFFFFF


def _duration(entry: CallEvent, back: CallEvent, clock: Clock) -> int | Absent:
    frequency = entry.frequency or back.frequency
    if entry.clock is not None and back.clock is not None and frequency and frequency > 0:
        # Read in the callback itself, so the cost of writing the events is not in it.
        return (back.clock - entry.clock) * 1_000_000_000 // frequency
    return clock.duration_ns(back.ts - entry.ts)


def _losses(lost: list[tuple[int, int]], start: int, end: int | None) -> bool:
    return any(to >= start and (end is None or frm <= end) for frm, to in lost)
