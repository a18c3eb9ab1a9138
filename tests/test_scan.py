"""Scans: every case once, whatever happens on the way, in a data set that others read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from generator_logs import build, kernel

pa = pytest.importorskip("pyarrow")

import pandas as pd  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import analyzer  # noqa: E402
from analyzer.cli import main  # noqa: E402
from analyzer.errors import AnalyzerError, InputError, UsageError  # noqa: E402
from analyzer.population import columns, places, scan  # noqa: E402
from analyzer.population.dataset import DataSet  # noqa: E402
from analyzer.records import Event, Origin, Records  # noqa: E402
from analyzer.tables import frame  # noqa: E402


def log(number):
    """A small log of its own for each number."""
    return build(kernel(drivers=[f"drv{number}"]))


@pytest.fixture
def dumps(tmp_path, sample):
    """A folder with four good cases, one of them twice, a note, and a cut dump."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.log").write_bytes(log(number))
    (folder / "deep" / "er" / "0-again.log").write_bytes(log(0))
    data = sample("minidump-x64-with-nodes.dmp").read_bytes()
    (folder / "deep" / "m.dmp").write_bytes(data)
    (folder / "deep" / "cut.dmp").write_bytes(data[:20])
    (folder / "deep" / "ticket.zip").write_bytes(sample("cases/driver-stuck.zip").read_bytes())
    (folder / "note.txt").write_text("call me back")
    return folder


def run(sources, output, **options):
    """A scan in this process; what needs real processes says so."""
    with ThreadPoolExecutor(1) as executor:
        given = {"jobs": 1, "executor": executor, **options}
        return scan.scan([str(s) for s in sources], str(output), **given)


def content(folder):
    """All rows of all tables of a data set, in an order that only the rows decide."""
    found = {}
    for table in columns.TABLES:
        rows = pq.read_table(folder / table).to_pylist()
        found[table] = sorted(map(repr, rows))
    return found


def test_mixed_folder(dumps, tmp_path):
    """Each file is a case with an outcome; the same bytes are one case at two places."""
    counts = run([dumps], tmp_path / "out")
    assert counts.outcomes == {"analysed": 4, "passed-over": 1, "unusable": 1}
    assert (counts.places, counts.copies) == (7, 1)
    cases = pd.read_parquet(tmp_path / "out" / "cases").set_index("case")
    bad = cases[cases["outcome"] != "analysed"].set_index("location")["reason"]
    assert "a text file of no known kind" in bad[str(dumps / "note.txt")]
    assert str(dumps / "deep" / "cut.dmp") in bad.index
    held = pd.read_parquet(tmp_path / "out" / "locations").groupby("case")["location"].apply(list)
    twice = [sorted(os.path.basename(p) for p in paths) for paths in held if len(paths) > 1]
    assert twice == [["0-again.log", "0.log"]]


def test_rows_are_those_of_one_case(dumps, tmp_path):
    """A table of the data set holds what analyzer.open gives, with the same values and types."""
    run([dumps], tmp_path / "out")
    path = str(dumps / "deep" / "m.dmp")
    case = analyzer.open(path)
    cases = pd.read_parquet(tmp_path / "out" / "cases")
    wanted = cases.loc[cases["location"] == path, "case"].item()
    for table in ("machine", "filters", "extensions", "callbacks", "requests", "findings"):
        rows = DataSet(str(tmp_path / "out")).read().table(table, 1).to_pylist()
        rows = [
            {k: v for k, v in row.items() if k != "case"} for row in rows if row["case"] == wanted
        ]
        alone = pa.Table.from_pandas(frame(table, case.records[table]), preserve_index=False)
        assert rows == alone.cast(pa.schema(list(columns.schema(table))[1:])).to_pylist()
        assert rows


def test_second_scan_does_nothing(dumps, tmp_path):
    """What is done is not done again."""
    run([dumps], tmp_path / "out")
    before = content(tmp_path / "out")
    counts = run([dumps], tmp_path / "out")
    assert (counts.analysed, counts.done_before, counts.copies) == (0, 7, 0)
    assert content(tmp_path / "out") == before


def test_changed_file_replaces_its_case(dumps, tmp_path):
    """New content is analysed, and the rows of the old content go, unless a copy has it."""
    run([dumps], tmp_path / "out")
    (dumps / "1.log").write_bytes(log(7))
    (dumps / "0.log").write_bytes(log(8))  # 0-again.log still has the old content
    counts = run([dumps], tmp_path / "out")
    assert (counts.analysed, counts.removed) == (2, 1)
    run([dumps], tmp_path / "fresh")
    drivers = {
        name: set(pd.read_parquet(tmp_path / name / "stages")["driver"].dropna())
        for name in ("out", "fresh")
    }
    assert {"drv0", "drv7", "drv8"} <= drivers["out"] == drivers["fresh"]
    locations = [content(tmp_path / name)["locations"] for name in ("out", "fresh")]
    assert locations[0] == locations[1]


@pytest.mark.parametrize("left", ["stages", "machine", "locations"])
def test_half_written_batch_is_removed(dumps, tmp_path, left):
    """What a killed scan left without its file in cases does not count and is done again."""
    run([dumps], tmp_path / "whole")
    run([dumps], tmp_path / "out")
    out = tmp_path / "out"
    (out / "cases" / "batch-000001.parquet").unlink()
    (out / ".staging" / "cases-000001").write_bytes(b"half")
    for table in columns.TABLES:  # the writer came as far as this table
        if table != left:
            (out / table / "batch-000001.parquet").unlink(missing_ok=True)
    run([dumps], out)
    assert content(out) == content(tmp_path / "whole")
    assert not (out / ".staging" / "cases-000001").exists()


def test_folder_as_a_case(tmp_path, sample):
    """With case_per folder the files of a folder are one case, and its identity is theirs."""
    control = sample("logs/crash-control.reg").read_bytes()
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "DumpStack.log").write_bytes(log(3))
        (tmp_path / "in" / name / "x.reg").write_bytes(control)
    (tmp_path / "in" / "single.log").write_bytes(log(4))
    counts = run([tmp_path / "in"], tmp_path / "out", per="folder")
    assert (counts.places, counts.analysed, counts.copies) == (3, 2, 1)
    cases = pd.read_parquet(tmp_path / "out" / "cases").set_index("location")
    assert cases.loc[str(tmp_path / "in" / "a"), "kinds"] == "dumpstack.log; registry export"
    assert cases.loc[str(tmp_path / "in" / "single.log"), "files"] == 1


def test_output_inside_the_source(tmp_path):
    """What is scanned is only read: the data set goes elsewhere."""
    (tmp_path / "a.log").write_bytes(log(1))
    with pytest.raises(UsageError, match="would lie in a folder that is read"):
        run([tmp_path], tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.log"]


def test_wildcards_and_named_files(dumps, tmp_path):
    """Wildcards are filled in, also **; a place reached twice is one place."""
    counts = run([dumps / "**" / "*.log", dumps / "0.log"], tmp_path / "out")
    assert counts.analysed == 2
    assert len(pd.read_parquet(tmp_path / "out" / "locations")) == 3


def test_urls(dumps, tmp_path):
    """A URL is fetched and named as it was given, also in the records of an archive's files."""
    pytest.importorskip("fsspec")
    counts = run([f"file://{dumps}/deep/*.zip", f"file://{dumps}/0.log"], tmp_path / "out")
    assert counts.outcomes == {"analysed": 2}
    sources = pd.read_parquet(tmp_path / "out" / "sources")["path"].tolist()
    zipped = f"file://{dumps}/deep/ticket.zip"
    assert sorted(sources)[0] == f"file://{dumps}/0.log"
    assert f"{zipped}!DumpStack.log" in sources
    local = [*places.places([str(dumps)], "file")]
    remote = [*places.places([f"file://{dumps}"], "file")]
    assert {places.identity(p) for p in local} == {places.identity(p) for p in remote}


def test_memory_store():
    """Any store of fsspec is listed and read, here one in memory."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/x/one.log", log(1))
    found = [*places.places(["memory://bucket"], "folder")]
    assert [place.location for place in found] == ["memory:///bucket/x"]
    assert places.identity(places.Place("", ("memory:///bucket/x/one.log",)))[1] == len(log(1))


def test_identity_of_large_files(tmp_path):
    """Beyond 4 MiB a change in the first or last block, or of the size, makes another case."""
    data = bytearray(os.urandom(1 << 12) * 2048)  # 8 MiB

    def identity():
        (tmp_path / "f").write_bytes(data)
        return places.identity(places.Place("f", (str(tmp_path / "f"),)))

    seen = [identity()]
    for change in (lambda: data.__setitem__(10, data[10] ^ 1),
                   lambda: data.__setitem__(-10, data[-10] ^ 1),
                   lambda: data.append(0)):  # fmt: skip
        change()
        seen.append(identity())
    assert len({case for case, _ in seen}) == 4


def test_missing_source(tmp_path):
    """A source that is not there is said at once, before a data set is made."""
    with pytest.raises(InputError, match="there is no such file"):
        run([tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unreadable_file_is_tried_again(dumps, tmp_path):
    """A file that cannot be read costs only itself, and the next scan tries it again."""
    (dumps / "gone.log").symlink_to(tmp_path / "later.log")
    counts = run([dumps], tmp_path / "out")
    assert counts.outcomes["failed"] == 1
    (tmp_path / "later.log").write_bytes(log(9))
    assert run([dumps], tmp_path / "out").analysed == 1
    cases = pd.read_parquet(tmp_path / "out" / "cases")
    assert "failed" not in set(cases["outcome"])
    assert len(cases) == 7


def test_other_options_are_refused(dumps, tmp_path):
    """A data set holds cases of one kind: redacted or not, by file or by folder."""
    run([dumps], tmp_path / "out")
    with pytest.raises(UsageError, match="made with redacted false"):
        run([dumps], tmp_path / "out", redacted=True)


def test_foreign_folder_is_refused(dumps):
    """A folder that holds something else is not written into."""
    with pytest.raises(AnalyzerError, match="this is no data set"):
        run([dumps / "0.log"], dumps / "deep")


def test_one_scan_at_a_time(dumps, tmp_path):
    """A second scan of the same data set is refused while the first writes."""
    held = DataSet(str(tmp_path / "out")).write({"redacted": False, "case_per": "file"})
    with pytest.raises(UsageError, match="another scan"):
        run([dumps], tmp_path / "out")
    held.close()
    assert run([dumps], tmp_path / "out").analysed == 6


def test_dead_worker_costs_one_case(dumps, tmp_path, monkeypatch):
    """A case that ends its process is listed as failed; the others of its task are not lost."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, analyzer.case as case\n"
        "real = case.open_case\n"
        "def dies(paths, *rest, **options):\n"
        "    if any(str(path).endswith('1.log') for path in paths): os._exit(9)\n"
        "    return real(paths, *rest, **options)\n"
        "case.open_case = dies\n"
    )
    root = Path(analyzer.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(root)]))
    counts = run([dumps], tmp_path / "out", executor=None)
    assert counts.outcomes == {"analysed": 3, "passed-over": 1, "unusable": 1, "failed": 1}
    assert [os.path.basename(row[0]) for row in counts.bad if row[1] == "failed"] == ["1.log"]


def test_long_event_table_is_cut_and_counted(dumps, monkeypatch):
    """Events beyond the limit are left out, and how many is told."""
    monkeypatch.setattr(columns, "EVENTS_LIMIT", 1)
    rows = columns.Rows()
    left = rows.add_records("c", analyzer.open(str(dumps / "deep" / "ticket.zip")).records)
    (events,) = columns.unpacked(rows.packed()["events"])
    assert (left, len(events)) == (1, 1)  # the archive's event log has two


def test_rows_are_in_order_whenever_they_are_packed(dumps, monkeypatch):
    """However often the rows of a case are compressed on the way, they are the same."""
    records = analyzer.open(str(dumps / "deep" / "ticket.zip")).records

    def told(together):
        monkeypatch.setattr(columns, "_TOGETHER", together)
        rows = columns.Rows()
        for case in "abc":
            one = columns.Rows()
            one.add_records(case, records)
            if case == "b":
                one.add("events", case, rows_of_last)
            rows.extend(one)
        packed = rows.packed()
        assert (len(packed["events"]) > 1) is (together == 1)
        return {
            name: [row for table in columns.unpacked(pieces) for row in table.to_pylist()]
            for name, pieces in packed.items()
        }

    rows_of_last = [None] * len(columns.TABLES["events"])
    assert told(1) == told(8192)


@pytest.mark.slow
def test_many_rows_of_a_case_need_no_more_memory_than_some():
    """From n rows to 4 n: what is held while they are collected is the same."""
    peaks = []
    for count in (20_000, 80_000):
        records, rows = Records(), columns.Rows()
        one = Event._make([*[None] * (len(Event._fields) - 1), Origin("x.etl", "event header")])
        records.tables["events"] = [
            one._replace(time=k, event_id=k, keyword=k, process_id=k, thread_id=k, processor=k)
            for k in range(count)
        ]
        tracemalloc.start()
        rows.add_records("c", records)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        times = [t["time"].cast("int64").to_pylist()
                 for t in columns.unpacked(rows.packed()["events"])]  # fmt: skip
        assert [time for some in times for time in some] == list(range(count))
    assert peaks[1] < 1.3 * peaks[0]


def test_column_of_a_newer_version(dumps, tmp_path):
    """A batch of an older version lacks a column: it reads as null, in pandas and here."""
    run([dumps], tmp_path / "out")
    path = tmp_path / "out" / "machine" / "batch-000001.parquet"
    with pq.ParquetFile(path) as file:
        rows = file.read()
    pq.write_table(rows.drop_columns(["boot_id"]), path)
    assert pd.read_parquet(tmp_path / "out" / "machine")["boot_id"].isna().all()
    data = DataSet(str(tmp_path / "out")).read()
    assert data.table("machine", 1, ["case", "boot_id"])["boot_id"].null_count == len(rows)


def test_duckdb_reads_it(dumps, tmp_path):
    """DuckDB joins the tables by case, with addresses as unsigned 64-bit integers."""
    duckdb = pytest.importorskip("duckdb")
    run([dumps], tmp_path / "out")
    query = """
        select c.location, f.filter, f.dump_start, typeof(f.dump_start)
        from read_parquet('{0}/filters/*.parquet', union_by_name=true) f
        join read_parquet('{0}/cases/*.parquet', union_by_name=true) c using ("case")
        order by f.ring_index
    """.format(tmp_path / "out")
    with duckdb.connect() as connection:
        rows = connection.execute(query).fetchall()
    case = analyzer.open(str(dumps / "deep" / "m.dmp"))
    assert [(row[1], row[2]) for row in rows] == [
        (row.filter, row.dump_start) for row in case.records["filters"]
    ]
    assert rows[0][0].endswith("m.dmp")
    assert rows[0][3] == "UBIGINT"


def test_other_schema_is_refused(dumps, tmp_path):
    """A data set whose columns mean something else is named, not misread."""
    run([dumps], tmp_path / "out")
    manifest = tmp_path / "out" / "dumpstart.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": 99}))
    with pytest.raises(InputError, match="schema 99"):
        DataSet(str(tmp_path / "out")).read()


def test_command(dumps, tmp_path, capsys):
    """The command tells what it did and lists what was not analysed, with the reason."""
    assert main(["scan", str(dumps), "--output", str(tmp_path / "out"), "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("7 places, 6 analysed now")
    assert f"passed-over: {dumps / 'note.txt'}: this is a text file of no known kind" in said
    command = ["scan", str(dumps), "--output", str(tmp_path / "out"), "--format", "json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["done_before"] == 7


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_killed_and_resumed_equals_undisturbed(tmp_path):
    """Killed three times at odd moments and started again: the rows are those of one run."""
    source = tmp_path / "in"
    source.mkdir()
    for number in range(100):
        (source / f"{number:03d}.log").write_bytes(log(number))
    code = (
        "import sys\n"
        "from analyzer.population import scan\n"
        "if __name__ == '__main__':\n"
        "    scan._BATCH_CASES = 16\n"
        "    scan.scan([sys.argv[1]], sys.argv[2], jobs=1)\n"
    )
    script = tmp_path / "go.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(source)]
    env = {**os.environ, "PYTHONPATH": str(Path(analyzer.__file__).parent.parent)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=env)
    out = tmp_path / "out"
    done = [0]
    for _ in range(3):
        process = subprocess.Popen([*command, str(out)], env=env)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            cases = out / "cases"
            if cases.is_dir() and len(list(cases.iterdir())) > done[-1] + 2:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done.append(len(list((out / "cases").iterdir())))
    assert done[1] < 8  # it was killed before the end: 100 cases are 7 batches and the empty one
    subprocess.run([*command, str(out)], check=True, env=env)
    assert content(out) == content(tmp_path / "whole")


def test_files_that_differ_anywhere_are_two_cases(tmp_path):
    """64 blocks of 64 KiB of large files were compared: what lay between them did not count."""
    source = tmp_path / "in"
    source.mkdir()
    for number in range(2):
        data = bytearray(log(1).ljust(9 << 20, b"\0"))
        data[5_000_001] = number
        (source / f"{number}.log").write_bytes(data)
    counts = run([source], tmp_path / "out")
    assert (counts.analysed, counts.copies) == (2, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_that_is_not_utf_8_is_a_case_as_any_other(tmp_path, capsys):
    """Its location is printable text, and going on finds it again."""
    source = tmp_path / "in"
    (source / os.fsdecode(b"f\xfe")).mkdir(parents=True)
    for name in (b"a\xff.log", b"f\xfe/b.log"):
        (source / os.fsdecode(name)).write_bytes(log(len(name)))
    for per in ("file", "folder"):
        out = tmp_path / per
        words = ["scan", str(source), "--output", str(out), "--case-per", per, "--jobs", "1"]
        assert main(words) == 0
        locations = sorted(pd.read_parquet(out / "cases")["location"])
        tail = "f\\xfe/b.log" if per == "file" else "f\\xfe"
        assert locations == sorted([f"{source}/a\\xff.log", f"{source}/{tail}"])
        assert set(pd.read_parquet(out / "cases")["outcome"]) == {"analysed"}
        capsys.readouterr()
        assert main(words) == 0
        assert "2 done before" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_costs_only_itself(tmp_path):
    """Opening one would wait for a writer for ever; in a folder it is not even a place."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.log").write_bytes(log(1))
    os.mkfifo(source / "pipe")
    counts = run([source, source / "pipe"], tmp_path / "out")
    assert counts.outcomes == {"analysed": 1, "failed": 1}
    assert counts.bad[0][2].endswith("this is a pipe or a device, not a file.")


#: how a case can hang: in Python, heeding nothing but the end of its process, and in one long call
HANGS = {
    "loops": "exec('while True: pass')",
    "swallows": "exec('while True:\\n try:\\n  while True: pass\\n except BaseException: pass')",
    "sleeps": "import time; time.sleep(1000)",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", sorted(HANGS))
def test_a_case_that_hangs_costs_its_limit(how, dumps, tmp_path, monkeypatch):
    """It is listed as failed, with why; all other cases are analysed."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import analyzer.case as case\n"
        "import sys\n"
        "real = case.open_case\n"
        "def hangs(paths, *rest, **options):\n"
        f"    if any(str(path).endswith('1.log') for path in paths): {HANGS[how]}\n"
        "    return real(paths, *rest, **options)\n"
        "case.open_case = hangs\n"
        "from analyzer.population import worker\n"
        "worker._GRACE_SECONDS = 1.0\n"
    )
    root = Path(analyzer.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(root)]))
    counts = run([dumps], tmp_path / "out", executor=None, limit=3)
    assert counts.outcomes == {"analysed": 3, "passed-over": 1, "unusable": 1, "failed": 1}
    (reason,) = (row[2] for row in counts.bad if row[1] == "failed")
    assert reason == "it took longer than 3 s" or (
        how != "loops" and reason.startswith("the process that analysed it ended")
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_stopped_scan_says_so_and_leaves_nothing_unpacked(number, tmp_path, sample):
    """The signal goes to all processes, as Ctrl+C does: no traceback, no worker, no folder."""
    source, temporary = tmp_path / "in", tmp_path / "temporary"
    source.mkdir()
    temporary.mkdir()
    data = sample("healthy-x64-kernel.dmp").read_bytes()
    for ticket in range(4):
        with zipfile.ZipFile(source / f"{ticket}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for member in range(800):
                archive.writestr(f"{member}.dmp", data + bytes([ticket]))
    root = str(Path(analyzer.__file__).parent.parent)
    command = [sys.executable, "-m", "analyzer", "scan", str(source), "--jobs", "2"]
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "out")], start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(temporary)},
    ) as child:  # fmt: skip
        until = time.monotonic() + 60
        while not list(temporary.glob("dumpstart-*/*")) and time.monotonic() < until:
            time.sleep(0.05)
        assert list(temporary.glob("dumpstart-*/*"))
        os.killpg(child.pid, getattr(signal, number))
        out, err = child.communicate(timeout=60)
    assert (out, err) == ("", "dumpstart: stopped\n")
    assert child.returncode == (130 if number == "SIGINT" else 143)
    until = time.monotonic() + 10
    while list(temporary.glob("dumpstart-*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(temporary.glob("dumpstart-*")) == []
