"""Capture files: facts in, the same facts out as records, whatever happened to the file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from conftest import shared_sample
from counting import calls

import analyzer
from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.errors import AnalyzerError
from analyzer.layouts.crashdmp import node_layouts
from analyzer.layouts.ntdddump import filter_extension
from analyzer.sources import capture_file, capture_format, capture_timing
from analyzer.tables import evidence_lines

BASE = 0xFFFFF80020000000
NODE = 0xFFFFC08BE4002110
START = 1795000000_000_000_000
#: calibration: two stops without anything between them cost 100 to 300 ticks
COST = (100, 200, 300)


def extension_bytes(dump_data=0, flags=0):
    """A FILTER_EXTENSION of a 500 GB GPT disk."""
    made = filter_extension(8, 2)()
    made.DumpType, made.DeviceObject, made.DiskSize = 1, 0xFFFFC08BE4003080, 500107862016
    made.Geometry.BytesPerSector, made.Geometry.Cylinders = 512, 60801
    made.Geometry.TracksPerCylinder, made.Geometry.SectorsPerTrack = 255, 63
    made.PartitionInfo.SizeOfPartitionInfo = 0x18
    made.PartitionInfo.PartitionStyle = 1
    made.DumpData, made.Size, made.Flags = dump_data, 0x58, flags
    return bytes(made)


def node_bytes(base=BASE):
    """The node of a filter with Dump_Start at +0x1000 and Dump_Finish at +0x10d0."""
    layout = node_layouts(8)[0]
    init = layout.init_class()
    init.MajorVersion, init.DumpStart, init.DumpFinish = 2, base + 0x1000, base + 0x10D0
    init.MaxPagesPerWrite = 16
    return (bytes(init) + extension_bytes()).ljust(layout.size, b"\0")


def facts(calls=(), hz=1_000_000_000, cost=COST, end=True):
    """A session with one filter; ``calls`` are (ticks, status) of Dump_Start."""
    yield capture_format.header("0.1.0", "pykd", "com:port=com1", START)
    yield {
        "fact": "machine", "build": 19041, "architecture": "x64", "pointer_size": 8,
        "processors": 2,
    }  # fmt: skip
    yield {"fact": "module", "name": "dump_x.sys", "base": hex(BASE), "size": 0x10000, "stamp": 1}
    yield {
        "fact": "node", "stack": "crash", "head": hex(NODE + 0x1000), "count": 1,
        "address": hex(NODE), "layout": "win8", "bytes": node_bytes().hex(),
    }  # fmt: skip
    for number, name, offset in ((1, "Dump_Start", 0x1000), (2, "Dump_Finish", 0x10D0)):
        yield {
            "fact": "armed", "id": number, "filter": "dump_x.sys", "stack": "crash",
            "callback": name, "routine": hex(BASE + offset),
        }  # fmt: skip
    if hz:
        yield {"fact": "clock", "hz": hz, "how": "given"}
    for sample in cost:
        yield {"fact": "calibration", "tsc": "0x1000", "tsc2": hex(0x1000 + sample)}
    tsc = 1 << 63  # a clock that a signed 64-bit number cannot hold
    for number, (ticks, status) in enumerate(calls):
        yield {
            "fact": "call", "n": number, "id": 1, "cpu": 0, "tsc": hex(tsc),
            "host": START + number, "extension": hex(NODE + 0x40),
        }  # fmt: skip
        if ticks is not None:
            yield {
                "fact": "return", "n": number, "cpu": 0, "tsc": hex(tsc + ticks),
                "host": START + number + 5, "status": hex(status),
            }  # fmt: skip
        tsc += 1_000_000
    if end:
        yield {"fact": "end", "reason": "the time is up"}


def write(path, lines):
    """Writes facts the way the capture does."""
    writer = capture_format.Writer(str(path))
    for fact in lines:
        writer(fact)
    writer.close()
    assert writer.problem == ""
    return str(path)


@pytest.fixture
def capture(tmp_path):
    """Makes a capture file of facts."""
    return lambda *args, **options: write(tmp_path / "c.jsonl", facts(*args, **options))


def rules(case):
    """The ids of the findings of a case."""
    return sorted(str(finding.rule) for finding in case.records["findings"])


def started(case):
    """The rows of Dump_Start."""
    return [row for row in case.records["callbacks"] if row.callback == "Dump_Start"]


def test_call_with_status_and_interval(capture):
    """Status and duration of a call: raw 5000 ticks at 1 GHz, less a cost of 100 to 300 ticks."""
    row = started(analyzer.open(capture([(5000, 0)])))[0]
    # 5000 - 200 (median), 5000 - 300, 5000 - 100
    assert (row.duration_ns, row.duration_low_ns, row.duration_high_ns) == (4800, 4700, 4900)
    assert (row.status, row.status_name, row.was_called) == (0, "STATUS_SUCCESS", "yes")
    assert (row.entry_clock, row.return_clock) == (1 << 63, (1 << 63) + 5000)
    assert row.entry_time == START
    assert row.symbol == "dump_x+0x1000"
    assert "100 to 300 ns taken off, seen in 3 samples" in row.origin.how


def test_duration_below_the_noise(capture):
    """A call no longer than two stops has no duration but an upper bound, and a finding."""
    case = analyzer.open(capture([(250, 0)]))
    row = started(case)[0]
    assert isinstance(row.duration_ns, Absent)
    assert (row.duration_low_ns, row.duration_high_ns) == (0, 150)  # 250 - 100
    assert rules(case) == ["duration-below-noise"]


def test_without_calibration_an_upper_bound(capture):
    """A raw difference alone is an upper bound."""
    case = analyzer.open(capture([(5000, 0)], cost=()))
    row = started(case)[0]
    assert isinstance(row.duration_ns, Absent)
    assert (row.duration_low_ns, row.duration_high_ns) == (0, 5000)
    assert rules(case) == ["duration-uncalibrated"]


def test_frequency_scales_ticks(capture):
    """At 2 GHz 5000 ticks less 200 are 2400 ns."""
    assert started(analyzer.open(capture([(5000, 0)], hz=2_000_000_000)))[0].duration_ns == 2400


def test_without_a_frequency_the_host_clock(capture):
    """Without the frequency the debugger's own clock bounds the duration."""
    case = analyzer.open(capture([(5000, 0)], hz=0))
    assert started(case)[0].duration_high_ns == 5  # host at return - host at entry
    assert "duration-host-clock" in rules(case)


def test_a_clock_that_stood_still_times_nothing(tmp_path, capsys):
    """No call takes no time: the clock steps too far apart for it."""
    lines = list(facts([(5000, 0)], hz=0))
    for line in lines:
        line.update({"host": 1_773_304_030_000_000_000} if "host" in line else {})
    assert main(["analyze", str(write(tmp_path / "run.jsonl", lines))]) == 0
    shown = capsys.readouterr().out
    assert "returned STATUS_SUCCESS" in shown
    assert " ns" not in shown


def hanging(back="0xfffff80010001234", ran_ns=1_500_000_000, end=True):
    """The second call of Dump_Start has no return; the capture went on for a while."""
    lines = list(facts([(5000, 0), (None, 0)], end=end))
    calls = [fact for fact in lines if fact.get("fact") == "call"]
    calls[-1]["back"] = back
    if end:
        lines[-1]["host"] = calls[-1]["host"] + ran_ns
    return lines


def test_call_that_never_returns(tmp_path):
    """A watched return that is missing from a machine that ran on is an error."""
    path = write(tmp_path / "c.jsonl", hanging())
    case = analyzer.open(path)
    assert [row.was_called for row in started(case)] == ["yes", "yes"]
    assert isinstance(started(case)[1].status, Absent)
    finding = next(f for f in case.records["findings"] if f.rule == "callback-never-returned")
    assert "did not return in the 1.5 s that its return was watched (the capture" in finding.text
    assert "the time is up" in finding.text
    assert main(["analyze", path]) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (hanging(back=None), "not known that its return was watched"),
        (hanging(ran_ns=999_999_999), "was under way when the capture ended"),
        (hanging(end=False), "was under way when the capture ended (the capture has no end)"),
    ],
    ids=["unwatched", "soon over", "cut"],
)
def test_call_without_a_witness_is_open(tmp_path, lines, words):
    """Without a watched return and a stated time nothing says that a call hangs."""
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    assert "callback-never-returned" not in rules(case)
    (finding,) = (f for f in case.records["findings"] if f.rule == "callback-under-way")
    assert words in finding.text


def numbered(lines, *, drop=(), repeat=(), stated=None):
    """The lines without the calls of some numbers, with some twice, with counts at the end."""
    out = []
    for fact in lines:
        if fact.get("n") not in drop:
            out.append(fact)
        if fact.get("fact") == "return" and fact["n"] in repeat:
            out += out[-2:]
    if stated is not None:
        out[-1] = {**out[-1], "calls": stated[0], "returned": stated[1]}
    return out


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"drop": (1, 2)}, "2 calls are missing from the capture: the first before call number 3."),
        ({"drop": (3,), "stated": (4, 4)}, "1 call is missing from the capture; its end line "),
        ({"drop": (3,), "stated": (4, 4)}, "states 4 calls and 4 returns, it holds 3 and 3."),
        ({"stated": (2, 2)}, "states other counts than the capture holds"),
        ({"stated": (4, 7)}, "states 4 calls and 7 returns, it holds 4 and 4"),
    ],
)  # fmt: skip
def test_missing_calls_are_told(tmp_path, how, words):
    """Numbers and counts that a capture states of itself are compared with what it holds."""
    lines = numbered(facts([(5000, 0)] * 4), **how)
    path = write(tmp_path / "c.jsonl", lines)
    case = analyzer.open(path)
    (finding,) = (f for f in case.records["findings"] if f.rule == "capture-calls-missing")
    assert words in finding.text
    assert main(["analyze", path]) == 1
    told = next(r for r in case.records["callbacks"] if r.callback == "Dump_Finish").was_called
    assert isinstance(told, Absent)  # it may be among those that are missing
    counted = case.records["sources"][0].can_tell
    assert counted.startswith("at least") == ("drop" in how)


def test_right_counts_are_not_told(tmp_path):
    """Neither the right counts nor calls that the capture says it left out."""
    lines = numbered(facts([(5000, 0)] * 4), stated=(4, 4))
    assert rules(analyzer.open(write(tmp_path / "c.jsonl", lines))) == []
    left_out = {"fact": "disarmed", "id": 1, "why": "2 calls were not recorded", "unrecorded": 2}
    lines = numbered(facts([(5000, 0)] * 4), drop=(1, 2), stated=(4, 4))
    lines.insert(-1, left_out)
    assert rules(analyzer.open(write(tmp_path / "c.jsonl", lines))) == ["capture-bounded"]


def test_repeated_calls_count_once(tmp_path):
    """A buffer that was written twice: one row a call, and the lines are told."""
    case = analyzer.open(write(tmp_path / "c.jsonl", numbered(facts([(5000, 0)] * 4), repeat=(1,))))
    assert len(started(case)) == 4
    assert rules(case) == ["capture-damaged"]


def test_a_hole_in_the_file_is_told(capsys):
    """411 calls by its end line, 75 in it."""
    path = shared_sample("../faults/capture-disk-hole.jsonl")
    assert main(["analyze", str(path)]) == 1
    told = capsys.readouterr().out
    assert "At least 336 calls are missing" in " ".join(told.split())
    assert "at least 75 calls" in analyzer.open(path).records["sources"][0].can_tell


@pytest.mark.parametrize(
    ("spelled", "want"),
    [
        (-1073741811, 0xC000000D), (3221225485, 0xC000000D), ("0XC000000D", 0xC000000D),
        ("c000000d", 0xC000000D), ("-1073741811", 0xC000000D), ("3221225485", 0xC000000D),
        ("0xffffffffc000000d", 0xC000000D), ("STATUS_INVALID_PARAMETER", 0xC000000D),
        ("0", 0), (0, 0), ("00000000", 0),
        ("80000005", None), ("STATUS_NO_SUCH_NAME", None), (1 << 33, None), (1.5, None),
        ([], None), ("0xzz", None),
    ],
)  # fmt: skip
def test_a_status_in_any_spelling_that_has_one_meaning(tmp_path, spelled, want):
    """Others are no status: the line is told, and the call has returned."""
    lines = list(facts([(5000, 0)]))
    next(fact for fact in lines if fact.get("fact") == "return")["status"] = spelled
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    row = started(case)[0]
    assert row.duration_ns == 4800
    if want is None:
        assert isinstance(row.status, Absent)
        assert rules(case) == ["capture-damaged"]
        assert "the first is line 12" in case.records["findings"][0].text
    else:
        assert row.status == want
        assert "capture-damaged" not in rules(case)


def test_unknown_facts_and_architectures_are_told_with_their_line(tmp_path):
    """What is not understood may be what matters."""
    lines = list(facts([(5000, 0)]))
    lines.insert(3, {"fact": "weather", "sky": "blue"})
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    assert rules(case) == ["capture-damaged"]
    assert "1 line is not understood or cannot be; the first is line 4" in (
        case.records["findings"][0].text
    )
    lines = list(facts([(5000, 0)]))
    lines[1]["architecture"] = "mips"
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    assert "the first is line 2" in case.records["findings"][0].text


def test_failing_status(capture):
    """A failing status is an error."""
    case = analyzer.open(capture([(5000, 0xC000000D)]))
    assert rules(case) == ["filter-callback-failed"]
    assert started(case)[0].status_name == "STATUS_INVALID_PARAMETER"


def test_benign_status(tmp_path):
    """DiskCryptor's STATUS_FVE_NOT_ENCRYPTED is no error (checks/benign.json)."""
    text = json.dumps(list(facts([(5000, 0xC0210001)]))).replace("dump_x.sys", "dump_dcrypt.sys")
    case = analyzer.open(write(tmp_path / "c.jsonl", json.loads(text)))
    assert rules(case) == ["filter-callback-failed-benign"]


def test_callback_that_was_not_called(capture):
    """A watched callback without a call says "no" when the capture has its end."""
    case = analyzer.open(capture([(5000, 0)]))
    row = next(r for r in case.records["callbacks"] if r.callback == "Dump_Finish")
    assert row.was_called == "no"
    assert "the time is up" in row.origin.how


def test_callback_not_called_before_the_cut(capture):
    """Without the end, "no" would claim too much."""
    case = analyzer.open(capture([(5000, 0)], end=False))
    row = next(r for r in case.records["callbacks"] if r.callback == "Dump_Finish")
    assert isinstance(row.was_called, Absent)
    assert rules(case) == ["capture-cut"]


def test_filter_is_decoded_as_in_a_dump(capture):
    """The node's bytes give the filter's fields."""
    row = analyzer.open(capture([])).records["filters"][0]
    assert (row.filter, row.layout, row.major_version) == ("dump_x.sys", "win8", 2)
    assert (row.dump_start, row.dump_finish) == (BASE + 0x1000, BASE + 0x10D0)
    assert (row.max_pages_per_write, row.ring_count, row.is_disabled) == (16, 1, False)


def with_extensions(entry, back):
    """One call of Dump_Start that is given and leaves these bytes."""
    lines = list(facts([(5000, 0)]))
    next(fact for fact in lines if fact.get("fact") == "call")["ext"] = entry.hex()
    if back is not None:
        next(fact for fact in lines if fact.get("fact") == "return")["ext"] = back.hex()
    return lines


def test_extension_as_given(tmp_path):
    """The extension at the entry is told once, as given to Dump_Start."""
    case = analyzer.open(write(tmp_path / "c.jsonl", with_extensions(extension_bytes(), None)))
    rows = case.records["extensions"]
    assert [row.origin.how for row in rows] == ["given to Dump_Start, call 0"]
    assert (rows[0].disk_size, rows[0].bytes_per_sector, rows[0].size) == (500107862016, 512, 0x58)
    assert rows[0].filter == "dump_x.sys"


def test_extension_changed_by_the_callback(tmp_path):
    """What the callback changed is a second row and a finding that names the members."""
    path = write(
        tmp_path / "c.jsonl", with_extensions(extension_bytes(), extension_bytes(0x1000, 1))
    )
    case = analyzer.open(path)
    rows = case.records["extensions"]
    assert [(row.dump_data, row.flags) for row in rows] == [(0, 0), (0x1000, 1)]
    finding = next(f for f in case.records["findings"] if f.rule == "extension-changed-by-callback")
    assert "dump_data, flags" in finding.text
    assert "dump_data = 0x0 -> 0x1000" in evidence_lines(finding)


def test_slow_call(capture):
    """More than a second, whatever the others took; 2e9 ticks at 1 GHz are 2 s."""
    case = analyzer.open(capture([(2_000_000_000, 0)]))
    assert rules(case) == ["callback-slow"]


def test_outlier_among_its_own_calls(capture):
    """One call of 50 ms among nine of 5 us."""
    case = analyzer.open(capture([*[(5000, 0)] * 9, (50_000_000, 0)]))
    assert rules(case) == ["callback-slow-outlier"]
    assert "Call 9 " in case.records["findings"][0].text


def test_no_outlier_among_few(capture):
    """Three calls are too few to say which one is unusual."""
    assert rules(analyzer.open(capture([(5000, 0), (5000, 0), (50_000_000, 0)]))) == []


def test_slower_than_the_baseline(capture, tmp_path):
    """Twice the time of the baseline is told; the baseline against itself is not."""
    before = write(tmp_path / "before.jsonl", facts([(10_000_000, 0)]))
    after = capture([(20_000_000, 0)])
    assert rules(analyzer.open(after, baseline=[before])) == ["callback-slower-than-baseline"]
    assert rules(analyzer.open(before, baseline=[before])) == []


def test_difference_inside_the_noise_is_no_finding(capture, tmp_path):
    """A cost of 1 to 30 ms leaves open what 20 and 35 ms raw really were."""
    cost = (1_000_000, 30_000_000)
    before = write(tmp_path / "before.jsonl", facts([(20_000_000, 0)], cost=cost))
    after = capture([(35_000_000, 0)], cost=cost)
    assert "callback-slower-than-baseline" not in rules(analyzer.open(after, baseline=[before]))


def test_median_absolute_deviation():
    """Statistics by hand: middles 1, 2, 3, 4, 100: median 3, deviations 2 1 0 1 97, median 1."""
    made = capture_timing.statistics([(v, v) for v in (1, 2, 3, 4, 100)])
    assert (made.calls, made.low, made.high, made.spread) == (5, 3, 3, 1)  # 1 * 1.4826


def test_clock_backwards(tmp_path):
    """A return before its entry has no duration."""
    lines = list(facts([(5000, 0)]))
    next(fact for fact in lines if fact.get("fact") == "return")["tsc"] = "0x1"
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    assert "capture-clock-backwards" in rules(case)
    assert isinstance(started(case)[0].duration_low_ns, Absent)


@pytest.mark.slow
def test_cut_at_every_byte(capture, tmp_path):
    """Whatever is cut off, the whole lines before it are there and the cut is told."""
    path = capture([(5000, 0), (6000, 0xC0000001)])
    data = Path(path).read_bytes()
    part = tmp_path / "part.jsonl"
    ends = data.count(b"\n")
    all_lines = set(data.split(b"\n"))
    for size in range(data.index(b"\n") - 1, len(data)):
        part.write_bytes(data[:size])
        story, _ = capture_file.load(str(part))
        records = capture_file.collect(str(part))
        lines = data[:size].count(b"\n")
        full = lines == ends or (lines == ends - 1 and size == len(data) - 1)
        assert (story.end is not None) == full
        cut = [a for a in records.anomalies if a.rule == "capture-cut"]
        assert len(cut) == (0 if full else 1)
        kept = [line for line in data[:size].split(b"\n") if line in all_lines]
        assert len(story.calls) == sum(b'"call"' in line for line in kept)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00", b"[" * 100000, b"9" * 5000, b'{"fact":"call"}', b'{"fact":17}',
        b'{"fact":"call","n":0,"id":99}', b'{"fact":"return","n":77,"id":{}}', b"null",
        b'{"fact":"armed","id":-1}', b'{"fact":"node","bytes":"zz"}',
        b'{"fact":"call","n":"0x1ffffffffffffffff","id":1}', b'{"fact":"module","name":7}',
        b'{"fact":"node","address":"0x10","layout":"win8","bytes":"00"}',
        b'{"fact":"clock","hz":0}', b'{"fact":"machine","pointer_size":3}',
        b'{"fact":"calibration","tsc":5,"tsc2":4}', b'{"fact":"bugcheck","values":[1]}',
    ],
)  # fmt: skip
def test_hostile_lines_are_passed_over(capture, tmp_path, line):
    """A line that is no fact, or says what cannot be, is told and changes nothing else."""
    data = Path(capture([(5000, 0)])).read_bytes()
    head, rest = data.split(b"\n", 1)
    path = tmp_path / "bad.jsonl"
    path.write_bytes(head + b"\n" + line + b"\n" + rest)
    case = analyzer.open(path)
    assert rules(case) == ["capture-damaged"]
    assert started(case)[0].duration_ns == 4800


def test_unknown_members_are_passed_over(tmp_path):
    """What a later version adds to a fact does not disturb this one."""
    lines = list(facts([(5000, 0)]))
    lines[2]["colour"] = "red"
    assert rules(analyzer.open(write(tmp_path / "c.jsonl", lines))) == []


def test_newer_schema_is_told(tmp_path):
    """A schema above ours is read as far as understood."""
    lines = list(facts([(5000, 0)]))
    lines[0]["schema"] = 99
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    assert rules(case) == ["capture-newer"]
    assert len(started(case)) == 1


def test_utf16_copy(capture, tmp_path):
    """A copy that PowerShell redirected is UTF-16 and loads the same."""
    path = capture([(5000, 0)])
    copy = tmp_path / "copy.txt"
    copy.write_text(Path(path).read_text(), encoding="utf-16")
    assert started(analyzer.open(copy))[0].duration_ns == 4800


@pytest.mark.slow
def test_bit_flips_end_in_records_or_an_error(capture, tmp_path):
    """Any damaged byte gives records or one of our errors."""
    data = bytearray(Path(capture([(5000, 0), (6000, 1)])).read_bytes())
    path = tmp_path / "flip.jsonl"
    for place in range(0, len(data), 7):
        for bit in (0, 3, 6):
            data[place] ^= 1 << bit
            path.write_bytes(data)
            data[place] ^= 1 << bit
            with contextlib.suppress(AnalyzerError):
                analyzer.open(path)


def test_command_line(capture, capsys):
    """dumpstart analyze reads a capture like any other input."""
    assert main(["analyze", capture([(5000, 0xC0000001)])]) == 1
    assert "STATUS_UNSUCCESSFUL" in capsys.readouterr().out


def test_writer_never_raises(tmp_path):
    """The writer is called while the target stands still: it notes problems instead."""

    def broken(_):
        raise RuntimeError("no output")

    writer = capture_format.Writer(str(tmp_path / "c.jsonl"), broken)
    writer({"fact": "end"})
    assert writer.problem == "the log cannot be written: no output"
    writer.close()
    writer({"fact": "end"})
    assert json.loads((tmp_path / "c.jsonl").read_text()) == {"fact": "end"}


def test_lines_are_out_before_the_call_returns(tmp_path):
    """A debugger that dies loses nothing already seen."""
    path = tmp_path / "c.jsonl"
    writer = capture_format.Writer(str(path))
    writer({"fact": "end"})
    assert path.read_text() == '{"fact":"end"}\n'
    writer.close()


def load_calls(tmp_path, count):
    """Calls of functions that it takes to load a capture of so many calls."""
    path = write(tmp_path / "big.jsonl", facts((5000 + n % 100, 0) for n in range(count)))
    loaded = []
    work = calls(lambda: loaded.append(capture_file.collect(path)))
    assert len(loaded[0]["callbacks"]) == count + 4  # and the four callbacks that were not called
    return work


@pytest.mark.slow
def test_many_calls_cost_in_proportion(tmp_path):
    """Four times the calls are four times the work."""
    load_calls(tmp_path, 10)  # imports, caches
    assert load_calls(tmp_path, 8_000) < 4.2 * load_calls(tmp_path, 2_000)


def test_two_unnamed_filters_keep_their_own(capsys):
    """Each filter shows the extension and the calls of its own node."""
    path = shared_sample("../faults/two-unnamed-filters.jsonl")
    main(["analyze", str(path), "-v"])
    told = capsys.readouterr().out
    first, second = told.split("\n  filter not determined (")[1:3]
    assert first.count("FILTER_EXTENSION at") == second.count("FILTER_EXTENSION at") == 1
    assert "0xffffc08be4002150" in first
    assert "0xffffc08be4002150" not in second
    assert "0xffffc08be4002350" in second
    assert "0xfffff80620141000" in first
    assert "0xfffff80620141000" not in second
    assert "0xfffff80620241000" in second
    case = analyzer.open(path)
    assert [row.node for row in case.records["extensions"]] == [
        row.node for row in case.records["filters"]
    ]


def test_each_filter_has_its_own_baseline(tmp_path):
    """Two filters that change places: the one that got slower is named."""

    def two(path, first, second):
        lines = list(facts([(first, 0)], cost=(0, 0, 0)))
        armed = next(n for n, fact in enumerate(lines) if fact.get("fact") == "armed")
        other = {**lines[armed], "id": 9, "filter": "dump_y.sys", "routine": hex(BASE + 0x2000)}
        lines.insert(armed, other)
        calls = [fact for fact in lines if fact.get("fact") in ("call", "return")]
        tsc = int(calls[0]["tsc"], 16) + 10**9
        call, back = {**calls[0], "n": 7, "id": 9}, {**calls[1], "n": 7}
        call["tsc"], back["tsc"] = hex(tsc), hex(tsc + second)
        return write(path, [*lines[:-1], call, back, lines[-1]])

    before = two(tmp_path / "a.jsonl", 10_000_000, 100_000_000)
    after = two(tmp_path / "b.jsonl", 100_000_000, 10_000_000)
    findings = analyzer.open(after, baseline=[before]).records["findings"]
    (slower,) = (f for f in findings if f.rule == "callback-slower-than-baseline")
    assert slower.subject == "dump_x.sys"


def test_a_change_of_a_filters_state_is_an_event(tmp_path):
    """crashdmp keeps it in the node; both values are told."""
    lines = list(facts())
    node = next(n for n, fact in enumerate(lines) if fact.get("fact") == "node")
    at = node_layouts(8)[0].state
    data = bytearray(node_bytes())
    data[at] = 7
    lines.insert(-1, {**lines[node], "bytes": data.hex()})
    case = analyzer.open(write(tmp_path / "c.jsonl", lines))
    told = [event.text for event in case.records["events"] if event.name == "filter-state"]
    assert told == [f"the state word of the filter's node at {NODE:#x} changed from 0x0 to 0x7"]
