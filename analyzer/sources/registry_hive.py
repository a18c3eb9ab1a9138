"""A SYSTEM hive -> the wanted keys; regipy opens the hive and finds the keys.

Invariant: whatever regipy raises on a damaged hive is counted as damage, or is an InputError when
nothing can be read; nothing of it escapes and nothing is printed. Values are read here, within
their cells: one flipped bit in a size makes regipy decode the rest of the file for minutes.
"""

from __future__ import annotations

import logging
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ..errors import InputError, UnsupportedError, UsageError
from ..extras import install
from ..files import FileBytes
from .registry_findings import filters_of
from .registry_keys import CRASH_CONTROL, MEMORY, WDF, KeyValues, Registry, RegValue
from .registry_text import decode

#: a SYSTEM hive has about 20 MB; regipy holds the whole file in memory
SIZE_LIMIT = 512 << 20
#: a control set has under 1,000 services; CrashControl has under 40 values
MOST_SERVICES = 20_000
MOST_VALUES = 1_000
#: Windows keeps two or three
MOST_CONTROL_SETS = 16
#: no wanted value is larger
LARGEST_VALUE = 1 << 16
#: cells are addressed from the end of the hive's header
_BASE = 0x1000
_SEQUENCES = struct.Struct("<4xII")
_VALUE = struct.Struct("<2sHIIIH")  # CM_KEY_VALUE: "vk", name length, size, data, type, flags
_IN_PLACE = 0x80000000
_ASCII_NAME = 1
_SET = re.compile(r"ControlSet\d{3}", re.IGNORECASE)
#: what a service key is asked for
_SERVICE = ("imagepath", "start", "type")
_PAGING = ("pagingfiles", "existingpagefiles")


def read(path: str) -> Registry:
    """Reads the hive; UsageError when regipy is not installed."""
    try:
        from regipy.registry import RegistryHive
    except ImportError:
        raise UsageError(
            f"{path}: reading a registry hive needs the regipy library; "
            f"install it with: {install('registry')}"
        ) from None
    if os.path.getsize(path) > SIZE_LIMIT:
        raise UnsupportedError(
            path, f"is larger than {SIZE_LIMIT >> 20} MiB, so it is no SYSTEM hive"
        )
    opener: Any = RegistryHive  # untyped
    registry = Registry("registry hive")
    data = FileBytes(path)
    registry.sequences = _SEQUENCES.unpack(data[:12].ljust(12, b"\0"))
    with _quiet():
        try:
            hive = opener(path)
        except Exception as error:
            raise InputError(path, f"is not a readable registry hive: {_words(error)}") from error
        select = _child(registry, hive.root, "Select")
        if select is not None:
            _fill(registry, data, registry.key("Select", r"HKLM\SYSTEM\Select"), select)
        children = _children(registry, hive.root, MOST_SERVICES)
        sets = [(name, node) for name, node in children if _SET.fullmatch(name)]
        for name, node in sets[:MOST_CONTROL_SETS]:
            _control_set(registry, data, name, node)
    if not (sets or select or registry.damage):
        raise UnsupportedError(
            path, "is a registry hive without control sets, so it is not the SYSTEM hive",
            advice="open C:\\Windows\\System32\\config\\SYSTEM instead",
        )  # fmt: skip
    return registry


def _control_set(registry: Registry, data: FileBytes, name: str, node: Any) -> None:
    control = _child(registry, node, "Control")
    crash = _child(registry, control, "CrashControl") if control is not None else None
    if crash is not None:
        below = f"{name}\\{CRASH_CONTROL}"
        _fill(registry, data, registry.key(below, f"HKLM\\SYSTEM\\{below}"), crash)
    manager = _child(registry, control, "Session Manager") if control is not None else None
    memory = _child(registry, manager, "Memory Management") if manager is not None else None
    if memory is not None:
        below = f"{name}\\{MEMORY}"
        _fill(registry, data, registry.key(below, f"HKLM\\SYSTEM\\{below}"), memory, _PAGING)
    services = _child(registry, node, "Services")
    if services is None:
        return
    held = registry.controls.get(name.lower())
    filters = filters_of(held) if held is not None else []
    stems = [name.lower().removesuffix(".sys") for name in filters]
    for service, child in _children(registry, services, MOST_SERVICES):
        below = f"{name}\\Services\\{service}"
        _fill(registry, data, registry.key(below, f"HKLM\\SYSTEM\\{below}"), child, _SERVICE)
        if service.lower() in stems:
            parameters = _child(registry, child, "Parameters")
            if parameters is not None and _child(registry, parameters, "Wdf") is not None:
                registry.key(f"{below}\\{WDF}", f"HKLM\\SYSTEM\\{below}\\{WDF}")


def _fill(
    registry: Registry,
    data: FileBytes,
    key: KeyValues | None,
    node: Any,
    only: tuple[str, ...] = (),
) -> None:
    """Reads the values of one key; a value outside the file or its cell is damage."""
    if key is None:
        return
    place = _BASE + 4 + int(node.header.values_list_offset)
    for index in range(min(int(node.header.values_count), MOST_VALUES)):
        try:
            (cell,) = data.unpack("<I", place + 4 * index)
            value = _value(data, _BASE + cell, only)
        except (struct.error, ValueError) as error:
            registry.damage.append(f"value {index} of {key.path}: {error}")
            continue
        if value is not None:
            key.values.append(value)


def _value(data: FileBytes, at: int, only: tuple[str, ...]) -> RegValue | None:
    signature, length, size, where, code, flags = data.unpack(_VALUE.format, at + 4)
    if signature != b"vk":
        raise ValueError(f"no value at {at:#x}")
    start = at + 4 + 20
    raw_name = data[start : start + length]
    name = raw_name.decode("cp1252" if flags & _ASCII_NAME else "utf-16-le", "replace")
    name = name or "(default)"
    if only and name.lower() not in only:
        return None
    if size & _IN_PLACE:
        raw = where.to_bytes(4, "little")[: size & ~_IN_PLACE]
    else:
        # an allocated cell has a negative size, which counts its own four bytes
        (cell_size,) = data.unpack("<i", _BASE + where)
        if size > min(-cell_size - 4, LARGEST_VALUE):
            raise ValueError(f"size {size} of {name[:40]!r} does not fit its cell")
        raw = data[_BASE + where + 4 : _BASE + where + 4 + size]
    return RegValue(name, decode(code, raw, "utf-16-le"), f"registry value at {at:#x}")


def _children(registry: Registry, node: Any, most: int) -> Iterator[tuple[str, Any]]:
    try:
        for child in islice(node.iter_subkeys(), most):
            yield str(child.name), child
    except Exception as error:  # noqa: BLE001 - regipy raises what its parsers raise
        registry.damage.append(f"subkeys of {node.name}: {_words(error)}")


def _child(registry: Registry, node: Any, name: str) -> Any:
    children = _children(registry, node, MOST_SERVICES)
    return next((child for known, child in children if known.lower() == name.lower()), None)


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:120] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """regipy logs damage as errors; that belongs in our findings, not on stderr."""
    logger = logging.getLogger("regipy")
    propagate, logger.propagate = logger.propagate, False
    silence = logging.NullHandler()
    logger.addHandler(silence)
    try:
        yield
    finally:
        logger.removeHandler(silence)
        logger.propagate = propagate
