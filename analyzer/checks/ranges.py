"""Values that cannot be, in FILTER_EXTENSION, FILTER_INITIALIZATION_DATA and the dump header.

Invariant: a range is as wide as anything real could be, so that what lies outside was never written
by a driver on purpose; a field that is absent is not judged. DumpData is a filter's own and can
hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, NamedTuple

from ..absence import Absent
from ..layouts import ntdddump
from ..records import Anomaly, Extension, Filter, Machine, Number
from .evidence import SourceRecords, about, broken
from .machine import WHOLE_DUMP

#: dumpfve, the in-box filter, refuses more; 16 is what crashdmp presets
MOST_PAGES_PER_WRITE = 0x10000
#: flags are few low bits: two are public for a filter, one for its extension
_HIGH_FLAGS = ~0xFFFF
#: CHS numbers are at most a byte each; a controller's own geometry can be larger
_MOST_TRACKS = 0xFFFF
#: Windows takes at most 2,048 logical processors (Microsoft's limits of Windows Server)
MOST_PROCESSORS = 2048
#: no 64-bit Windows has been up for so long, and none was dated so when the format came
_MOST_UPTIME_NS = 30 * 366 * 86400 * 10**9
_FIRST_TIME_NS = 10 * 365 * 86400 * 10**9  # 1980, where a clock without battery starts
#: builds have five digits since 1999 and four before
MOST_BUILD = 100_000
#: the largest physical address of any page table entry
_PHYSICAL = 1 << 52
#: a complete dump is as large as memory: 24 TB on Windows Server
_MOST_DUMP = 1 << 50


class _Range(NamedTuple):
    """One field, its name in the WDK, which of its values can be, and those in words."""

    field: str
    name: str
    can_be: Callable[[int], bool]
    words: str


def _between(least: int, most: int) -> Callable[[int], bool]:
    return lambda value: least <= value <= most


_FILTER = (
    _Range("major_version", "MajorVersion", _between(1, 2), "1 or 2"),
    _Range("minor_version", "MinorVersion", _between(0, 0), "0"),
    _Range(
        "max_pages_per_write",
        "MaxPagesPerWrite",
        _between(0, MOST_PAGES_PER_WRITE),  # 0 has a rule of its own
        f"1 to {MOST_PAGES_PER_WRITE:,}",
    ),
    _Range("flags", "Flags", lambda value: not value & _HIGH_FLAGS, "a few low bits"),
)
_EXTENSION = (
    _Range(
        "media_type",
        "MediaType",
        lambda value: value in ntdddump.MEDIA_TYPES,
        "a MEDIA_TYPE, 0 to 25",
    ),
    _Range("tracks_per_cylinder", "TracksPerCylinder", _between(0, _MOST_TRACKS), "1 to 65,535"),
    _Range("sectors_per_track", "SectorsPerTrack", _between(0, _MOST_TRACKS), "1 to 65,535"),
    _Range(
        "partition_style",
        "PartitionStyle",
        lambda value: value in ntdddump.PARTITION_STYLES,
        "0 (MBR), 1 (GPT) or 2 (RAW)",
    ),
    _Range("flags", "Flags", lambda value: not value & _HIGH_FLAGS, "a few low bits"),
)
_HEADER = (
    _Range(
        "build",
        "MinorVersion (the build)",
        _between(1, MOST_BUILD - 1),
        "a build number of Windows",
    ),
    _Range(
        "processors", "NumberProcessors", _between(1, MOST_PROCESSORS), f"1 to {MOST_PROCESSORS:,}"
    ),
    _Range("system_time", "SystemTime", lambda value: value >= _FIRST_TIME_NS, "a time since 1980"),
    _Range("uptime_ns", "SystemUpTime", _between(0, _MOST_UPTIME_NS), "at most 30 years"),
    _Range(
        "required_dump_space", "RequiredDumpSpace", _between(0, _MOST_DUMP), "at most a petabyte"
    ),
    _Range(
        "directory_table_base",
        "DirectoryTableBase",
        _between(0, _PHYSICAL - 1),
        "a physical address",
    ),
)
#: header fields that Windows leaves 0 where it has none, else an address of the kernel
_KERNEL_ADDRESSES = {
    "ps_loaded_module_list": "PsLoadedModuleList",
    "kd_debugger_data_block": "KdDebuggerDataBlock",
}
_DEVICE = {"device_object": "DeviceObject"}


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source: one finding a structure."""
    architecture = seen.architecture or ""
    for row in seen["filters"]:
        what = f"FILTER_INITIALIZATION_DATA of {about(row)}"
        yield from _judge("filter-value-impossible", row, about(row), what, _FILTER)
    for extension in seen["extensions"]:
        subject = about(extension)
        what = f"FILTER_EXTENSION of {subject}"
        ranges = (*_EXTENSION, *_kernel_addresses(_DEVICE, architecture))
        yield from _judge("extension-value-impossible", extension, subject, what, ranges)
    for machine in seen["machine"] if seen.is_dump() else ():
        what = "The dump header"
        ranges = (*_HEADER, *_kernel_addresses(_KERNEL_ADDRESSES, architecture))
        yield from _judge("header-value-impossible", machine, WHOLE_DUMP, what, ranges)


def _judge(
    rule: str,
    row: Filter | Extension | Machine,
    subject: str,
    what: str,
    ranges: tuple[_Range, ...],
) -> Iterator[Anomaly]:
    wrong: dict[str, str] = {}
    for field, name, can_be, words in ranges:
        value: Number = getattr(row, field)
        if isinstance(value, Absent):
            if value.reason == "out-of-range":
                wrong[field] = f"{name} is out of range ({value.detail}), but can only be {words}"
        elif value is not None and not can_be(value):
            shown = f"{value:,}" if abs(value) < 1 << 16 else f"{value:#x}"
            wrong[field] = f"{name} is {shown}, but can only be {words}"
    if wrong:
        values = "a value" if len(wrong) == 1 else f"{len(wrong)} values"
        text = f"{what} holds {values} that cannot be: {'; '.join(wrong.values())}."
        yield broken(rule, text, row, subject, *wrong)


def _kernel_addresses(fields: dict[str, str], architecture: str) -> tuple[_Range, ...]:
    """Ranges of pointers into the kernel; 0 has rules of its own or means that there is none."""
    if architecture.startswith(("x64", "arm64")):
        size, least, most = 8, 0xFF00_0000_0000_0000, 1 << 64
    elif architecture.startswith("x86"):
        size, least, most = 4, 0x8000_0000, 1 << 32
    else:
        return ()

    def can_be(value: int) -> bool:
        return not value or (least <= value < most and value % size == 0)

    words = "an aligned address of the kernel"
    return tuple(_Range(field, name, can_be, words) for field, name in fields.items())
