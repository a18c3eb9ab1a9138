"""A SYSTEM hive -> the wanted keys, through regipy.

Invariant: whatever regipy raises on a damaged hive is counted as damage, or is an InputError when
nothing can be read; nothing of it escapes and nothing is printed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ..errors import InputError, UnsupportedError, UsageError
from .registry_keys import CRASH_CONTROL, KeyValues, Registry, RegValue

#: a SYSTEM hive has about 20 MB; regipy holds the whole file in memory
SIZE_LIMIT = 512 << 20
#: a control set has under 1,000 services; CrashControl has under 40 values
MOST_SERVICES = 20_000
MOST_VALUES = 1_000
#: what a service key is asked for
_SERVICE = ("imagepath", "start", "type")


def read(path: str) -> Registry:
    """Reads the hive; UsageError when regipy is not installed."""
    try:
        from regipy.registry import RegistryHive
    except ImportError:
        raise UsageError(
            f"{path}: reading a registry hive needs the regipy library; "
            "install it with: pip install dumpstart[registry]"
        ) from None
    if os.path.getsize(path) > SIZE_LIMIT:
        raise UnsupportedError(
            path, f"is larger than {SIZE_LIMIT >> 20} MiB, so it is no SYSTEM hive"
        )
    registry = Registry("registry hive")
    with _quiet():
        try:
            hive = RegistryHive(path)
        except Exception as error:
            raise InputError(path, f"is not a readable registry hive: {_words(error)}") from error
        select = _child(registry, hive.root, "Select")
        if select is not None:
            _fill(registry, registry.key("Select", r"HKLM\SYSTEM\Select"), select)
        for name, node in _children(registry, hive.root, MOST_SERVICES):
            if name.lower().startswith("controlset"):
                _control_set(registry, name, node)
    return registry


def _control_set(registry: Registry, name: str, node: Any) -> None:
    control = _child(registry, node, "Control")
    crash = _child(registry, control, "CrashControl") if control is not None else None
    if crash is not None:
        below = f"{name}\\{CRASH_CONTROL}"
        _fill(registry, registry.key(below, f"HKLM\\SYSTEM\\{below}"), crash)
    services = _child(registry, node, "Services")
    if services is None:
        return
    for service, child in _children(registry, services, MOST_SERVICES):
        below = f"{name}\\Services\\{service}"
        _fill(registry, registry.key(below, f"HKLM\\SYSTEM\\{below}"), child, _SERVICE)


def _fill(registry: Registry, key: KeyValues | None, node: Any, only: tuple[str, ...] = ()) -> None:
    if key is None:
        return
    try:
        for value in islice(node.iter_values(trim_values=False), MOST_VALUES):
            if not only or value.name.lower() in only:
                data = value.value
                data = data.split("\0")[0] if isinstance(data, str) else data
                data = [str(part) for part in data] if isinstance(data, (list, tuple)) else data
                kind = str(value.value_type)
                key.values.append(RegValue(value.name, kind, data, "registry value"))
    except Exception as error:  # noqa: BLE001 - regipy raises what its parsers raise
        registry.damage.append(f"values of {key.path}: {_words(error)}")


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
