"""FILTER_EXTENSIONs of a capture: as the node held them, as a callback was given and left them.

Invariant: bytes are decoded by the layouts of dumps; what a callback changed is told member by
member. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..absence import Absent
from ..dumpstack.describe import Failure, describe
from ..dumpstack.nodes import Node
from ..dumpstack.walk import Ring
from ..layouts.crashdmp import NodeLayout, node_layouts
from ..layouts.ntdddump import WINDOWS_8
from ..records import Address, Anomaly, Evidence, Extension, Origin
from ..target import Target
from .capture_calls import Call
from .capture_format import DRIVER_ENTRY

_OTHERWISE = Absent("not-recorded", "a capture tells the status of each call instead")
NO_FAILURE = Failure(_OTHERWISE, _OTHERWISE, "certain", None)
_NO_DATA_YET = Absent(
    "unset",
    "DriverEntry is what gives it; crashdmp copies it from FILTER_INITIALIZATION_DATA behind that",
    "a call of the filter",
)
_NO_HEAD = Absent("not-recorded", "the capture does not tell it")
_NO_NODE = Absent("not-found", "no node that the capture holds has this FILTER_EXTENSION")


class Recorded(Target):
    """What a capture recorded, in the shape that the decoding of dumps wants."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, address: int, size: int) -> bytes | Absent:
        return Absent("not-recorded", "a capture holds the filters' nodes alone")


class _Sight(NamedTuple):
    """One sight of an extension."""

    call: Call
    address: int
    data: bytes
    layout: NodeLayout
    how: str
    offset: int

    def is_as(self, other: _Sight) -> bool:
        """True when both give equal rows."""
        same = self.data == other.data and self.layout is other.layout
        return same and self.call.routine is other.call.routine


class Extensions:
    """Takes the bytes that the facts of calls carry."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._seen: list[_Sight] = []
        self._first: dict[Address, _Sight] = {}
        self._last: dict[Address, _Sight] = {}
        self.nodes: dict[int, Node] = {}
        self._by_extension: dict[int, Node] = {}
        self.early: set[int] = set()  #: extensions of nodes that were read at DriverEntry
        self.anomalies: list[Anomaly] = []

    def layout(self, name: str | None = None) -> NodeLayout | None:
        """The node layout of a name; without one, that which the build makes likely."""
        build = self._target.build
        if name is None:
            name = "vista" if isinstance(build, int) and build < WINDOWS_8 else "win8"
        layouts = node_layouts(self._target.pointer_size)
        return next((layout for layout in layouts if layout.name == name), None)

    def add_node(self, address: int, node: Node) -> None:
        """A node that was read."""
        self.nodes[address] = node
        self._by_extension[address + node.layout.extension] = node

    def given(self, call: Call, data: bytes | None, offset: int) -> None:
        """The bytes at the entry of a call."""
        if data is not None and call.extension is not None:
            how = f"given to {call.routine.callback}, call {call.number}"
            self._note(call, call.extension, data, how, offset)

    def left(self, call: Call, data: bytes | None, offset: int) -> None:
        """The bytes at the return of a call."""
        if data is None or call.extension is None:
            return
        before = self._last.get(call.extension)
        how = f"as {call.routine.callback} left it, call {call.number}"
        after = self._note(call, call.extension, data, how, offset)
        if before is None or after is None:
            return
        changed = [
            (name, was, now)
            for name, was, now in zip(Extension._fields, self._row(before), self._row(after))
            if was != now and name not in ("origin", "filter", "stack")
        ]
        if len(changed) > 1:  # the raw bytes are told only where no named member changed
            changed = [entry for entry in changed if entry[0] != "raw_bytes"]
        if changed:
            names = ", ".join(name for name, _, _ in changed)
            text = f"{call.routine.callback} of {call.routine.label} changed its FILTER_EXTENSION: "
            self.anomalies.append(
                Anomaly(
                    "extension-changed-by-callback",
                    f"{text}{names}.",
                    Origin(self._target.path, how, "certain", offset, call.extension),
                    call.routine.filter or "",
                    tuple(
                        Evidence(name, f"{_shown(was)} -> {_shown(now)}")
                        for name, was, now in changed
                    ),
                )
            )

    def rows(self, described: Sequence[Extension]) -> Iterator[Extension]:
        """The records: a node's own unless a call was given the same, then each change."""
        for row in described:
            known = _early(row) if row.extension in self.early else row
            ends = (self._first.get(row.extension), self._last.get(row.extension))
            if known[:-1] not in [self._row(seen)[:-1] for seen in ends if seen is not None]:
                yield known
        last: dict[int, tuple[object, ...]] = {}
        for seen in self._seen:
            row = self._row(seen)
            if last.get(seen.address) != row[:-1]:
                yield row
            last[seen.address] = row[:-1]

    def _note(self, call: Call, address: int, data: bytes, how: str, offset: int) -> _Sight | None:
        node = self._by_extension.get(address)
        layout = self.layout() if node is None else node.layout
        if layout is None:
            return None
        seen = _Sight(call, address, data, layout, how, offset)
        before = self._last.get(address)
        if before is None or not before.is_as(seen):  # thousands of calls are given the same
            self._seen.append(seen)
        self._first.setdefault(address, seen)
        self._last[address] = seen
        return seen

    def _row(self, seen: _Sight) -> Extension:
        layout, routine = seen.layout, seen.call.routine
        room = layout.link - layout.extension
        whole = bytes(layout.extension) + seen.data[:room].ljust(room, b"\0")
        node = Node(layout, seen.address - layout.extension, whole.ljust(layout.size, b"\0"), 0)
        ring = Ring(str(routine.stack or ""), _NO_HEAD, None, (node,), (), "", None, 1, seen.how)
        row = describe(self._target, (), [ring], NO_FAILURE, "").extensions[0]
        unnamed = Absent("not-recorded", "the capture names no filter")
        origin = Origin(self._target.path, seen.how, "certain", seen.offset, seen.address)
        whose = self._by_extension.get(seen.address)
        row = row._replace(
            filter=routine.filter or unnamed,
            stack=routine.stack,
            node=_NO_NODE if whose is None else whose.address,
            origin=origin,
        )
        return _early(row) if routine.callback == DRIVER_ENTRY else row


def _early(row: Extension) -> Extension:
    """An extension around DriverEntry: a DumpData of zero says nothing yet."""
    return row._replace(dump_data=_NO_DATA_YET) if row.dump_data == 0 else row


def _shown(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)
