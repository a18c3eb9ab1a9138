"""Breakpoints that a debugger which died left in its target: noted when set, then removed.

Invariant: a byte is written back only where a breakpoint still lies, in the very image that it was
set in (name, base, time stamp), and only what was read there before. The note lies in the user's
own folder and holds no secret. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from ..absence import Absent
from ..records import Module
from ..target import module_at
from .points import INSTRUCTIONS
from .session import Session

_MOST = 64


def _path(session: Session) -> str:
    root = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_STATE_HOME")
    root = root or os.path.join(os.path.expanduser("~"), ".local", "state")
    name = hashlib.sha256(f"{session.backend} {session.path}".encode()).hexdigest()[:16]
    return os.path.join(root, "dumpstart", f"breakpoints-{name}.json")


def _image(module: Module) -> list[object]:
    stamp = module.time_date_stamp
    return [str(module.name), module.base, stamp if isinstance(stamp, int) else None]


def note(session: Session, planted: dict[int, bytes]) -> None:
    """Writes down what is set now."""
    entries = []
    for address, code in planted.items():
        module = module_at(session.modules(), address)
        if module is not None:
            entries.append([address, code.hex(), *_image(module)])
    path = _path(session)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="ascii") as file:
            json.dump(entries, file)
        os.replace(path + ".new", path)


def forget(session: Session) -> None:
    """They were removed."""
    with contextlib.suppress(OSError):
        os.unlink(_path(session))


def remove(session: Session) -> int:
    """Removes what the last debugger of this connection left; how many there were."""
    try:
        with open(_path(session), encoding="ascii") as file:
            entries = json.loads(file.read(1 << 16))
    except (OSError, ValueError, RecursionError):
        return 0
    trap = INSTRUCTIONS.get(session.convention, b"\xcc")
    count = 0
    for entry in entries[:_MOST] if isinstance(entries, list) else ():
        with contextlib.suppress(TypeError, ValueError):
            address, code, *image = entry
            original = bytes.fromhex(code)
            module = module_at(session.modules(), int(address))
            if module is None or _image(module) != image or len(original) != len(trap):
                continue
            held = session.read(address, len(trap))
            if not isinstance(held, Absent) and held == trap != original:
                count += session.write(address, original)
    forget(session)
    return count
