"""The facts of a capture into records: machine, modules, filters, extensions, and every call.

Invariant: a call is stated as far as its facts go; an entry without its return, a return without
its entry and a fact that contradicts another are told, never repaired. Decoding is that of dumps:
the same layouts and the same words. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..absence import Absent
from ..dumpstack import roles
from ..dumpstack.describe import describe
from ..dumpstack.nodes import Node
from ..dumpstack.walk import Ring, filter_module
from ..records import Anomaly, Event, Filter, Machine, Module, Origin, Records, Source, untold
from ..target import ModuleMap
from .capture_calls import Calls
from .capture_extensions import NO_FAILURE, Extensions, Recorded
from .capture_format import (
    AT_DRIVER_ENTRY,
    SCHEMA,
    Fact,
    has_bad_number,
    number,
    raw,
    status_code,
    text,
)
from .capture_timing import Frequency

_UNTOLD = Absent("not-recorded", "the capture does not tell it")
_OUTDATED = Absent("not-recorded", "a filter was loaded after the list of filters was read")
_KINDS = frozenset({"x64", "x86", "x86-pae", "arm64"})
_MACHINE = ("build", "build_lab", "architecture", "pointer_size", "processors", "uptime_ns")
#: facts that tell a reader nothing
_PASSED_OVER = frozenset({"calibrating"})
#: members that are numbers wherever they stand
_NUMBERS = ("n", "id", "cpu", "host", "tsc", "extension")


class CaptureReader:
    """Takes facts in order, then tells them as records."""

    def __init__(self, path: str, kind: str = "capture") -> None:
        self.path, self.kind = path, kind
        self.target = Recorded(path)
        self.header: Fact = {}
        self.machine: Fact = {}
        self.modules: list[Module] = []
        self._told: set[tuple[str, int | None, bool]] = set()  #: modules
        self._loaded: dict[str, list[int]] = {}  #: name -> places in that list
        self.late: set[str] = set()  #: names of modules that were loaded meanwhile
        self.nodes: list[tuple[Fact, Node, int]] = []
        self.end: Fact | None = None
        self.bugcheck: tuple[int | None, ...] = ()  #: code and parameters
        self.events: list[Event] = []
        self.anomalies: list[Anomaly] = []
        self.calls = Calls(path)
        self.frequency: Frequency | None = None
        self.not_understood = 0
        self._last_host: int | None = None  #: the debugger's clock, as far as it was told
        self._first_odd: tuple[int, int | None] | None = None  #: offset, line
        self.extensions = Extensions(self.target)

    # -- taking facts --------------------------------------------------------------------------

    def take(self, fact: Fact, offset: int, line: int | None = None) -> None:
        """One fact; what it says that cannot be is counted as not understood."""
        if "dumpstart" in fact:
            self._header(fact, offset)
            return
        kind = fact.get("fact")
        host = number(fact, "host")
        if host is not None and (self._last_host is None or host > self._last_host):
            self._last_host = host
        take = getattr(self, f"_take_{kind}", None)
        good = kind in _PASSED_OVER if take is None else take(fact, offset)
        if not good or has_bad_number(fact, _NUMBERS):
            self.odd(offset, line)

    def odd(self, offset: int, line: int | None = None) -> None:
        """Notes a line that is no fact or a fact that cannot be."""
        self.not_understood += 1
        if self._first_odd is None:
            self._first_odd = offset, line

    def _origin(self, how: str, offset: int, address: int | None = None) -> Origin:
        return Origin(self.path, how, "certain", offset, address)

    def _header(self, fact: Fact, offset: int) -> None:
        if self.header:  # a log may hold several sessions; the first names the source
            self.end = None
            self.calls.ended()
            self.calls.tally.restarted()
            return
        self.header = fact
        schema = number(fact, "schema")
        if schema is not None and schema > SCHEMA:
            self.anomalies.append(
                Anomaly(
                    "capture-newer",
                    f"The capture has schema {schema}; this version knows up to {SCHEMA}. What it "
                    "does not know is passed over.",
                    self._origin("capture header", offset),
                )
            )

    def _take_machine(self, fact: Fact, offset: int) -> bool:
        self.machine.update({name: fact[name] for name in _MACHINE if name in fact})
        self.machine["offset"] = offset
        size = number(fact, "pointer_size")
        if size in (4, 8):
            self.target.pointer_size = size
        architecture = text(fact, "architecture")
        if architecture in _KINDS:
            self.target.architecture = architecture
        build = number(fact, "build")
        if build is not None:
            self.target.build = build
        return size in (4, 8, None) and (architecture is None or architecture in _KINDS)

    def _take_module(self, fact: Fact, offset: int) -> bool:
        name, base, size = text(fact, "name"), number(fact, "base"), number(fact, "size")
        if name is None:
            return False
        told = Absent("not-recorded", "the debugger does not tell it")
        stamp = number(fact, "stamp")
        end = told if base is None or size is None else base + size
        has_key = stamp is not None and size
        module = Module(
            name=name, base=told if base is None else base, end=end,
            size=told if size is None else size, role=None, stack=None,
            loaded=fact.get("loaded", True) is not False,
            time_date_stamp=told if stamp is None else stamp,
            checksum=told if number(fact, "checksum") is None else number(fact, "checksum"),
            image_key=f"{stamp:08X}{size:x}" if has_key else told, original=None,
            original_match=None, load_order=len(self.modules),
            origin=self._origin("module list of the debugger", offset, base),
        )  # fmt: skip
        key = (name.lower(), base, fact.get("loaded", True) is not False)
        if key in self._told and not fact.get("late"):
            return True  # a second session lists them again
        self._told.add(key)
        if fact.get("late"):
            # An earlier image of this name was unloaded; nobody told of it.
            for place in self._loaded.pop(name.lower(), ()):
                self.modules[place] = self.modules[place]._replace(loaded=False)
            self.late.add(name)
            self._event(fact, offset, "module-load", f"{name} was loaded while the capture ran")
        if module.loaded:
            self._loaded.setdefault(name.lower(), []).append(len(self.modules))
        self.modules.append(module)
        return True

    def _take_node(self, fact: Fact, offset: int) -> bool:
        data, address = raw(fact, "bytes"), number(fact, "address")
        layout = self.extensions.layout(text(fact, "layout"))
        if data is None or address is None or layout is None or len(data) < layout.link:
            return False
        node = Node(layout, address, data.ljust(layout.size, b"\0"), 0, offset)
        before = self.extensions.nodes.get(address)
        if before is not None and before.data != node.data and before.layout is layout:
            self._node_changed(fact, before, node, offset)
        self.nodes.append((fact, node, offset))
        self.extensions.add_node(address, node)
        if text(fact, "how") == AT_DRIVER_ENTRY:
            self.extensions.early.add(address + layout.extension)
        else:
            self.extensions.early.discard(address + layout.extension)
        return True

    def _node_changed(self, fact: Fact, before: Node, now: Node, offset: int) -> None:
        """What crashdmp did to a node while the capture ran: it keeps a filter's state there."""
        at = now.layout.state
        states = [int.from_bytes(node.data[at : at + 4], "little") for node in (before, now)]
        if states[0] != states[1]:
            text = f"the state word of the filter's node at {now.address:#x} changed from "
            text += f"{states[0]:#x} to {states[1]:#x}"
            self._event(fact, offset, "filter-state", text)

    def _take_reboot(self, fact: Fact, offset: int) -> bool:
        self._event(fact, offset, "reboot", "the target rebooted: the capture of this boot ends")
        return True

    def _take_call(self, fact: Fact, offset: int) -> bool:
        call = self.calls.entry(fact, offset)
        if call is not None and "ext" in fact:
            self.extensions.given(call, raw(fact, "ext"), offset)
        return call is not None

    def _take_return(self, fact: Fact, offset: int) -> bool:
        call = self.calls.exit(fact, offset)
        if call is not None and "ext" in fact:
            self.extensions.left(call, raw(fact, "ext"), offset)
        has_odd_status = fact.get("status") is not None and status_code(fact) is None
        return call is not None and not has_odd_status

    def _take_armed(self, fact: Fact, offset: int) -> bool:
        return self.calls.armed(fact)

    def _take_disarmed(self, fact: Fact, offset: int) -> bool:
        return self.calls.disarmed(fact)

    def _take_lost(self, fact: Fact, offset: int) -> bool:
        return self.calls.lost(fact)

    def _take_calibration(self, fact: Fact, offset: int) -> bool:
        return self.calls.calibration(fact)

    def _take_clock(self, fact: Fact, offset: int) -> bool:
        hz = number(fact, "hz")
        if not hz:
            return False
        low, high = number(fact, "low") or hz, number(fact, "high") or hz
        if not low <= hz <= high:
            return False
        self.frequency = Frequency(hz, low, high, text(fact, "how") or "of unknown origin")
        return True

    def _take_bugcheck(self, fact: Fact, offset: int) -> bool:
        values = fact.get("values")
        if not isinstance(values, list) or len(values) != 5:
            return False
        numbers = [number({"v": value}, "v") for value in values]
        if any(value is None for value in numbers):
            return False
        self.bugcheck = tuple(value for value in numbers if value is not None)
        return True

    def _take_stop(self, fact: Fact, offset: int) -> bool:
        kind = text(fact, "kind") or "unknown"
        detail = text(fact, "detail") or ""
        self._event(fact, offset, kind, f"the target stopped: {detail or kind}")
        self.calls.stopped(fact)
        return True

    def _take_error(self, fact: Fact, offset: int) -> bool:
        self._event(fact, offset, "error", text(fact, "text") or "an error of the capture itself")
        self.anomalies.append(
            Anomaly(
                "capture-not-armed" if fact.get("rule") == "capture-not-armed" else "capture-error",
                (text(fact, "text") or "The capture met an error.").rstrip(".") + ".",
                self._origin("noted while capturing", offset),
                text(fact, "subject") or "",
            )
        )
        return True

    def _take_end(self, fact: Fact, offset: int) -> bool:
        self.end = fact
        self.calls.tally.ended(fact, offset)
        self._event(fact, offset, "end", f"the capture ended: {text(fact, 'reason') or 'unknown'}")
        return True

    def _event(self, fact: Fact, offset: int, name: str, words: str) -> None:
        row = untold(Event, None, self._origin("capture", offset))._replace(
            time=number(fact, "host"), provider="debugger", name=name, text=words,
            processor=number(fact, "cpu"),
        )  # fmt: skip
        self.events.append(row)

    # -- telling -------------------------------------------------------------------------------

    def records(self, size: int) -> Records:
        """Everything told so far; ``size`` is that of the file."""
        out = Records()
        modules = roles.classify(
            [m for m in self.modules if m.loaded], [m for m in self.modules if not m.loaded]
        )
        self._filters(out, modules)
        is_whole = self.end is not None
        self.calls.tell(out, modules, self.frequency, is_whole, self._ending(), self._last_host)
        if self.machine or self.bugcheck:
            out.add(self.machine_record())
        out.add(self._source(size, out), *modules, *self.events, *self.anomalies)
        if self._first_odd is not None:
            offset, line = self._first_odd
            words = "1 line is" if self.not_understood == 1 else f"{self.not_understood} lines are"
            first = f"the first is line {line}" if line else "the first lies at the offset below"
            out.add(
                Anomaly(
                    "capture-damaged",
                    f"{words} not understood or cannot be; {first}. What it says was passed over.",
                    self._origin("capture lines", offset),
                )
            )
        return out

    def _ending(self) -> str:
        if self.end is None:
            return "the capture has no end"
        return f"the capture ended: {text(self.end, 'reason') or 'no reason given'}"

    def rings(self) -> list[Ring]:
        """The lists of filters, of the nodes that were recorded."""
        groups: dict[tuple[str, int | None], list[tuple[Fact, Node, int]]] = {}
        for fact, node, offset in self.nodes:
            key = (text(fact, "stack") or "", number(fact, "head"))
            groups.setdefault(key, []).append((fact, node, offset))
        rings = []
        for (stack, head), members in groups.items():
            latest = {node.address: node for _, node, _ in members}  # a node may be read again
            count = number(members[0][0], "count")
            no_head = Absent("not-found", "the node was not found through its list")
            rings.append(
                Ring(
                    stack, no_head if head is None else head, None, tuple(latest.values()), (), "",
                    count, len(latest), text(members[0][0], "how") or "recorded by the capture",
                )
            )  # fmt: skip
        return rings

    def _filters(self, out: Records, modules: Sequence[Module]) -> None:
        rings = self.rings()
        stack_modules = ModuleMap(m for m in modules if m.stack and m.loaded)
        owners = [filter_module(stack_modules, node) for ring in rings for node in ring.nodes]
        known = {module.name for module in owners if module is not None}
        missing = [m for m in stack_modules if m.role == roles.FILTER and m.name not in known]
        unknown = {id(module) for module in missing}
        described = describe(
            self.target, [m for m in modules if id(m) not in unknown], rings, NO_FAILURE, ""
        )
        late = {m.stack for m in stack_modules if m.role == roles.FILTER and m.name in self.late}
        out.add(
            *(
                row._replace(ring_count=_OUTDATED) if row.stack in late else row
                for row in described.filters
            )
        )
        self.calls.registered(described.callbacks)
        out.add(*self.extensions.rows(described.extensions), *self.extensions.anomalies)
        why = Absent("not-found", "the capture found no node of this filter")
        named = {row.filter for row in out["filters"]}
        for module in missing:
            if module.name in named:
                continue
            named.add(module.name)
            origin = module.origin._replace(how="its module alone", confidence="likely")
            row = untold(Filter, why, origin)
            out.add(row._replace(filter=module.name, stack=module.stack))

    def machine_record(self) -> Machine:
        """The machine, as far as it was told."""
        from ..names import bugchecks

        why = Absent("not-recorded", f"the {self.kind.rpartition(' ')[2]} does not tell it")
        build, processors = number(self.machine, "build"), number(self.machine, "processors")
        lab, uptime = text(self.machine, "build_lab"), number(self.machine, "uptime_ns")
        origin = self._origin(f"{self.kind}: machine", number(self.machine, "offset") or 0)
        row = untold(Machine, why, origin)._replace(
            build=why if build is None else build,
            build_lab=why if lab is None else lab,
            architecture=self.target.architecture,
            processors=why if processors is None else processors,
            uptime_ns=why if uptime is None else uptime,
        )
        if not self.bugcheck or self.bugcheck[0] is None:
            return row
        code = self.bugcheck[0] & 0xFFFFFFFF
        one, two, three, four = (why if n is None else n for n in self.bugcheck[1:])
        return row._replace(
            bugcheck=code, bugcheck_name=bugchecks.name(code),
            parameter1=one, parameter2=two, parameter3=three, parameter4=four,
        )  # fmt: skip

    def _source(self, size: int, out: Records) -> Source:
        calls = len(self.calls)
        at_least = "at least " if self.calls.tally.missing else ""
        plural = "" if calls == 1 else "s"
        holds = [f"{at_least}{calls} call{plural} of filter callbacks"] if calls else []
        if out["filters"]:
            holds.append(f"{len(out['filters'])} filters")
        if self.modules:
            holds.append(f"{len(self.modules)} modules")
        if self.bugcheck:
            holds.append("the bugcheck")
        lacks = ["what happened before the callbacks were armed and after the capture ended"]
        if not calls:
            lacks = ["calls of filter callbacks"]
        backend = text(self.header, "backend")
        subtype = f"by {backend}, {self._ending()}" if backend else _UNTOLD
        return Source(
            self.path, self.kind, subtype, size, self.target.architecture,
            "; ".join(holds) or "nothing of the dump path", "; ".join(lacks),
            self._origin("by content", 0),
        )  # fmt: skip
