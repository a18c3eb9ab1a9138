"""Every file that a command writes: never one of its inputs, and whole or not at all.

Invariant: no module writes a file of the user's but through this one (the data set of a scan and a
running capture keep the same promise in their own way). What is there stays until its successor is
complete, whatever ends the program.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from .errors import InputError, UsageError
from .files import real_path, reason

STDOUT = "-"
#: what stands there is a stream that somebody opened, even where it leads to a file
_STREAMS = ("/dev/", "/proc/")


def protect(target: str, inputs: Iterable[str]) -> None:
    """Refuses an output that is one of the inputs, a link to one, or in a folder that is one."""
    if target == STDOUT or not os.path.lexists(target):
        return
    known = _identity(target)
    for path in inputs:
        for name in _files(path):
            if _identity(name) == known:
                raise UsageError(f"{target}: the output would overwrite an input.")


def protect_folder(target: str, inputs: Iterable[str]) -> None:
    """Refuses an output folder that is, holds or lies in one of the inputs."""
    folder = real_path(target)
    for path in inputs:
        real = real_path(path)
        with suppress(ValueError):  # on different drives
            common = os.path.commonpath([folder, real])
            if common == real and os.path.isdir(real):
                raise UsageError(f"{target}: the output would lie in a folder that is read.")
            if common == folder:
                raise UsageError(f"{target}: the output would overwrite an input.")


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.path.join(folder, name)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def replacing(target: str) -> Iterator[str]:
    """The name of a file to write, which takes the place of ``target`` once it is complete.

    A link is followed, so that it stays a link; a device or pipe is written to as it is. Raises
    InputError for an OSError.
    """
    staged = ""
    try:
        real, mode = _resolved(target)
        if target.startswith(_STREAMS) or (mode is not None and not stat.S_ISREG(mode)):
            yield target
            return
        if mode is not None and not os.access(real, os.W_OK):
            raise PermissionError(13, os.strerror(13))
        folder, name = os.path.split(real)
        from tempfile import mkstemp  # slow to load, and the terminal needs none

        handle, staged = mkstemp(prefix=f".{name[:40]}.", suffix=".part", dir=folder)
        os.close(handle)
        yield staged
        os.chmod(staged, _new_mode() if mode is None else stat.S_IMODE(mode))
        with open(staged, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(staged, real)
        staged = ""
    except OSError as error:
        raise InputError(target, f"the output cannot be written: {reason(error)}") from None
    finally:
        if staged:
            with suppress(OSError):
                os.unlink(staged)


def _resolved(target: str) -> tuple[str, int | None]:
    try:
        real = real_path(target)
        return real, os.stat(target).st_mode  # of a pipe there is no real path
    except FileNotFoundError:
        return real, None
    except ValueError as error:  # a NUL in the name
        raise InputError(target, f"this is not a file name: {error}") from None


def _new_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write(target: str, pieces: Iterable[str], newline: str = "\n") -> None:
    """Writes text to a file."""
    with (
        replacing(target) as name,
        open(name, "w", encoding="utf-8", errors="backslashreplace", newline=newline) as file,
    ):
        file.writelines(pieces)
