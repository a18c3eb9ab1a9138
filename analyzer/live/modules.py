"""A module as a debugger's engine tells it, as a record.

Invariant: a number that the engine does not know is an Absent. Standard library only.
"""

from __future__ import annotations

from ..absence import Absent
from ..layouts.modules import NO_STAMPS
from ..records import Module, Origin


def named(name: str, image: str) -> str:
    """The file name of a module, of the engine's name for it and of the image's path."""
    image = image.replace("/", "\\").rsplit("\\", 1)[-1]
    if name == "nt":
        return image or "nt"
    if "." in name:
        return name
    # The file may have another name than the module: dump_storport is dump_diskdump.sys.
    return name + ("." + image.rsplit(".", 1)[-1] if "." in image else ".sys")


def record(
    name: str, base: int, size: int, stamp: object, checksum: object, place: int, origin: Origin,
    loaded: bool = True,
) -> Module:  # fmt: skip
    """The record of one module."""
    none = Absent("not-recorded", "the engine does not know it")
    known = stamp if isinstance(stamp, int) and stamp not in NO_STAMPS else None
    return Module(
        name=name, base=base, end=base + size, size=size, role=None, stack=None, loaded=loaded,
        time_date_stamp=none if known is None else known,
        checksum=checksum if isinstance(checksum, int) else none,
        image_key=none if known is None else f"{known:08X}{size:x}", original=None,
        original_match=None, load_order=place, origin=origin,
    )  # fmt: skip
