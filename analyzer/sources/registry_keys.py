"""The few registry keys that matter, whichever file they come from.

Invariant: names are compared without case, as Windows does. Standard library only.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

Data = Union[str, int, list[str], bytes]  #: of a value
#: below a control set
CRASH_CONTROL = r"Control\CrashControl"
MEMORY = r"Control\Session Manager\Memory Management"
#: below a service: the framework's key; only a KMDF driver has it
WDF = r"Parameters\Wdf"
_WANTED = re.compile(
    r"(?i)(?:(?P<set>CurrentControlSet|ControlSet\d{3})\\"
    r"(?:(?P<control>Control\\CrashControl)|(?P<memory>Control\\Session Manager\\Memory Management)"
    r"|Services\\(?P<service>[^\\]+)(?P<wdf>\\Parameters\\Wdf)?)|(?P<select>Select))"
)


class RegValue(NamedTuple):
    """One value."""

    name: str
    data: Data
    where: str  #: "registry value", "line 12 of the export"


class KeyValues(NamedTuple):
    """One key with its values."""

    path: str
    values: list[RegValue]

    def get(self, name: str) -> Data | None:
        """The data of a value, None when it is not there."""
        lower = name.lower()
        return next((value.data for value in self.values if value.name.lower() == lower), None)


class Registry:
    """The wanted keys of one file."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.controls: dict[str, KeyValues] = {}  #: control set (lower case) -> CrashControl
        self.memories: dict[str, KeyValues] = {}  #: the same -> Memory Management
        self.services: dict[tuple[str, str], KeyValues] = {}
        self.frameworks: set[tuple[str, str]] = set()  #: services that are KMDF drivers
        self.sets: dict[str, str] = {}  #: control set in lower case -> as spelled
        self.select: KeyValues | None = None
        self.damage: list[str] = []
        self.sequences: tuple[int, int] | None = None  #: of a hive: begun and finished writes

    def key(self, below_hive: str, path: str) -> KeyValues | None:
        """Makes and files the key when it is a wanted one; ``below_hive`` has no hive name."""
        match = _WANTED.fullmatch(below_hive)
        if not match:
            return None
        key = KeyValues(path, [])
        if match["select"]:
            self.select = key
            return key
        which = match["set"].lower()
        self.sets.setdefault(which, match["set"])
        if match["control"]:
            return self.controls.setdefault(which, key)
        if match["memory"]:
            return self.memories.setdefault(which, key)
        if match["wdf"]:
            self.frameworks.add((which, match["service"].lower()))
            return key
        return self.services.setdefault((which, match["service"].lower()), key)

    def current(self) -> str:
        """The control set that Windows used: by its alias, by Select, else the lowest number."""
        if "currentcontrolset" in self.sets:
            return self.sets["currentcontrolset"]
        number = self.select.get("Current") if self.select else None
        if isinstance(number, int) and f"controlset{number:03d}" in self.sets:
            return self.sets[f"controlset{number:03d}"]
        return self.sets[min(self.sets)] if self.sets else ""

    def crash_control(self) -> KeyValues | None:
        """CrashControl of the current control set."""
        return self.controls.get(self.current().lower())

    def memory(self) -> KeyValues | None:
        """Memory Management of the current control set."""
        return self.memories.get(self.current().lower())

    def is_kmdf(self, driver_file: str) -> bool:
        """True when the service of a driver has the key of the framework."""
        service = self.service(driver_file)
        if service is None:
            return False
        name = service.path.rpartition("\\")[2].lower()
        return (self.current().lower(), name) in self.frameworks

    def has_services(self) -> bool:
        """True when the file holds service keys of the current control set at all."""
        current = self.current().lower()
        return any(which == current for which, _ in self.services)

    def service(self, driver_file: str) -> KeyValues | None:
        """The service of a driver file: by its own name, else by the file its ImagePath ends in."""
        current = self.current().lower()
        stem = driver_file.lower().removesuffix(".sys")
        named = self.services.get((current, stem))
        if named is not None:
            return named
        for (which, _), key in self.services.items():
            image = key.get("ImagePath")
            if which == current and isinstance(image, str):
                file = re.split(r"[\\/]", image.strip().strip('"').lower())[-1]
                if file == stem + ".sys":
                    return key
        return None
