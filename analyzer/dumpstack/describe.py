"""Rings and nodes into Filter, Extension and Callback records.

Invariant: every filter known by its module or by its node gets one row in each table; a field that was
not read is absent with the reason, one that was rebuilt from the dump stack context is marked so.
Standard library only.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..absence import Absent
from ..layouts import ntdddump
from ..layouts.crashdmp import STATE_DISABLED
from ..names import ntstatus
from ..records import Callback, Extension, Filter, Module, Origin, Structure
from ..target import Target, module_at, symbol
from .context import Tail
from .nodes import Node
from .roles import FILTER
from .walk import Ring, filter_module

LIVE = "a live session (dumpstart capture) or the filter's own trace events"
BIGGER = "a kernel or complete memory dump"


class Failure(NamedTuple):
    """The last failing filter routine that crashdmp recorded."""

    routine: int | Absent
    status: int | Absent
    confidence: str
    address: int | None


class Described(NamedTuple):
    """The records made of all rings."""

    filters: list[Filter]
    extensions: list[Extension]
    callbacks: list[Callback]


def describe(
    target: Target,
    modules: Sequence[Module],
    rings: Sequence[Ring],
    failure: Failure,
    wrote_dump: str,
) -> Described:
    """Records of every filter. ``wrote_dump``: why Dump_Start was likely called, "" when unknown."""
    out = Described([], [], [])
    done: set[str] = set()
    placed = _place(modules, rings)
    for ring, node, module, index in placed:
        stack = ring.stack or (str(module.stack) if module and module.stack else None)
        name: str | Absent = (
            module.name  # type: ignore[assignment]
            if module is not None
            else Absent("not-found", "no routine of this node lies in a dump module")
        )
        if isinstance(name, str):
            done.add(name)
        _node_rows(out, target, modules, ring, node, name, stack, index, failure, wrote_dump)
    for module in modules:
        if module.role == FILTER and module.stack and module.loaded and module.name not in done:
            _module_rows(out, target, rings, module)
    return out


def _place(
    modules: Sequence[Module], rings: Sequence[Ring]
) -> list[tuple[Ring, Node, Module | None, int | None]]:
    """Every node with its ring, module and place in the list (None when the list is not whole)."""
    stack_modules = [m for m in modules if m.stack and m.loaded]
    rows = []
    for ring in rings:
        for place, node in enumerate(ring.nodes):
            index = place if isinstance(ring.head, int) else None
            rows.append((ring, node, filter_module(stack_modules, node), index))
    return rows


def _node_rows(
    out: Described,
    target: Target,
    modules: Sequence[Module],
    ring: Ring,
    node: Node,
    name: str | Absent,
    stack: str | None,
    index: int | None,
    failure: Failure,
    wrote_dump: str,
) -> None:
    init, layout = node.init, node.layout
    origin = Origin(
        target.path,
        f"{ring.how}; layout {layout.name} by content",
        "certain" if isinstance(ring.head, int) else "likely",
        node.file_offset,
        node.address,
    )
    state = node.state
    missing = Absent("not-in-dump", "the node is cut before its state word")
    failed = {
        routine for _, _, routine in node.callbacks() if routine and routine == failure.routine
    }
    failing = _failing(modules, name, failure)
    out.filters.append(
        Filter(
            name,
            stack,
            index
            if index is not None
            else Absent("not-found", "the list of this filter has no head"),
            ring_count(ring),
            node.address,
            layout.name,
            init.MajorVersion,
            init.MinorVersion,
            *_routines(node),
            init.DumpData,
            init.MaxPagesPerWrite,
            init.Flags,
            flags_meaning(init),
            missing if state is None else bool(state & STATE_DISABLED),
            missing if state is None else state,
            *failing,
            origin,
        )
    )
    out.extensions.append(_extension(target, node, name, stack, origin))
    for member, callback, routine in node.callbacks():
        out.callbacks.append(
            _callback(
                target,
                modules,
                node,
                name,
                stack,
                callback,
                routine,
                routine in failed,
                failure,
                wrote_dump if member == "DumpStart" else "",
                origin,
            )
        )


def ring_count(ring: Ring) -> int | Absent:
    """How many filters crashdmp's list has."""
    if ring.count is not None:
        return ring.count
    if not isinstance(ring.head, int):
        return Absent("not-found", "the head of the list of filters was not found")
    return Absent(
        "not-found", f"the list of filters could not be walked to its end; at least {ring.least}"
    )


def structures(target: Target, modules: Sequence[Module], rings: Sequence[Ring]) -> list[Structure]:
    """Where the dump stack contexts and the heads of the filter lists lie."""
    found: list[Structure] = []
    pool = Absent("not-applicable", "not inside an image")

    def add(name: str, stack: str, address: int, detail: str, how: str) -> None:
        owner = module_at(modules, address)
        where = symbol(modules, address) if owner else pool
        found.append(
            Structure(
                name, stack or None, address, where, detail, target.origin(how, address, "likely")
            )
        )

    for ring in rings:
        if ring.tail is not None:
            tail = ring.tail
            routines = ", ".join(symbol(modules, word) for word in tail.routines)
            detail = "DISK_GEOMETRY_EX, attached device, filter list head"
            if routines:
                detail += f"; port routines {routines}"
            add("dump stack context (disk geometry)", ring.stack, tail.address, detail, ring.how)
        if isinstance(ring.head, int):
            count = ring_count(ring)
            detail = (
                f"{count} filter{'' if count == 1 else 's'}"
                if isinstance(count, int)
                else str(count)
            )
            add("filter list head", ring.stack, ring.head, detail, ring.how)
    return found


def _routines(node: Node) -> list[int | Absent]:
    there = {member: routine for member, _, routine in node.callbacks()}
    none = Absent("not-applicable", f"the {node.layout.name} layout has no such member")
    return [there.get(member, none) for member, _ in ntdddump.CALLBACKS]


def flags_meaning(init: Any) -> str:
    """Flags in words; bit 0 has two meanings and is told apart only as far as the rest tells."""
    words = []
    if init.Flags & ntdddump.DUMP_FILTER_FLAG_SYSTEM_SUPPORT_READ:
        if init.MajorVersion >= 2 and getattr(init, "DumpRead", 0):
            words.append("read support (bit 0 shares its value with DUMP_FILTER_CRITICAL)")
        else:
            words.append("DUMP_FILTER_CRITICAL or read support (the same bit)")
    if init.Flags & ntdddump.DUMP_FILTER_FLAG_SYSTEM_SUPPORT_FILTER_EXTENSION_EX:
        words.append("DUMP_FILTER_FLAG_SYSTEM_SUPPORT_FILTER_EXTENSION_EX")
    rest = init.Flags & ~3
    if rest:
        words.append(f"unknown bits {rest:#x}")
    return ", ".join(words) or "none"


def _failing(
    modules: Sequence[Module], name: str | Absent, failure: Failure
) -> tuple[Any, Any, Any]:
    """(routine in words, status, its name) for this filter."""
    if isinstance(failure.routine, Absent):
        return failure.routine, failure.status, failure.status
    owner = module_at(modules, failure.routine)
    if owner is None or owner.name != name:
        where = symbol(modules, failure.routine)
        other = Absent(
            "not-applicable", f"the last failing routine, {where}, is not of this filter"
        )
        return other, other, other
    status = failure.status
    words = status if isinstance(status, Absent) else ntstatus.name(status)
    return symbol(modules, failure.routine), status, words


def _callback(
    target: Target,
    modules: Sequence[Module],
    node: Node,
    name: str | Absent,
    stack: str | None,
    callback: str,
    routine: int,
    failed: bool,
    failure: Failure,
    wrote_dump: str,
    origin: Origin,
) -> Callback:
    calls = Absent("not-recorded", "a dump keeps no record of single calls", LIVE)
    status: int | Absent = Absent(
        "not-recorded", "a dump keeps no return status of a callback", LIVE
    )
    status_name: str | Absent = status  # type: ignore[assignment]
    called: str | Absent = calls
    time = Absent("not-recorded", "a dump keeps no clock of a callback", LIVE)
    if not routine:
        called = "no"
        status = status_name = time = Absent(
            "not-applicable", "the filter registered no such routine"
        )
    elif failed and isinstance(failure.status, int):
        called, status, status_name = "yes", failure.status, ntstatus.name(failure.status)
        origin = origin._replace(
            how=f"{origin.how}; status from crashdmp's last failing routine",
            confidence=failure.confidence,
        )
    elif wrote_dump and node.state is not None and not node.state & STATE_DISABLED:
        called = "likely"
        origin = origin._replace(how=f"{origin.how}; called: {wrote_dump}")
    address = node.address
    return Callback(
        name,
        stack,
        callback,
        routine,
        symbol(modules, routine)
        if routine
        else Absent("not-applicable", "no such routine registered"),
        None,
        called,
        time,
        time,
        time,
        time,
        time,
        time,
        time,
        status,
        status_name,
        address if isinstance(address, Absent) else address + node.layout.extension,
        origin,
    )


# -- FILTER_EXTENSION --------------------------------------------------------------------------


def _extension(
    target: Target, node: Node, name: str | Absent, stack: str | None, origin: Origin
) -> Extension:
    extension = node.extension
    place = node.layout.extension
    address = node.address
    older = Absent("not-applicable", "FILTER_EXTENSION has no such member before Windows 8")
    return Extension(
        name,
        stack,
        address if isinstance(address, Absent) else address + place,
        extension.DumpType,
        ntdddump.FILTER_DUMP_TYPES.get(extension.DumpType, "invalid"),
        extension.DeviceObject,
        *_geometry(extension.Geometry),
        extension.DiskSize & 0xFFFF_FFFF_FFFF_FFFF,
        *_partition(extension.PartitionInfo),
        extension.DumpData,
        getattr(extension, "Size", older),
        getattr(extension, "Flags", older),
        False,
        origin._replace(
            file_offset=None if node.file_offset is None else node.file_offset + place,
            address=address if isinstance(address, Absent) else address + place,
        ),
    )


def _geometry(geometry: ntdddump.DISK_GEOMETRY) -> tuple[Any, ...]:
    return (
        geometry.Cylinders,
        geometry.MediaType,
        ntdddump.MEDIA_TYPES.get(geometry.MediaType, "invalid"),
        geometry.TracksPerCylinder,
        geometry.SectorsPerTrack,
        geometry.BytesPerSector,
    )


def _partition(info: Any) -> tuple[Any, ...]:
    style = info.PartitionStyle
    other = Absent("not-applicable", "the partition style is another")
    is_mbr = style == ntdddump.PARTITION_STYLE_MBR
    is_gpt = style == ntdddump.PARTITION_STYLE_GPT
    return (
        info.SizeOfPartitionInfo,
        style,
        ntdddump.PARTITION_STYLES.get(style, "invalid"),
        info.Mbr.Signature if is_mbr else other,
        info.Mbr.CheckSum if is_mbr else other,
        str(uuid.UUID(bytes_le=bytes(info.Gpt.DiskId))) if is_gpt else other,
    )


def _module_rows(out: Described, target: Target, rings: Sequence[Ring], module: Module) -> None:
    """Rows of a filter of which only the image is known: no node was read."""
    name, stack = module.name, module.stack
    ring = next((r for r in rings if r.stack == stack), None)
    origin = module.origin._replace(how="known by its module alone", confidence="likely")
    if ring is not None and ring.count is not None and ring.count == len(ring.nodes):
        why = Absent("not-found", "the list of filters was read and this module has no node in it")
    elif ring is not None and ring.unread:
        why = ring.unread[0][1]
    elif ring is not None:
        why = Absent("not-found", "no node of this filter was found", BIGGER)
    else:
        why = Absent("not-in-dump", "the filter's node is not in this dump", BIGGER)
    values = {field: why for field in Filter._fields}
    count = why if ring is None else ring_count(ring)
    out.filters.append(
        Filter(
            **{**values, "filter": name, "stack": stack, "ring_count": count, "origin": origin}  # type: ignore[arg-type]
        )
    )
    nothing = {field: why for field in Extension._fields}
    row = Extension(
        **{**nothing, "filter": name, "stack": stack, "is_reconstructed": False, "origin": origin}  # type: ignore[arg-type]
    )
    tail = ring.tail if ring is not None else None
    listed = ring is None or ring.count is None or ring.count > len(ring.nodes)
    out.extensions.append(reconstructed(target, row, tail) if tail and listed else row)
    status = Absent("not-recorded", "a dump keeps no return status of a callback", LIVE)
    time = Absent("not-recorded", "a dump keeps no clock of a callback", LIVE)
    empty = {field: why for field in Callback._fields}
    out.callbacks.append(
        Callback(
            **{  # type: ignore[arg-type]
                **empty,
                "filter": name,
                "stack": stack,
                "callback": "Dump_Start",
                "call": None,
                "was_called": Absent(
                    "not-recorded", "a dump keeps no record of single calls", LIVE
                ),
                "status": status,
                "status_name": status,
                "origin": origin,
                **{f: time for f in Callback._fields if "duration" in f or "clock" in f},
                "entry_time": time,
                "processor": time,
            }
        )
    )


def reconstructed(target: Target, row: Extension, tail: Tail) -> Extension:
    """The fields that crashdmp copies from the dump stack context into a FILTER_EXTENSION."""
    kind = {"crash": 1, "hibernation": 2}.get(str(tail.stack or row.stack))
    origin = target.origin(
        "reconstructed from the dump stack context that crashdmp fills FILTER_EXTENSION from",
        tail.address,
        "likely",
    )
    type_: int | Absent = Absent("not-found", "crash or hibernation stack: not known")
    return row._replace(
        dump_type=kind if kind else type_,
        dump_type_name=ntdddump.FILTER_DUMP_TYPES[kind] if kind else type_,
        device_object=tail.attached_device,
        **dict(
            zip(
                Extension._fields[6:12],
                _geometry(tail.geometry),
            )
        ),
        disk_size=tail.disk_size,
        **dict(
            zip(
                Extension._fields[13:19],
                _partition(tail.partition),
            )
        ),
        is_reconstructed=True,
        origin=origin,
    )
