"""The variants: healthy machines and machines with exactly one thing wrong, with the rules they raise.

Invariant: a variant is a row of the table below; `rules` are the findings that a correct analysis of the
file must have among its own.
"""

from __future__ import annotations

import struct
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from . import images, secondary, stack
from .layouts import DUMP_TYPES
from .machine import Machine
from .world import PAGE

PAGE_TYPES = tuple(t for t in DUMP_TYPES if t != 4)
BITMAP_TYPES = (2, 5, 6)
IN_FLIGHT = "storage-requests-in-flight"


class Variant(NamedTuple):
    """How a dump differs from the healthy one, and what must be said about it."""

    text: str
    rules: Tuple[str, ...] = ()
    before: Optional[Callable] = None  # machine, before anything is placed
    memory: Optional[Callable] = None  # machine, when all memory is placed
    file: Optional[Callable] = None  # parts of the file
    types: Tuple[int, ...] = PAGE_TYPES
    layouts: Tuple[str, ...] = ("vista", "win8", "newest")
    archs: Tuple[str, ...] = ("x64", "arm64", "x86-pae", "x86")
    healthy: bool = False
    in_flight: bool = True  # whether the usual request in flight can still be seen

    def applies(self, arch: str, dump_type: int, layout: str) -> bool:
        wide_only = dump_type in (8, 9, 10) and arch in ("x86-pae", "x86")
        fits = dump_type in self.types and arch in self.archs and layout in self.layouts
        return fits and not wide_only

    @property
    def expected(self) -> Tuple[str, ...]:
        return self.rules + ((IN_FLIGHT,) if self.in_flight else ())


VARIANTS: Dict[str, Variant] = {}


def add(name: str, text: str, *rules: str, **keys) -> None:
    VARIANTS[name] = Variant(text, rules, **keys)


def row(m: Machine, original: str = "") -> dict:
    """The crash stack's node of a filter; default: the second filter."""
    name = "dump_" + (original or m.last_filter_name)
    return next(f for f in m.truth["filters"] if f["filter"] == name and f["stack"] == "crash")


def setting(**values) -> Callable:
    return lambda m: [setattr(m, k, v) for k, v in values.items()]


def extension(**values) -> Callable:
    return lambda m: [stack.set_extension(m, row(m), k, v) for k, v in values.items()]


def init(**values) -> Callable:
    return lambda m: [stack.set_init(m, row(m), k, v) for k, v in values.items()]


# ---- healthy ---------------------------------------------------------------------------------------
add("healthy", "two filters, everything as it should be", healthy=True, types=DUMP_TYPES)
add("mbr", "the dump disk has an MBR", healthy=True, before=setting(mbr=True))
add("hibernation", "a hibernation stack is loaded too", healthy=True, before=setting(hibernation=True))
add("pcid", "the directory table base has low bits set", healthy=True, archs=("x64",),
    before=setting(low_root_bits=0x2))  # fmt: skip
add("no-secondary", "no tagged data at the end", "secondary-data-missing", healthy=True,
    in_flight=False, types=DUMP_TYPES, before=setting(secondary=False))  # fmt: skip
add("node-in-blocks", "a small dump whose blocks hold the filter nodes", healthy=True, types=(4,))
add("context-only", "a small dump whose blocks hold the end of the dump stack context only",
    healthy=True, types=(4,))  # fmt: skip
add("bare", "a small dump without any block of the dump stack", healthy=True, types=(4,))


# ---- filters ---------------------------------------------------------------------------------------
def fail(status: int) -> Callable:
    def change(m: Machine) -> None:
        stack.set_state(m, row(m), 1)
        stack.set_failure(m, row(m)["init"]["DumpStart"], status)

    return change


def ring(kind: str) -> Callable:
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
    for filter_row in m.truth["filters"]:
        m.world.drop(filter_row["node"], filter_row["size_of_node"])
        filter_row["stored"] = False


def crashdmp_absent(m: Machine) -> None:
    module = m.module("crashdmp.sys")
    m.world.drop(module["base"], 0x3000)
    m.world.drop(m.truth["context"]["crashdmp_context"], m.truth["context"]["crashdmp_context_size"])
    m.world.drop(m.truth["context"]["crashdmp_context_copy"], m.truth["context"]["crashdmp_context_size"])


def nodes_only(m: Machine) -> None:
    crashdmp_absent(m)
    m.world.drop(m.crash.address, m.crash.size)


def copy_differs(m: Machine) -> None:
    change_stamp(m, "dump_" + m.last_filter_name)


def change_stamp(m: Machine, name: str) -> None:
    module = m.module(name)
    module["time_date_stamp"] ^= 0x1111
    at = module["entry"] + (0x9C if m.wide else 0x58)
    m.world.pack(at, "I", module["time_date_stamp"])
    m.world.pack(module["base"] + 0x88, "I", module["time_date_stamp"])


def context_differs(m: Machine) -> None:
    copy = m.truth["context"]["crashdmp_context_copy"]
    m.world.pointer(copy + (0x18 if m.wide else 0x20), m.at["pool"] + 0x7010)


def garbage_node(m: Machine) -> None:
    m.world.write(row(m)["node"], bytes(range(0x41, 0x41 + 0x20)) + b"\xfe" * 0x10)


WIN8 = ("win8", "newest")
add("filter-disabled", "crashdmp switched a filter off", "filter-disabled",
    memory=lambda m: stack.set_state(m, row(m), 1))  # fmt: skip
add("filter-failed", "Dump_Start of a filter returned STATUS_UNSUCCESSFUL", "filter-disabled",
    "filter-callback-failed", memory=fail(stack.FAILED_START))  # fmt: skip
add("filter-failed-benign", "DiskCryptor says that the dump needs no encryption",
    "filter-callback-failed-benign", before=setting(last_filter_name="dcrypt.sys"),
    memory=fail(stack.FVE_NOT_ENCRYPTED))  # fmt: skip
add("callback-outside", "Dump_Write points into the kernel", "callback-outside-module",
    memory=lambda m: stack.set_init(m, row(m), "DumpWrite", m.at["nt"] + 0x1080))  # fmt: skip
add("callback-nowhere", "Dump_Finish points at nothing", "callback-outside-module",
    memory=lambda m: stack.set_init(m, row(m), "DumpFinish", m.at["pool"] + 0x5000000))  # fmt: skip
add("no-callbacks", "a filter without any callback", "filter-without-callbacks",
    memory=init(DumpStart=0, DumpWrite=0, DumpFinish=0))  # fmt: skip
add("null-device", "DeviceObject is NULL", "extension-device-null", memory=extension(DeviceObject=0))
add("dump-type-zero", "DumpType is undefined", "extension-dump-type-invalid",
    memory=extension(DumpType=0))  # fmt: skip
add("dump-type-hibernation", "DumpType says hibernation in the crash stack",
    "extension-dump-type-hibernation", memory=extension(DumpType=2))  # fmt: skip
add("sector-odd", "513 bytes per sector", "extension-geometry-invalid",
    memory=extension(BytesPerSector=513))  # fmt: skip
add("tracks-zero", "no tracks per cylinder", "extension-geometry-invalid",
    memory=extension(TracksPerCylinder=0))  # fmt: skip
add("disk-size-zero", "DiskSize is 0", "extension-disk-size-invalid", memory=extension(DiskSize=0))
add("disk-size-small", "DiskSize is below what the geometry gives", "extension-disk-size-invalid",
    memory=extension(DiskSize=0x10000000))  # fmt: skip
add("disk-size-uneven", "DiskSize is no multiple of the sector", "extension-disk-size-invalid",
    memory=extension(DiskSize=stack.DISK_SIZE + 7))  # fmt: skip
add("partition-info-size", "SizeOfPartitionInfo is 0x30", "extension-partition-info-size",
    memory=extension(SizeOfPartitionInfo=0x30))  # fmt: skip
add("size-unexpected", "Size is 0x68", "extension-size-unexpected", layouts=WIN8,
    memory=extension(Size=0x68))  # fmt: skip
add("dump-data-differs", "extension and init data disagree on DumpData", "extension-dump-data-differs",
    memory=lambda m: stack.set_extension(m, row(m), "DumpData", m.at["pool"] + 0x3F00))  # fmt: skip
add("max-pages-zero", "MaxPagesPerWrite is 0", "filter-max-pages-zero", memory=init(MaxPagesPerWrite=0))
add("read-without-support", "DumpRead is set, but not the flag that enables it",
    "filter-read-without-support", layouts=WIN8,
    memory=lambda m: stack.set_init(m, row(m), "DumpRead", row(m)["init"]["DumpStart"] + 0x100))
add("version-1", "an old filter on a new Windows", "filter-version-1", layouts=WIN8,
    memory=init(MajorVersion=1))  # fmt: skip
add("ring-loop", "the list of filters does not come back to its head", "filter-ring-broken",
    memory=ring("loop"))  # fmt: skip
add("ring-unmapped", "the list of filters leads to unmapped memory", "filter-ring-broken",
    memory=ring("unmapped"))  # fmt: skip
add("ring-blink", "a link back that is wrong", "filter-ring-broken", memory=ring("blink"))
add("node-not-in-dump", "the page of the filter nodes is not in the dump", "filter-ring-broken",
    memory=node_absent)  # fmt: skip
add("node-garbage", "a node of the list that is no filter node", "filter-node-unrecognised",
    memory=garbage_node)  # fmt: skip
add("crashdmp-absent", "no page of crashdmp.sys is in the dump", memory=crashdmp_absent)
add("nodes-only", "neither crashdmp.sys nor the dump stack context is in the dump", memory=nodes_only)
add("filter-missing", "a filter module that is not in the list of filters", "filter-count-differs",
    memory=ring("missing"))  # fmt: skip
add("copy-differs", "a filter's copy is another image than its original", "module-copy-differs",
    memory=copy_differs)  # fmt: skip
add("context-copy-differs", "crashdmp's context differs from its copy", "context-copy-differs",
    memory=context_differs)  # fmt: skip


# ---- machine ---------------------------------------------------------------------------------------
def break_module_list(m: Machine) -> None:
    fifth = m.truth["modules"][5]["entry"]
    m.world.pointer(fifth, m.at["pool"] + 0x35000)


def torn_clock(m: Machine) -> None:
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
    m.extra_driver_name = '<img src=x onerror=alert(1)>"\'&.sys'
    m.last_filter_name = "a\x1b[2J\x1b[31mc\u202eme</td>|`.sys"


add("live-dump", "a live dump: no crash", "not-a-crash", before=setting(bugcheck=0x161, attributes=0x10))
add("module-list-broken", "a link of the module list leads to unmapped memory", "modules-incomplete",
    memory=break_module_list)  # fmt: skip
add("no-dump-stack", "no crash dump driver is loaded", "dump-stack-missing", memory=no_dump_stack)
add("clock-torn", "the crash hit the update of the system time", "clock-torn", memory=torn_clock)
add("clock-locked", "the crash hit the update of the clock page", "clock-torn", layouts=WIN8,
    memory=lambda m: m.world.pack(m.at["kuser"] + 0x340, "I", 0x1001))  # fmt: skip
add("hostile-names", "module names that try to be HTML or terminal commands", before=hostile_names)


def slow(m: Machine) -> None:
    m.requests[4]["start"] = m.requests[4]["end"] - 120000000  # 12 s


def failed(m: Machine) -> None:
    m.requests[3].update(status=0x84, error=0x4)  # SRB_STATUS_ERROR with auto-sense


def in_flight(m: Machine) -> None:
    for number in (1, 2, 3, 4):
        m.requests[number].update(end=0, status=0x20, error=0xDF + number, in_flight=True)


ALL = DUMP_TYPES
add("request-slow", "a write took 12 seconds", "storage-request-slow", types=ALL, memory=slow)
add("request-failed", "a request failed", "storage-request-failed", types=ALL, memory=failed)
add("requests-in-flight", "five requests were in flight", types=ALL, memory=in_flight)


# ---- header and file ---------------------------------------------------------------------------------
def field(m: Machine, name64: int, name32: int) -> int:
    return name64 if m.wide else name32


def set_word(part: bytearray, offset: int, value: int, form: str = "<I") -> None:
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
    parts.scrambled = True


def cut(where: str) -> Callable:
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
            m.truth["stored_frames"] = list(parts.frames.special)[:whole]

    return change


def lose_mark(parts) -> None:
    """The end mark of a small dump is zero, as when the end was never written."""
    parts.map = parts.map[:-4] + bytes(4)


add("encrypted", "the dump is encrypted", "dump-encrypted", before=setting(attributes=0x100),
    file=encrypt, in_flight=False)  # fmt: skip
add("space-insufficient", "the dump file was too small", "dump-space-insufficient",
    before=setting(attributes=0x4))  # fmt: skip
add("kernel-triage", "the kernel made a small dump itself", "dump-kernel-generated-triage", types=(4,),
    before=setting(attributes=0x8))  # fmt: skip
add("filter-dump-file", "the dump file was filtered", "dump-filter-dump-file",
    before=setting(attributes=0x40))  # fmt: skip
add("bitmap-mismatch", "the bitmap has one bit more than there are pages", "dump-bitmap-count-mismatch",
    types=BITMAP_TYPES, file=bits_mismatch)  # fmt: skip
add("map-inconsistent", "the page map contradicts itself", "dump-map-inconsistent", file=bad_map,
    in_flight=False)  # fmt: skip
add("mark-missing", "the end mark TRGD is not there", "triage-marker-missing", types=(4,),
    file=lose_mark)  # fmt: skip
add("writer-failed", "the dump writer reports a device error", "writer-status-failed",
    types=ALL, before=setting(writer_status=0xC0000185))  # fmt: skip
add("secondary-failed", "adding secondary data failed", "secondary-data-failed",
    before=setting(secondary_state=0xC000009A))  # fmt: skip
add("blob-damaged", "a block of the secondary data is larger than the file", "secondary-data-damaged",
    types=ALL, file=damage_blob, in_flight=False)  # fmt: skip
add("fields-unset", "header fields that must be set are not", "header-field-unset",
    before=lambda m: m.unset_fields.extend(["system_time", "processors"]))  # fmt: skip
for place, what, kinds in (
    ("header", "inside the header", ALL),
    ("map", "inside the page map", tuple(t for t in PAGE_TYPES if t != 1)),
    ("page", "inside a page", PAGE_TYPES),
    ("half", "after half of the pages", PAGE_TYPES),
    ("last", "just before the end of the last page", PAGE_TYPES),
):
    add("cut-" + place, "the file ends " + what, "dump-file-cut", types=kinds, file=cut(place),
        in_flight=False)  # fmt: skip
add("cut-triage", "a small dump that ends among its blocks", "dump-file-cut", "triage-marker-missing",
    types=(4,), file=cut("triage"), in_flight=False)  # fmt: skip
add("cut-mark", "a small dump that ends inside its end mark", "dump-file-cut", "triage-marker-missing",
    types=(4,), file=cut("mark"), in_flight=False)  # fmt: skip
add("cut-blob", "the file ends inside the secondary data", "secondary-data-damaged", types=ALL,
    file=cut("blob"), in_flight=False)  # fmt: skip


def worst(m: Machine) -> None:
    """Several things at once, as a filter that failed at the worst time leaves them."""
    fail(stack.FAILED_START)(m)
    stack.set_init(m, row(m), "DumpWrite", m.at["nt"] + 0x1080)
    stack.set_extension(m, row(m), "DeviceObject", 0)
    stack.set_extension(m, row(m), "BytesPerSector", 513)
    copy_differs(m)
    slow(m)
    failed(m)


add("worst", "a failed, disabled filter with a bad extension, a bad callback, a slow and a failing disk",
    "filter-disabled", "filter-callback-failed", "callback-outside-module", "extension-device-null",
    "extension-geometry-invalid", "module-copy-differs", "storage-request-slow",
    "storage-request-failed", "writer-status-failed",
    before=setting(writer_status=0xC0000185), memory=worst)  # fmt: skip
