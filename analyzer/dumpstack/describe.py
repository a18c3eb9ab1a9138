"""Rings and nodes into Filter, Extension, Callback and Structure records.

Invariant: every filter known by its module or by its node gets one row in each table; a field that
was not read is absent with the reason, one that was rebuilt from the dump stack context is marked
so. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ..absence import Absent
from ..layouts import guids, ntdddump
from ..layouts.crashdmp import STATE_DISABLED
from ..names import drivers, ntstatus
from ..records import Callback, Code, Extension, Filter, Module, Origin, Structure, Text
from ..target import ModuleMap, Target, module_at
from .context import Tail
from .nodes import NOT_KNOWN, Node
from .roles import FILTER
from .walk import Ring, filter_module

_UNKNOWN = Absent("not-found", "a filter of this name is not known")
_LIVE = "a live session (dumpstart capture) or the filter's own trace events"
_BIGGER = "a kernel or complete memory dump"
#: what no dump keeps of a single call
_NO_CALLS = Absent("not-recorded", "memory keeps no record of single calls", _LIVE)
_NO_STATUS = Absent("not-recorded", "memory keeps no return status of a callback", _LIVE)
_NO_CLOCK = Absent("not-recorded", "memory keeps no clock of a callback", _LIVE)
_CLOCKS = dict.fromkeys(
    "processor entry_time entry_clock return_clock duration_ns duration_low_ns "
    "duration_high_ns".split(),
    _NO_CLOCK,
)


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
    """Records of every filter. ``wrote_dump``: why Dump_Start was likely called, "" if unknown."""
    out = Described([], [], [])
    modules = ModuleMap(modules)
    name_of = partial(target.symbol, modules)
    stack_modules = ModuleMap(m for m in modules if m.stack and m.loaded)
    done = set()
    for ring in rings:
        for place, node in enumerate(ring.nodes):
            module = filter_module(stack_modules, node)
            owner = _Owner.of(target, ring, place, node, module)
            done.add(owner.filter)
            failing = _failing(target, modules, owner.filter, failure)
            out.filters.append(_filter(ring, node, owner, failing))
            out.extensions.append(_extension(node, owner))
            out.callbacks.extend(_callbacks(name_of, node, owner, failure, wrote_dump))
    for module in stack_modules:
        if module.role == FILTER and module.name not in done:
            ring_of = next((r for r in rings if r.stack == module.stack), None)
            origin = module.origin._replace(how="its module alone", confidence="likely")
            _unread_rows(out, target, ring_of, module.name, module.stack, origin)
    named = {row.stack for row in out.filters}
    nobody = Absent("not-found", "crashdmp's list has this filter, but no listed module is one")
    for ring in rings:
        if not ring.stack or ring.stack in named or ring.problem:
            continue
        for link, reason in ring.unread:
            if reason.reason != "unknown-layout":
                origin = target.origin("link in crashdmp's list of filters", link, "likely")
                _unread_rows(out, target, ring, nobody, ring.stack, origin)
    return out


class _Owner(NamedTuple):
    """What the rows of one node share."""

    filter: Text
    stack: str | None
    place: int | Absent
    extension: int | Absent
    origin: Origin

    @staticmethod
    def of(target: Target, ring: Ring, place: int, node: Node, module: Module | None) -> _Owner:
        no_module = Absent("not-found", "no routine of this node lies in a dump module")
        no_head = Absent("not-found", "the list of this filter has no head")
        address = node.address
        has_head = isinstance(ring.head, int)
        return _Owner(
            no_module if module is None else module.name,
            ring.stack or (str(module.stack) if module is not None else None),
            place if has_head else no_head,
            address if isinstance(address, Absent) else address + node.layout.extension,
            Origin(
                target.path,
                f"{ring.how}; layout {node.layout.name} by content",
                "certain" if has_head else "likely",
                node.file_offset,
                address,
            ),
        )


def _filter(ring: Ring, node: Node, owner: _Owner, failing: tuple[Text, Code, Text]) -> Filter:
    init, state = node.init, node.state
    routines = {member: routine for member, _, routine in node.callbacks()}
    older = Absent("not-applicable", f"the {node.layout.name} layout has no such member")
    cut = Absent("not-in-dump", "the node is cut before its state word")
    if node.layout.state == NOT_KNOWN:
        why = f"the link stands at {node.layout.link:#x}, where no known layout has it"
        cut = Absent("unknown-layout", f"{why}; so the place of the state word is not known")
    routine, status, status_name = failing
    return Filter(
        filter=owner.filter, stack=owner.stack, ring_index=owner.place, ring_count=ring_count(ring),
        node=node.address, layout=node.layout.name, major_version=init.MajorVersion,
        minor_version=init.MinorVersion, dump_start=routines.get("DumpStart", older),
        dump_write=routines.get("DumpWrite", older), dump_finish=routines.get("DumpFinish", older),
        dump_unload=routines.get("DumpUnload", older), dump_read=routines.get("DumpRead", older),
        dump_pre_read_write=routines.get("DumpPreReadWrite", older), dump_data=init.DumpData,
        max_pages_per_write=init.MaxPagesPerWrite, flags=init.Flags,
        flags_meaning=flags_meaning(init),
        is_disabled=cut if state is None else bool(state & STATE_DISABLED),
        state=cut if state is None else state, last_failing_routine=routine,
        last_failing_status=status, last_failing_status_name=status_name,
        product=drivers.product(owner.filter) or _UNKNOWN, origin=owner.origin,
    )  # fmt: skip


def flags_meaning(init: ntdddump.Structure) -> str:
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
    target: Target, modules: Sequence[Module], name: Text, failure: Failure
) -> tuple[Text, Code, Text]:
    """(routine in words, status, its name) for this filter."""
    routine, status = failure.routine, failure.status
    named = status if isinstance(status, Absent) else ntstatus.name(status)
    if isinstance(routine, Absent):
        return routine, status, named
    owner = module_at(modules, routine)
    where = target.symbol(modules, routine)
    if owner is None or owner.name != name:
        other = Absent("not-applicable", f"the last failing routine, {where}, is of no such filter")
        return other, other, other
    return where, status, named


# -- callbacks ---------------------------------------------------------------------------------


def _callbacks(
    name_of: Callable[[int], str], node: Node, owner: _Owner, failure: Failure, wrote_dump: str
) -> list[Callback]:
    none = Absent("not-applicable", "the filter registered no such routine")
    enabled = node.state is not None and not node.state & STATE_DISABLED
    rows = []
    for member, name, routine in node.callbacks():
        row = Callback(
            filter=owner.filter, stack=owner.stack, node=node.address, callback=name,
            routine=routine, symbol=name_of(routine) if routine else None, call=None,
            was_called=_NO_CALLS, **(_CLOCKS if routine else dict.fromkeys(_CLOCKS, none)),
            status=_NO_STATUS, status_name=_NO_STATUS, extension=owner.extension,
            origin=owner.origin,
        )  # fmt: skip
        if not routine:
            row = row._replace(symbol=none, was_called="no", status=none, status_name=none)
        elif routine == failure.routine and isinstance(failure.status, int):
            how = f"{owner.origin.how}; status from crashdmp's last failing routine"
            row = row._replace(
                was_called="yes" if failure.confidence == "certain" else "likely",
                status=failure.status,
                status_name=ntstatus.name(failure.status),
                origin=owner.origin._replace(how=how, confidence=failure.confidence),
            )
        elif member == "DumpStart" and wrote_dump and enabled and owner.stack != "hibernation":
            how = f"{owner.origin.how}; called: {wrote_dump}"
            row = row._replace(was_called="likely", origin=owner.origin._replace(how=how))
        rows.append(row)
    return rows


# -- FILTER_EXTENSION --------------------------------------------------------------------------


def _extension(node: Node, owner: _Owner) -> Extension:
    extension = node.extension
    older = Absent("not-applicable", "FILTER_EXTENSION has no such member before Windows 8")
    offset = None if node.file_offset is None else node.file_offset + node.layout.extension
    row = Extension._make([None] * len(Extension._fields))._replace(
        filter=owner.filter, stack=owner.stack, node=node.address, extension=owner.extension,
        dump_type=extension.DumpType,
        dump_type_name=ntdddump.FILTER_DUMP_TYPES.get(extension.DumpType, "invalid"),
        device_object=extension.DeviceObject, disk_size=extension.DiskSize,
        dump_data=extension.DumpData, size=getattr(extension, "Size", older),
        flags=getattr(extension, "Flags", older), is_reconstructed=False,
        raw_bytes=bytes(extension).hex(),
        origin=owner.origin._replace(file_offset=offset, address=owner.extension),
    )  # fmt: skip
    return _with_disk(row, extension.Geometry, extension.PartitionInfo)


def _with_disk(row: Extension, geometry: ntdddump.Structure, info: ntdddump.Structure) -> Extension:
    style = info.PartitionStyle
    other = Absent("not-applicable", "the partition style is another")
    is_mbr = style == ntdddump.PARTITION_STYLE_MBR
    is_gpt = style == ntdddump.PARTITION_STYLE_GPT
    return row._replace(
        cylinders=geometry.Cylinders, media_type=geometry.MediaType,
        media_type_name=ntdddump.MEDIA_TYPES.get(geometry.MediaType, "invalid"),
        tracks_per_cylinder=geometry.TracksPerCylinder, sectors_per_track=geometry.SectorsPerTrack,
        bytes_per_sector=geometry.BytesPerSector, size_of_partition_info=info.SizeOfPartitionInfo,
        partition_style=style, partition_style_name=ntdddump.PARTITION_STYLES.get(style, "invalid"),
        mbr_signature=info.Mbr.Signature if is_mbr else other,
        mbr_checksum=info.Mbr.CheckSum if is_mbr else other,
        gpt_disk_id=guids.text_of(bytes(info.Gpt.DiskId)) if is_gpt else other,
    )  # fmt: skip


# -- filters of which no node was read ---------------------------------------------------------


def _unread_rows(
    out: Described, target: Target, ring: Ring | None, name: Text, stack: Text, origin: Origin
) -> None:
    """Rows of a filter of which only the image, or only the link to its node, is known."""
    if ring is None:
        why = Absent("not-in-dump", "the filter's node is not in this dump", _BIGGER)
        if hasattr(target, "pages"):  # all its memory was searched
            none = "neither a list of filters nor this filter's node was found in memory"
            why = Absent("not-found", none)
    elif ring.unread:
        why = ring.unread[0][1]
    elif ring.members == len(ring.nodes):
        why = Absent("not-found", "the list of filters was read and has no node of this module")
    else:
        why = Absent("not-found", "no node of this filter was found", _BIGGER)
    product = drivers.product(name) or _UNKNOWN
    count = why if ring is None else ring_count(ring)
    out.filters.append(
        Filter._make([why] * len(Filter._fields))._replace(
            filter=name, stack=stack, ring_count=count, product=product, origin=origin
        )
    )
    row = Extension._make([why] * len(Extension._fields))._replace(
        filter=name, stack=stack, is_reconstructed=False, origin=origin
    )
    is_listed = ring is not None and ring.members != len(ring.nodes)
    if ring is not None and ring.tail is not None and is_listed:
        row = _reconstructed(target, row, ring.tail)
    out.extensions.append(row)
    out.callbacks.append(
        Callback(
            filter=name, stack=stack, node=why, callback="Dump_Start", routine=why, symbol=why,
            call=None, was_called=_NO_CALLS, **_CLOCKS, status=_NO_STATUS, status_name=_NO_STATUS,
            extension=why, origin=origin,
        )
    )  # fmt: skip


def _reconstructed(target: Target, row: Extension, tail: Tail) -> Extension:
    """The fields that crashdmp copies from the dump stack context into a FILTER_EXTENSION."""
    kind = {"crash": 1, "hibernation": 2}.get(str(tail.stack or row.stack))
    unknown = Absent("not-found", "crash or hibernation stack: not known")
    how = "reconstructed from the dump stack context that crashdmp fills FILTER_EXTENSION from"
    row = row._replace(
        dump_type=unknown if kind is None else kind,
        dump_type_name=unknown if kind is None else ntdddump.FILTER_DUMP_TYPES[kind],
        device_object=tail.attached_device,
        disk_size=tail.disk_size,
        is_reconstructed=True,
        origin=target.origin(how, tail.address, "likely"),
    )
    return _with_disk(row, tail.geometry, tail.partition)


# -- the lists themselves ----------------------------------------------------------------------


def ring_count(ring: Ring) -> int | Absent:
    """How many filters crashdmp's list has."""
    if ring.members is not None:
        return ring.members
    if not isinstance(ring.head, int):
        return Absent("not-found", "the head of the list of filters was not found")
    return Absent(
        "not-found", f"the list of filters could not be walked to its end; at least {ring.least}"
    )


def structures(target: Target, modules: Sequence[Module], rings: Sequence[Ring]) -> list[Structure]:
    """Where the dump stack contexts and the heads of the filter lists lie."""
    found: list[Structure] = []
    pool = Absent("not-applicable", "not inside an image")

    def add(name: str, ring: Ring, address: int, detail: str) -> None:
        where = target.symbol(modules, address) if module_at(modules, address) else pool
        origin = target.origin(ring.how, address, "likely")
        found.append(Structure(name, ring.stack or None, address, where, detail, origin))

    for ring in rings:
        if ring.tail is not None:
            routines = ", ".join(target.symbol(modules, word) for word in ring.tail.routines)
            detail = "DISK_GEOMETRY_EX, attached device, filter list head"
            detail += f"; port routines {routines}" if routines else ""
            add("dump stack context (disk geometry)", ring, ring.tail.address, detail)
        if isinstance(ring.head, int):
            count = ring_count(ring)
            detail = str(count)
            if isinstance(count, int):
                detail = f"{count} filter{'' if count == 1 else 's'}"
            add("filter list head", ring, ring.head, detail)
    return found
