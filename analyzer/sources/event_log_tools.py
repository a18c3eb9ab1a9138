"""Events as other programs write them in JSON: evtx_dump, EvtxECmd, Winlogbeat, NXLog.

Invariant: what these programs call UTC is put on the UTC axis, a local time is not; a record that
has another shape is left to the reader of PowerShell's properties. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from ..windows_events import RawEvent
from .event_log_named import from_properties, time_of

#: an object of JSON
Json = Mapping[str, object]
#: names of a provider and of an id in any of these forms, in JSON
PROVIDERS = (
    r'"(?:ProviderName|Source|SourceName|Provider|Provider_attributes|provider_name|source_name)"'
    r"\s*:"
)
IDS = r'"(?:Id|EventID|EventId|event_id)"\s*:'
#: what evtx_dump prints before each event
RECORD = re.compile(r"Record \d{1,20}\s+(?=[{<])")
_ATTRIBUTES, _TEXT = "#attributes", "#text"


def event_of(value: Json) -> RawEvent | None:
    """The event of one object; None when it is none."""
    event, log = value.get("Event"), value.get("winlog")
    if isinstance(event, dict):
        return _of_system(event)
    if isinstance(log, dict):
        return _of_winlogbeat(value, log)
    if "source_name" in value and "event_id" in value:  # before its version 7
        return _of_winlogbeat(value, value)
    if "MapDescription" in value and "Payload" in value:
        return _of_evtxecmd(value)
    if "SourceName" in value and "EventID" in value:
        given = {**value, "ProviderName": value["SourceName"], "Date": value.get("EventTime")}
        made = _filled(given, list(_pairs(value)))
        if made and made.known and not made.known.fields:  # its own fields stand among them
            made = made._replace(data=[])
        return made
    return from_properties(value)


def _of_system(event: Json) -> RawEvent | None:
    """evtx_dump: the XML's elements, attributes beside or inside of them."""
    system = event.get("System")
    if not isinstance(system, dict):
        return None
    provider, created = _attributes(system, "Provider"), _attributes(system, "TimeCreated")
    execution = _attributes(system, "Execution")
    given = {
        **{name: system.get(name) for name in ("Version", "Level", "Task", "Opcode", "Keywords")},
        "ProviderName": provider.get("Name"),
        "ProviderId": provider.get("Guid"),
        "Id": _text(system.get("EventID")),
        "TimeCreated": _utc(str(created.get("SystemTime") or "")),
        "ProcessId": execution.get("ProcessID"),
        "ThreadId": execution.get("ThreadID"),
        "RecordId": system.get("EventRecordID"),
        "LogName": system.get("Channel"),
    }
    return _filled(given, list(_parts(event)), _binary(event))


def _of_evtxecmd(value: Json) -> RawEvent | None:
    """EvtxECmd: its times are UTC, the event's data are JSON inside of the row."""
    given = {
        "ProviderName": value.get("Provider"),
        "Id": value.get("EventId"),
        "Level": value.get("Level"),
        "TimeCreated": _utc(str(value.get("TimeCreated") or "")),
        "RecordId": value.get("EventRecordId"),
        "ProcessId": value.get("ProcessId"),
        "ThreadId": value.get("ThreadId"),
        "LogName": value.get("Channel"),
    }
    payload = value.get("Payload")
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except (json.JSONDecodeError, RecursionError):
            payload = None
    payload = payload if isinstance(payload, dict) else {}
    return _filled(given, list(_parts(payload)), _binary(payload))


def _of_winlogbeat(value: Json, log: Json) -> RawEvent | None:
    """Winlogbeat: ``log`` has what Windows says of the event."""
    data, about, process = log.get("event_data"), value.get("log"), log.get("process")
    given = {
        "ProviderName": log.get("provider_name") or log.get("source_name"),
        "ProviderId": log.get("provider_guid"),
        "Id": log.get("event_id"),
        "Version": log.get("version"),
        "Level": about.get("level") if isinstance(about, dict) else log.get("level"),
        "TimeCreated": value.get("@timestamp"),
        "RecordId": log.get("record_id") or log.get("record_number"),
        "ProcessId": process.get("pid") if isinstance(process, dict) else log.get("process_id"),
        "LogName": log.get("channel") or log.get("log_name"),
        "Message": value.get("message"),
    }
    data = data if isinstance(data, dict) else {}
    return _filled(given, list(_pairs(data)), _binary({"EventData": data}))


def _filled(
    given: Json, data: list[tuple[str, str]], binary: bytes | None = None
) -> RawEvent | None:
    event = from_properties(given)
    if event is None:
        return None
    wanted = event.known.fields if event.known else ()
    named = [pair for pair in data if not wanted or pair[0] in wanted or not pair[0]]
    message = event.message
    if not message and len(data) == 1 and not data[0][0]:  # several values, joined by commas
        message, named = data[0][1], []
    return event._replace(data=named, binary=binary, message=message)


def _parts(event: Json) -> Iterator[tuple[str, str]]:
    """The data of the event, with their names where they have some."""
    for part in ("EventData", "UserData"):
        held = event.get(part)
        if part == "UserData" and isinstance(held, dict) and len(held) == 1:
            held = next(iter(held.values()))  # the element of the provider
        if isinstance(held, dict):
            yield from _pairs(held)


def _pairs(held: Json) -> Iterator[tuple[str, str]]:
    for name, value in held.items():
        if name == "Data":
            inner = value.get(_TEXT) if isinstance(value, dict) else value
            for item in inner if isinstance(inner, list) else [inner]:
                if isinstance(item, dict):  # EvtxECmd
                    yield str(item.get("@Name") or ""), str(item.get(_TEXT) or "")
                elif item is not None:
                    yield "", str(item)
        elif name not in ("Binary", _ATTRIBUTES) and isinstance(value, (str, int, float)):
            yield name, str(value)


def _binary(event: Json) -> bytes | None:
    held = event.get("EventData")
    text = held.get("Binary") if isinstance(held, dict) else None
    try:
        return bytes.fromhex(text.replace("-", "")) if isinstance(text, str) and text else None
    except ValueError:
        return None


def _attributes(system: Json, name: str) -> Json:
    beside, held = system.get(f"{name}_attributes"), system.get(name)
    if isinstance(beside, dict):
        return beside
    inside = held.get(_ATTRIBUTES) if isinstance(held, dict) else None
    return inside if isinstance(inside, dict) else {}


def _text(value: object) -> object:
    return value.get(_TEXT) if isinstance(value, dict) else value


def _utc(text: str) -> str:
    """A time that its writer states in UTC, with the mark of that."""
    text = text.strip().removesuffix(" UTC")
    return text if not text or isinstance(time_of(text), int) else f"{text}Z"
