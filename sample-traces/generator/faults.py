"""What goes wrong in the broken variants: changes of the machine, of its memory, or of the file.

Invariant: a change tells `truth` what it did, so that truth and memory stay the same story.
"""

from __future__ import annotations

import struct
from typing import Callable

from . import images, stack
from .machine import Machine
from .world import PAGE


def row(m: Machine, original: str = "") -> dict:
    """The crash stack's node of a filter; default: the second filter."""
    name = "dump_" + (original or m.last_filter_name)
    return next(f for f in m.truth["filters"] if f["filter"] == name and f["stack"] == "crash")


def setting(**values) -> Callable:
    """Changes attributes of the machine before it is built."""
    return lambda m: [setattr(m, k, v) for k, v in values.items()]


def extension(**values) -> Callable:
    """Changes fields of the second filter's extension."""
    return lambda m: [stack.set_extension(m, row(m), k, v) for k, v in values.items()]


def init(**values) -> Callable:
    """Changes fields of the second filter's init data."""
    return lambda m: [stack.set_init(m, row(m), k, v) for k, v in values.items()]


def fail(status: int, original: str = "", routine: str = "DumpStart") -> Callable:
    """A filter's callback failed (default: the second's Dump_Start): state, routine and status."""

    def change(m: Machine) -> None:
        stack.set_state(m, row(m, original), 1)
        stack.set_failure(m, row(m, original)["init"][routine], status)

    return change


def ring(kind: str) -> Callable:
    """Damages the list of filters."""

    def change(m: Machine) -> None:
        first, last, pool = row(m, "dumpfve.sys")["link"], row(m)["link"], m.at["pool"]
        if kind == "loop":
            m.world.pointer(last, first)
        elif kind == "unmapped":
            m.world.pointer(last, pool + 0x35008)
        elif kind == "blink":
            m.world.pointer(last + m.ptr, pool + 0x3040)
        elif kind == "missing":
            row(m)["in_ring"] = False
            m.crash.link_filters()

    return change


def node_absent(m: Machine) -> None:
    """Leaves the pages of the nodes out."""
    for filter_row in m.truth["filters"]:
        m.world.drop(filter_row["node"], filter_row["size_of_node"])
        filter_row["stored"] = False


def crashdmp_absent(m: Machine) -> None:
    """Leaves crashdmp's pages out."""
    module = m.module("crashdmp.sys")
    m.world.drop(module["base"], 0x3000)
    m.world.drop(
        m.truth["context"]["crashdmp_context"], m.truth["context"]["crashdmp_context_size"]
    )
    m.world.drop(
        m.truth["context"]["crashdmp_context_copy"], m.truth["context"]["crashdmp_context_size"]
    )


def nodes_only(m: Machine) -> None:
    """Leaves crashdmp's pages and the dump stack context out."""
    crashdmp_absent(m)
    m.world.drop(m.crash.address, m.crash.size)


def change_stamp(m: Machine, name: str) -> None:
    """Changes a time stamp in the loader entry and in the image."""
    module = m.module(name)
    module["time_date_stamp"] ^= 0x1111
    if m.layout != "vista":  # older entries have no time stamp
        at = module["entry"] + (0x9C if m.wide else 0x58)
        m.world.pack(at, "I", module["time_date_stamp"])
    m.world.pack(module["base"] + 0x88, "I", module["time_date_stamp"])


def copy_differs(m: Machine) -> None:
    """Gives the second filter's copy another time stamp."""
    change_stamp(m, "dump_" + m.last_filter_name)


def context_differs(m: Machine) -> None:
    """The copy's pointer to the dump stack context is another one."""
    copy = m.truth["context"]["crashdmp_context_copy"]
    m.world.pointer(copy + (0x18 if m.wide else 0x20), m.at["pool"] + 0x7010)


def garbage_node(m: Machine) -> None:
    """Overwrites a node's init data."""
    m.world.write(row(m)["node"], bytes(range(0x41, 0x41 + 0x20)) + b"\xfe" * 0x10)


def break_module_list(m: Machine) -> None:
    """The sixth entry's link forward leads nowhere."""
    fifth = m.truth["modules"][5]["entry"]
    m.world.pointer(fifth, m.at["pool"] + 0x35000)


def torn_clock(m: Machine) -> None:
    """The two high words of SystemTime differ."""
    m.world.pack(m.at["kuser"] + 0x18, "I", m.world.read(m.at["kuser"] + 0x18, 1)[0] ^ 1)


def no_dump_stack(m: Machine) -> None:
    """Takes the stack's modules out of the list."""
    gone = [x for x in m.truth["modules"] if x["stack"] or x["name"] == "crashdmp.sys"]
    gone = [x for x in gone if x["loaded"]]
    kept = [x["entry"] for x in m.truth["modules"] if x["loaded"] and x not in gone]
    m.link([m.head, *kept])
    m.truth["modules"] = [x for x in m.truth["modules"] if x not in gone]
    m.truth["filters"] = []
    for module in gone:
        for rva in (0, images.TEXT, images.RDATA):
            m.world.write(module["base"] + rva, bytes(PAGE))
    m.world.write(m.at["pool"], bytes(PAGE))
    m.world.write(m.at["pool"] + 0x2000, bytes(PAGE))
    context = m.truth["context"]
    for name in ("crashdmp_context", "crashdmp_context_copy"):
        m.world.write(context[name], bytes(context["crashdmp_context_size"]))
    for item in m.truth["residue"]:
        m.world.pointer(item["address"], 0)
    m.truth["residue"], m.truth["context"] = [], {}


def hostile_names(m: Machine) -> None:
    """Renames a driver and the second filter."""
    m.extra_driver_name = "<img src=x onerror=alert(1)>\"'&.sys"
    m.last_filter_name = "a\x1b[2J\x1b[31mc\u202eme</td>|`.sys"


def slow(m: Machine) -> None:
    """One request took 12 seconds."""
    m.requests[4]["start"] = m.requests[4]["end"] - 120000000  # 12 s


def failed(m: Machine) -> None:
    """One request ended with an error."""
    m.requests[3].update(status=0x84, error=0x4)  # SRB_STATUS_ERROR with auto-sense


def in_flight(m: Machine) -> None:
    """Four more requests have no end."""
    for number in (1, 2, 3, 4):
        m.requests[number].update(end=0, status=0x20, error=0xDF + number, in_flight=True)


def impossible(m: Machine) -> None:
    """The second filter's structures hold what no driver writes."""
    stack.set_init(m, row(m), "MaxPagesPerWrite", 0x41414141)
    stack.set_extension(m, row(m), "MediaType", 0x1A)


def worst(m: Machine) -> None:
    """Several things at once, as a filter that failed at the worst time leaves them."""
    fail(stack.FAILED_START)(m)
    stack.set_init(m, row(m), "DumpWrite", m.at["nt"] + 0x1080)
    stack.set_extension(m, row(m), "DeviceObject", 0)
    stack.set_extension(m, row(m), "BytesPerSector", 513)
    copy_differs(m)
    slow(m)
    failed(m)


def set_word(part: bytearray, offset: int, value: int, form: str = "<I") -> None:
    """Writes a number into a part of the file."""
    struct.pack_into(form, part, offset, value)


def bits_mismatch(parts) -> None:
    """One page less is claimed than the bitmap has bits."""
    pages = parts.pages - 1
    parts.map = bytearray(parts.map)
    if parts.machine.spec.dump_type == 2:
        set_word(parts.map, 0x14, pages)
    else:
        set_word(parts.map, 0x28, pages, "<Q")


def bad_map(parts) -> None:
    """A first-page offset inside the header, or runs that do not add up."""
    m, kind = parts.machine, parts.machine.spec.dump_type
    parts.map = bytearray(parts.map)
    if kind == 1:
        at = 0x90 if m.wide else 0x68
        set_word(parts.header, at, parts.pages + 9, "<Q" if m.wide else "<I")
    elif kind == 2:
        set_word(parts.map, 0xC, 0x10)
    else:
        set_word(parts.map, 0x20 if kind in (5, 6) else 0x18, 0x10, "<Q")


def damage_blob(parts) -> None:
    """The storport block claims more bytes than the file has."""
    blob = bytearray(parts.blob)
    set_word(blob, 0x10 + 0x20 + 0x14, 0x7FFFFFF0)
    parts.blob = bytes(blob)
    parts.machine.truth["requests"] = []


def encrypt(parts) -> None:
    """Makes the pages unreadable."""
    parts.scrambled = True


def cut(where: str) -> Callable:
    """Ends the file early."""

    def change(parts) -> None:
        m = parts.machine
        start = len(parts.header)
        end_of_pages = parts.first_page + parts.pages * PAGE
        parts.cut_at = {
            "header": start * 3 // 4,
            "map": start + 0x3A,
            "page": parts.first_page + parts.pages // 2 * PAGE + 0x123,
            "half": parts.first_page + parts.pages // 2 * PAGE,
            "last": end_of_pages - 0x10,
            "blob": parts.size - 0x200,
            "triage": parts.first_page - 4 - len(parts.map) // 3,
            "mark": parts.first_page - 2,
        }[where]
        m.truth["cut_at"] = parts.cut_at
        m.truth["may_refuse"] = where == "header"
        if where != "blob":
            m.truth["tags"] = []
        m.truth["requests"] = []
        if parts.frames and parts.frames.filler == 0:
            whole = max(0, parts.cut_at - parts.first_page) // PAGE
            parts.whole_frames = whole

    return change


def lose_mark(parts) -> None:
    """The end mark of a small dump is zero, as when the end was never written."""
    parts.map = parts.map[:-4] + bytes(4)
