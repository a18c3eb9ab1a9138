"""SYSTEM hive or .reg export -> settings of the crash dump and its filters.

Invariant: only the current control set counts; a value that has the wrong type or an unknown number
is kept as it is and said to be odd. Hives are read through regipy, an optional dependency.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..absence import Absent
from ..errors import InputError
from ..files import reason
from ..records import Anomaly, Evidence, Origin, Records, Setting, Source
from . import registry_findings, registry_hive, registry_text
from .registry_keys import KeyValues, Registry
from .registry_meaning import meaning_of, text_of

#: values of a filter driver's service key that matter
SERVICE_VALUES = ("ImagePath", "Start", "Type")


def collect(path: str) -> Records:
    """Reads a SYSTEM hive or a .reg export."""
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    registry = registry_hive.read(path) if head[:4] == b"regf" else registry_text.read(path)
    records = Records()
    records.add(_source(path, size, registry))
    control, memory = registry.crash_control(), registry.memory()
    if memory is not None:
        records.add(*_page_files(path, memory))
    if control is not None:
        records.add(*_control_settings(path, control))
        for driver in registry_findings.filters_of(control):
            service = registry.service(driver)
            if service is not None:
                records.add(*_service_settings(path, service))
    records.anomalies.extend(registry_findings.draw(path, registry, control))
    if registry.damage:
        records.add(_damage(path, registry))
    if registry.sequences and registry.sequences[0] != registry.sequences[1]:
        records.add(_behind(path, *registry.sequences))
    return records


def _source(path: str, size: int, registry: Registry) -> Source:
    return Source(
        path=path,
        kind=registry.kind,
        subtype=f"control set {registry.current()}" if registry.current() else "no control set",
        size_bytes=size,
        architecture=Absent("not-recorded", "the keys read do not name the architecture"),
        can_tell="dump configuration; registered dump filters in order; service keys of the "
        "filters",
        cannot_tell="which filters are loaded; whether the files exist; anything about a crash",
        origin=Origin(path, "file signature", file_offset=0),
    )


def _control_settings(path: str, control: KeyValues) -> Iterator[Setting]:
    for value in control.values:
        origin = Origin(path, value.where)
        if value.name.lower() == "dumpfilters" and isinstance(value.data, list):
            for index, entry in enumerate(value.data):
                name = f"{value.name}[{index}]"
                yield Setting(control.path, name, entry, meaning_of(name, entry, control), origin)
            if value.data:
                continue
        words = meaning_of(value.name, value.data, control)
        yield Setting(control.path, value.name, text_of(value.data), words, origin)


def _page_files(path: str, memory: KeyValues) -> Iterator[Setting]:
    """The page files; the first on the boot volume takes the dump where none is dedicated."""
    for value in memory.values:
        if value.name.lower() in ("pagingfiles", "existingpagefiles"):
            entries = value.data if isinstance(value.data, list) else [value.data]
            for index, entry in enumerate(entries):
                name = f"{value.name}[{index}]"
                words = meaning_of(name, entry, memory)
                yield Setting(memory.path, name, text_of(entry), words, Origin(path, value.where))


def _service_settings(path: str, service: KeyValues) -> Iterator[Setting]:
    wanted = [name.lower() for name in SERVICE_VALUES]
    for value in service.values:
        if value.name.lower() in wanted:
            words = meaning_of("service " + value.name, value.data, service)
            origin = Origin(path, value.where)
            yield Setting(service.path, value.name, text_of(value.data), words, origin)


def _behind(path: str, begun: int, finished: int) -> Anomaly:
    return Anomaly(
        "registry-changes-elsewhere",
        "Windows had not written the newest changes into this hive when it was copied; they are in "
        "its transaction logs, which are not read.",
        Origin(path, "header fields", file_offset=4),
        evidence=(
            Evidence("writes begun", begun, "Number"),
            Evidence("writes finished", finished, "Number"),
        ),
    )


def _damage(path: str, registry: Registry) -> Anomaly:
    first = registry.damage[0]
    return Anomaly(
        "registry-damaged",
        f"{len(registry.damage)} place(s) could not be read, the first: {first}.",
        Origin(path, "whole file"),
        evidence=tuple(Evidence("", what) for what in registry.damage[:5]),
    )
