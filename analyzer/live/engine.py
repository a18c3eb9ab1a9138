"""Which DbgEng is used: found on the machine, loaded, named with its version.

Invariant: what the user names wins and nothing else is tried; a library that cannot be loaded, or
is none, ends in one sentence that says which. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from glob import escape, glob
from typing import Any, NamedTuple

from ..errors import SessionError

VARIABLE = "DUMPSTART_DBGENG"
#: VS_FIXEDFILEINFO.dwSignature (verrsrc.h)
_VERSION_MARK = b"\xbd\x04\xef\xfe"
#: LOAD_WITH_ALTERED_SEARCH_PATH: the engine's own dbghelp.dll and symsrv.dll, not Windows'
_OWN_FOLDER_FIRST = 0x8
_STORE = "Microsoft.WinDbg_"
_PACKAGES = (
    r"Software\Classes\Local Settings\Software\Microsoft\Windows\CurrentVersion\AppModel"
    r"\Repository\Packages"
)


class Engine(NamedTuple):
    """A loaded engine."""

    library: ctypes.CDLL
    path: str
    origin: str  #: where it was found, in words

    @property
    def version(self) -> str:
        """Such as 10.0.26100.1."""
        return version(self.path) or "of unknown version"

    def __str__(self) -> str:
        return f"{self.path} (DbgEng {self.version}, {self.origin})"


def load(path: str | None = None) -> Engine:
    """The engine of a path, or the best that is on this machine."""
    if not hasattr(ctypes, "WinDLL"):
        raise SessionError("DbgEng is a part of Windows; on other systems use --backend ntoseye.")
    tried = []
    for name, origin in candidates(path):
        try:
            library = ctypes.WinDLL(name, winmode=_OWN_FOLDER_FIRST)
            library.DebugCreate  # noqa: B018 - not every library has it
            return Engine(library, name, origin)
        except (OSError, AttributeError) as error:
            what = f"Windows says: {error}" if isinstance(error, OSError) else "it is no DbgEng"
            tried.append(f"{name}: {what}")
    if tried:
        raise SessionError(f"the debugger's engine cannot be loaded: {'; '.join(tried)}.")
    raise SessionError(
        "no debugger engine was found: install WinDbg (winget install Microsoft.WinDbg) or the "
        "Debugging Tools of the Windows kit, or name a dbgeng.dll with --engine."
    )


def candidates(path: str | None = None) -> Iterator[tuple[str, str]]:
    """(dbgeng.dll, where it was found), best first."""
    named = path or os.environ.get(VARIABLE)
    if named:
        is_folder = os.path.isdir(named)
        found = os.path.join(named, "dbgeng.dll") if is_folder else named
        if not os.path.isfile(found):
            raise SessionError(f"{found}: there is no such debugger engine.")
        yield os.path.abspath(found), "as named" if path else f"named by {VARIABLE}"
        return
    seen = set()
    for found, origin in _known():
        key = os.path.normcase(found)
        if key not in seen and os.path.isfile(found):
            seen.add(key)
            yield found, origin


def _known() -> Iterator[tuple[str, str]]:
    kits, store = kinds()
    for variable in ("ProgramFiles(x86)", "ProgramFiles"):
        root = os.environ.get(variable)
        if root:
            pattern = os.path.join(escape(root), "Windows Kits", "1?", "Debuggers", kits)
            for folder in sorted(glob(pattern), reverse=True):
                yield os.path.join(folder, "dbgeng.dll"), "Windows kit"
    for folder in _store_folders():
        yield os.path.join(folder, store, "dbgeng.dll"), "WinDbg of the Store"
    for folder in sys.path:
        yield os.path.join(folder, "pykd", "dbgeng.dll"), "package pykd"
    root = os.environ.get("SYSTEMROOT")
    if root:
        yield os.path.join(root, "System32", "dbgeng.dll"), "part of Windows"


def kinds() -> tuple[str, str]:
    """How the kit and the Store's WinDbg name the folder for this Python's processor."""
    if struct.calcsize("P") == 4:
        return "x86", "x86"
    machine = os.environ.get("PROCESSOR_ARCHITECTURE", "AMD64").lower()
    return ("arm64", "arm64") if machine == "arm64" else ("x64", "amd64")


def _store_folders() -> list[str]:
    """Where the Store put WinDbg: its folder may not be listed, but the registry tells it."""
    try:
        import winreg as module
    except ImportError:
        return []
    winreg: Any = module  # its names are there on Windows alone
    found = []
    try:
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _PACKAGES) as packages:
            for place in range(winreg.QueryInfoKey(packages)[0]):
                name = winreg.EnumKey(packages, place)
                if name.startswith(_STORE):
                    with winreg.OpenKey(packages, name) as package:
                        found.append(str(winreg.QueryValueEx(package, "PackageRootFolder")[0]))
    except OSError:
        return sorted(found, reverse=True)
    return sorted(found, reverse=True)


def version(path: str) -> str:
    """The file version of a library, "" where it has none."""
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 26)
    except OSError:
        return ""
    at = data.rfind(_VERSION_MARK)
    if at < 0 or at + 16 > len(data):
        return ""
    high, low = struct.unpack_from("<II", data, at + 8)
    return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}"
