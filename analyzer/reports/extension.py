"""A FILTER_EXTENSION member by member: offset, WDK name, value, meaning.

Invariant: every offset comes from :mod:`analyzer.layouts`; a member that cannot apply (the GPT disk
id of an MBR disk) is left out, one that is unknown is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import formatting as fmt
from ..absence import Absent, is_absent
from ..layouts.ntdddump import DUMP_FILTER_EXT_FLAG_DUMP_DEVICE_POWER_OFF, filter_extension
from ..records import Extension

#: WDK member path -> field of the record
MEMBERS: tuple[tuple[str, str], ...] = (
    ("DumpType", "dump_type"),
    ("DeviceObject", "device_object"),
    ("Geometry.Cylinders", "cylinders"),
    ("Geometry.MediaType", "media_type"),
    ("Geometry.TracksPerCylinder", "tracks_per_cylinder"),
    ("Geometry.SectorsPerTrack", "sectors_per_track"),
    ("Geometry.BytesPerSector", "bytes_per_sector"),
    ("DiskSize", "disk_size"),
    ("PartitionInfo.SizeOfPartitionInfo", "size_of_partition_info"),
    ("PartitionInfo.PartitionStyle", "partition_style"),
    ("PartitionInfo.Mbr.Signature", "mbr_signature"),
    ("PartitionInfo.Mbr.CheckSum", "mbr_checksum"),
    ("PartitionInfo.Gpt.DiskId", "gpt_disk_id"),
    ("DumpData", "dump_data"),
    ("Size", "size"),
    ("Flags", "flags"),
)


class Member(NamedTuple):
    """One member as a reader sees it; ``value`` is "-" when it is not determined."""

    offset: int
    size: int
    name: str
    value: str
    meaning: str
    field: str = ""  #: of the record


def members(extension: Extension, pointer_size: int) -> Iterator[Member]:
    """The members of one extension in the order of the structure."""
    for path, name in MEMBERS:
        given = getattr(extension, name)
        if isinstance(given, Absent) and given.reason == "not-applicable":
            continue
        offset, size = place(path, pointer_size)
        yield Member(
            offset, size, path, fmt.field(extension, name), _meaning(extension, name), name
        )


def place(path: str, pointer_size: int) -> tuple[int, int]:
    """Offset and size of a member, by its dotted WDK name."""
    layout: Any = filter_extension(pointer_size, 2)
    offset = size = 0
    for name in path.split("."):
        member = getattr(layout, name)
        offset, size = offset + member.offset, member.size
        layout = next((t for n, t, *_ in _declared(layout) if n == name), None)
    return offset, size


def _declared(layout: Any) -> Iterator[tuple[Any, ...]]:
    """The fields of a structure and of its unnamed unions."""
    for declared in layout._fields_:
        yield declared
        if declared[0] in getattr(layout, "_anonymous_", ()):
            yield from _declared(declared[1])


def _meaning(extension: Extension, name: str) -> str:
    given = getattr(extension, name)
    if name in ("dump_type", "media_type", "partition_style"):
        return fmt.field(extension, f"{name}_name", "")
    if is_absent(given):
        return ""
    if name == "disk_size":
        return f"{given:#x} = {fmt.size(given)}"
    if name == "size" or name == "size_of_partition_info":
        return f"{given:#x}"
    if name == "device_object" and not given:
        return "NULL"
    if name == "flags" and given & DUMP_FILTER_EXT_FLAG_DUMP_DEVICE_POWER_OFF:
        return "DUMP_DEVICE_POWER_OFF"
    return ""
