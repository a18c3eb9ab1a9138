"""A FILTER_EXTENSION in one line.

Invariant: only members that were read or reconstructed are named; a reconstructed one says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .. import formatting as fmt
from ..absence import is_absent
from ..records import Extension


def in_one_line(extensions: Iterable[Extension]) -> str:
    """The extension that tells most: what was read goes before what was reconstructed."""
    known = [e for e in extensions if not all(is_absent(getattr(e, f)) for f in _TELLING)]
    known.sort(key=lambda e: e.is_reconstructed is True)
    if not known:
        return ""
    one = known[0]
    text = ", ".join(_parts(one))
    others = {tuple(getattr(e, f) for f in _TELLING) for e in known}
    text += " (reconstructed)" if one.is_reconstructed is True else ""
    return text + (f"; {len(others) - 1} more differ" if len(others) > 1 else "")


_TELLING = ("dump_type", "device_object", "bytes_per_sector", "disk_size", "partition_style")


def _parts(one: Extension) -> Iterator[str]:
    if not is_absent(one.dump_type):
        name = fmt.field(one, "dump_type_name", "")
        words = {"DumpTypeCrashdump": "crash dump", "DumpTypeHibernation": "hibernation"}
        yield f"DumpType {one.dump_type}" + (f" ({words.get(name, name)})" if name else "")
    if not is_absent(one.device_object) and not one.device_object:
        yield "DeviceObject NULL"
    if not is_absent(one.disk_size):
        style = fmt.field(one, "partition_style_name", "")
        style = f"partition style {one.partition_style}" if style == "invalid" else style
        yield f"{fmt.size(one.disk_size)} disk" + (f", {style}" if style else "")
    if not is_absent(one.bytes_per_sector):
        yield f"{one.bytes_per_sector}-byte sectors"
    if not is_absent(one.flags):
        yield f"Flags {one.flags:#x}"
