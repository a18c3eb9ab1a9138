"""Events as text: written in every form, language and separator, recognised and read back equal."""

from __future__ import annotations

import contextlib
import random
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import event_forms as forms
import pytest
from conftest import SHARED
from counting import calls

from analyzer import sources
from analyzer.absence import Absent
from analyzer.errors import AnalyzerError
from analyzer.names import events as table
from analyzer.sources.event_log_forms import Export
from analyzer.windows_events import RawEvent, decode

PATH, REPORT = r"C:\WINDOWS\Minidump\030126-5515-01.dmp", "2f4c1f5e-0001-4a5b-9a3c-000000000001"
PACKET = bytes(0x0C) + bytes.fromhex("A10004C001500000850100C0") + bytes(0x10)


def moment(minute: int) -> datetime:
    """A time on the evening of a day that no order of day and month confuses."""
    return datetime(2026, 3, 25, 18, minute, 24, 123456, timezone.utc)


def written(language: forms.Language) -> list[forms.Written]:
    """Events of the dump path, and one that is none."""
    bugcheck = "0x000000d1 (0x28, 0x2, 0x0, 0xfffff80312345678)"
    said = language.failed
    power = table.GUIDS[table.KERNEL_POWER]
    return [
        forms.Written("Microsoft-Windows-Kernel-Power", power, 41, 1, moment(1), said,
                      (("BugcheckCode", "209"), ("BugcheckParameter1", "0x28"),
                       ("BugcheckParameter2", "0x2"), ("BugcheckParameter3", "0x0"),
                       ("BugcheckParameter4", "0xfffff80312345678"))),
        forms.Written("volmgr", "", 161, 2, moment(2), f"{said}. BugCheckProgress: 0x00040049",
                      (("", r"\Device\HarddiskVolume3"), ("", "0x00040049")), PACKET),
        forms.Written("volmgr", "", 46, 2, moment(3), f"{said}!",
                      (("", r"\Device\HarddiskVolume3"),)),
        forms.Written("Microsoft-Windows-WER-SystemErrorReporting", table.GUIDS[table.WER], 1001,
                      2, moment(4), f"{said}: {bugcheck}. {PATH}. {REPORT}.",
                      (("param1", bugcheck), ("param2", PATH), ("param3", REPORT))),
        forms.Written("Microsoft-Windows-Kernel-Boot", table.GUIDS[table.KERNEL_BOOT], 29, 2,
                      moment(5), f"{said} 0xC00000D4", (("FailureStatus", "3221225684"),)),
        forms.Written("Service Control Manager", "", 7036, 4, moment(6), said, (("", "x"),)),
    ]  # fmt: skip


@pytest.mark.parametrize("language", forms.LANGUAGES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", forms.FORMS)
def test_events_are_read_back_as_they_were_written(
    tmp_path: Path, name: str, which: int, language: str
) -> None:
    """Provider, id, level, time, data; what the form has lost is not determined."""
    form, words = forms.FORMS[name], forms.LANGUAGES[language]
    wrote = written(words)
    path = tmp_path / "events.txt"
    text = form.write(wrote, words, form.separators[which])
    path.write_bytes(text.encode(form.encoding))
    assert sources.identify(str(path)).module == "event_log"
    export = Export(str(path))
    back = list(export)
    assert (export.damaged, export.is_open_ended) == (0, False)
    assert [(e.provider, e.event_id, e.level if e.known else None) for e in back] == [
        (e.provider, e.event_id, e.level if e.event_id != 7036 else None) for e in wrote
    ]
    for one, was in zip(back, wrote):
        if was.event_id != 7036:
            compare(one, was, form)


def compare(one: RawEvent, was: forms.Written, form: forms.Form) -> None:
    """One event against what was written."""
    if form.has_zone:
        ms = 10**6 if form.write is forms.json_text else 1
        ns = int(was.time.timestamp()) * 10**9 + was.time.microsecond * 1000
        assert abs(one.time - ns) < ms
    else:
        assert isinstance(one.time, Absent)
        assert "zone unknown" in one.time.detail
    decoded = decode(one)
    is_cut = form.is_cut and len(was.message) > forms.CONSOLE
    is_whole = form.has_data or (form.has_message and not is_cut)
    if form.has_data:
        assert [text for _, text in one.data] == [text for _, text in was.data]
        assert (one.binary or b"") == was.binary
    if form.has_message:
        assert was.message.startswith(one.message.rstrip(". ")[:30])
    number = was.event_id
    if number == 161:
        assert decoded.progress == (0x40049 if is_whole else None)
        assert (decoded.packet is not None) == form.has_data
    if number == 1001:
        expected = (PATH, REPORT, (0xD1, 0x28, 2, 0, 0xFFFFF80312345678)) if is_whole else None
        assert expected is None or expected == (
            decoded.dump_path, decoded.report_id, decoded.bugcheck,
        )  # fmt: skip
        assert is_whole or not decoded.dump_path
    if number == 41:
        assert bool(decoded.bugcheck) == form.has_data
    if number == 29:
        assert decoded.status == (0xC00000D4 if is_whole else None)


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "apart"),
    [
        (["7/22/2026 6:19:31 PM", "7/22/2026 6:19:40 PM"], 9),
        (["22.07.2026 18:19:31", "23.07.2026 18:19:31"], 86400),
        (["3/1/2026 11:59:00 AM", "3/1/2026 12:01:00 PM"], 120),
        (["2026/03/01 0:00:00", "2026-03-02 00:00:00"], 86400),
        (["3/1/2026 10:00:00", "3/2/2026 10:00:00"], None),  # a day or a month
        (["3/1/2026 10:00:00", "3/13/2026 10:00:00"], 12 * 86400),
        (["2026. 3. 1. 오후 1:00:00", "2026. 3. 1. 오전 11:00:00"], -7200),
        (["x", "y"], None),
        *(
            (["3/1/2026 0:00:00", f"3/1/2026 {late}"], apart)
            for late, apart in (
                ("23:59:59", 86399),
                ("24:00:00", None),
                ("23:60:00", None),
                ("23:59:60", None),
                ("12:00:00 AM", 0),
                ("12:30:00 PM", 45000),
                ("11:00:00 PM", 82800),
                ("1:00", 3600),
            )
        ),
        (["1.1.99 0:00:00", "1.1.2099 0:00:00"], 0),
        (["32/3/1 0:00:00", "2032/3/1 0:00:01"], 1),
        (["12/12/31 0:00:00"] * 2, 0),
        (["12/12/2026 0:00:00", "12/13/2026 0:00:00"], 86400),
        (["30/2/2026 0:00:00"] * 2, None),
        (["3/1/2026 10"] * 2, None),
    ],
)
def test_local_times_are_compared_only_when_their_order_is_known(
    texts: list[str], apart: int | None
) -> None:
    """By the times of the whole file; nothing is taken for UTC."""
    from analyzer.sources.event_log_named import local_times

    one, other = local_times(texts)
    if apart is None:
        assert one is None or other is None
    else:
        assert one is not None
        assert other is not None
        assert (other - one) // 10**9 == apart


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"Id": 161}, {"event_id": 161}), ({"Id": 0xFFFF}, {"event_id": 0xFFFF}),
        ({"Id": 0x10001}, {"event_id": 1}), ({"Id": "3221487777"}, {"event_id": 161}),
        ({"EventID": 0xC00400A1}, {"event_id": 161}), ({"Id": " 0xC00400A1"}, {"event_id": 161}),
        ({"Id": "0x10000000000000000"}, None), ({"Id": True}, None), ({"Id": "1x"}, None),
        ({"Id": ""}, None), ({}, None), ({"Id": 1, "ProviderName": "vol..."}, None),
        ({"Id": None, "EventId": 7}, {"event_id": 7}), ({"Id": 6, "EventId": 7}, {"event_id": 6}),
        ({"Id": 1, "Version": 1 << 64, "Task": (1 << 64) - 1, "Opcode": -(1 << 63),
          "RecordId": -(1 << 63) - 1}, {"version": None, "task": (1 << 64) - 1,
                                       "opcode": -(1 << 63), "record_id": None}),
        ({"Id": 1, "Level": 3, "LevelDisplayName": "Fehler"}, {"level": 3}),
        ({"Id": 1, "Level": "", "LevelDisplayName": " FEHLER "}, {"level": 2}),
        ({"Id": 1, "Level": "Warnung"}, {"level": 3}),
        ({"Id": 1, "Level": "?", "LevelDisplayName": "?"}, {"level": None}),
        ({"Id": 1, "Level": {"value": 2, "Value": "Error"}}, {"level": 2}),
        ({"Id": 1, "Properties": [{"Value": 7}, {"value": "x"}, "y", None, {"Value": {}}, []]},
         {"data": [("", "7"), ("", "x"), ("", "y")], "binary": None}),
        ({"Id": 1, "Properties": [{"Value": [0, 255]}, {"Value": 7}]},
         {"data": [("", "7")], "binary": b"\x00\xff"}),
        *(({"Id": 1, "Properties": [{"Value": [0, wrong]}]}, {"data": [], "binary": None})
          for wrong in (256, -1, True, "1")),
        ({"Id": 1, "Properties": [7, "System.Diagnostics.Eventing.Reader.EventProperty"]},
         {"data": [], "binary": None}),
        ({"Id": 1, "Properties": "7"}, {"data": [], "binary": None}),
        ({"Id": 1, "LogName": "Syst\u2026"}, {"channel": ""}),
        ({"Id": 1, "LogName": "System", "ProviderId": "{AB-CD}", "Message": None},
         {"channel": "System", "guid": "ab-cd", "message": ""}),
        ({"Id": 1, "TimeCreated": {"DateTime": "x", "value": "/Date(5)/"}}, {"time": 5_000_000}),
        ({"Id": 1, "TimeCreated": {"DateTime": "y"}}, {"local": "y"}),
    ],
)  # fmt: skip
def test_properties_of_an_event(given: dict[str, Any], told: Any) -> None:
    """Numbers as Windows has them (an InstanceId holds the id in its low word), words as levels."""
    from analyzer.sources.event_log_named import from_properties

    found = from_properties({"ProviderName": "volmgr", **given})
    assert (found is None) is (told is None)
    assert found is None or {name: getattr(found, name) for name in told} == told


# -- the files that people send -----------------------------------------------------------------


FAULTS = SHARED.parent / "faults"
#: name -> (provider, id, progress) of each event
SENT: dict[str, list[tuple[str, int, int | None]]] = {
    "events-tab-delimited.txt": [("EventLog", 6008, None), ("volmgr", 161, 0x40049),
                                 ("volmgr", 46, None)],
    "events.csv": [("EventLog", 6008, None), ("volmgr", 161, 0x40049), ("volmgr", 46, None)],
    "wevtutil.txt": [("volmgr", 161, None)],
    "ps-get-winevent.txt": [("volmgr", 46, None), ("volmgr", 161, None)],  # "BugCheckPr..."
    "ev161-copied.txt": [("volmgr", 161, 0x40049)],
    "ev161-copied-noxml.txt": [("volmgr", 161, None)],
    "winevent.json": [("volmgr", 161, 0x40049)],
}  # fmt: skip


def fault(name: str) -> Path:
    """A file of the catalogue of faults."""
    path = FAULTS / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    return path


@pytest.mark.parametrize("name", SENT)
def test_text_that_people_send_is_read(name: str) -> None:
    """The same events as from an .evtx; what a form cut off is not determined."""
    records = sources.collect(str(fault(name)))
    read = [(e.provider, e.event_id) for e in records["events"]]
    assert read == [(provider, number) for provider, number, _ in SENT[name]]
    progress = [a.facts["progress"] for a in records.anomalies if a.facts.get("progress")]
    assert progress == [stage for _, _, stage in SENT[name] if stage]
    assert "event-dump-failed" in [a.rule for a in records.anomalies]


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", forms.FORMS)
def test_any_bytes_end_in_records_or_our_error(tmp_path: Path, name: str) -> None:
    """Cut at 60 places, 120 times damaged."""
    form = forms.FORMS[name]
    data = form.write(written(forms.DE), forms.DE, form.separators[0]).encode(form.encoding)
    rng = random.Random(7)
    path = tmp_path / "x"
    bad: list[bytes] = [data[: len(data) * k // 60] for k in range(60)]
    for _ in range(120):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            copy[rng.randrange(len(copy))] = rng.choice(b'<>[]{}":;,\t\n\x00\xff0')
        bad.append(bytes(copy))
    for one in bad:
        path.write_bytes(one)
        try:
            sources.collect(str(path))
        except AnalyzerError:
            continue


COSTLY: dict[str, Any] = {
    "xml-open": lambda n: "<Events>" + "<Event xmlns='x'>" * (n // 17),
    "xml-nested": lambda n: "<Events><Event>" + "<a>" * (n // 3),
    "json-open": lambda n: '[{"ProviderName":"x","Id":1},' + '{"a":' * (n // 5),
    "json-lists": lambda n: '[{"ProviderName":"x","Id":1},' + "[" * n,
    "json-broken": lambda n: '[{"ProviderName":"x","Id":1},' + '{"a":},' * (n // 7),
    "json-cut": lambda n: '[{"ProviderName":"x","Id":1},' + '{"a":"{' * (n // 7),
    "clixml-deep": lambda n: '<Objs Version="1"><S N="ProviderName"/>' + "<Obj>" * (n // 5),
    "blocks": lambda n: "Log Name: a\nSource: b\nDate: 1/1/2026 1:1:1\nEvent ID: 1\n" * (n // 60),
    "list": lambda n: "ProviderName : a\nId : 1\n" + "Message : x\n" * (n // 12),
    "csv-quote": lambda n: 'Level,Date and Time,Source,Event ID,T\n"' + "x,\n" * (n // 3),
    "numbered": lambda n: "Event[0]\n a: b\n c: d\n e: f\n g: 1\n" * (n // 34),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_cost_grows_with_the_size_and_no_faster(tmp_path: Path, name: str) -> None:
    """Four times as much more takes at most 4.6 times as much more work.

    All sizes are beyond 131,072 characters, the longest field that the module csv takes.
    """

    def read() -> None:
        with contextlib.suppress(AnalyzerError):
            sources.collect(str(path))

    work = []
    for size in (150_000, 150_000, 200_000, 350_000):  # the first for imports and caches
        path = tmp_path / "x"
        path.write_text(COSTLY[name](size), encoding="utf-8")
        work.append(calls(read))
    assert work[3] - work[1] < 4.6 * max(work[2] - work[1], 1000), work
