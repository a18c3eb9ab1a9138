"""The module lists of a page dump: nt's loaded list and its memory of unloaded drivers.

Invariant: the walk is bounded and never trusts a link: a broken forward chain is completed from the
back, and what is missing is noted. Roles are not decided here (:mod:`analyzer.dumpstack.roles`).
Sources: public types of _KLDR_DATA_TABLE_ENTRY and _UNLOADED_DRIVERS; PE/COFF specification.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ..absence import Absent
from ..layouts import mindumpdef
from ..layouts.modules import KLDR, STAMP_IN_KLDR, UNLOADED
from ..records import Module, Origin

if TYPE_CHECKING:
    from .kernel import KernelDump

MAX_MODULES = 4096
#: characters of a path; longer names are damage
MAX_NAME = 1024
#: nt keeps the last 50 unloaded drivers (MI_UNLOADED_DRIVERS)
UNLOADED_ENTRIES = 50


#: DUMP_FILE_ATTRIBUTES.EncryptedDumpData
ENCRYPTED = 0x100


def module(
    name: str | Absent, base: int, size: int, stamp: int | Absent, checksum: int | Absent,
    order: int | None, origin: Origin, is_loaded: bool = True,
) -> Module:  # fmt: skip
    """A module record without its role; the image key is that of symbol servers."""
    key: str | Absent
    if isinstance(stamp, int) and size:
        key = f"{stamp:08X}{size:x}"
    else:
        key = Absent("not-recorded", "no time stamp of the image")
    return Module(
        name, base, base + size, size, None, None, is_loaded, stamp, checksum, key, None, None,
        order, origin,
    )  # fmt: skip


def loaded_modules(dump: KernelDump) -> list[Module]:
    """Modules of PsLoadedModuleList in load order; notes a list that breaks off."""
    head = dump.file.number("PsLoadedModuleList")
    if isinstance(head, Absent):
        return []
    links = dump.unpack("QQ" if dump.pointer_size == 8 else "II", head)
    attributes = dump.file.number("Attributes")
    if isinstance(attributes, int) and attributes & ENCRYPTED and isinstance(links, Absent):
        return []  # the encrypted pages are reported once, not by each thing they hide
    if isinstance(links, Absent):
        dump.file.note(
            "modules-incomplete",
            f"the head of nt's module list at {head:#x} cannot be read: {links}",
            subject="PsLoadedModuleList",
        )
        return []
    forward, why = _walk(dump, links[0], head, 0, set())
    entries = list(forward)
    if why:
        seen = {address for address, _ in forward}
        backward, _ = _walk(dump, links[1], head, dump.pointer_size, seen)
        entries += reversed(backward)
        dump.file.note(
            "modules-incomplete",
            f"nt's module list breaks after {len(forward)} modules ({why}); "
            f"{len(backward)} more were found from its end, others may be missing",
            subject="PsLoadedModuleList",
        )
    found = [_module(dump, address, data, order) for order, (address, data) in enumerate(entries)]
    note_nameless(dump, found, "the module list of nt")
    return found


def note_nameless(dump: KernelDump, found: list[Module], where: str) -> None:
    """Notes modules whose name is not there: what is missing among them cannot be told then."""
    nameless = [row for row in found if isinstance(row.name, Absent)]
    if nameless:
        names = "the name" if len(nameless) == 1 else "the names"
        dump.file.note(
            "modules-incomplete",
            f"{where} has {len(found)} modules, and {names} of {len(nameless)} cannot be read "
            f"({nameless[0].name}): which drivers they are is not known",
            subject="names of modules",
            offset=known_offset(nameless[0].origin),
        )


def known_offset(origin: Origin) -> int | None:
    """The file offset of an origin, None where it has none."""
    offset = origin.file_offset
    return offset if isinstance(offset, int) else None


def _walk(
    dump: KernelDump, first: int, head: int, link: int, seen: set[int]
) -> tuple[list[tuple[int, bytes]], str]:
    """Entries from ``first`` until the head; the sentence says why it ended before."""
    layout = KLDR[dump.pointer_size]
    form = "<Q" if dump.pointer_size == 8 else "<I"
    found: list[tuple[int, bytes]] = []
    seen, at = set(seen), first
    while at != head:
        if at in seen:
            return found, f"the link to {at:#x} closes a loop that misses the head"
        if len(found) >= MAX_MODULES:
            return found, f"more than {MAX_MODULES} entries"
        seen.add(at)
        data = dump.read(at, layout.size)
        if isinstance(data, Absent):
            return found, f"the entry at {at:#x} cannot be read: {data.detail}"
        if not layout.DllBase.read(data):
            return found, f"the entry at {at:#x} has no image base"
        found.append((at, data))
        (at,) = struct.unpack_from(form, data, link)
    return found, ""


def _module(dump: KernelDump, address: int, data: bytes, order: int) -> Module:
    layout = KLDR[dump.pointer_size]
    base, size = layout.DllBase.read(data), layout.SizeOfImage.read(data)
    name = dump.unicode_string(address + layout.BaseDllName.offset)
    if isinstance(name, Absent) or not name:
        full = dump.unicode_string(address + layout.FullDllName.offset)
        name = full.rsplit("\\", 1)[-1] if isinstance(full, str) and full else name
    if isinstance(name, str) and len(name) > MAX_NAME:
        name = Absent("out-of-range", f"the name states {len(name)} characters")
    if isinstance(name, str) and not name.strip("\0"):
        name = Absent("not-found", "there are zeros where the name should be" if name else "empty")
    stamp: int | Absent
    if isinstance(dump.build, int) and dump.build >= STAMP_IN_KLDR:
        stamp = layout.TimeDateStamp.read(data)
    else:
        stamp = image_time_stamp(dump, base)
    return module(
        name, base, size, stamp, layout.CheckSum.read(data), order,
        dump.origin("entry of nt's loaded module list", address),
    )  # fmt: skip


def image_time_stamp(dump: KernelDump, base: int) -> int | Absent:
    """TimeDateStamp out of the PE header in memory."""
    head = dump.read(base, 0x40)
    if isinstance(head, Absent):
        return head
    if head[:2] != b"MZ":
        return Absent("not-found", f"no MZ image at {base:#x}")
    (place,) = struct.unpack_from("<I", head, 0x3C)
    if place > 0x1000:
        return Absent("out-of-range", f"the PE header is stated {place:#x} bytes into the image")
    header = dump.read(base + place, 12)
    if isinstance(header, Absent):
        return header
    if header[:4] != b"PE\0\0":
        return Absent("not-found", f"no PE header at {base + place:#x}")
    return int(struct.unpack_from("<I", header, 8)[0])


def unloaded_modules(dump: KernelDump) -> list[Module]:
    """nt's array of unloaded drivers, oldest place first; empty entries are left out."""
    block = dump.debugger_data()
    if isinstance(block, Absent):
        return []
    field = mindumpdef.DEBUGGER_DATA.MmUnloadedDrivers.offset
    (variable,) = struct.unpack_from("<Q", block, field)
    if dump.pointer_size == 4:
        variable &= 0xFFFF_FFFF
    array = dump.pointer(variable)
    if isinstance(array, Absent) or not array:
        return []
    layout = UNLOADED[dump.pointer_size]
    found = []
    for index in range(UNLOADED_ENTRIES):
        at = array + index * layout.size
        data = dump.read(at, layout.size)
        if isinstance(data, Absent):
            break
        start, end = layout.StartAddress.read(data), layout.EndAddress.read(data)
        name = dump.unicode_string(at)
        if isinstance(name, str) and len(name) > MAX_NAME:
            name = Absent("out-of-range", f"the name states {len(name)} characters")
        if start and start < end <= start + (1 << 31) and name != "":
            found.append(
                module(
                    name,
                    start,
                    end - start,
                    Absent("not-recorded", "the list of unloaded drivers keeps no time stamp"),
                    Absent("not-recorded", "the list of unloaded drivers keeps no checksum"),
                    None,
                    dump.origin("entry of nt's unloaded driver list", at),
                    is_loaded=False,
                )
            )
    return found
