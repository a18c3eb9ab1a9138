"""Callbacks of dump filters from their own events, and what providers say of the dump stack."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import etw_writer as w
import pytest
from conftest import REPOSITORY

from analyzer import checks
from analyzer.absence import Absent
from analyzer.checks.rules_etw import RULES
from analyzer.checks.rules_logs import RULES as LOG_RULES
from analyzer.errors import InputError
from analyzer.etw import callbacks, findings, manifests, providers
from analyzer.etw.trace import Trace
from analyzer.records import Anomaly, Callback, Records, Request, Stage

TICK = 10_000_000  # of the session clock, per second
SECOND = TICK
BASE = 2_000_000


def entry(ts: int, *, name: str = "dump_acme.sys", callback: int = 1, call: int = 1,
          clock: int | None = None, tid: int = 8) -> bytes:  # fmt: skip
    """The published entry event, manifest form."""
    data = w.utf16(name) + struct.pack("<BIQQQ", callback, call, 0xFFFF800000001000,
                                       ts if clock is None else clock, TICK)  # fmt: skip
    return w.event(callbacks.GUID, 1, ts, data, opcode=1, tid=tid)


def back(ts: int, status: int = 0, *, name: str = "dump_acme.sys", callback: int = 1,
         call: int = 1, clock: int | None = None, tid: int = 8) -> bytes:  # fmt: skip
    """The published return event, manifest form."""
    data = w.utf16(name) + struct.pack("<BIIQQ", callback, call, status,
                                       ts if clock is None else clock, TICK)  # fmt: skip
    return w.event(callbacks.GUID, 2, ts, data, opcode=2, tid=tid)


def told(*buffers: list[bytes], flags: int = 0, mapping: Any = (), **options: Any) -> list[Any]:
    """Records and anomalies of a synthetic trace; one buffer per list of events."""
    writer = w.Writer(**options)
    for k, events in enumerate(buffers):
        writer.add(*events, flags=flags if k == len(buffers) - 1 else 0)
    trace = Trace.of_bytes(writer.build(), "story.etl")
    len(trace)
    return list(findings.tell(trace, mapping))


def calls(records: list[Any]) -> list[Callback]:
    """The callback records."""
    return [record for record in records if isinstance(record, Callback)]


def rules(records: list[Any]) -> list[str]:
    """Rule ids of the anomalies, sorted."""
    return sorted(record.rule for record in records if isinstance(record, Anomaly))


def found(records: list[Any]) -> list[tuple[Any, Any]]:
    """Rule id and text of the findings, by rule id."""
    held = Records()
    held.add(*records)
    return sorted((finding.rule, finding.text) for finding in checks.run(held))


def test_a_pair_gives_status_duration_and_extension() -> None:
    """Entry and return of Dump_Start become one record; nothing is wrong."""
    records = told([entry(BASE), back(BASE + 250)])
    (call,) = calls(records)
    assert (call.filter, call.callback, call.call) == ("dump_acme.sys", "Dump_Start", 0)
    assert call.duration_ns == 25_000
    assert (call.status, call.status_name) == (0, "STATUS_SUCCESS")
    assert call.extension == 0xFFFF800000001000
    assert call.was_called == "yes"
    assert call.entry_time == (w.FILETIME_2024 + BASE - 1_000_000 - w.EPOCH) * 100
    assert (call.entry_clock, call.return_clock) == (BASE, BASE + 250)
    assert rules(records) == []


def test_tracelogging_form_means_the_same() -> None:
    """The events of the C header, self-described, pair just like the manifest form."""
    head = [("Filter", b"\x01"), ("Callback", b"\x04"), ("Call", b"\x08")]
    tail = [("Clock", b"\x0a"), ("ClockFrequency", b"\x0a")]
    begin = w.tracelogging("CallbackEntry", [*head, ("Extension", b"\x15"), *tail])
    end = w.tracelogging("CallbackReturn", [*head, ("Status", b"\x88\x0e"), *tail])
    name = w.traits("Dumpstart-Callbacks")
    common = w.utf16("dump_acme.sys") + struct.pack("<BI", 2, 9)
    records = told([
        w.event(callbacks.GUID, 0, BASE, common + struct.pack("<QQQ", 0x1000, 5000, TICK),
                items=(name, begin)),
        w.event(callbacks.GUID, 0, BASE + 9, common + struct.pack("<IQQ", 0, 5070, TICK),
                items=(name, end)),
    ])  # fmt: skip
    (call,) = calls(records)
    assert (call.callback, call.duration_ns, call.extension) == ("Dump_Write", 7_000, 0x1000)


def test_failed_slow_and_repeated_calls() -> None:
    """A failing status and a slow call give their findings; calls are numbered per callback."""
    records = told([
        entry(BASE, call=1), back(BASE + 100, 0xC00000A3, call=1),
        entry(BASE + 200, call=2), back(BASE + 200 + 2 * SECOND, call=2),
    ])  # fmt: skip
    assert [(c.call, c.status) for c in calls(records)] == [(0, 0xC00000A3), (1, 0)]
    assert rules(records) == ["etw-callback-slow"]
    assert found(records) == [
        ("etw-callback-slow", "Dump_Start of dump_acme.sys took 2 s."),
        ("filter-callback-failed",
         "Dump_Start of dump_acme.sys returned 0xc00000a3 (STATUS_DEVICE_NOT_READY)."),
    ]  # fmt: skip


def test_a_status_known_to_be_harmless_is_no_fault_in_a_trace() -> None:
    """DiskCryptor's Dump_Start returns 0xc0210001 when the dump device is not encrypted."""
    records = told([
        entry(BASE, name="dump_dcrypt.sys"), back(BASE + 9, 0xC0210001, name="dump_dcrypt.sys"),
    ])  # fmt: skip
    assert [rule for rule, _ in found(records)] == ["filter-callback-failed-benign"]


def test_entry_without_return_and_return_without_entry() -> None:
    """Unpaired halves keep what they tell; what is missing is absent with the reason."""
    records = told([back(BASE, call=1), entry(BASE + 10, call=2, name="dump_b.sys")])
    first, second = calls(records)
    assert first.entry_time == Absent("not-found", "no entry event")
    assert first.status == 0
    assert isinstance(second.status, Absent)
    assert isinstance(first.duration_ns, Absent)
    assert isinstance(second.duration_ns, Absent)
    assert rules(records) == ["etw-callback-no-entry", "etw-callback-no-return"]


def test_nested_calls_are_paired_and_reported() -> None:
    """A call inside a call of the same thread pairs by its number and gives a finding."""
    records = told([
        entry(BASE, call=1), entry(BASE + 10, call=2, callback=2),
        back(BASE + 20, call=2, callback=2), back(BASE + 50, call=1),
    ])  # fmt: skip
    assert [(c.callback, c.duration_ns) for c in calls(records)] == [
        ("Dump_Start", 5_000), ("Dump_Write", 1_000),
    ]  # fmt: skip
    assert rules(records) == ["etw-callback-nested"]


def test_calls_on_two_threads_are_not_nested() -> None:
    """Overlap on different threads is no nesting."""
    records = told([
        entry(BASE, call=1, tid=8), entry(BASE + 10, call=2, tid=12),
        back(BASE + 20, call=2, tid=12), back(BASE + 50, call=1, tid=8),
    ])  # fmt: skip
    assert rules(records) == []


def test_lost_events_inside_a_call() -> None:
    """A lost-events flag inside the call is reported; numbered calls keep their duration."""
    records = told([entry(BASE)], [back(BASE + 100)], flags=2)
    assert calls(records)[0].duration_ns == 10_000
    assert rules(records) == ["etw-callback-events-lost"]


@pytest.mark.parametrize(
    ("closed", "expected"), [(True, []), (False, ["etw-callback-events-lost"])]
)
def test_missing_buffers_inside_a_call(closed: bool, expected: list[str]) -> None:
    """A gap in the buffer numbers counts as a loss unless the session says it lost nothing."""
    writer = w.Writer(finalise=closed)
    writer.add(entry(BASE))
    writer.add(back(BASE + 100))
    raw = bytearray(writer.build())
    struct.pack_into("<q", raw, 2 * 8192 + 0x18, 7)  # sequence numbers 0, 1, 7
    trace = Trace.of_bytes(bytes(raw))
    found = [rule for rule in rules(list(findings.tell(trace))) if "callback" in rule]
    assert found == expected


def test_harmless_requests_are_not_decoded() -> None:
    """Only slow or failed StorPort and disk requests become records."""

    def storport(ts: int, duration: int, status: int) -> bytes:
        data = struct.pack("<QQBBQ", duration, 1, 0x28, status, 2)
        data += struct.pack("<BBBBBIQQ", 0, 0, 0, 0, 0, 4096, 1, 1)
        return w.event(providers.STORPORT, 200, ts, data, version=2)

    records = told([storport(BASE + k, 500, 1) for k in range(50)]
                   + [storport(BASE + 60, 2 * SECOND, 1), storport(BASE + 61, 500, 4)])  # fmt: skip
    assert [(r.duration_ns, r.status) for r in of(records, Request)] == [
        (2_000_000_000, 1), (50_000, 4),
    ]  # fmt: skip
    assert rules(records) == ["etw-storage-slow"]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_most_slow_requests(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound they are counted, and the longest of all is told."""
    monkeypatch.setattr(findings, "MAX_REQUESTS", 3)
    data = [struct.pack("<QQBBQBBBBBIQQ", (k + 2) * SECOND, 1, 0x28, 1, 2, 0, 0, 0, 0, 0, 1, 1, 1)
            for k in range(count)]  # fmt: skip
    records = told([
        w.event(providers.STORPORT, 200, BASE + k, one, version=2) for k, one in enumerate(data)
    ])  # fmt: skip
    rows = of(records, Request)
    assert [r.request for r in rows] == list(range(min(count, 3)))
    (slow,) = (a for a in records if isinstance(a, Anomaly))
    assert slow.text == (
        f"{count} storage requests were slow or failed; the longest took {count + 1}000 ms."
    )


def test_lost_events_before_a_call_do_not_touch_it() -> None:
    """Losses that end before the call begins are no finding about the call."""
    writer = w.Writer()
    writer.add(w.event(providers.KERNEL_POWER, 41, BASE - 500), flags=2)
    writer.add(entry(BASE), back(BASE + 100))
    assert rules(list(findings.tell(Trace.of_bytes(writer.build())))) == []


def test_clock_that_runs_backwards_gives_no_duration() -> None:
    """A return earlier than its entry is a finding, not a negative or huge duration."""
    records = told([entry(BASE, clock=9_000), back(BASE + 10, clock=8_000)])
    assert isinstance(calls(records)[0].duration_ns, Absent)
    assert rules(records) == ["etw-clock-backwards"]


MAPPING = """
# Acme's own events
[[event]]
provider = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"
id = 17
role = "entry"
callback = "Dump_Start"
filter = "dump_acme.sys"

[[event]]
provider = "{8E805EB3-6A8F-4A1E-8F6A-1E4AB35E808E}"
id = 0x12  # hexadecimal is fine
role = "return"
callback = "Dump_Start"
filter = "dump_acme.sys"
status_field = "Status"
"""


def test_mapping_file_for_a_vendors_own_events(tmp_path: Path) -> None:
    """A TOML mapping makes calls out of other events."""
    from test_etw_payload import MANIFEST, PROVIDER

    from analyzer.etw.decode import Decoder

    path = tmp_path / "acme.toml"
    path.write_text(MAPPING)
    mapping = callbacks.load_mapping(str(path))
    assert [(rule.id, rule.role) for rule in mapping] == [(17, "entry"), (18, "return")]
    manifest = tmp_path / "acme.man"
    manifest.write_text(MANIFEST.replace('value="18" symbol="Nothing"',
                                         'value="18" symbol="End" template="S"').replace(
        "</templates>", '<template tid="S"><data name="Status" inType="win:UInt32"/></template>'
        "</templates>"))  # fmt: skip
    writer = w.Writer()
    writer.add(w.event(PROVIDER, 17, BASE), w.event(PROVIDER, 18, BASE + 30, b"\x0d\0\0\xc0"))
    trace = Trace.of_bytes(writer.build())
    trace.decoder = Decoder([str(manifest)])
    len(trace)
    (call,) = calls(list(findings.tell(trace, mapping)))
    assert (call.filter, call.duration_ns) == ("dump_acme.sys", 3_000)
    assert call.status_name == "STATUS_INVALID_PARAMETER"


@pytest.mark.parametrize(
    "text",
    ["", "[[event]]\nrole = 1", "x = [", "x = " + "[" * 50_000, "x = " + "9" * 10_000,
     "[[event]]\nprovider='a'\nid=1\nrole='entry'",
     "[[event]]\nprovider='a'\nid=1\nrole='entry'\ncallback='Dump_Sart'",
     "[[event]]\nprovider='a'\nid=1\nrole='entry'\ncallback='Dump_Start'\nstaus_field='x'"],
)  # fmt: skip
def test_mapping_files_with_mistakes_are_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    """Missing, unknown and misspelt keys are named."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError):
        callbacks.load_mapping(str(path))


def test_published_manifest_decodes_what_the_header_writes() -> None:
    """docs/dumpstart-callbacks.man describes the events this reader knows built in."""
    text = (REPOSITORY / "docs" / "dumpstart-callbacks.man").read_bytes()
    (provider,) = manifests.parse(text, "manifest")
    assert (provider.name, provider.guid) == (callbacks.PROVIDER, callbacks.GUID)
    assert set(provider.events) == {(callbacks.ENTRY, 0), (callbacks.RETURN, 0)}
    for key, schema in provider.events.items():
        built_in = providers.schema(callbacks.GUID, *key)
        assert [(f.name, f.kind, f.out) for f in schema.fields] == [
            (f.name, f.kind, f.out) for f in built_in.fields
        ]
        assert dict(schema.fields[1].names or {}) == callbacks.CALLBACKS
        assert built_in.fields[1].names == callbacks.CALLBACKS


def test_published_c_header_compiles(tmp_path: Path) -> None:
    """The header is valid C against stand-ins of the WDK macros it uses, and its GUID agrees."""
    header = REPOSITORY / "docs" / "dumpstart_trace.h"
    text = header.read_text()
    numbers = re.search(r'"Dumpstart-Callbacks",\s*\\?\s*\(([^)]*)\)', text)
    assert numbers is not None
    digits = "".join(part.strip().removeprefix("0x") for part in numbers.group(1).split(","))
    assert digits == callbacks.GUID.replace("-", "")
    (tmp_path / "stub.c").write_text(f"""
typedef long LONG; typedef unsigned long ULONG; typedef unsigned long long ULONGLONG;
typedef unsigned char UCHAR; typedef long NTSTATUS; typedef void *PVOID; typedef void VOID;
typedef const unsigned short *PCWSTR; typedef union {{ long long QuadPart; }} LARGE_INTEGER;
static LARGE_INTEGER KeQueryPerformanceCounter(LARGE_INTEGER *f)
{{ LARGE_INTEGER c; f->QuadPart = 1; c.QuadPart = 2; return c; }}
static LONG InterlockedIncrement(volatile LONG *p) {{ return ++*p; }}
#define TRACELOGGING_DECLARE_PROVIDER(h) extern int h
#define TRACELOGGING_DEFINE_PROVIDER(h, n, g) int h = sizeof(n)
static void sink(int first, ...) {{ (void)first; }}
#define TraceLoggingWrite(p, n, ...) sink(p, n, __VA_ARGS__)
#define TraceLoggingOpcode(x) (x)
#define TraceLoggingWideString(x, n) (x), n
#define TraceLoggingUInt8(x, n) (x), n
#define TraceLoggingUInt32(x, n) (x), n
#define TraceLoggingUInt64(x, n) (x), n
#define TraceLoggingPointer(x, n) (x), n
#define TraceLoggingNTStatus(x, n) (x), n
#include "{header}"
DUMPSTART_DEFINE_PROVIDER();
int main(void)
{{
    ULONG call = DumpstartEntry(0, DumpstartDumpStart, 0);
    DumpstartReturn(0, DumpstartDumpStart, call, 0);
    return (int)call - 1;
}}
""")
    try:
        subprocess.run(["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "stub", "stub.c"],
                       cwd=tmp_path, check=True)  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no C compiler here")
    assert subprocess.run([tmp_path / "stub"], check=False).returncode == 0


# -- providers --------------------------------------------------------------------------------


def of(records: list[Any], kind: type) -> list[Any]:
    """Records of one type."""
    return [record for record in records if isinstance(record, kind)]


def test_loading_the_dump_stack_is_timed() -> None:
    """Kernel-IO 1304 and 1305 make a stage with duration and status; slow and failed are told."""
    io = providers.KERNEL_IO
    records = told([w.event(io, 1304, BASE), w.event(io, 1305, BASE + 20_000, bytes(4))])
    (stage,) = of(records, Stage)
    assert (stage.stage, stage.duration_ms, stage.status) == ("crash-dump-initialize", 2, 0)
    assert rules(records) == []
    bad = struct.pack("<I", 0xC0000034)
    records = told([w.event(io, 1304, BASE), w.event(io, 1305, BASE + 6 * SECOND, bad)])
    assert rules(records) == ["etw-dump-stack-slow", "event-boot-dump-failed"]
    assert rules(told([w.event(io, 1304, BASE)])) == ["etw-dump-stack-unfinished"]
    records = told([w.event(io, 1305, BASE, bytes(4))])
    assert isinstance(of(records, Stage)[0].duration_ms, Absent)


def test_dump_file_creation_and_early_dump_failures() -> None:
    """Crashdump 3 tells the time; 4 and Kernel-Boot 257 the failure; Kernel-Dump 9 the status."""
    crash = providers.CRASHDUMP
    made = struct.pack("<IQQQ", 1, 1 << 34, 1 << 33, 12_000)
    fail = struct.pack("<II", 0xC00000A3, 5)
    records = told([
        w.event(crash, 3, BASE, made, version=1), w.event(crash, 4, BASE + 1, fail),
        w.event(providers.KERNEL_BOOT, 257, BASE + 2, w.utf16("x") + fail[:4]),
        w.event(providers.KERNEL_DUMP, 9, BASE + 3, fail[:4]),
        w.event(providers.KERNEL_DUMP, 11, BASE + 4, fail[:4]),  # reconfigured: no failed stack
        w.event(providers.KERNEL_IO, 1207, BASE + 5, bytes(4)),
    ])  # fmt: skip
    (stage,) = of(records, Stage)
    assert (stage.duration_ms, stage.amount, stage.unit) == (12_000, 1 << 33, "bytes")
    assert rules(records) == [
        "etw-dump-file-slow", "event-boot-dump-failed", "event-boot-dump-failed",
        "event-dump-encryption-failed", "event-dump-stack-failed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "rule"),
    [(0xC004002D, "event-dump-driver-load-failed"), (0xC004002E, "event-dump-init-failed"),
     (0xC0040031, "event-dump-config-failed"), (0xC00400A1, "event-dump-failed"),
     (0xC00400A3, "event-dump-callback-exception"), (0x8004009C, "event-dump-device-gone")],
)  # fmt: skip
def test_volmgr_entries_give_the_event_logs_rules(code: int, rule: str) -> None:
    """volmgr's classic entries mean the same in a trace as in the System log."""
    from made_inputs import io_error

    data = io_error("volmgr", code, 0x2005, 0xC0000034, [])
    records = told([w.event(providers.IO_ERROR_LOG, 0, BASE, data, prop=4)])
    (anomaly,) = of(records, Anomaly)
    assert anomaly.rule == rule
    assert "0x2005" in anomaly.text
    assert "STATUS_OBJECT_NAME_NOT_FOUND" in anomaly.text


def test_previous_crash_storage_errors_and_slow_requests() -> None:
    """Kernel-Power 41, driver errors, and requests of a second or more are told."""
    from made_inputs import io_error

    dirty = struct.pack("<IQQQQIQI", 0x7E, 1, 2, 3, 4, 0, 0, 0)
    disk = io_error("disk", 0xC0040007, 0, 0xC000009C, ["\\Device\\Harddisk0\\DR0"])
    slow = struct.pack("<IIIIQQQQI", 0, 0, 4096, 0, 0, 1, 2, 3 * SECOND, 4)
    quick = struct.pack("<IIIIQQQQI", 0, 0, 4096, 0, 0, 1, 2, 300, 4)
    records = told([
        w.event(providers.KERNEL_POWER, 41, BASE, dirty, version=2),
        w.event(providers.IO_ERROR_LOG, 0, BASE + 1, disk, prop=4),
        w.event(providers.IO_ERROR_LOG, 0, BASE + 2, disk, prop=4),
        w.perfinfo(0x010A, BASE + 3, slow, version=3),
        w.perfinfo(0x010A, BASE + 4, quick, version=3),
    ])  # fmt: skip
    assert rules(records) == ["etw-previous-crash", "etw-storage-errors", "etw-storage-slow"]
    (request,) = of(records, Request)
    assert (request.operation, request.duration_ns) == ("read", 3_000_000_000)
    assert request.end - request.start == 3_000_000_000
    assert "2 storage errors" in next(r.text for r in of(records, Anomaly)
                                      if r.rule == "etw-storage-errors")  # fmt: skip


def test_every_rule_a_trace_can_report_exists() -> None:
    """Each rule id in the ETW code is a rule; each ETW rule is used by the code."""
    known = {**RULES, **LOG_RULES}
    source = "".join(path.read_text() for path in Path(findings.__file__).parent.glob("*.py"))
    used = set(re.findall(r'"((?:etw|event-dump|event-boot)-[a-z0-9-]+)"', source))
    assert used <= set(known)
    assert set(RULES) <= used


def test_healthy_synthetic_trace_has_no_findings() -> None:
    """A sound trace of unrelated events is silent."""
    assert told([w.event("8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e", 1, BASE)]) == []


def test_calls_of_a_provider_that_describes_its_events_itself() -> None:
    """TraceLogging has no numbers: the names of provider and event say what an event is."""
    fields = [("Callback", b"\x01"), ("Filter", b"\x01"), ("Status", b"\x08")]
    body = w.utf16("Dump_Start") + w.utf16("acme.sys")
    writer = w.Writer()
    for name, ts, status in (("CallbackEntry", 10, 0), ("CallbackReturn", 40, 0xC0000001)):
        items = (w.traits(callbacks.PROVIDER), w.tracelogging(name, fields))
        data = body + struct.pack("<I", status)
        writer.add(w.event("11111111-2222-3333-4444-555555555555", 0, BASE + ts, data, items=items))
    rows = findings.tell(Trace.of_bytes(writer.build()))
    calls = [row for row in rows if isinstance(row, Callback)]
    assert [(row.filter, row.callback, row.status) for row in calls] == [
        ("acme.sys", "Dump_Start", 0xC0000001)
    ]
