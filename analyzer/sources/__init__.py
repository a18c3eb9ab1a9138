"""Says by content what a file is and hands it to the source that reads it.

Invariant: every file gets a :class:`Kind`; one that no source reads is refused in one sentence that
names the kind and what to open instead. A source is a module here with ``collect(path,
**options)``; it is imported only when a file of its kind is opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import Callable, NamedTuple, Union

from ..errors import InputError, UnsupportedError
from ..files import reason
from ..records import Records

#: how much of a file recognition looks at
HEAD_BYTES = 1 << 16


#: sources of what can stand beside each other in one text
_IN_POSTS = ("dumpstack_log", "event_log", "windbg_log", "host_log", "registry")
#: a longer text is not a post
_LARGEST_POST = 1 << 20


class Kind(NamedTuple):
    """What a file is: ``module`` reads it, or it is refused and ``advice`` says what to do.

    ``options`` are the keyword arguments that the module's ``collect`` takes.
    """

    name: str
    module: str = ""
    advice: str = ""
    options: tuple[str, ...] = ()


Recogniser = Union[tuple[bytes, ...], Callable[[bytes], bool]]


def _u16(head: bytes, at: int) -> int:
    return int.from_bytes(head[at : at + 2], "little")


def _is_etl(head: bytes) -> bool:
    """A WMI_BUFFER_HEADER of type "header", then the trace header event (group 0, type 0)."""
    size = int.from_bytes(head[:4], "little")
    return (
        len(head) >= 0x68
        and 0x68 <= size <= 1 << 28
        and _u16(head, 0x36) == 4
        and head[0x4A] in (1, 2)
        and head[0x4B] & 0xC0 == 0xC0
        and _u16(head, 0x4E) == 0
    )


def text_of(head: bytes) -> str:
    """The start of a text file in any encoding Windows tools write; "" when it is not text."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head.decode("utf-16", "replace").lstrip("\ufeff")
    if len(head) > 8 and not any(head[1:64:2]) and all(head[0:64:2]):
        return head.decode("utf-16-le", "replace")
    if b"\0" in head:
        return ""
    return head.decode("utf-8-sig", "replace")


def _is_text(head: bytes) -> bool:
    text = text_of(head)[:4096]
    odd = sum(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text)
    return odd * 20 < len(text)


def _is_hive_log(head: bytes) -> bool:
    """A transaction log has the hive's signature, and 1, 2 or 6 where the hive has 0."""
    return head[:4] == b"regf" and head[0x1C:0x20] in (b"\1\0\0\0", b"\2\0\0\0", b"\6\0\0\0")


def _is_dumpstack_log(head: bytes) -> bool:
    from .dumpstack_log_text import is_log

    return is_log(head)


@lru_cache(maxsize=4)
def _event_form(head: bytes) -> str:
    """The kind of event log that a text is; "" for other files."""
    text = text_of(head)
    if not text:
        return ""
    from .event_log_forms import form_of

    form = form_of(text)
    return form.kind if form is not None else ""


def _event_log(name: str) -> tuple[Recogniser, Kind]:
    return (lambda head: _event_form(head) == name), Kind(name, "event_log")


def _is_registry_text(head: bytes) -> bool:
    from .registry_text import is_export

    return is_export(text_of(head))


def _is_registry_shown(head: bytes) -> bool:
    from .registry_text import is_shown

    return is_shown(text_of(head))


def _is_capture(head: bytes) -> bool:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = text_of(head).encode()
    first = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]  # what follows may be damaged
    return first.startswith(b"{") and b'"dumpstart"' in first


def _is_windbg_log(head: bytes) -> bool:
    text = text_of(head)
    if not text:
        return False
    from .windbg_text import is_output

    return is_output(text)


def _is_host_log(head: bytes) -> bool:
    text = text_of(head)
    if not text:
        return False
    from .host_log import is_host_log

    return is_host_log(text)


def _is_crash_viewer(head: bytes) -> bool:
    """What BlueScreenView or WhoCrashed made of minidumps, as text or a page."""
    text = text_of(head)
    return bool(
        re.search(r"Bug Check String\b.{0,400}?\bCaused By Driver\b", text, re.S)
        or re.search(r"\bThis was (?:probably|likely) caused by the following module\b", text)
    )


def _is_elf_core(head: bytes) -> bool:
    return head[:4] == b"\x7fELF" and _u16(head, 16) == 4


def _is_vmware_state(head: bytes) -> bool:
    """A mark, and a list of groups of which the first has a name."""
    marks = (0xBED2BED2, 0xBED3BED3, 0xBAD1BAD1, 0xBAD2BAD2, 0xBED0BED0)
    return (
        int.from_bytes(head[:4], "little") in marks
        and 0 < int.from_bytes(head[8:12], "little") < 1 << 12
        and head[12:13].isalnum()
    )


_KERNEL_DUMP = (
    "open the kernel dump instead (C:\\Windows\\MEMORY.DMP or C:\\Windows\\Minidump\\*.dmp)"
)
_ASK_QEMU = "load it into QEMU, then dump-guest-memory FILE in its monitor"
_ASK_LIBVIRT = "virsh dump --memory-only DOMAIN FILE"
_UNPACK = "unpack it and open the files inside"

_OF_IMAGES = ("images", "symbols")
SNAPSHOT = Kind("memory snapshot", "snapshot", options=("progress", "dry_run", *_OF_IMAGES))
#: what asks a running machine instead of a file
HYPERVISORS = ("qmp:", "virsh:")
HYPERVISOR = Kind(
    "virtual machine", "hypervisor", options=("max_stop", "watch", "dry_run", *_OF_IMAGES)
)

ZEROS = Kind("a zero-filled file (its first 64 KB at least)", "", "copy it again from the machine")

#: first match wins; a recogniser is a tuple of first bytes or a function of the first 64 KB
KINDS: list[tuple[Recogniser, Kind]] = [
    ((b"PAGEDU64", b"PAGEDUMP"), Kind("kernel dump", "dump", options=("dry_run", *_OF_IMAGES))),
    ((b"ElfFile\0",), Kind("evtx", "event_log")),
    (_is_hive_log, Kind("a registry transaction log", "", "open the hive itself (SYSTEM)")),
    ((b"regf",), Kind("registry hive", "registry")),
    (_is_etl, Kind("etl", "etl", options=("manifests", "tmf", "mapping"))),
    (
        (b'{"schema": ',),
        Kind("a report of this tool", "", "open the dump or trace that it was made from"),
    ),
    (_is_dumpstack_log, Kind("dumpstack log", "dumpstack_log")),
    (_is_registry_text, Kind("registry export", "registry")),
    _event_log("event log XML"),
    _event_log("event log CSV"),
    _event_log("event log JSON"),
    _event_log("event log text"),
    (_is_capture, Kind("capture", "capture_file", options=("baseline",))),
    (_is_windbg_log, Kind("WinDbg log", "windbg_log", options=("baseline",))),
    (_is_host_log, Kind("host log", "host_log")),
    (_is_registry_shown, Kind("registry export", "registry")),
    (_is_elf_core, SNAPSHOT),
    ((b"makedumpfile\0", b"KDUMP   "), SNAPSHOT),
    (_is_vmware_state, SNAPSHOT),
    # what follows is refused by name
    (
        _is_crash_viewer,
        Kind("what BlueScreenView or WhoCrashed made of dumps", "", "open the dumps that it lists"),
    ),
    ((b"QEVM",), Kind("a QEMU migration stream or saved state", "", _ASK_QEMU)),
    (
        (b"LibvirtQemudSave", b"LibvirtQemudPart"),
        Kind("a machine saved by libvirt (virsh save)", "", f"restore it, then {_ASK_LIBVIRT}"),
    ),
    ((b"MDMP",), Kind("a user-mode minidump of one process", "", _KERNEL_DUMP)),
    ((b"Raw_Dmp!",), Kind("a firmware offline dump (Raw_Dmp!)", "", "convert it to a kernel dump")),
    (
        (b"HIBR", b"hibr", b"RSTR", b"rstr", b"WAKE", b"wake"),
        Kind("a hibernation file", "", _KERNEL_DUMP),
    ),
    (
        (b"\x30\0\0\0LfLe",),
        Kind("an old event log (.evt)", "", "open it in Event Viewer and save it as .evtx"),
    ),
    ((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), Kind("a zip archive", "", _UNPACK)),
    ((b"7z\xbc\xaf\x27\x1c",), Kind("a 7z archive", "", _UNPACK)),
    ((b"\x1f\x8b",), Kind("a gzip file", "", _UNPACK)),
    ((b"MSCF\0\0\0\0",), Kind("a cabinet archive", "", _UNPACK)),
    ((b"Rar!\x1a\x07",), Kind("a rar archive", "", _UNPACK)),
    ((b"\xfd7zXZ\0",), Kind("an xz file", "", _UNPACK)),
    ((b"\x28\xb5\x2f\xfd",), Kind("a zstd file", "", _UNPACK)),
    ((b"BZh",), Kind("a bzip2 file", "", _UNPACK)),
    ((b"\x7fELF",), Kind("an ELF program", "", _KERNEL_DUMP)),
    ((b"MZ",), Kind("a program or driver image (PE)", "", _KERNEL_DUMP)),
    ((b"Microsoft C/C++ MSF",), Kind("a symbol file (PDB)", "", _KERNEL_DUMP)),
    ((b"vhdxfile", b"conectix", b"KDMV", b"QFI\xfb"), Kind("a virtual disk", "", _KERNEL_DUMP)),
    (
        (b"version https://git-lfs",),
        Kind("a Git LFS pointer, not the file itself", "", "fetch the file with 'git lfs pull'"),
    ),
    ((b"DumpBlob",), Kind("secondary dump data without its dump (DumpBlob)", "", _KERNEL_DUMP)),
    (lambda head: not head.strip(b"\0"), ZEROS),
    (_is_text, Kind("a text file of no known kind", "", "kernel dumps start with PAGEDU64")),
]
EMPTY = Kind("an empty file", "", "copy it again from the machine")
UNKNOWN = Kind("no file of a known kind", "", "kernel dumps start with PAGEDU64 or PAGEDUMP")


def identify(path: str) -> Kind:
    """What the file is, by its first 64 KB; its name does not count."""
    if path.startswith(HYPERVISORS) and not os.path.lexists(path):
        return HYPERVISOR
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # opening it would wait for a writer
            raise InputError(path, "this is a pipe, not a file")
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        if os.path.isdir(path):
            raise InputError(path, "this is a folder", advice="name the files in it") from None
        raise InputError(path, f"the file cannot be read: {reason(error)}") from None
    except ValueError as error:  # a NUL in the name
        raise InputError(path, f"this is not a file name: {error}") from None
    kind = kind_of(head)
    if kind in (UNKNOWN, ZEROS) and _is_raw_memory(path):
        return SNAPSHOT
    return kind


def _is_raw_memory(path: str) -> bool:
    """A file without any mark is memory only when page tables in it prove that."""
    size = os.path.getsize(path)
    if size < 1 << 20 or size % 0x1000:
        return False
    from ..snapshot import is_memory_without_header  # numpy

    return is_memory_without_header(path)


def kind_of(head: bytes) -> Kind:
    """What a file is that begins with these bytes (64 KB of them, or the whole file)."""
    if not head:
        return EMPTY
    return next((kind for known, kind in KINDS if _matches(known, head)), UNKNOWN)


def _matches(known: Recogniser, head: bytes) -> bool:
    return known(head) if callable(known) else head.startswith(known)


def collect(path: str, **options: object) -> Records:
    """Everything the file tells; refuses a kind that no source reads.

    A source is given those of the ``options`` that its kind declares.
    """
    kind = identify(path)
    if not kind.module:
        found = "" if kind is not UNKNOWN else _first_bytes(path)
        raise UnsupportedError(path, f"this is {kind.name}", found=found, advice=kind.advice)
    records = _read(path, kind, options)
    for number, other in enumerate(_other_kinds(path, kind), 2):
        try:
            records.extend(_read(path, other, options).under(path, f"{path}!part {number}"))
        except InputError:
            continue  # only its beginning is of that kind
    return records


def _read(path: str, kind: Kind, options: dict[str, object]) -> Records:
    name = f"{__name__}.{kind.module}"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        problem = f"this is a file of kind {kind.name}, which this version does not read"
        raise UnsupportedError(path, problem) from None
    accepted = {key: value for key, value in options.items() if key in kind.options}
    records: Records = module.collect(path, **accepted)
    return records


def _other_kinds(path: str, kind: Kind) -> Iterator[Kind]:
    """What else a text holds: people paste events and a debugger's output into one post."""
    if kind.module not in _IN_POSTS or os.path.getsize(path) > _LARGEST_POST:
        return
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    seen = {kind.module}
    for known, other in KINDS if text_of(head) else ():
        if other.module in _IN_POSTS and other.module not in seen and _matches(known, head):
            seen.add(other.module)
            yield other


def _first_bytes(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(8).hex(" ")
