"""Measures the ETW reader beside others: ``python benchmarks/bench_etw.py [--quick]``.

Each peer reads for at most a few seconds and is compared by events per second of processor time, so
that other work on the machine hardly counts. The native walk (walk.c) is compiled when there is a
gcc. Inputs: generated traces, and the largest of the real ones where they are at hand.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from results import ROOT, Part, Row, compare, limit, run, samples  # this finds the next ones

# isort: split
import etw_writer as w

PROVIDERS = [f"{k:08x}-6a8f-4a1e-8f6a-1e4ab35e808e" for k in range(0x10, 0x30)]
SHOWN = ("csv", "json", "jsonl", "parquet")
COLUMNS = ("ts", "size", "type", "cpu", "tid", "pid", "provider", "id", "version", "opcode",
           "level", "keyword", "offset")  # fmt: skip


def base_trace(compression: int = 0, buffers: int = 48) -> bytes:
    """Some megabytes of mixed events on four processors, 64 KiB buffers."""
    writer = w.Writer(buffer_size=65536, compression=compression)
    schema = w.tracelogging("Request", [("Irp", b"\x15"), ("Status", b"\x88\x0e"),
                                        ("Name", b"\x01")])  # fmt: skip
    ts = 2_000_000
    for buffer in range(buffers):
        events, used, k = [], 0, 0
        while used < 65536 - 0x48 - 512:
            kind = (buffer * 7 + k) % 10
            ts += 7
            payload = bytes((buffer * 31 + k * j) & 0xFF for j in range(24 + 8 * (k % 12)))
            if kind < 5:
                name = f"request {k % 17}"
                one = w.event(PROVIDERS[k % 32], k % 97, ts,
                              struct.pack("<QI", 0xFFFF8000 + k, 0) + w.utf16(name),
                              keyword=1 << (k % 40), items=(schema,))  # fmt: skip
            elif kind < 7:
                one = w.event(PROVIDERS[k % 8], k % 50, ts, payload)
            elif kind < 9:
                one = w.perfinfo(0x0F2E, ts, payload)
            else:
                one = w.system(0x0524, ts, payload)
            events.append(one)
            used += (len(one) + 7) & ~7
            k += 1
        writer.add(*events, cpu=buffer % 4)
    return writer.build()


def grow(raw: bytes, target: Path, megabytes: int) -> None:
    """Repeats the buffers of a plain trace with shifted times and sequence numbers."""
    from analyzer.etw.trace import Trace

    trace = Trace.of_bytes(raw)
    head, body = bytearray(raw[:65536]), np.frombuffer(raw[65536:], np.uint8).copy()
    packed = trace.account.buffers_compressed or trace.session.compressed
    index = trace.index()
    rows = index.columns["buffer"] > 0
    span = int(index.columns["ts"].max() - 1_000_000) + 1000
    repeats = max(1, megabytes * 1_000_000 // len(body))
    if not packed:
        at = trace.buffers.table["offset"][index.columns["buffer"][rows]]
        at = at + index.columns["offset"][rows] - 65536
        kinds = index.columns["type"][rows]
        at = np.where((kinds == 16) | (kinds == 17), at + 8, at + 16) >> 3
    starts = trace.buffers.table["offset"][1:] - 65536
    struct.pack_into("<I", head, 0x8C, 1 + repeats * len(starts))  # BuffersWritten
    with target.open("wb") as file:
        file.write(head)
        for repeat in range(repeats):
            for k, start in enumerate(starts.tolist()):
                number = 1 + k + repeat * len(starts)
                body[start + 0x18 : start + 0x20] = np.frombuffer(struct.pack("<q", number), "u1")
            file.write(body.tobytes())
            if not packed:
                body.view(np.int64)[at] += span


def ours(path: str, enough: float) -> tuple[int, float]:
    """Events and best seconds for a time-ordered index of all header columns."""
    from analyzer.etw.trace import Trace

    best, count, runs, spent = 1e9, 0, 0, 0.0
    while runs < 5 or (spent < 1 and runs < 200):  # of a small file one run says nothing
        began = time.process_time()
        index = Trace.open(path).index()
        columns = [index.sorted(name) for name in COLUMNS]
        took = time.process_time() - began
        best, count = min(best, took), len(columns[0])
        runs, spent = runs + 1, spent + took
        if best > enough:
            break
    return count, best


def dissect_rate(path: str, enough: float) -> float | None:
    """Events per second of dissect.etl's bare iteration, None when it is not installed."""
    try:
        from dissect.etl.etl import ETL
    except ImportError:
        return None
    count, began = 0, time.process_time()
    with open(path, "rb") as file:
        for _ in ETL(file):
            count += 1
            if not count & 255 and time.process_time() - began > enough:
                break
    return count / (time.process_time() - began)


def decoding_rate(path: str, enough: float) -> float | None:
    """Events per second of dissect.etl when the fields of each event are asked for, too.

    With the versions of its dependency that it allows, many kinds of event raise instead.
    """
    try:
        from dissect.etl.etl import ETL
    except ImportError:
        return None
    count, began = 0, time.process_time()
    with open(path, "rb") as file:
        for record in ETL(file):
            with contextlib.suppress(Exception):
                event = record.event
                event.ts(), event.provider_name(), event.provider_id(), event.event_values()
            count += 1
            if not count & 63 and time.process_time() - began > enough:
                break
    return count / (time.process_time() - began)


def etl_parser_rate(path: str, megabytes: float) -> float | None:
    """Events per second of etl-parser on the first megabytes; None when it fails or is missing."""
    try:
        from etl.etl import IEtlFileObserver, build_from_stream
    except ImportError:
        return None

    class Count(IEtlFileObserver):  # type: ignore[misc]
        seen = 0

        def tick(self, _event: object) -> None:
            self.seen += 1

        on_event_record = on_trace_record = on_perfinfo_trace = on_system_trace = tick
        on_win_trace = tick

    with open(path, "rb") as file:
        raw = file.read(max(1, int(megabytes * 1e6) // 65536) * 65536)
    counter, began = Count(), time.process_time()
    try:
        build_from_stream(raw).parse(counter)
    except Exception:  # noqa: BLE001  a peer that fails has no rate
        return None
    return counter.seen / (time.process_time() - began) or None


def resident(name: str) -> float:
    """KiB resident now (VmRSS) or at most (VmHWM), pages of mapped files included."""
    try:
        # ru_maxrss would count the process that started this one
        with open("/proc/self/status") as file:
            return next(float(line.split()[1]) for line in file if line.startswith(name))
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def child(mode: str, path: str, warm: str) -> None:
    """Runs in a new process: peak memory of the index or of streaming, beyond the code.

    A tiny trace is read first: the pages of numpy's code that are touched then are no trace's.
    """
    if mode == "scan":
        scan = [sys.executable, "-m", "analyzer", "scan", path, "--output", path + ".set"]
        subprocess.run([*scan, "--jobs", "1"], check=True, stdout=subprocess.DEVNULL)
        workers = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(json.dumps({"peak_mib": workers.ru_maxrss / 1024}))
        return

    import pandas  # noqa: F401  imports are not the reader's

    from analyzer.cli import main
    from analyzer.etw.trace import Trace

    if mode in SHOWN:
        show = ["show", "events", "--format", mode, "--output"]
        main([*show, warm + ".out", warm])
        runs: list[float] = []
        while sum(runs) < 2 and len(runs) < 5:  # a large trace once, as the peer is read
            Path(path + ".out").unlink(missing_ok=True)
            began = time.process_time()
            main([*show, path + ".out", path])
            runs.append(time.process_time() - began)
        print(json.dumps({"seconds": min(runs), "peak_mib": resident("VmHWM") / 1024}))
        return

    len(Trace.open(warm).index())
    before = resident("VmRSS")
    began = time.perf_counter()
    trace = Trace.open(path)
    if mode == "index":
        count = len(trace.index())
    else:
        count = sum(len(columns["ts"]) for columns in trace.chunks())
    peak = resident("VmHWM")
    print(json.dumps({"events": count, "seconds": time.perf_counter() - began,
                      "extra_mib": (peak - before) / 1024, "peak_mib": peak / 1024}))  # fmt: skip


def measured(mode: str, path: Path, folder: Path) -> dict[str, float]:
    """The figures of a child process."""
    warm = folder / "warm.etl"
    warm.write_bytes(base_trace(0, 1))
    run = subprocess.run([sys.executable, __file__, "--child", mode, str(path), str(warm)],
                         check=True, capture_output=True, text=True)  # fmt: skip
    return dict(json.loads(run.stdout.splitlines()[-1]))


def native_walk(folder: Path) -> str:
    """The compiled walk.c; empty where there is no gcc."""
    program, compiler = folder / "walk", shutil.which("gcc")
    if compiler is None:
        return ""
    source = ROOT / "benchmarks" / "walk.c"
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return str(program)


def native_rate(program: str, path: str, count: int) -> float | None:
    """Events per second of the native walk; None where there is none or it counts other events."""
    if not program:
        return None
    told = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout
    events, seconds = told.split()
    return count / float(seconds) if int(events) == count else None


def plain(path: Path, name: str, walk: str, quick: bool, folder: Path) -> list[Row]:
    """An uncompressed file: the rate, beside each peer, and the memory."""
    enough = 0.2 if quick else 8.0
    size = path.stat().st_size
    count, seconds = ours(str(path), enough)
    rate = count / seconds
    text = f"time-ordered index of {len(COLUMNS)} columns, {name} of {size / 1e6:.0f} MB"
    row = partial(compare, text, rate, "events/s")
    memory = measured("index", path, folder)["extra_mib"]
    native = row("C walk with columns", native_rate(walk, str(path), count), 0.1)
    return [
        row("dissect.etl iterates", dissect_rate(str(path), enough), 25),
        row("etl-parser", etl_parser_rate(str(path), 0.2 if quick else 4), 300),
        native._replace(goal="at most 10 times its time"),
        limit(f"memory of that index of {count:,} events", memory, "MiB",
              (size + 80 * count) / 2**20, "the file and 80 bytes an event"),
    ]  # fmt: skip


def showing(path: Path, name: str, quick: bool, folder: Path) -> list[Row]:
    """All events of a file, decoded, as ``dumpstart show events`` writes them."""
    from analyzer.etw.trace import Trace

    count, rows = len(Trace.open(str(path))), []
    peer = decoding_rate(str(path), 0.2 if quick else 8.0)
    for mode in SHOWN[-1:] if quick else SHOWN:
        found = measured(mode, path, folder)
        text = f"show events of {name} as {mode}"
        rate = count / found["seconds"]
        rows.append(compare(text, rate, "events/s", "dissect.etl with decoding", peer, 5))
        rows.append(limit(f"memory of that, {count:,} events", found["peak_mib"], "MiB", 300))
        Path(f"{path}.out").unlink()
    return rows


def packed(path: Path, quick: bool) -> list[Row]:
    """A compressed file."""
    enough = 0.2 if quick else 8.0
    count, seconds = ours(str(path), enough)
    text = f"the same, compressed, {path.stat().st_size / 1e6:.0f} MB"
    peer = dissect_rate(str(path), enough)
    return [compare(text, count / seconds, "events/s", "dissect.etl iterates", peer, 5)]


def measure(folder: Path, quick: bool) -> Part:
    """All rows of the ETW reader."""
    walk, notes = native_walk(folder), NOTES
    if not walk:
        notes += "- The C walk is left out: it needs gcc, and there is none here.\n"
    rows = []
    for megabytes in (3, 4) if quick else (30, 300):
        case = folder / f"case-{megabytes}.etl"
        grow(base_trace(), case, megabytes)
        peak = measured("scan", case, folder)["peak_mib"]
        text = f"memory of a process that scans a trace of {case.stat().st_size / 1e6:.0f} MB"
        rows.append(limit(text, peak, "MiB", 250))
        case.unlink()
    generated, compressed = folder / "generated.etl", folder / "compressed.etl"
    buffers = 8 if quick else 48
    grow(base_trace(0, buffers), generated, 4 if quick else 300)
    rows += plain(generated, "a generated trace", walk, quick, folder)
    rows += showing(generated, "that trace", quick, folder)
    grow(base_trace(w.XPRESS, buffers), compressed, 1 if quick else 15)
    rows += packed(compressed, quick)
    real = sorted((samples() / "etl").glob("*.etl"), key=lambda path: path.stat().st_size)
    if real:
        rows += plain(real[-1], "the largest real trace", walk, quick, folder)
        copy = folder / "real.etl"
        copy.write_bytes(real[-1].read_bytes())
        rows += showing(copy, "that trace", quick, folder)
    else:
        notes += "- Real traces are left out: none are here (`DUMPSTART_SHARED` names them).\n"
    if not quick:
        grow(base_trace(), generated, 1024)
    told = measured("stream", generated, folder)
    text = f"memory of streaming {generated.stat().st_size / 1e6:.0f} MB in time order"
    return Part([*rows, limit(text, told["peak_mib"], "MiB", 200)], notes)


NOTES = """\
- dissect.etl with decoding is asked for time, provider and fields of each event; of most kinds it
  raises, which costs it less than decoding would.
- A rate is events per second of processor time, the best of five runs (small files: up to 200).
- `show events` runs up to five times in one process, until two seconds are used; the peer's fields
  are read once. Imports are left out of both.
- A peer reads for at most 8 seconds, etl-parser the first 4 MB.
- dissect.etl and etl-parser hand out events as they stand in the file, without a table or an order.
- The C walk is `benchmarks/walk.c`, compiled with gcc -O2: the same columns, in file order.
- Each run of both opens and maps the file, which is in the page cache, and fills new memory.
- Of a scan by one worker, the process that takes most.
- Memory of an index is the peak beyond that of reading a tiny trace, with the pages of the mapped
  file.
"""


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        sys.exit(run(measure, __doc__.splitlines()[0]))
