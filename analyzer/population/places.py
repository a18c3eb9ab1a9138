"""Sources of a scan -> the places of its cases, and the identity of what lies there.

Invariant: the order of places depends on their names alone. The identity is that of the content:
its size and all its bytes; no name and no time counts. A location is text that can be printed,
whatever bytes the name of the file has.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import BinaryIO, NamedTuple

from ..errors import InputError
from ..files import reason
from . import need

_BLOCK = 1 << 20
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")


class Place(NamedTuple):
    """One case before it is analysed."""

    location: str  #: the file, or the folder when all its files are one case
    files: tuple[str, ...]  #: paths or URLs
    top: str = ""  #: what the files are named below; "": nothing


def _place(top: str, files: Sequence[str]) -> Place:
    shown = top.encode("utf-8", "surrogateescape" if os.name == "posix" else "backslashreplace")
    return Place(shown.decode("utf-8", "backslashreplace"), tuple(files), top)


def is_url(path: str) -> bool:
    """True for what fsspec opens, such as s3://bucket/dumps."""
    return _URL.match(path) is not None


def places(sources: Sequence[str], per: str = "file") -> Iterator[Place]:
    """The cases behind files, folders, wildcards and URLs, in a fixed order.

    ``per`` = "file": each file is a case (a zip archive is one file). ``per`` = "folder": all files
    in and below each folder of a source are one case.
    """
    for source in sources:
        found = _remote(source) if is_url(source) else _local(source)
        if per == "file":
            yield from (_place(path, [path]) for path, _ in found)
            continue
        together: list[str] = []
        top = ""
        for path, group in found:
            if together and (group != top or not group):
                yield _place(top or together[0], together)
                together = []
            top = group
            together.append(path)
        if together:
            yield _place(top or together[0], together)


def check(sources: Sequence[str]) -> None:
    """Raises for a source that is not there, before any work is done."""
    for source in sources:
        if not is_url(source) and not os.path.lexists(source) and not _matches(source):
            raise InputError(source, "there is no such file or folder")


def _matches(source: str) -> list[str]:
    from glob import glob

    return sorted(glob(source, recursive=True)) if any(c in source for c in "*?[") else []


def local(sources: Sequence[str]) -> Iterator[str]:
    """The files and folders that the sources name on this machine."""
    for source in sources:
        if not is_url(source):
            yield from [source] if os.path.lexists(source) else _matches(source)


def _local(source: str) -> Iterator[tuple[str, str]]:
    """Files with the folder right below the source in which they lie, "" when in none."""
    for top in local([source]):
        if os.path.isdir(top):
            yield from _walk(top, "", 0)
        else:
            yield top, ""


def _walk(folder: str, group: str, depth: int) -> Iterator[tuple[str, str]]:
    """Files by name, then subfolders by name; links to folders are not followed."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield folder, group  # opening it says what is wrong
        return
    inner = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            inner.append(entry.path)
        elif entry.is_file() or not os.path.exists(entry.path):
            yield entry.path, group
    for path in inner:
        if depth < 64:
            yield from _walk(path, group or path, depth + 1)


def _remote(source: str) -> Iterator[tuple[str, str]]:
    core = need("fsspec.core", "fsspec")
    try:
        system, path = core.url_to_fs(source)
        if any(mark in path for mark in "*?["):
            found, top = sorted(system.glob(path)), ""
        elif system.isdir(path):
            found, top = sorted(system.find(path)), path.rstrip("/")
        else:
            found, top = [path], ""
    except Exception as error:  # noqa: BLE001  # each kind of store has errors of its own
        raise InputError(source, f"the store cannot be listed: {reason(error)}") from None
    for name in found:
        inside = name[len(top) + 1 :].split("/") if top and name.startswith(top + "/") else [name]
        group = system.unstrip_protocol(f"{top}/{inside[0]}") if top and len(inside) > 1 else ""
        yield system.unstrip_protocol(name), group


def opened(path: str) -> BinaryIO:
    """A file or URL, opened for reading bytes."""
    if not is_url(path):
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise InputError(path, "this is a pipe or a device, not a file")
        return open(path, "rb")
    stream: BinaryIO = need("fsspec", "fsspec").open(path, "rb").open()
    return stream


def identity(place: Place) -> tuple[str, int]:
    """The content id of a case, 32 hex digits, and its size; raises InputError."""
    try:
        if len(place.files) == 1:
            return _identity(place.files[0])
        whole = hashlib.blake2b(digest_size=16)
        total = 0
        start = len(place.top)
        for path in sorted(place.files):
            digest, size = _identity(path)
            name = path[start:].replace(os.sep, "/").encode("utf-8", "surrogateescape")
            whole.update(b"%d %s %s\n" % (len(name), name, digest.encode()))
            total += size
        return whole.hexdigest(), total
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  # each kind of store has errors of its own
        raise InputError(place.location, f"it cannot be read: {reason(error)}") from None


def _identity(path: str) -> tuple[str, int]:
    with closing(opened(path)) as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.blake2b(b"%d\n" % size, digest_size=16)
        file.seek(0)
        while True:
            block = file.read(_BLOCK)
            if not block:
                break
            digest.update(block)
    return digest.hexdigest(), int(size)


def fetch(url: str, target: str) -> None:
    """Copies what a URL names into a file, a block at a time."""
    try:
        with closing(opened(url)) as file, open(target, "wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
    except Exception as error:  # noqa: BLE001  # each kind of store has errors of its own
        raise InputError(url, f"it cannot be fetched: {reason(error)}") from None
