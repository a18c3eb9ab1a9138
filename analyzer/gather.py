"""Folders and zip archives -> the files in them, each with the name that reports show.

Invariant: a folder or archive costs bounded time, memory and disk whatever is in it; what is left
out is said, in an anomaly or in a verdict. No name out of an archive is ever used as a path.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import sources, temporary
from .errors import InputError
from .files import distinct_names, is_same, real_path, reason
from .records import Anomaly, Evidence, Origin

if TYPE_CHECKING:
    import zipfile  # slow to load, and only archives need it

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
#: LZMA (14) is left out: its header may ask for gigabytes of memory
_METHODS = (0, 8, 12)  #: stored, deflated, bzip2
_METHOD_NAMES = {9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_ENCRYPTED = 0x1
_BLOCK = 1 << 20
_NOT_READABLE = (
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,  # encrypted, or a later zip version (NotImplementedError)
    ValueError,  # also a name that cannot be decoded
)
_BY_HAND = "unpack it yourself and name the folder"


def expanded(paths: Iterable[str]) -> Iterator[str]:
    """Wildcards filled in, because cmd.exe leaves that to the program."""
    for path in paths:
        if os.path.lexists(path) or not any(mark in path for mark in "*?["):
            yield path
            continue
        from glob import glob

        found = sorted(glob(path))
        if not found:
            raise InputError(path, "no file matches")
        yield from found


class Limits(NamedTuple):
    """How much of a folder or archive is looked at."""

    files: int = 5_000  #: in a folder with all its subfolders, and in an archive
    depth: int = 24  #: folders in folders
    unpacked_bytes: int = 64 << 30  #: what all archives of a run may expand to on the disk
    spare_bytes: int = 256 << 20  #: what must stay free on the disk
    # Deflate cannot go beyond 1,032; page dumps with many empty pages stay far below a tenth of it.
    ratio: int = 200
    ratio_from: int = 1 << 30  #: less than this may compress as well as it likes


LIMITS = Limits()


class Input(NamedTuple):
    """One file to read."""

    path: str  #: where its bytes are
    name: str  #: as reports call it: the path, or "ticket.zip!MEMORY.DMP"
    is_named: bool  #: by the user; False: found in a folder or an archive


class Verdict(NamedTuple):
    """A file that is not read, and why."""

    name: str
    why: str
    is_said: bool = False  #: a finding speaks of it


class Gathered:
    """The inputs in a fixed order, what was passed over, and what went wrong."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inputs: list[Input] = []
        self.passed: list[Verdict] = []
        self.anomalies: list[Anomaly] = []
        self._known: dict[str, int] = {}  #: real path -> place in inputs
        self._names: dict[str, int] = {}
        self._folder = ""
        self._count = 0
        self.room = limits.unpacked_bytes  #: for all archives that are still to come
        self.allowance = 0  #: of the archive that is being read, with those in it

    def add(self, path: str, name: str, is_named: bool) -> None:
        """One file, once: a file that is reached twice counts as named when it was named."""
        real = os.path.normcase(real_path(path))
        place = self._known.setdefault(real, len(self.inputs))
        if place == len(self.inputs):
            self.inputs.append(Input(path, name, is_named))
        elif is_named and not self.inputs[place].is_named:
            self.inputs[place] = Input(path, name, True)

    def refuse(self, name: str, why: str, rule: str = "input-unusable") -> None:
        """A file that may matter and cannot be read: a verdict and a finding."""
        self.passed.append(Verdict(name, why, True))
        origin = Origin(name, "opening the file")
        problem = (Evidence("problem", why),)
        self.anomalies.append(Anomaly(rule, f"{name}: {why}.", origin, name, problem))

    def finish(self) -> None:
        """Leaves each content once, and tells inputs of one name apart."""
        self._leave_out_copies()
        names = distinct_names([item.name for item in self.inputs])
        for index, (item, name) in enumerate(zip(self.inputs, names)):
            path = name if item.path == item.name else item.path
            self.inputs[index] = item._replace(path=path, name=name)

    def _leave_out_copies(self) -> None:
        """What is told twice must not count twice; a file that was named stays before one found."""
        if len(self.inputs) < 2:
            return
        from hashlib import blake2b

        heads: dict[tuple[int, bytes], list[Input]] = {}  #: by size and digest of the head
        copies: dict[str, str] = {}
        for item in sorted(self.inputs, key=lambda item: not item.is_named):
            try:
                with open(item.path, "rb") as file:
                    head = blake2b(file.read(sources.HEAD_BYTES), digest_size=16)
                key = (os.path.getsize(item.path), head.digest())
            except (OSError, ValueError):
                continue  # said when it is read
            known = heads.setdefault(key, [])
            same = next((one for one in known if key[0] and is_same(one.path, item.path)), None)
            if same is None:
                known.append(item)
            else:
                copies[item.name] = same.name
        if not copies:
            return
        self.inputs = [item for item in self.inputs if item.name not in copies]
        for name, of in copies.items():
            self.passed.append(Verdict(name, f"this is a copy of {of}", True))
        first, of = next(iter(copies.items()))
        more = f", and {len(copies) - 1} more such copies" if len(copies) > 1 else ""
        text = f"{first} has the same content as {of}{more}: each content was read once."
        self.anomalies.append(Anomaly("input-copy", text, Origin(first, "whole file"), first))

    def unique(self, name: str) -> str:
        """The name, numbered when an archive has it twice."""
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name} ({self._names[name]})"

    def workspace(self) -> str:
        """A new place for one extracted file; all are removed by :meth:`close`."""
        if not self._folder:
            self._folder = temporary.make()
        self._count += 1
        return os.path.join(self._folder, f"{self._count:05d}")

    def close(self) -> None:
        """Removes what was extracted."""
        if self._folder:
            temporary.remove(self._folder)
            self._folder = ""


def gather(paths: Sequence[str], limits: Limits = LIMITS) -> Gathered:
    """The files behind the paths, in the order given, those of a folder by name; then close it."""
    found = Gathered(limits)
    try:
        for path in map(os.fspath, paths):
            if os.path.isdir(path):
                for file in _walk(found, path):
                    _file(found, file, file, False)
            else:
                _file(found, path, path, True)
    except BaseException:
        found.close()
        raise
    return found


# -- folders -----------------------------------------------------------------------------------


def _walk(found: Gathered, top: str) -> Iterator[str]:
    """Regular files of a folder and its subfolders, by name; links are followed once."""
    seen: set[tuple[int, int]] = set()
    count = 0
    pending = [(top, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted(os.listdir(folder), key=lambda name: (name.casefold(), name))
        except OSError as error:
            found.refuse(folder, f"the folder cannot be read: {_reason(error)}")
            continue
        inner = []
        for name in names:
            path = os.path.join(folder, name)
            try:
                mode = os.stat(path).st_mode
            except OSError as error:  # a dangling link, or a loop of links
                found.passed.append(Verdict(path, f"cannot be opened: {_reason(error)}"))
                continue
            if stat.S_ISDIR(mode):
                inner.append((path, depth + 1))
            elif not stat.S_ISREG(mode):
                found.passed.append(Verdict(path, "a device, pipe or socket, not a file"))
            elif count == found.limits.files:
                _limit(found, top, f"only its first {count:,} files were looked at")
                return
            else:
                count += 1
                yield path
        if inner and depth + 1 > found.limits.depth:
            _limit(found, folder, f"folders deeper than {found.limits.depth} were left out")
            continue
        pending += reversed(inner)


def _limit(found: Gathered, name: str, text: str) -> None:
    origin = Origin(name, "listing the files")
    found.anomalies.append(Anomaly("input-limit-reached", f"{name}: {text}.", origin, name))


def _reason(error: BaseException) -> str:
    if getattr(error, "strerror", None):
        return reason(error)
    return str(error).rstrip(".") or type(error).__name__


def _file(found: Gathered, path: str, name: str, is_named: bool) -> None:
    """A file as it is, or the files in it when it is an archive."""
    if _is_zip(path):
        _archive(found, path, name, is_nested=False)
    else:
        found.add(path, name, is_named)


# -- archives ----------------------------------------------------------------------------------


def _is_zip(path: str) -> bool:
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(4).startswith(_ZIP_STARTS)
    except (OSError, ValueError):
        return False  # the source says what is wrong with it


def _archive(found: Gathered, path: str, name: str, is_nested: bool) -> None:
    import zipfile

    if not is_nested:
        found.allowance = max(found.limits.ratio_from, found.limits.ratio * os.path.getsize(path))
    refused: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > found.limits.files:
                said = f"only its first {found.limits.files:,} of {len(members):,} files"
                _limit(found, name, f"{said} were looked at")
            for member in members[: found.limits.files]:
                _member(found, archive, member, name, is_nested, refused)
            if not members:
                found.passed.append(Verdict(name, "an archive without files"))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, *_NOT_READABLE) as error:
        found.refuse(name, f"the zip archive cannot be read: {_reason(error)}")
    if len(refused) == 1:
        for only, why in refused.items():
            found.refuse(only, why, "archive-member-refused")
    elif refused:
        found.passed += [Verdict(each, why, True) for each, why in refused.items()]
        first, why = next(iter(refused.items()))
        text = f"{name}: {len(refused)} files in it were not unpacked. The first: {first}: {why}."
        origin = Origin(name, "opening the file")
        problem = (Evidence("problem", why),)
        found.anomalies.append(Anomaly("archive-member-refused", text, origin, name, problem))


def _member(
    found: Gathered,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    outer: str,
    is_nested: bool,
    refused: dict[str, str],
) -> None:
    """One file of an archive; ``refused`` takes those that are too large, with the reason."""
    from shutil import copyfileobj
    from zipfile import BadZipFile

    name = found.unique(f"{outer}!{member.filename}")
    why = _refusal(member)
    if why:
        found.refuse(name, why, "archive-member-refused")
        return
    try:
        with archive.open(member) as file:
            head = file.read(sources.HEAD_BYTES)
        is_zip = head.startswith(_ZIP_STARTS)
        kind = sources.kind_of(head)
        if is_zip and is_nested:
            why = f"an archive in an archive in an archive is not opened; {_BY_HAND}"
        elif not is_zip and not kind.module:
            found.passed.append(Verdict(name, f"this is {kind.name}"))
            return
        else:
            why = _too_large(found, member)
            if why:
                refused[name] = why
                return
        if why:
            found.refuse(name, why, "archive-member-refused")
            return
        target = found.workspace()
        with archive.open(member) as file, open(target, "wb") as out:
            copyfileobj(file, out, _BLOCK)  # ends at the stated size
        found.room -= member.file_size
        found.allowance -= member.file_size
    except (BadZipFile, *_NOT_READABLE) as error:
        found.refuse(name, f"it cannot be unpacked: {_reason(error)}", "archive-member-refused")
        return
    if is_zip:
        _archive(found, target, name, is_nested=True)
        os.unlink(target)
    else:
        found.add(target, name, False)


def _refusal(member: zipfile.ZipInfo) -> str:
    """Why a member is not even looked at, "" when it is."""
    parts = member.filename.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", member.filename):
        return "its name leads out of the archive, which no honest archive does"
    if member.flag_bits & _ENCRYPTED:
        return f"it is encrypted; {_BY_HAND}"
    if member.compress_type not in _METHODS:
        method = _METHOD_NAMES.get(member.compress_type, "unknown")
        return f"its compression method {member.compress_type} ({method}) is not read; {_BY_HAND}"
    return ""


def _too_large(found: Gathered, member: zipfile.ZipInfo) -> str:
    """Why there is no room for a member, "" when there is."""
    limits, size, packed = found.limits, member.file_size, max(member.compress_size, 1)
    if size > limits.ratio_from and size // packed > limits.ratio:
        return f"it grows {size // packed}-fold to {size:,} bytes, as a zip bomb does; {_BY_HAND}"
    if size > found.allowance:
        grown = f"would grow more than {limits.ratio}-fold"
        return f"the archive with all archives in it {grown}, as a zip bomb does; {_BY_HAND}"
    if size > found.room:
        most = f"{limits.unpacked_bytes:,} bytes that one run unpacks"
        return f"with it the archives would take more than the {most}; {_BY_HAND}"
    from shutil import disk_usage
    from tempfile import gettempdir

    folder = gettempdir()
    free = max(disk_usage(folder).free - limits.spare_bytes, 0)
    if size > free:
        return f"it needs {size:,} bytes in {folder}, where {free:,} are free"
    return ""
