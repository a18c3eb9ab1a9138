"""Healthy machines, and machines with exactly one thing wrong, with the rules they raise.

Invariant: a variant is a row of the table below; `rules` are the findings that a correct analysis
of the file must have among its own.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from . import faults, stack
from .faults import extension, init, row, setting
from .layouts import DUMP_TYPES

PAGE_TYPES = tuple(t for t in DUMP_TYPES if t != 4)
BITMAP_TYPES = (2, 5, 6)
IN_FLIGHT = "storage-requests-in-flight"


class Variant(NamedTuple):
    """How a dump differs from the healthy one, and what must be said about it."""

    text: str
    rules: tuple[str, ...] = ()
    before: Callable | None = None  # machine, before anything is placed
    memory: Callable | None = None  # machine, when all memory is placed
    file: Callable | None = None  # parts of the file
    types: tuple[int, ...] = PAGE_TYPES
    layouts: tuple[str, ...] = ("vista", "win8", "newest")
    archs: tuple[str, ...] = ("x64", "arm64", "x86-pae", "x86")
    healthy: bool = False
    in_flight: bool = True  # whether the usual request in flight can still be seen

    def applies(self, arch: str, dump_type: int, layout: str) -> bool:
        """Whether this variant makes sense for a kind of dump."""
        wide_only = dump_type in (8, 9, 10) and arch in ("x86-pae", "x86")
        fits = dump_type in self.types and arch in self.archs and layout in self.layouts
        return fits and not wide_only

    @property
    def expected(self) -> tuple[str, ...]:
        """The rules a correct analysis raises."""
        return self.rules + ((IN_FLIGHT,) if self.in_flight else ())


VARIANTS: dict[str, Variant] = {}


def add(name: str, text: str, *rules: str, **keys) -> None:
    """Adds a row to the table."""
    VARIANTS[name] = Variant(text, rules, **keys)


# ---- healthy ---------------------------------------------------------------------------------
add("healthy", "two filters, everything as it should be", healthy=True, types=DUMP_TYPES)
add("mbr", "the dump disk has an MBR", healthy=True, before=setting(mbr=True))
add(
    "hibernation",
    "a hibernation stack is loaded too",
    "sleep-transition",
    healthy=True,
    before=setting(hibernation=True),
)
add(
    "pcid",
    "the directory table base has low bits set",
    healthy=True,
    archs=("x64",),
    before=setting(low_root_bits=0x2),
)
add(
    "no-secondary",
    "no tagged data at the end",
    "secondary-data-missing",
    "dump-not-by-windows",
    healthy=True,
    in_flight=False,
    types=DUMP_TYPES,
    layouts=("win8", "newest"),  # of older Windows it is not known whether it always adds any
    before=setting(secondary=False),
)
add("node-in-blocks", "a small dump whose blocks hold the filter nodes", healthy=True, types=(4,))
add(
    "context-only",
    "a small dump whose blocks hold the end of the dump stack context only",
    healthy=True,
    types=(4,),
)
add("bare", "a small dump without any block of the dump stack", healthy=True, types=(4,))


# ---- filters ---------------------------------------------------------------------------------
WIN8 = ("win8", "newest")
add(
    "filter-disabled",
    "crashdmp switched a filter off",
    "filter-disabled",
    memory=lambda m: stack.set_state(m, row(m), 1),
)
add(
    "filter-failed",
    "Dump_Start of a filter returned STATUS_UNSUCCESSFUL",
    "filter-disabled",
    "filter-callback-failed",
    memory=faults.fail(stack.FAILED_START),
)
add(
    "filter-failed-benign",
    "DiskCryptor says that the dump needs no encryption",
    "filter-callback-failed-benign",
    before=setting(last_filter_name="dcrypt.sys"),
    memory=faults.fail(stack.FVE_NOT_ENCRYPTED),
)
add(
    "callback-outside",
    "Dump_Write points into the kernel",
    "callback-outside-module",
    memory=lambda m: stack.set_init(m, row(m), "DumpWrite", m.at["nt"] + 0x1080),
)
add(
    "callback-nowhere",
    "Dump_Finish points at nothing",
    "callback-outside-module",
    memory=lambda m: stack.set_init(m, row(m), "DumpFinish", m.at["pool"] + 0x5000000),
)
add(
    "no-callbacks",
    "a filter without any callback",
    "filter-without-callbacks",
    memory=init(DumpStart=0, DumpWrite=0, DumpFinish=0),
)
add(
    "null-device", "DeviceObject is NULL", "extension-device-null", memory=extension(DeviceObject=0)
)
add(
    "dump-type-zero",
    "DumpType is undefined",
    "extension-dump-type-invalid",
    memory=extension(DumpType=0),
)
add(
    "dump-type-hibernation",
    "DumpType says hibernation in the crash stack",
    "extension-dump-type-hibernation",
    memory=extension(DumpType=2),
)
add(
    "sector-odd",
    "513 bytes per sector",
    "extension-geometry-invalid",
    memory=extension(BytesPerSector=513),
)
add(
    "tracks-zero",
    "no tracks per cylinder",
    "extension-geometry-invalid",
    memory=extension(TracksPerCylinder=0),
)
add("disk-size-zero", "DiskSize is 0", "extension-disk-size-invalid", memory=extension(DiskSize=0))
add(
    "disk-size-small",
    "DiskSize is below what the geometry gives",
    "extension-disk-size-invalid",
    memory=extension(DiskSize=0x10000000),
)
add(
    "disk-size-uneven",
    "DiskSize is no multiple of the sector",
    "extension-disk-size-invalid",
    memory=extension(DiskSize=stack.DISK_SIZE + 7),
)
add(
    "partition-info-size",
    "SizeOfPartitionInfo is 0x30",
    "extension-partition-info-size",
    memory=extension(SizeOfPartitionInfo=0x30),
)
add(
    "size-unexpected",
    "Size is 0x68",
    "extension-size-unexpected",
    layouts=WIN8,
    memory=extension(Size=0x68),
)
add(
    "dump-data-differs",
    "extension and init data disagree on DumpData",
    "extension-dump-data-differs",
    memory=lambda m: stack.set_extension(m, row(m), "DumpData", m.at["pool"] + 0x3F00),
)
add(
    "max-pages-zero",
    "MaxPagesPerWrite is 0",
    "filter-max-pages-zero",
    memory=init(MaxPagesPerWrite=0),
)
add(
    "read-without-support",
    "DumpRead is set, but not the flag that enables it",
    "filter-read-without-support",
    layouts=WIN8,
    memory=lambda m: stack.set_init(m, row(m), "DumpRead", row(m)["init"]["DumpStart"] + 0x100),
)
add(
    "version-1",
    "an old filter on a new Windows",
    "filter-version-1",
    layouts=WIN8,
    memory=init(MajorVersion=1),
)
add(
    "ring-loop",
    "the list of filters does not come back to its head",
    "filter-ring-broken",
    memory=faults.ring("loop"),
)
add(
    "ring-unmapped",
    "the list of filters leads to unmapped memory",
    "filter-ring-broken",
    memory=faults.ring("unmapped"),
)
add("ring-blink", "a link back that is wrong", "filter-ring-broken", memory=faults.ring("blink"))
add(
    "node-not-in-dump",
    "the page of the filter nodes is not in the dump",
    "filter-node-not-in-dump",
    memory=faults.node_absent,
)
add(
    "node-garbage",
    "a node of the list that is no filter node",
    "filter-node-unrecognised",
    memory=faults.garbage_node,
)
add("crashdmp-absent", "no page of crashdmp.sys is in the dump", memory=faults.crashdmp_absent)
add(
    "nodes-only",
    "neither crashdmp.sys nor the dump stack context is in the dump",
    memory=faults.nodes_only,
)
add(
    "filter-missing",
    "a filter module that is not in the list of filters",
    "filter-count-differs",
    memory=faults.ring("missing"),
)
add(
    "copy-differs",
    "a filter's copy is another image than its original",
    "module-copy-differs",
    layouts=WIN8,  # before, only a PE header tells the time stamp; the original's is paged out
    memory=faults.copy_differs,
)
add(
    "context-copy-differs",
    "crashdmp's context differs from its copy",
    "context-copy-differs",
    memory=faults.context_differs,
)


# ---- machine ---------------------------------------------------------------------------------
add(
    "live-dump",
    "a live dump: no crash",
    "not-a-crash",
    before=setting(bugcheck=0x161, attributes=0x10),
)
add(
    "module-list-broken",
    "a link of the module list leads to unmapped memory",
    "modules-incomplete",
    memory=faults.break_module_list,
)
add(
    "no-dump-stack",
    "no crash dump driver is loaded",
    "dump-stack-missing",
    memory=faults.no_dump_stack,
)
add(
    "clock-torn",
    "the crash hit the update of the system time",
    "clock-torn",
    memory=faults.torn_clock,
)
add(
    "clock-locked",
    "the crash hit the update of the clock page",
    "clock-torn",
    layouts=WIN8,
    memory=lambda m: m.world.pack(m.at["kuser"] + 0x340, "I", 0x1001),
)
add(
    "hostile-names",
    "module names that try to be HTML or terminal commands",
    before=faults.hostile_names,
)


# ---- where the crash lies ---------------------------------------------------------------------
WIDE = ("x64", "arm64")
add(
    "crash-in-filter",
    "the bugcheck names code of the second filter's Dump_Write",
    "crash-in-dump-filter",
    types=DUMP_TYPES,
    before=setting(blamed=("dump_acmeflt.sys", 0x1054)),
)
add(
    "crash-in-crashdmp",
    "the bugcheck names code of crashdmp.sys",
    "crash-in-dump-stack",
    types=DUMP_TYPES,
    before=setting(blamed=("crashdmp.sys", 0x1234)),
)
add(
    "crash-in-original",
    "the bugcheck names code of the driver that the second filter is a copy of",
    "crash-in-filter-original",
    types=DUMP_TYPES,
    before=setting(blamed=("acmeflt.sys", 0x1054)),
)
add(
    "second-bugcheck",
    "BugCheckProgress has the flag of a second bugcheck",
    "crash-second-bugcheck",
    archs=WIDE,
    memory=lambda m: m.world.pack(m.truth["context"]["progress_address"], "I", 0x20042),
)
add(
    "encrypting-filter-failed",
    "Dump_Write of BitLocker's filter failed",
    "dump-in-plain-text",
    "filter-disabled",
    "filter-callback-failed",
    memory=faults.fail(stack.FAILED_START, "dumpfve.sys", "DumpWrite"),
)
add(
    "bugcheck-differs",
    "header and memory name different bugchecks",
    "dump-bugcheck-differs",
    file=lambda parts: faults.set_word(parts.header, 0x38 if parts.machine.wide else 0x28, 0x133),
)
add(
    "values-impossible",
    "values that cannot be in both structures of the second filter",
    "filter-value-impossible",
    "extension-value-impossible",
    memory=faults.impossible,
)

ALL = DUMP_TYPES
add(
    "request-slow", "a write took 12 seconds", "storage-request-slow", types=ALL, memory=faults.slow
)
add("request-failed", "a request failed", "storage-request-failed", types=ALL, memory=faults.failed)
add("requests-in-flight", "five requests were in flight", types=ALL, memory=faults.in_flight)


# ---- header and file -------------------------------------------------------------------------
add(
    "encrypted",
    "the dump is encrypted",
    "dump-encrypted",
    before=setting(attributes=0x100),
    file=faults.encrypt,
    in_flight=False,
)
add(
    "space-insufficient",
    "the dump file was too small",
    "dump-space-insufficient",
    before=setting(attributes=0x4),
)
add(
    "kernel-triage",
    "the kernel made the small dump itself, as it does where one is asked for",
    healthy=True,
    types=(4,),
    before=setting(attributes=0x8),
)
add(
    "filter-dump-file",
    "the dump file was filtered",
    "dump-filter-dump-file",
    before=setting(attributes=0x40),
)
add(
    "bitmap-mismatch",
    "the bitmap has one bit more than there are pages",
    "dump-bitmap-count-mismatch",
    types=BITMAP_TYPES,
    file=faults.bits_mismatch,
    in_flight=False,
)
add(
    "map-inconsistent",
    "the page map contradicts itself",
    "dump-map-inconsistent",
    file=faults.bad_map,
    in_flight=False,
)
add(
    "mark-missing",
    "the end mark TRGD is not there",
    "triage-marker-missing",
    types=(4,),
    file=faults.lose_mark,
)
add(
    "writer-failed",
    "the dump writer reports a device error",
    "writer-status-failed",
    types=ALL,
    before=setting(writer_status=0xC0000185),
)
add(
    "secondary-failed",
    "adding secondary data failed",
    "secondary-data-failed",
    before=setting(secondary_state=0xC000009A),
)
add(
    "blob-damaged",
    "a block of the secondary data is larger than the file",
    "secondary-data-damaged",
    types=ALL,
    file=faults.damage_blob,
    in_flight=False,
)
add(
    "fields-unset",
    "header fields that must be set are not",
    "header-field-unset",
    before=lambda m: m.unset_fields.extend(["system_time", "processors"]),
)
for place, what, kinds in (
    ("header", "inside the header", ALL),
    ("map", "inside the page map", tuple(t for t in PAGE_TYPES if t != 1)),
    ("page", "inside a page", PAGE_TYPES),
    ("half", "after half of the pages", PAGE_TYPES),
    ("last", "just before the end of the last page", PAGE_TYPES),
):
    add(
        "cut-" + place,
        "the file ends " + what,
        "dump-file-cut",
        types=kinds,
        file=faults.cut(place),
        in_flight=False,
    )
add(
    "cut-triage",
    "a small dump that ends among its blocks",
    "dump-file-cut",
    "triage-marker-missing",
    types=(4,),
    file=faults.cut("triage"),
    in_flight=False,
)
add(
    "cut-mark",
    "a small dump that ends inside its end mark",
    "dump-file-cut",
    "triage-marker-missing",
    types=(4,),
    file=faults.cut("mark"),
    in_flight=False,
)
add(
    "cut-blob",
    "the file ends inside the secondary data",
    "secondary-data-damaged",
    types=ALL,
    file=faults.cut("blob"),
    in_flight=False,
)


add(
    "worst",
    "a failed, disabled filter with a bad extension, a bad callback, a slow and a failing disk",
    "filter-disabled",
    "filter-callback-failed",
    "callback-outside-module",
    "extension-device-null",
    "extension-geometry-invalid",
    "module-copy-differs",
    "storage-request-slow",
    "storage-request-failed",
    "writer-status-failed",
    layouts=WIN8,  # as `copy-differs`
    before=setting(writer_status=0xC0000185),
    memory=faults.worst,
)
