"""The verdict on each crash dump filter, from everything that the sources of one crash tell of it.

Invariant: a cell is empty where no source tells it; the answer says once what cannot be known. What
one source infers never hides what another one saw.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from .. import formatting as fmt
from ..absence import first_present, is_absent
from ..checks import RULES
from ..checks.crashes import Index
from ..checks.machine import knows_filter_state, live_sources
from ..checks.rule import SEVERITIES
from ..names import drivers
from ..names.drivers import plain_name
from ..records import DryRun, OfFilter, Processor, Record, Records
from ..records.types import Callback, Extension, Filter, Finding, Module, Setting, Stage
from .calls import of_a_coarse_clock
from .calls import took as span_of
from .extensions import in_one_line
from .model import FilterVerdict, Remark
from .next_steps import REGISTRIES
from .starts import last_failure, start_of

MOST_FILTERS = 64
_MOST_REMARKS = 4
#: settings of CrashControl that register a filter: "DumpFilters[0]"
_REGISTERED = "dumpfilters["
_DEBUGGERS = ("capture", "WinDbg log", "debugger session")
#: stands for the name of a filter that has none in the input
UNNAMED = "name not known"
#: findings that speak of a filter but say no more than its row
_IN_THE_ROW = ("filter-disabled", "registry-third-party-filter", "callback-executing")
#: rules about a call -> the field of the row that they speak of, where the call is Dump_Start
_OF_CALLS = {
    "filter-callback-failed": "status",
    "callback-never-returned": "dump_start",
    "callback-under-way": "dump_start",
    "callback-exception": "dump_start",
    "etw-callback-no-return": "dump_start",
    "callback-slow": "duration",
    "callback-slower-than-baseline": "duration",
    "etw-callback-slow": "duration",
}


class Rows:
    """All rows of one filter of one crash."""

    def __init__(self, crash: int | None, stack: str) -> None:
        self.crash, self.stack = crash, stack
        self.filters: list[Filter] = []
        self.modules: list[Module] = []
        self.extensions: list[Extension] = []
        self.calls: list[tuple[int, Callback]] = []
        self.settings: list[Setting] = []
        self.processors: list[Processor] = []
        self.dry_runs: list[DryRun] = []

    def all(self) -> Iterator[Record]:
        """Every row, the most telling first."""
        yield from self.filters
        yield from (call for _, call in self.calls)
        for rows in (self.extensions, self.processors, self.modules):
            yield from rows


def verdicts(records: Records, index: Index) -> list[FilterVerdict]:
    """One row per filter and crash: in call order, the newest crash first."""
    found = _collect(records, index)
    faults = _faults(records, index)
    nameless = faults.pop((None, ""), [])
    holed = {f.origin.source for f in records["findings"] if f.rule == "capture-calls-missing"}
    bounds = _bounds(records, index)
    last = -1
    rows = []
    for (crash, name, stack), one in found.items():
        last = last if crash is None else max(last, crash)
        rows.append((crash, stack != "crash", _order(one), name, one))
    rows.sort(key=lambda row: (-(row[0] or 0), row[1], row[2]))
    made = [
        _verdict(
            one,
            _own(faults.get((crash, name), ()), nameless, one),
            bounds.get(crash),
            records,
            holed,
        )
        for crash, _, _, name, one in rows[:MOST_FILTERS]
    ]
    if len(index.by_number) < 2:
        return made
    # what only the settings name is of none of several crashes
    seen = {(f.crash, f.stack) for f in made if not f.position.startswith("registered")}
    return [f if (f.crash, f.stack) in seen else f._replace(crash=None) for f in made]


def filter_key(record: OfFilter) -> tuple[str, str]:
    """What joins the rows of one filter: its plain name, or where it has none its own address."""
    stack = "" if is_absent(record.stack) else str(record.stack)
    if not is_absent(record.filter):
        return plain_name(record.filter), stack
    for field in ("node", "extension"):
        value = getattr(record, field, None)
        if not is_absent(value):
            return f"{field} {value:#x}", stack
    return "", stack


# -- collecting --------------------------------------------------------------------------------


def _collect(records: Records, index: Index) -> dict[tuple[int | None, str, str], Rows]:
    found: dict[tuple[int | None, str, str], Rows] = {}
    only = _only(index)

    def of(crash: int | None, key: tuple[str, str]) -> Rows:
        name, stack = key
        place = (crash, name, stack or "crash")
        if place not in found:
            found[place] = Rows(crash, stack or "crash")
        return found[place]

    def crash_of(row: Record) -> int | None:
        return index.of(row.origin)

    for row in records["filters"]:
        of(crash_of(row), filter_key(row)).filters.append(row)
    nodes = {row.extension: filter_key(row) for row in records["extensions"]}
    for extension in records["extensions"]:
        of(crash_of(extension), filter_key(extension)).extensions.append(extension)
    for number, call in enumerate(records["callbacks"]):
        key = filter_key(call)
        of(crash_of(call), nodes.get(call.extension, key) if not key[0] else key).calls.append(
            (number, call)
        )
    for m in records["modules"]:
        if m.role == drivers.FILTER and m.loaded is not False and not is_absent(m.stack):
            of(crash_of(m), (plain_name(m.name), str(m.stack))).modules.append(m)
    for processor in records["processors"]:
        if not is_absent(processor.filter):
            of(crash_of(processor), (plain_name(processor.filter), "")).processors.append(processor)
    for run in records["dry_runs"]:
        of(crash_of(run), filter_key(run)).dry_runs.append(run)
    told = {crash for crash, _, stack in found if stack == "crash"}
    for setting in records["settings"]:
        if str(setting.name).lower().startswith(_REGISTERED):
            key = (plain_name(setting.value), "crash")
            places = {place[0] for place in found if place[1:] == key}
            if not places or only not in told:
                places.add(only)  # of the newest crash nothing tells more
            for crash in places:
                of(crash, key).settings.append(setting)
    return found


def _only(index: Index) -> int | None:
    """The crash that the settings of the machine are told with."""
    numbers = index.numbers()
    return numbers[-1] if numbers else None


def _order(one: Rows) -> tuple[int, int]:
    """Call order: place in crashdmp's list, else in the module list, else in the registry."""
    ring = first_present(row.ring_index for row in one.filters)
    if ring is not None:
        return 0, ring
    loaded = first_present(row.load_order for row in one.modules)
    if loaded is not None:
        return 1, loaded
    if one.settings:
        return 2, _registered_as(one.settings[0])
    return 3, 0


def _registered_as(setting: Setting) -> int:
    digits = str(setting.name).partition("[")[2].rstrip("]")
    return int(digits) if digits.isdigit() else 0


def _faults(records: Records, index: Index) -> dict[tuple[int | None, str], list[Finding]]:
    """Errors and warnings by crash and filter; under "" those that a row without a name has."""
    only = _only(index)
    machines = {s.path for s in records["sources"] if s.kind in REGISTRIES}
    found: dict[tuple[int | None, str], list[Finding]] = {}
    for f in records["findings"]:
        named = f.facts.get("filter") if f.facts else None
        name = plain_name(str(named or str(f.subject or "").partition(" (")[0]))
        if f.severity in ("error", "warning") and name:
            number = only if f.origin.source in machines else index.of(f.origin)
            found.setdefault((number, name), []).append(f)
            found.setdefault((None, ""), []).extend([] if named else [f])
    return found


def _own(faults: Sequence[Finding], nameless: Sequence[Finding], one: Rows) -> list[Finding]:
    """Without those of the filter's copy in the other stack; of a nameless one, by its place."""
    if _name(one) == UNNAMED:
        places = {row.origin for row in one.all()}
        faults = [f for f in nameless if f.origin in places]
    return [f for f in faults if f.facts.get("stack") in (None, one.stack)]


def _bounds(records: Records, index: Index) -> dict[int | None, Stage]:
    """The dump log's limit for all Dump_Start calls together, by crash."""
    return {index.of(s.origin): s for s in records["stages"] if s.stage == "dump-start-upper-bound"}


# -- one verdict -------------------------------------------------------------------------------


def _verdict(
    one: Rows, faults: list[Finding], bound: Stage | None, records: Records, holed: Container[str]
) -> FilterVerdict:
    name = _name(one)
    driver = drivers.known(name)
    is_filter = driver is not None and driver.role == drivers.FILTER
    live = live_sources(records)
    coarse = of_a_coarse_clock(records)
    start = start_of(one, bound, live, coarse, len(records["sources"]) > 1)
    is_off = _is_off(one)
    is_proven = all(knows_filter_state(records["machine"], f.origin.source) for f in one.filters)
    likely = "" if is_proven else "likely "
    return FilterVerdict(
        filter=name,
        product=driver.owner if driver is not None and is_filter else "",
        stack=one.stack,
        crash=one.crash,
        position=_position(one, records),
        state="" if is_off is None else likely + ("off" if is_off else "on"),
        is_off=is_off is True,
        dump_start=start.ran,
        is_inferred=start.is_inferred,
        status=start.status,
        duration=start.took,
        evidence=start.evidence,
        encrypts=_encrypts(driver if is_filter else None, is_off),
        extension=in_one_line(one.extensions),
        wrong=_wrong(faults),
        faults=_titles(faults),
        remarks=tuple(_remarks(one, faults, holed, coarse)),
    )


def _name(one: Rows) -> str:
    for row in one.all():
        name = getattr(row, "filter", None) or getattr(row, "name", None)
        if not is_absent(name):
            return fmt.clean(name, 60)
    if one.settings:
        return fmt.clean(one.settings[0].value, 60)
    return UNNAMED


def _position(one: Rows, records: Records) -> str:
    for row in one.filters:
        if isinstance(row.ring_index, int):
            count = "" if is_absent(row.ring_count) else f" of {row.ring_count}"
            return f"{row.ring_index + 1}{count}"
    if one.modules:
        source = one.modules[0].origin.source
        nodes = [
            r
            for r in records["filters"]
            if r.origin.source == source and r.stack == one.stack and not is_absent(r.node)
        ]
        is_read = bool(nodes) and all(r.ring_count == len(nodes) for r in nodes)
        return "loaded, not in the list" if is_read else "loaded"
    if one.calls or one.processors or one.filters:
        return "seen"
    refuted = any(
        str(f.rule) in ("case-filter-not-loaded", "case-leftover-filter")
        and plain_name(str(f.subject)) == plain_name(_name(one))
        for f in records["findings"]
    )
    return "registered, not loaded" if refuted else "registered" if one.settings else "named"


def _is_off(one: Rows) -> bool | None:
    """Whether it was switched off, by the newest row that tells; None where none does."""
    states = [row.is_disabled for row in one.filters if not is_absent(row.is_disabled)]
    return bool(states[-1]) if states else None


def _encrypts(driver: drivers.Driver | None, is_off: bool | None) -> str:
    if driver is None or driver.encrypts is None:
        return ""
    if not driver.encrypts:
        return "does not encrypt"
    if is_off:
        return "encrypts nothing once it is off"
    return "encrypts if in use"


def _wrong(faults: Sequence[Finding]) -> Mapping[str, str]:
    """The fields of the row that findings speak of, each with the worst severity."""
    found: dict[str, str] = {}
    for f in sorted(faults, key=lambda f: SEVERITIES.index(str(f.severity))):
        field = _OF_CALLS.get(str(f.rule), "") if f.facts.get("callback") == "Dump_Start" else ""
        if f.rule == "filter-disabled":
            field = "state"
        elif str(f.rule).startswith("extension-"):
            field = "extension"
        if field:
            found.setdefault(field, str(f.severity))
    return found


def _titles(faults: Sequence[Finding]) -> tuple[Remark, ...]:
    rules = {str(f.rule): str(f.severity) for f in faults if f.rule not in _IN_THE_ROW}
    return tuple(Remark(RULES[rule].title, rules[rule]) for rule in rules if rule in RULES)


def _remarks(
    one: Rows, faults: Sequence[Finding], holed: Container[str], coarse: Container[str]
) -> Iterator[Remark]:
    """Calls of the other callbacks where a session or trace saw them; a failure that was kept.

    ``holed``: sources that lack calls, so that what is counted in them are the least there were.
    """
    by_callback: dict[str, dict[str, list[Callback]]] = {}
    for _, call in one.calls:
        if call.callback != "Dump_Start" and call.was_called == "yes":
            of = by_callback.setdefault(fmt.field(call, "callback"), {})
            status = fmt.fields(call, "status_name") or fmt.field(call, "status", "no return seen")
            of.setdefault(status, []).append(call)
    for callback, by_status in list(by_callback.items())[:_MOST_REMARKS]:
        parts = []
        for status, calls in sorted(by_status.items(), key=lambda item: not item[1][0].status):
            least = "at least " if any(call.origin.source in holed for call in calls) else ""
            took = span_of(calls, coarse)
            parts.append(f"{least}{fmt.counted(len(calls), 'call')}, {status}")
            parts[-1] += f", {took}" if took else ""
        about = [f for f in faults if f.facts.get("callback") == callback and f.rule in _OF_CALLS]
        worst = min((str(f.severity) for f in about), key=SEVERITIES.index, default="")
        yield Remark(f"{callback}: {'; '.join(parts)}", worst)
    for processor in one.processors:
        if processor.callback != "Dump_Start" and not is_absent(processor.callback):
            where = fmt.field(processor, "processor")
            yield Remark(f"processor {where} is inside {processor.callback}", "")
    for row in one.filters:
        if not is_absent(row.last_failing_status) and not last_failure(one):
            code = fmt.code(row, "last_failing_status")
            where = fmt.field(row, "last_failing_routine", "a routine that is not named")
            yield Remark(f"last failure: {where} returned {code}", "")
            break
