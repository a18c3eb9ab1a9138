"""Measures compressed traces: ``python benchmarks/bench_compression.py [--quick]``.

Each format, with buffers of 64 and 256 KiB, of generated events and of those of the largest real
trace at hand. dissect.etl knows XPRESS alone, so the goals stand there; for the other formats it is
given the expander of its own library, dissect.util. All are events per second of processor time.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from bench_etw import base_trace, ours
from results import Part, Row, compare, run, samples

# isort: split
import etw_writer as w

from analyzer.etw import compression
from analyzer.etw.trace import Trace

PEERS = {w.XPRESS: "lzxpress", w.XPRESS_HUFF: "lzxpress_huffman", w.LZNT1: "lznt1"}


def events_of(path: Path) -> list[tuple[bytes, int]]:
    """Events of a plain trace, with their processors."""
    trace, raw = Trace.open(str(path)), path.read_bytes()
    columns = trace.index().columns
    at = trace.buffers.table["offset"][columns["buffer"]] + columns["offset"]
    rows = zip(at.tolist(), columns["size"].tolist(), columns["cpu"].tolist())
    return [(raw[low : low + size], cpu) for low, size, cpu in rows][1:]  # not the header


def compressed(events: list[tuple[bytes, int]], fmt: int, size: int) -> bytes:
    """A trace with these events."""
    writer = w.Writer(buffer_size=size, compression=fmt)
    for cpu in sorted({cpu for _, cpu in events}):
        writer.add(*(event for event, its in events if its == cpu), cpu=cpu)
    return writer.build()


def dissect_rate(path: Path, fmt: int, enough: float) -> float | None:
    """Events per second of dissect.etl's iteration."""
    try:
        from dissect.etl import etl
        from dissect.util import compression as theirs
    except ImportError:
        return None
    __import__(f"dissect.util.compression.{PEERS[fmt]}")
    etl.xpress_decompress = getattr(theirs, PEERS[fmt]).decompress
    count, began = 0, time.process_time()
    # its XPRESS-Huffman loses the end of a buffer, which may then end inside an event
    with path.open("rb") as file, contextlib.suppress(Exception):
        for _ in etl.ETL(file):
            count += 1
            if not count & 255 and time.process_time() - began > enough:
                break
    return count / (time.process_time() - began)


def measure(folder: Path, quick: bool) -> Part:
    """Every combination."""
    plain = folder / "plain.etl"
    plain.write_bytes(base_trace(buffers=4 if quick else 48))
    mixes = {"generated": events_of(plain)}
    real = sorted((samples() / "etl").glob("*.etl"), key=lambda path: path.stat().st_size)
    if real and not quick:
        mixes["real"] = events_of(real[-1])
    rows: list[Row] = []
    path = folder / "packed.etl"
    for what, events in mixes.items():
        for fmt, name in compression.FORMATS.items():
            for kib in (64,) if quick else (64, 256):
                path.write_bytes(compressed(events[: 500 if quick else None], fmt, kib << 10))
                peer = dissect_rate(path, fmt, 0.1 if quick else 2.0)
                count, seconds = ours(str(path), 0.2 if quick else 8.0)
                text, least = f"{what} events, {name}, {kib} KiB", 5 if fmt == w.XPRESS else 0
                rate = count / seconds
                rows.append(compare(text, rate, "events/s", "dissect.etl iterates", peer, least))
    return Part(rows, "")


if __name__ == "__main__":
    sys.exit(run(measure, __doc__ or ""))
