"""Speed and memory of the ETW reader, as ratios to other readers in the same run.

usage: python benchmarks/bench_etw.py [--mb 300] [--big-mb 1024] [--trace FILE.etl ...]
                                      [--cwalk PROGRAM]

--trace adds real files. --cwalk names a native program that prints JSON with "sec" for one walk
with columns (called as PROGRAM -m 2 -r 3 FILE). Peers that are not installed are left out. Each
peer reads for at most a few seconds and is compared by events per second of processor time, so that
other work on the machine does not count; only the native program is timed by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import etw_writer as w
import numpy as np

PROVIDERS = [f"{k:08x}-6a8f-4a1e-8f6a-1e4ab35e808e" for k in range(0x10, 0x30)]
LIMIT = 8.0
COLUMNS = ("ts", "size", "type", "cpu", "tid", "pid", "provider", "id", "version", "opcode",
           "level", "keyword", "offset")  # fmt: skip


def base_trace(compression: int = 0) -> bytes:
    """Some megabytes of mixed events on four processors, 64 KiB buffers."""
    writer = w.Writer(buffer_size=65536, compression=compression)
    schema = w.tracelogging("Request", [("Irp", b"\x15"), ("Status", b"\x88\x0e"),
                                        ("Name", b"\x01")])  # fmt: skip
    ts = 2_000_000
    for buffer in range(48):
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


def ours(path: str, native: bool = True, runs: int = 5) -> tuple[int, float]:
    """Events and best seconds for a time-ordered index of all header columns."""
    from analyzer.etw import compression
    from analyzer.etw.trace import Trace

    real = compression.accelerator
    if not native:
        compression.accelerator = lambda: ("", {})
    best, count = 1e9, 0
    for _ in range(runs):
        began = time.process_time()
        index = Trace.open(path).index()
        columns = [index.sorted(name) for name in COLUMNS]
        best = min(best, time.process_time() - began)
        count = len(columns[0])
        if best > LIMIT:
            break
    compression.accelerator = real
    return count, best


def dissect_rate(path: str) -> float:
    """Events per second of dissect.etl's bare iteration, 0 when it is not installed."""
    try:
        from dissect.etl.etl import ETL
    except ImportError:
        return 0.0
    count, began = 0, time.process_time()
    with open(path, "rb") as file:
        for _ in ETL(file):
            count += 1
            if not count & 255 and time.process_time() - began > LIMIT:
                break
    return count / (time.process_time() - began)


def etl_parser_rate(path: str) -> float:
    """Events per second of etl-parser on the first megabytes; 0 when it fails or is missing."""
    try:
        from etl.etl import IEtlFileObserver, build_from_stream
    except ImportError:
        return 0.0

    class Count(IEtlFileObserver):  # type: ignore[misc]
        seen = 0

        def tick(self, _event: object) -> None:
            self.seen += 1

        on_event_record = on_trace_record = on_perfinfo_trace = on_system_trace = tick
        on_win_trace = tick

    with open(path, "rb") as file:
        raw = file.read(4_000_000 // 65536 * 65536)
    counter, began = Count(), time.process_time()
    try:
        build_from_stream(raw).parse(counter)
    except Exception:  # noqa: BLE001  a peer that fails has no rate
        return 0.0
    return counter.seen / (time.process_time() - began)


def resident(name: str) -> float:
    """KiB resident now (VmRSS) or at most (VmHWM), pages of mapped files included."""
    try:
        # ru_maxrss would count the process that started this one
        with open("/proc/self/status") as file:
            return next(float(line.split()[1]) for line in file if line.startswith(name))
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def child(mode: str, path: str) -> None:
    """Runs in a new process: peak memory of the index or of streaming, beyond the imports."""
    import pandas  # noqa: F401  imports are not the reader's

    from analyzer.etw.trace import Trace

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


def measured(mode: str, path: str) -> dict[str, float]:
    """The figures of a child process."""
    run = subprocess.run([sys.executable, __file__, "--child", mode, path], check=True,
                         capture_output=True, text=True)  # fmt: skip
    return dict(json.loads(run.stdout.splitlines()[-1]))


def report(path: str, cwalk: str) -> None:
    """One file: our rate and the ratios."""
    size = os.path.getsize(path) / 1e6
    count, seconds = ours(path)
    rate = count / seconds
    print(f"\n{os.path.basename(path)}: {size:.0f} MB, {count:,} events")
    print(f"  time-ordered index, {len(COLUMNS)} columns: {seconds:.3f} s, "
          f"{rate / 1e6:.2f} M events/s, {size / seconds:.0f} MB/s")  # fmt: skip
    from analyzer.etw.compression import accelerator
    from analyzer.etw.trace import Trace

    if Trace.open(path).session.compressed:
        _, slow = ours(path, native=False)
        print(f"  compressed: with {accelerator()[0] or 'no accelerator'} {seconds:.3f} s, "
              f"pure Python {slow:.3f} s")  # fmt: skip
    else:
        slow = seconds
    for name, peer in (("dissect.etl iteration", dissect_rate(path)),
                       ("etl-parser", etl_parser_rate(path))):  # fmt: skip
        if peer:
            pure = f" (pure Python {count / slow / peer:.1f} x)" if slow != seconds else ""
            print(f"  {name}: {peer:,.0f} events/s; ours {rate / peer:.1f} x as fast{pure}")
    if cwalk:
        run = subprocess.run([cwalk, "-m", "2", "-r", "3", path], check=True, capture_output=True,
                             text=True)  # fmt: skip
        told = json.loads(run.stdout)
        print(f"  native walk with columns: {told['sec']:.3f} s, {told['events']:,} events; "
              f"ours takes {seconds / told['sec']:.1f} x")  # fmt: skip
    memory = measured("index", path)
    print(f"  memory of the index: {memory['extra_mib']:.0f} MiB; file size plus 80 bytes an event "
          f"is {(size * 1e6 + 80 * count) / 2**20:.0f} MiB")  # fmt: skip


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--big-mb", type=int, default=1024)
    parser.add_argument("--trace", nargs="*", default=[])
    parser.add_argument("--cwalk", default="")
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "generated.etl"
        grow(base_trace(), plain, options.mb)
        report(str(plain), options.cwalk)
        packed = Path(folder) / "compressed.etl"
        grow(base_trace(w.XPRESS), packed, max(options.mb // 20, 4))
        report(str(packed), options.cwalk)
        for path in options.trace:
            report(path, options.cwalk)
        if options.big_mb:
            grow(base_trace(), plain, options.big_mb)
            size = plain.stat().st_size / 1e6
            told = measured("stream", str(plain))
            print(f"\nstreaming {size:.0f} MB in time order: {told['events']:,.0f} events in "
                  f"{told['seconds']:.1f} s, {told['extra_mib']:.0f} MiB beyond the imports, "
                  f"{told['peak_mib']:.0f} MiB in all")  # fmt: skip


if __name__ == "__main__":
    main()
