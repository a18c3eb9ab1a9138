"""One measurement in its own process: ``python benchmarks/peers.py NAME FILE``, one JSON line out.

Invariant: each function gives `seconds` of the work alone (imports are done before), and what was
found, so that a fast wrong answer is seen. A library that is not installed is told, not an error.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from typing import Any, Callable

Result = dict[str, Any]
#: a literal that is in no file: the whole file is searched
LITERAL = b"no such sixteen bytes"[:16]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds and result; on an idle machine they are the seconds by the clock."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


# ---- opening -----------------------------------------------------------------------------------
def open_dumpstart(path: str) -> Result:
    """All records: machine, modules, filters, requests."""
    from analyzer.dumpfile import open_dump, pagedump  # noqa: F401
    from analyzer.sources.dump import records_of

    seconds, records = timed(lambda: records_of(open_dump(path)))
    names = [str(row.filter) for row in records["filters"]]
    return {"seconds": seconds, "found": names}


def open_volatility3(path: str) -> Result:
    """The crash dump layer and the kernel's address space over it, nothing more."""
    from volatility3.framework import contexts
    from volatility3.framework.layers import crash, intel, physical

    def work() -> Any:
        context = contexts.Context()
        context.config["base.location"] = "file://" + path
        context.add_layer(physical.FileLayer(context, "base", "base"))
        context.config["crash.base_layer"] = "base"
        layer = crash.WindowsCrashDump64Layer(context, "crash", "crash")
        context.add_layer(layer)
        context.config["v.memory_layer"] = "crash"
        context.config["v.page_map_offset"] = layer.dtb
        context.add_layer(intel.WindowsIntel32e(context, "v", "v"))
        return layer

    seconds, layer = timed(work)
    return {"seconds": seconds, "found": layer.maximum_address}


def memory_dumpstart(path: str) -> Result:
    """Peak of private memory while all records are made, sampled every millisecond."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], private())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        result = open_dumpstart(path)
    finally:
        done.set()
        thread.join()
    return {"seconds": result["seconds"], "peak_mib": max(peak[0], private()) / 1024}


def private() -> int:
    """RssAnon in KiB; 0 where there is no /proc."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
    except OSError:
        return 0


# ---- random reads ------------------------------------------------------------------------------
def read_dumpstart(path: str) -> Result:
    """Translates and reads 8 bytes at each address."""
    import numpy as np

    from analyzer.dumpfile import open_dump

    addresses = np.load(path + ".addresses.npy")
    dump, listed = open_dump(path), addresses.tolist()
    seconds, found = timed(lambda: [dump.read(address, 8) for address in listed])
    good = np.array([isinstance(data, bytes) for data in found])
    words = [int.from_bytes(data, "little") if isinstance(data, bytes) else 0 for data in found]
    return {"seconds": seconds, "found": correct(path, np.array(words, np.uint64), good)}


def read_kdmp_parser(path: str) -> Result:
    """Translates and fetches the page, by the compiled functions under the Python class."""
    import kdmp_parser
    import numpy as np

    addresses = np.load(path + ".addresses.npy")
    raw = kdmp_parser.KernelDumpParser(path)._KernelDumpParser__dump
    listed = addresses.tolist()

    def work() -> list[Any]:
        pages = []
        for address in listed:
            physical = raw.VirtTranslate(address, 0)
            pages.append(None if physical is None else raw.GetPhysicalPage(physical & ~0xFFF))
        return [page is not None for page in pages]

    stdout = os.dup(1)  # it writes a line for each address that is not there
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    seconds, found = timed(work)
    os.dup2(stdout, 1)
    return {"seconds": seconds, "found": {"read": sum(found)}}


def correct(path: str, words: Any, good: Any) -> dict[str, int]:
    """How many were read, and how many of those with the wrong bytes."""
    import numpy as np

    expected = np.load(path + ".expected.npy")
    there = np.load(path + ".there.npy")
    wrong = (good != there) | (there & (words != expected))
    return {"read": int(good.sum()), "wrong": int(wrong.sum())}


# ---- scanning ----------------------------------------------------------------------------------
def scan_find(path: str) -> Result:
    """`mmap.find` of one literal that is not there."""
    with open(path, "rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    seconds, found = timed(lambda: view.find(LITERAL))
    return {"seconds": seconds, "found": found}


def scan_dumpstart(path: str) -> Result:
    """All filter nodes in all pages, by the DISK_PARTITION_INFO in them."""
    return scan(path, pointers=False)


def scan_dumpstart_pointers(path: str) -> Result:
    """The same by their callbacks: the pass that runs when the first one finds none."""
    return scan(path, pointers=True)


def scan(path: str, pointers: bool) -> Result:
    """One pass of the memory scan."""
    from analyzer.dumpfile import open_dump, page_search
    from analyzer.dumpstack import roles

    dump = open_dump(path)
    modules = roles.classify(dump.modules(), dump.unloaded())
    stack = [module for module in modules if module.stack and module.loaded]
    if pointers:
        work = lambda: page_search.by_pointers(dump, stack)  # noqa: E731
    else:
        work = lambda: page_search.by_partitions(dump, stack)  # noqa: E731
    seconds, nodes = timed(work)
    return {"seconds": seconds, "found": len(nodes)}


if __name__ == "__main__":
    try:
        answer = globals()[sys.argv[1]](sys.argv[2])
    except ImportError as error:
        answer = {"missing": error.name}
    print(json.dumps(answer))
