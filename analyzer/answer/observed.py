"""What captures, debugger logs and traces saw, in one or two sentences.

Invariant: a number of calls is that of the rows; where one run differs from the others, the run,
the filter and by how much are named.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crash_stack import CRASH_STACK
from ..checks.crashes import Index
from ..names import drivers, ntstatus
from ..records import Callback, Records
from .calls import of_a_coarse_clock, took

#: a run stands out when its Dump_Start took this many times the median of all runs, and a
#: difference that matters: 1 ms is a hundred times what the debugger's own clock costs
_TIMES, _LEAST_NS = 2.0, 1_000_000
_ENOUGH_RUNS = 3
_CRASHDMP = "crashdmp"


def calls(records: Records, index: Index, names: Mapping[str, str]) -> list[str]:
    """What each Dump_Start of the newest crash, or of no crash, returned and took."""
    numbers = index.numbers()
    crash = numbers[-1] if numbers else None
    coarse = of_a_coarse_clock(records)
    starts = [
        c
        for c in records["callbacks"]
        if c.callback == "Dump_Start"
        and (c.was_called == "yes" or not is_absent(c.status))
        and index.of(c.origin) == crash
    ]
    if not starts:
        return [] if numbers else _other_calls(records)
    by_filter: dict[str, list[Callback]] = {}
    for call in starts:
        by_filter.setdefault(fmt.field(call, "filter", "a filter without a name"), []).append(call)
    runs = {c.origin.source for c in starts}
    if len(runs) >= _ENOUGH_RUNS:
        return [_runs(by_filter, runs, coarse), *_outliers(by_filter, names)]
    failed = {name: rows for name, rows in by_filter.items() if any(map(is_failed, rows))}
    good = {name: rows for name, rows in by_filter.items() if name not in failed}
    said = [_returned(name, rows, coarse) for name, rows in list(failed.items())[:2]]
    if len(failed) > 2:
        said.append(f"Dump_Start of {len(failed) - 2} more filters failed.")
    if good:
        said.append(_all_good(good, coarse))
    return said


def besides(records: Records, names: Mapping[str, str]) -> Iterator[str]:
    """What a log shows of the dump stack where it tells neither of a crash nor of a call."""
    frames = records["frames"]
    for inner, outer in zip(frames, frames[1:]):
        is_one = (inner.origin.source, inner.stack_of) == (outer.origin.source, outer.stack_of)
        if is_one and outer.module == _CRASHDMP and drivers.split_prefix(inner.module)[0]:
            symbols = fmt.field(inner, "symbol"), fmt.field(outer, "symbol")
            where = names.get(inner.origin.source, "The log")
            yield f"{where} shows a call stack in {symbols[0]}, called by {symbols[1]}."
            break
    for frame in frames:
        symbol = fmt.field(frame, "symbol")
        if frame.stack_of == CRASH_STACK and symbol.lower().startswith("nt!kebugcheck"):
            where = names.get(frame.origin.source, "The log")
            text = f"{where} shows a call stack in {symbol}: Windows crashed"
            yield f"{text}, but the bugcheck code is not shown."
            break
    gone = [m for m in records["modules"] if m.loaded is False and not is_absent(m.stack)]
    listed = fmt.some([fmt.field(m, "name") for m in gone])
    if gone and not any(m.loaded and not is_absent(m.stack) for m in records["modules"]):
        yield f"Of the dump stack, {listed} {'is' if len(gone) == 1 else 'are'} listed as unloaded."


def is_failed(call: Callback) -> bool:
    """True for a call whose status is known and is a failure."""
    return not is_absent(call.status) and ntstatus.is_failure(int(call.status) & 0xFFFFFFFF)


def _returned(name: str, rows: Sequence[Callback], coarse: Container[str]) -> str:
    bad = [row for row in rows if is_failed(row)]
    status = fmt.code(bad[0], "status")
    times = f" in {len(bad)} of {len(rows)} calls" if len(rows) > 1 else ""
    time = took(bad, coarse)
    likely = "likely " if all(row.was_called == "likely" for row in bad) else ""
    return (
        f"Dump_Start of {name} {likely}returned {status}{times}{f' after {time}' if time else ''}."
    )


def _all_good(by_filter: Mapping[str, Sequence[Callback]], coarse: Container[str]) -> str:
    rows = [row for some in by_filter.values() for row in some]
    open_rows = [row for row in rows if is_absent(row.status)]
    who = fmt.some(list(by_filter))
    if open_rows and len(open_rows) == len(rows):
        return f"Dump_Start of {who} was entered; its return was not seen."
    statuses = {fmt.field(r, "status_name", "") or fmt.field(r, "status") for r in rows
                if not is_absent(r.status)}  # fmt: skip
    each = " each" if len(rows) > 1 and len(statuses) == 1 else ""
    time = took(rows, coarse)
    if len(rows) == 2 and " to " in time:
        time = fmt.listed(took([row], coarse) for row in rows)
    text = f"Dump_Start of {who}{each} returned {fmt.listed(sorted(statuses))}"
    text += (f"; they took {time}" if each else f" and took {time}") if time else ""
    return text + (f"; {fmt.counted(len(open_rows), 'call')} did not return." if open_rows else ".")


def _runs(
    by_filter: Mapping[str, Sequence[Callback]], runs: set[str], coarse: Container[str]
) -> str:
    rows = [row for some in by_filter.values() for row in some]
    failed = [row for row in rows if is_failed(row)]
    text = f"{len(runs)} runs with {fmt.counted(len(rows), 'call')} of Dump_Start"
    if failed:
        sources = {row.origin.source for row in failed}
        return f"{text}: {len(failed)} failed, in {fmt.counted(len(sources), 'run')}."
    time = took(rows, coarse)
    return f"{text}: none failed" + (f", and they took {time}." if time else ".")


def _outliers(by_filter: Mapping[str, Sequence[Callback]], names: Mapping[str, str]) -> list[str]:
    """The runs in which a filter took far longer than in most, of the filter that differs most."""
    text = "In no run did Dump_Start take twice the median of all runs and 1 ms more than that."
    worst = (0.0, text)
    for name, rows in by_filter.items():
        by_run: dict[str, list[int]] = {}
        for row in rows:
            ns = row.duration_ns if not is_absent(row.duration_ns) else row.duration_low_ns
            if not is_absent(ns):
                by_run.setdefault(row.origin.source, []).append(ns)
        typical = {run: _median(values) for run, values in by_run.items()}
        if len(typical) < _ENOUGH_RUNS:
            continue
        usual = _median(typical.values())
        slow = {
            run: value
            for run, value in typical.items()
            if value >= _TIMES * usual and value - usual >= _LEAST_NS
        }
        ratio = max(slow.values(), default=0.0) / max(usual, 1.0)
        if ratio > worst[0]:
            usual = _median(value for run, value in typical.items() if run not in slow)
            took = fmt.span(round(min(slow.values())), round(max(slow.values())))
            where = fmt.some([names.get(run, run) for run in slow], 4)
            text = f"{len(slow)} of {len(typical)} runs {'differs' if len(slow) == 1 else 'differ'}"
            text += f": Dump_Start of {name} took {took} in {where}, and "
            text += f"{fmt.duration(round(usual))} in the median of the others."
            worst = (ratio, text)
    return [worst[1]]


def _other_calls(records: Records) -> list[str]:
    seen = [c for c in records["callbacks"] if c.was_called == "yes"]
    if not seen:
        return []
    counts: dict[str, int] = {}
    for call in seen:
        name = fmt.field(call, "callback")
        counts[name] = counts.get(name, 0) + 1
    listed = fmt.listed(f"{fmt.counted(count, 'call')} of {name}" for name, count in counts.items())
    return [f"No call of Dump_Start was seen, but {listed}."]


def _median(values: Iterable[float]) -> float:
    """The middle of some numbers; to load the module statistics takes as long as a minidump."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[-1 - middle]) / 2
