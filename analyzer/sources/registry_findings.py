"""What is odd in the dump configuration -> anomalies.

Invariant: what the file does not hold (no service keys in an export of one key) is no finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..names import locations
from ..names.crash_control import is_whole
from ..names.drivers import IN_BOX
from ..records import Anomaly, Evidence, Origin
from .registry_keys import KeyValues, Registry
from .registry_meaning import DUMP_KINDS, text_of

_PLAIN_NAME = re.compile(r"[^\\/:*?\"<>|\s][^\\/:*?\"<>|]*\.sys", re.IGNORECASE)
_DISABLED = 4  # SERVICE_DISABLED


def filters_of(control: KeyValues) -> list[str]:
    """The entries of DumpFilters, in call order."""
    entries = control.get("DumpFilters")
    entries = [entries] if isinstance(entries, str) else entries
    return [str(e) for e in entries if e] if isinstance(entries, list) else []


def draw(path: str, registry: Registry, control: KeyValues | None) -> list[Anomaly]:
    """All anomalies of one file."""
    if control is None:
        return [
            Anomaly(
                "registry-no-crash-control",
                "The file does not hold the CrashControl key of the current control set.",
                Origin(path, "key lookup"),
            )
        ]
    origin = Origin(path, f"values of {control.path}")
    return [*_switches(control, origin), *_filters(registry, control, origin)]


def _switches(control: KeyValues, origin: Origin) -> Iterator[Anomaly]:
    enabled = control.get("CrashDumpEnabled")
    if enabled == 0 and isinstance(enabled, int):
        yield Anomaly(
            "registry-dump-disabled",
            "CrashDumpEnabled is 0; as long as it is, no crash leaves a dump.",
            origin,
            "CrashDumpEnabled",
            (Evidence("CrashDumpEnabled", 0, "Number"),),
        )
    elif enabled is not None and (not isinstance(enabled, int) or enabled not in DUMP_KINDS):
        yield _odd(origin, "CrashDumpEnabled", enabled)
    log = control.get("EnableLogFile")
    if log is not None and not isinstance(log, int):
        yield _odd(origin, "EnableLogFile", log)
    elif log == 0 or (log is None and is_whole(value.name for value in control.values)):
        state = "is 0" if log == 0 else "is not set"
        known = "" if log == 0 else "most probably "
        yield Anomaly(
            "registry-log-disabled",
            f"EnableLogFile {state}: {known}no DumpStack.log is written.",
            origin,
            "EnableLogFile",
            (Evidence("EnableLogFile", state),),
        )
    simulated = control.get("SimulateError")
    if isinstance(simulated, int) and simulated:
        yield Anomaly(
            "registry-simulate-error",
            f"SimulateError is {simulated:#x}. On Windows 7 a failure is simulated when "
            f"{locations.name(simulated)}; newer versions are not proven to obey it.",
            origin,
            "SimulateError",
            (Evidence("SimulateError", simulated, "Code", locations.name(simulated)),),
        )
    small = control.get("PageFileTooSmall")
    if small is not None and small != 0 and not (isinstance(small, bytes) and not any(small)):
        yield Anomaly(
            "registry-page-file-too-small",
            f"PageFileTooSmall is set ({text_of(small)}): an earlier dump did not fit.",
            origin,
            "PageFileTooSmall",
            (Evidence("PageFileTooSmall", text_of(small)),),
        )
    raw = control.get("DumpFilters")
    if raw is not None and not isinstance(raw, list):
        yield _odd(origin, "DumpFilters", raw)


def _odd(origin: Origin, name: str, data: object) -> Anomaly:
    shown = text_of(data)[:100]
    return Anomaly(
        "registry-value-odd",
        f"{name} has the type or number it should not have: {shown!r}.",
        origin,
        name,
        (Evidence(name, shown),),
    )


def _filters(registry: Registry, control: KeyValues, origin: Origin) -> Iterator[Anomaly]:
    entries = filters_of(control)
    if control.get("DumpFilters") is not None and IN_BOX not in [e.lower() for e in entries]:
        yield Anomaly(
            "registry-dumpfve-missing",
            f"DumpFilters has no {IN_BOX}.",
            origin,
            IN_BOX,
            tuple(
                Evidence(f"DumpFilters[{index}]", entry[:100])
                for index, entry in enumerate(entries[:8])
            ),
        )
    for index, entry in enumerate(entries):
        shown = entry[:100]
        evidence = (Evidence(f"DumpFilters[{index}]", shown),)
        if not _PLAIN_NAME.fullmatch(entry):
            yield Anomaly(
                "registry-filter-name-odd",
                f"DumpFilters[{index}] is {shown!r}, which is not a plain driver file name.",
                origin,
                shown,
                evidence,
            )
        if entry.lower() == IN_BOX:
            continue  # loaded by crashdmp alone; it needs no service
        yield Anomaly(
            "registry-third-party-filter",
            f"{shown} is registered as dump filter number {index + 1}.",
            origin,
            shown,
            evidence,
        )
        if registry.is_kmdf(entry):
            yield Anomaly(
                "registry-filter-kmdf",
                f"{shown} is registered as a dump filter, and its service is that of a KMDF "
                "driver.",
                origin,
                shown,
                evidence,
            )
        service = registry.service(entry)
        if service is None and registry.has_services():
            yield Anomaly(
                "registry-filter-service-missing",
                f"{shown} is registered as a dump filter, but no service has this name or file.",
                origin,
                shown,
                evidence,
            )
        elif service is not None and service.get("Start") == _DISABLED:
            yield Anomaly(
                "registry-filter-service-disabled",
                f"{shown} is registered as a dump filter, but its service is disabled.",
                origin,
                shown,
                (*evidence, Evidence(f"{service.path}\\Start", _DISABLED, "Number")),
            )
