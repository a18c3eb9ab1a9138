"""The bytes of an input file, read when they are asked for and never mapped.

Invariant: a file that becomes shorter while it is read raises InputError; a mapping would kill the
process. Memory is bounded: small files are held whole, of larger ones a few windows.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Union

from .errors import InputError

#: a file up to this size is read whole: one read instead of many
WHOLE_BYTES = 32 << 20
#: page tables and lists are met again and again; a window holds some of them
_WINDOW_BYTES = 1 << 16
_WINDOWS = 256
#: the unit in which a whole file is gone through; it fits a processor's cache
PIECE_BYTES = 1 << 20

Bytes = Union[bytes, bytearray, memoryview]
OnePath = Union[str, bytes, "os.PathLike[str]"]
Paths = Union[OnePath, Iterable["Paths"]]  #: one, or lists of them


def reason(error: BaseException) -> str:
    """What the system says of an error, in lower case, and what may help in a folder of Windows."""
    text = str(getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
    if isinstance(error, PermissionError) and _is_of_windows(error.filename):
        text += " (a folder of Windows: this may need an elevated prompt, 'Run as administrator')"
    return text


def _is_of_windows(path: object) -> bool:
    """True below the folder of Windows, and for what lies beside it, such as DumpStack.log."""
    root = os.environ.get("SYSTEMROOT")
    if not root or not isinstance(path, (str, bytes, os.PathLike)):
        return False
    root, full = (os.path.normcase(os.path.abspath(os.fsdecode(p))) for p in (root, path))
    beside = os.path.dirname(full) == os.path.dirname(root)
    return beside or full.startswith(root + os.sep)


class Named(str):
    """A name of an input that knows the short name by which its case calls it."""

    __slots__ = ("short",)
    short: str

    @classmethod
    def of(cls, name: str, short: str) -> Named:
        """The name, with its short form."""
        made = cls(name)
        made.short = short
        return made

    def __reduce__(self) -> tuple[Callable[[str, str], Named], tuple[str, str]]:
        return Named.of, (str(self), self.short)


def called(source: object) -> str:
    """The short name of an input: the last part of its path, more where several share that."""
    text = str(source)
    return getattr(source, "short", "") or re.split(r"[/\\!]", text)[-1] or text


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names; those that end alike get short names of as many parts as tell them apart."""
    out = list(names)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(called(name), []).append(index)
    for same in groups.values():
        parts = [re.split(r"[/\\!]+", names[index]) for index in same]
        depth, most = 1, max(map(len, parts))
        while len({tuple(part[-depth:]) for part in parts}) < len(same) and depth < most:
            depth += 1
        if depth > 1:
            for index, part in zip(same, parts):
                out[index] = Named.of(names[index], "/".join(part[-depth:]))
    return out


def listed(paths: Paths) -> list[str]:
    """Paths as texts; one path stands for a list of it, and lists in lists are one list."""
    if isinstance(paths, (str, bytes, os.PathLike)):
        return [os.fsdecode(paths)]
    return [path for item in paths for path in listed(item)]


def is_same(one: str, other: str) -> bool:
    """True for two files of the same bytes; False when one cannot be read."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while True:
                here, there = first.read(PIECE_BYTES), second.read(PIECE_BYTES)
                if here != there or not here:
                    return here == there
    except (OSError, ValueError):
        return False


def state(path: str) -> tuple[int, ...]:
    """What differs when a file was changed or replaced; () when it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


class FileBytes:
    """A file as a sequence of bytes; slices behave as those of ``bytes``. Raises InputError.

    ``touched`` is told each place that is read, unless all of the file is gone through; a size of
    0 means that it was only asked whether the place is there.
    """

    touched: Callable[[int, int], None] | None = None

    def __init__(self, path: str) -> None:
        self.path = path
        self._whole: Bytes | None = None
        self._windows: dict[int, bytearray] = {}
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
            self._file = file
            self.size = file.seek(0, os.SEEK_END)
        except (OSError, ValueError) as error:
            raise InputError(path, f"the file cannot be read: {reason(error)}") from None
        if self.size <= WHOLE_BYTES:
            with file:
                self._whole = self._all()
        else:
            from weakref import finalize  # takes a millisecond, and small files need none

            finalize(self, file.close)

    @classmethod
    def of(cls, data: Bytes, path: str) -> FileBytes:
        """Bytes that are in memory already, as if they were a file."""
        made = cls.__new__(cls)
        made.path, made.size, made._whole, made._windows = path, len(data), data, {}
        return made

    def whole(self) -> Bytes | None:
        """All bytes when they are held in memory."""
        return self._whole

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice) -> bytes:
        if self._whole is not None and self.touched is None:
            return bytes(self._whole[key])
        start, stop, _ = key.indices(self.size)
        return bytes(self.view(start, max(0, stop - start)))

    def view(self, offset: int, size: int) -> Bytes:
        """``size`` bytes at an offset, fewer at the end of the file; not copied when held."""
        if self.touched is not None:
            self.touched(offset, size)
        return self._view(offset, size)

    def _view(self, offset: int, size: int) -> Bytes:
        size = max(0, min(size, self.size - offset))
        if not size:
            return b""
        if self._whole is not None:
            return memoryview(self._whole)[offset : offset + size]
        first = offset // _WINDOW_BYTES
        if size <= _WINDOW_BYTES and offset + size <= (first + 1) * _WINDOW_BYTES:
            start = offset - first * _WINDOW_BYTES
            return self._window(first)[start : start + size]
        return self._read(offset, size)

    def once(self, offset: int, size: int) -> Bytes:
        """As :meth:`view`, of a place to which nobody will come back."""
        if self._whole is not None:
            return self.view(offset, size)
        if self.touched is not None:
            self.touched(offset, size)
        return self._read(offset, max(0, min(size, self.size - offset)))

    def unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        """The values of a structure at an offset; struct.error when it is not all in the file."""
        if self._whole is not None:
            if self.touched is not None:
                self.touched(offset, struct.calcsize(form))
            return struct.unpack_from(form, self._whole, offset)
        return struct.unpack(form, self.view(offset, struct.calcsize(form)))

    def pieces(self, start: int, end: int, before: int = 0) -> Iterator[tuple[int, Bytes]]:
        """The bytes from ``start`` to ``end`` in pieces: (offset, bytes valid until the next).

        Each piece but the first has ``before`` bytes of the one before it in front.
        """
        end = min(end, self.size)
        step, room = PIECE_BYTES, memoryview(b"")
        if self._whole is None and start < end:
            room = memoryview(bytearray(before + step))  # one for all: it stays in the cache
        for at in range(start, end, step):
            kept = before if at > start else 0
            size = kept + min(step, end - at)
            if self._whole is not None:
                yield at - kept, self._view(at - kept, size)
                continue
            last = step if at == start + step else before + step  # where the piece before ends
            room[:kept] = room[last - kept : last]
            self._read_into(room[kept:size], at)
            yield at - kept, room[:size]

    def find(self, needle: bytes, start: int = 0) -> int:
        """Offset of a byte string, -1 when it is not there."""
        if self._whole is not None:
            return bytes(self._whole).find(needle, start)
        for at, data in self.pieces(start, self.size, len(needle) - 1):
            found = bytes(data).find(needle)
            if found >= 0:
                return at + found
        return -1

    def _window(self, number: int) -> bytearray:
        held = self._windows.get(number)
        if held is None:
            at = number * _WINDOW_BYTES
            held = self._read(at, min(_WINDOW_BYTES, self.size - at))
            if len(self._windows) >= _WINDOWS:
                del self._windows[next(iter(self._windows))]
            self._windows[number] = held
        return held

    def _all(self) -> bytes:
        """All bytes, held once: of a bytearray they would be a copy."""
        try:
            self._file.seek(0)
            data: bytes = self._file.read(self.size)
        except (OSError, ValueError) as error:
            raise InputError(self.path, f"the file cannot be read: {reason(error)}") from None
        return data if len(data) == self.size else bytes(self._read(0, self.size))

    def _read(self, offset: int, size: int) -> bytearray:
        data = bytearray(size)
        self._read_into(memoryview(data), offset)
        return data

    def _read_into(self, room: memoryview, offset: int) -> None:
        done = 0
        try:
            self._file.seek(offset)
            while done < len(room):
                count = self._file.readinto(room[done:])
                if not count:
                    break
                done += count
        except (OSError, ValueError) as error:
            raise InputError(
                self.path, f"the file cannot be read: {reason(error)}", offset=offset
            ) from None
        if done < len(room):
            raise InputError(
                self.path,
                "the file was cut or replaced while it was read",
                offset=offset + done,
                advice="copy it, and open the copy",
            )


def real_path(path: str) -> str:
    """The path without links, as far as the system resolves it: not every one of its length."""
    try:
        return os.path.realpath(path)
    except OSError:
        return os.path.abspath(path)
