"""Checks of every FILTER_EXTENSION, field by field.

Invariant: each field is judged on what it holds, and a field that is absent never is. A
reconstructed extension is judged the same way, and its findings say that it was reconstructed.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..absence import known
from ..layouts.ntdddump import FILTER_EXTENSION_SIZE_V2, PARTITION_INFO_SIZE, WINDOWS_8
from ..records import Anomaly, Extension
from .evidence import SourceRecords, about, broken, wrong_fields
from .machine import is_crash

#: sizeof(FILTER_EXTENSION) since Windows 8 (WDK ntdddump.h)
EXTENSION_SIZE = {
    name: FILTER_EXTENSION_SIZE_V2[size]
    for name, size in (("x64", 8), ("arm64", 8), ("x86", 4), ("x86-pae", 4), ("arm", 4))
}
#: sector sizes a disk can have; above 64 KiB nothing is known to exist
SECTOR_SIZES = tuple(1 << bit for bit in range(9, 17))
_CRASH_DUMP, _HIBERNATION = 1, 2  # FILTER_DUMP_TYPE


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source."""
    for row in seen["extensions"]:
        yield from _dump_type(seen, row)
        yield from _device(row)
        yield from _geometry(row)
        yield from _disk_size(row)
        yield from _sizes(seen, row)
        yield from _dump_data(seen, row)


def _broken(rule: str, text: str, row: Extension, *fields: str) -> Anomaly:
    if row.is_reconstructed is True:
        text += (
            " The extension was not read but reconstructed from the dump stack context, as "
            "crashdmp would fill it in."
        )
    return broken(rule, text, row, about(row), *fields)


def _dump_type(seen: SourceRecords, row: Extension) -> Iterator[Anomaly]:
    value = known(row.dump_type)
    if value is not None and value not in (_CRASH_DUMP, _HIBERNATION):
        text = f"{about(row)} is given DumpType {value}; only 1 (crash dump) and 2 are valid."
        yield _broken("extension-dump-type-invalid", text, row, "dump_type")
    if value == _HIBERNATION and row.stack == "crash" and is_crash(seen):
        text = f"{about(row)} is given DumpType 2 (hibernation) in a dump of a crash."
        yield _broken("extension-dump-type-hibernation", text, row, "dump_type")


def _device(row: Extension) -> Iterator[Anomaly]:
    if known(row.device_object) == 0:
        text = f"{about(row)} is given DeviceObject NULL."
        yield _broken("extension-device-null", text, row, "device_object")


def _geometry(row: Extension) -> Iterator[Anomaly]:
    wrong: list[str] = []
    blamed: list[str] = []  # fields
    sector, size, product = known(row.bytes_per_sector), known(row.disk_size), _product(row)
    if sector is not None and sector not in SECTOR_SIZES:
        wrong.append(f"a sector has {sector} bytes")
        blamed.append("bytes_per_sector")
    # 0 cylinders is a disk smaller than one of them
    for field, least in (("cylinders", 0), ("tracks_per_cylinder", 1), ("sectors_per_track", 1)):
        count = known(getattr(row, field))
        if count is not None and count < least:
            wrong.append(f"{field} is {count}")
            blamed.append(field)
    if product is not None and size and size < product:
        wrong.append(f"its cylinders hold {product:,} bytes but DiskSize is {size:,}")
        blamed += ["cylinders", "disk_size"]
    if wrong:
        text = f"The geometry given to {about(row)} makes no sense: {'; '.join(wrong)}."
        fields = ("cylinders", "tracks_per_cylinder", "sectors_per_track", "bytes_per_sector")
        found = _broken("extension-geometry-invalid", text, row, *fields, "disk_size")
        yield found._replace(facts={**found.facts, **wrong_fields(*blamed)})


def _product(row: Extension) -> int | None:
    """Bytes the geometry spans; None unless its parts are known and the sector size is one."""
    cylinders, size = known(row.cylinders), _cylinder(row)
    if cylinders is None or size is None or row.bytes_per_sector not in SECTOR_SIZES:
        return None
    return cylinders * size


def _cylinder(row: Extension) -> int | None:
    """Bytes of one cylinder, where its numbers are known; disk.sys counts whole ones alone."""
    tracks, sectors = known(row.tracks_per_cylinder), known(row.sectors_per_track)
    sector = known(row.bytes_per_sector)
    if tracks is None or sectors is None or sector is None:
        return None
    return tracks * sectors * sector


def _disk_size(row: Extension) -> Iterator[Anomaly]:
    size, sector, product = known(row.disk_size), known(row.bytes_per_sector), _product(row)
    if size is None:
        return
    if size == 0:
        wrong = "is 0"
    elif product is not None and size < product:
        wrong = f"is {size:,}, less than the {product:,} bytes of its geometry"
    elif product is not None and size >= product + (_cylinder(row) or 0):
        wrong = f"is {size:,}, a cylinder or more above the {product:,} bytes of its geometry"
    elif sector in SECTOR_SIZES and size % sector:
        wrong = f"is {size:,}, no multiple of the sector size {sector}"
    else:
        return
    text = f"DiskSize given to {about(row)} {wrong}."
    found = _broken("extension-disk-size-invalid", text, row, "disk_size", "bytes_per_sector")
    yield found._replace(facts={**found.facts, **wrong_fields("disk_size")})


def _sizes(seen: SourceRecords, row: Extension) -> Iterator[Anomaly]:
    partition, size = known(row.size_of_partition_info), known(row.size)
    if partition is not None and partition != PARTITION_INFO_SIZE:
        text = f"SizeOfPartitionInfo given to {about(row)} is {partition:#x}, not 0x18."
        yield _broken("extension-partition-info-size", text, row, "size_of_partition_info")
    expected = EXTENSION_SIZE.get(seen.architecture or "")
    if size is None or expected is None or (seen.build or 0) < WINDOWS_8:
        return
    if size != expected:
        text = f"Size in FILTER_EXTENSION of {about(row)} is {size:#x}, not {expected:#x}."
        yield _broken("extension-size-unexpected", text, row, "size")


def _dump_data(seen: SourceRecords, row: Extension) -> Iterator[Anomaly]:
    owner = seen.filter_at(row.node)
    given, set_by_filter = known(row.dump_data), known(owner.dump_data) if owner else None
    if given is not None and set_by_filter is not None and given != set_by_filter:
        text = (
            f"DumpData of {about(row)} is 0x{given:016x} in FILTER_EXTENSION but "
            f"0x{set_by_filter:016x} in FILTER_INITIALIZATION_DATA."
        )
        yield _broken("extension-dump-data-differs", text, row, "dump_data")
