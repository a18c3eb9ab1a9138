"""One capture: finds the filters of a target, watches them while it runs, tells how it ended.

Invariant: what goes wrong becomes a fact and the target goes on; the capture always ends with its
end fact, and no breakpoint outlives it. Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Callable

from .. import __version__
from ..absence import Absent
from ..dumpstack import roles
from ..dumpstack.describe import ring_count
from ..dumpstack.nodes import Node
from ..dumpstack.walk import filter_module
from ..names import ntstatus
from ..records import Module, Origin
from ..sources.capture_format import AT_DRIVER_ENTRY, DRIVER_ENTRY, Fact, header, hexadecimal
from ..target import module_at
from . import find
from .options import StopOn
from .routines import MANY, Routine, Writes
from .session import Session, plain
from .watch import Armed, Open, Watch

#: stops of the target's own that are continued without a call in between
PATIENCE = 16
_FIRST_HUNDRED = Writes(100, 0)


class Capture:
    """One capture: ``begin``, the target runs (``run`` or the user's own ``g``), ``finish``."""

    def __init__(
        self,
        session: Session,
        sink: Callable[[Fact], None],
        writes: Writes = _FIRST_HUNDRED,
        limit: int | None = None,
        stop_on: StopOn = StopOn(),  # noqa: B008 - a NamedTuple cannot change
    ) -> None:
        self.session, self._sink = session, sink
        self.watch = Watch(session, sink, writes, limit, stop_on)
        self.watch.on_driver_entry = self._initialised
        self.watch.on_new_extension = self._discovered
        self.watch.on_stop = self.read_nodes
        self.watch.points.stack.modules = lambda: [*self._modules, *session.modules()]
        self.watch.describe = self._described
        self.rebooted = self._is_finished = False
        self._stop_wanted = False
        self._modules: list[Module] = []
        self._known: dict[int, tuple[Node, Fact]] = {}  #: nodes as they were read last

    # -- beginning and ending ------------------------------------------------------------------

    def look(self) -> find.Found:
        """Tells the target and its filters; changes nothing."""
        session = self.session
        started = session.clock().host_ns
        self._sink(header(__version__, session.backend, session.path, started))
        self._sink(
            {
                "fact": "machine", "build": plain(session.build), "host": started,
                "architecture": plain(session.architecture), "pointer_size": session.pointer_size,
                "processors": plain(session.processors()),
            }
        )  # fmt: skip
        self.watch.tell_bugcheck()
        found = find.filters(session)
        self._modules = found.modules
        for module in found.modules:
            self._sink(module_fact(module))
        for _, node, _, fact in self._nodes(found):
            self._tell_node(node, fact)
        return found

    def begin(self, routines: Sequence[Routine] = (), tsc_hz: int | None = None) -> None:
        """Tells the target, finds its filters and watches their callbacks."""
        found = self.look()
        clock = find.frequency(self.session, tsc_hz)
        if clock is not None:
            self._sink(clock)
            self.watch.hz = clock["hz"]
        known = set()
        for name, node, stack, _ in self._nodes(found):
            known.add(name)
            self._arm_node(node, name, stack)
        for module in found.stack_modules:
            if module.role == roles.FILTER and module.name not in known:
                why = Absent("not-found", "its node was not found")
                self.watch.not_armed(None, str(module.name), why)
        for routine in routines:
            address = self.session.resolve(routine.expression)
            if isinstance(address, Absent):
                self.watch.not_armed(routine.callback, routine.filter, address)
            else:
                self.watch.arm(self._named(routine, address), address, None)
        session = self.session
        session.on("load", self._guarded(self._loaded))
        session.on("unload", self._guarded(self._unloaded))
        session.on("reboot", self._guarded(self._rebooted))
        session.on("stand", self._guarded(self._stands))

    def run(self, timeout: float, patience: int = PATIENCE) -> str:
        """Lets the target run until the time is up or something ends the capture; why it ended."""
        deadline = time.monotonic() + timeout
        idle = 0
        while True:
            left = deadline - time.monotonic()
            if self._is_stopping():
                return "stopped by the user"
            if left <= 0:
                return "the time limit was reached"
            calls = self.watch.calls
            stop = self.session.resume(left)
            if self.rebooted:
                return "the target rebooted"
            if stop.kind == "timeout":
                return "the time limit was reached"
            if self.watch.reason:
                return self.watch.reason
            if self._is_stopping():
                return "stopped by the user"
            self._sink(
                {
                    "fact": "stop", "kind": stop.kind, "address": hexadecimal(stop.address),
                    "cpu": plain(stop.processor), "detail": stop.detail,
                    "host": self.session.clock().host_ns if stop.kind != "ended" else None,
                }
            )  # fmt: skip
            if stop.kind == "ended":
                self.watch.points.forget()
                return stop.detail or "the target is gone"
            self.watch.tell_bugcheck()
            idle = idle + 1 if self.watch.calls == calls else 0
            if idle >= patience:
                return f"the target stopped {idle} times without a call in between"

    def _is_stopping(self) -> bool:
        return self._stop_wanted

    def stop(self) -> None:
        """Asks the capture to end; callable from any thread."""
        self._stop_wanted = True
        self.session.interrupt()

    def finish(self, reason: str) -> None:
        """Removes every breakpoint and writes the end; a second call does nothing."""
        if self._is_finished:
            return
        self._is_finished = True
        if not self.watch.points.is_over:
            self.read_nodes()
        self.watch.end(self.rebooted)
        for text in self.session.errors:
            self._sink({"fact": "error", "text": text})
        self._sink(
            {
                "fact": "end", "reason": reason, "calls": self.watch.calls,
                "returned": self.watch.returned, "host": time.time_ns(),
            }
        )  # fmt: skip

    # -- arming --------------------------------------------------------------------------------

    @staticmethod
    def _nodes(found: find.Found) -> Iterator[tuple[str | None, Node, str, Fact]]:
        """(filter, node, stack, what the fact tells of its place) of each node."""
        for ring in found.rings:
            head = ring.head if isinstance(ring.head, int) else None
            for place, node in enumerate(ring.nodes):
                module = filter_module(found.stack_modules, node)
                fact: Fact = {
                    "stack": ring.stack, "index": place, "head": hexadecimal(head),
                    "count": plain(ring_count(ring)), "how": ring.how,
                }  # fmt: skip
                yield None if module is None else str(module.name), node, ring.stack, fact

    def _named(self, routine: Routine, address: int) -> Routine:
        """The routine with the module and the stack that hold its address."""
        module = module_at(self._modules, address)
        if module is None:
            return routine
        stack = module.stack if isinstance(module.stack, str) else None
        return routine._replace(filter=str(module.name), stack=stack)

    def _discovered(self, extension: int, armed: Armed) -> None:
        """A routine was given an extension of no known node: the node lies around it."""
        stack_modules = [m for m in self._modules if m.stack and m.loaded]
        node = find.node_around(self.session, stack_modules, extension)
        if isinstance(node, Absent):
            return
        routine = armed.routine
        armed.layout = node.layout
        how = f"around the extension given to {routine.callback}"
        self._tell_node(node, {"stack": routine.stack or "", "how": how})
        self._arm_node(node, routine.filter, routine.stack)

    def _arm_node(self, node: Node, name: str | None, stack: str | None) -> None:
        if isinstance(node.address, int):
            self.watch.extensions.add(node.address + node.layout.extension)
        for _, callback, address in node.callbacks():
            if address and not (callback in MANY and self.watch.writes.is_off):
                routine = Routine(callback, f"{address:#x}", name, stack or None)
                self.watch.arm(routine, address, node.layout)

    def _guarded(self, take: Callable[..., None]) -> Callable[..., None]:
        """An event of this capture: what goes wrong is a fact, after the end it is passed over."""

        def event(*values: object) -> None:
            try:
                if not self.watch.ended:
                    take(*values)
            except Exception as error:  # noqa: BLE001 - called by the engine while the target stands still
                self._sink({"fact": "error", "text": f"{type(error).__name__}: {error}"})

        return event

    def _stands(self, why: str) -> None:
        """Somebody else stopped the target: what is under way takes longer for it."""
        if self.watch.under_way:
            session = self.session
            self._sink(
                {
                    "fact": "stop", "kind": "stand", "cpu": plain(session.current_processor()),
                    "detail": f"a stop of the debugger's user ({why})",
                    "host": session.clock().host_ns,
                }
            )  # fmt: skip

    def _rebooted(self) -> None:
        """Addresses of the boot that is over mean nothing any more."""
        self.rebooted = True
        self._sink({"fact": "reboot", "host": self.session.clock().host_ns})
        self.watch.end(is_gone=True)

    def _unloaded(self, base: int) -> None:
        """A driver is gone: nothing of it is watched any more, until it is loaded again."""
        module = next((m for m in self._modules if m.base == base and m.loaded), None)
        if module is None or not isinstance(module.end, int):
            return
        self._modules = [m for m in self._modules if m is not module]
        for armed in self.watch.unloaded(base, module.end):
            layout = armed.layout
            self._known = {k: v for k, v in self._known.items() if v[0].layout is not layout}
        self._sink(
            {
                **module_fact(module), "loaded": False, "unloaded": True,
                "host": self.session.clock().host_ns,
            }
        )  # fmt: skip

    # -- nodes ---------------------------------------------------------------------------------

    def _tell_node(self, node: Node, fact: Fact) -> None:
        self._sink({**node_fact(node), **fact})
        if isinstance(node.address, int):
            self._known[node.address] = node, fact

    def read_nodes(self) -> None:
        """Tells each node that is no longer as it was: crashdmp writes a filter's state there."""
        for address, (node, fact) in list(self._known.items()):
            data = self.session.read(address, len(node.data))
            if isinstance(data, bytes) and data != node.data:
                now = node._replace(data=data)
                self._tell_node(now, {**fact, "host": self.session.clock().host_ns})

    def _loaded(self, name: str, base: int) -> None:
        """A driver was loaded: of a dump stack, its DriverEntry is watched, which gets the node."""
        if not roles.split_prefix(name)[0]:
            return
        image = find.header(self.session, base)
        none = Absent("not-recorded", "the load event does not tell it")
        length = 0x1000 if isinstance(image, Absent) else image.size_of_image
        loaded = Module._make([none] * len(Module._fields))._replace(
            name=name, base=base, end=base + length, size=length, loaded=True, role=None,
            stack=None, origin=Origin(self.session.path, "load event"),
        )  # fmt: skip
        kept = [m for m in self._modules if m.base != base]
        self._modules = roles.classify([*kept, loaded])
        module = next(m for m in self._modules if m.base == base)
        self._sink({**module_fact(module), "late": True, "host": self.session.clock().host_ns})
        if module.role != roles.FILTER:
            return
        if isinstance(image, Absent) or not image.entry_point:
            why = image if isinstance(image, Absent) else "the image has no entry point"
            self.watch.not_armed(DRIVER_ENTRY, name, why)
            return
        start = base + image.entry_point
        self.watch.disarm(start)  # the image of an earlier load lay there too
        self.watch.arm(Routine(DRIVER_ENTRY, f"{start:#x}", name, str(module.stack)), start, None)

    def _initialised(self, call: Open) -> None:
        """A filter's DriverEntry returned: its FILTER_INITIALIZATION_DATA is filled in now."""
        routine = call.armed.routine
        stack_modules = [m for m in self._modules if m.stack and m.loaded]
        node: Node | Absent = Absent("not-found", "DriverEntry's argument cannot be read")
        if isinstance(call.node, int):
            node = find.node_at(self.session, stack_modules, call.node)
        if isinstance(node, Absent):
            self.watch.not_armed(None, routine.filter, node)
        else:
            fact: Fact = {"stack": routine.stack or "", "how": AT_DRIVER_ENTRY}
            self._tell_node(node, fact)
            self._arm_node(node, routine.filter, routine.stack)

    def _described(self, call: Open, fact: Fact) -> list[str]:
        """Where the target stands: the call, its status, the stack."""
        routine = call.armed.routine
        name = ntstatus.name(int(fact["status"] or "0", 16))
        status = fact["status"] if not isinstance(name, str) else f"{fact['status']} ({name})"
        lines = [f"{routine.callback} of {routine.filter or 'an unnamed filter'} returned {status}"]
        return lines + [f"  {frame.name}" for frame in self.watch.points.stack.frames()]


def node_fact(node: Node) -> Fact:
    """A filter's node as a fact."""
    return {
        "fact": "node", "address": hexadecimal(node.address), "layout": node.layout.name,
        "bytes": node.data.hex(),
    }  # fmt: skip


def module_fact(module: Module) -> Fact:
    """A module as a fact."""
    return {
        "fact": "module", "name": str(module.name), "base": hexadecimal(module.base),
        "size": plain(module.size), "stamp": hexadecimal(module.time_date_stamp),
        "checksum": hexadecimal(module.checksum), "loaded": bool(module.loaded),
    }  # fmt: skip
