"""The header of a kernel dump file: every field a value or an ``Absent``.

Invariant: parsing never fails once the eight magic bytes are there; a field that the writer left
at the filler ``PAGE`` is absent ("unset"), one behind the end of the file is absent ("file-cut").
Source: mindumpdef.h of the Windows SDK (:mod:`analyzer.layouts.mindumpdef`).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Union

from ..absence import Absent
from ..errors import InputError, UnsupportedError
from ..files import FileBytes
from ..layouts import mindumpdef
from ..layouts.modules import REGISTERS
from ..records import Anomaly, Evidence, Origin

Value = Union[int, bytes, Absent]

#: fields without which a crash cannot be told; still "PAGE" here means the writer broke off early
MANDATORY = (
    "MinorVersion",
    "DirectoryTableBase",
    "PsLoadedModuleList",
    "MachineImageType",
    "NumberProcessors",
    "BugCheckCode",
    "DumpType",
)
SMALLEST = 0x60


#: "Progress 0x42" is the shortest line of a dump log
_SHORTEST_LINE = 13


class Diagnosis(NamedTuple):
    """What Windows 11 adds to the header: how writing the dump ended, and the exact version."""

    last_line: str | Absent = Absent("not-recorded", "Windows writes it since Windows 11")
    revision: int | Absent = Absent("not-recorded", "Windows writes it since Windows 11")
    #: words of the part that holds an error code and a percentage, by their header offset
    unknown: tuple[tuple[int, int], ...] = ()


def _diagnosis(head: bytes) -> Diagnosis:
    """The diagnosis area: it must agree with the header's own build and hold a printable line."""
    fields = mindumpdef.DIAGNOSIS
    none = Diagnosis()
    if len(head) < mindumpdef.DumpHeader64.size:
        return none
    attributes = mindumpdef.DumpHeader64.Attributes.read(head)
    if attributes == mindumpdef.FILLER32 or not attributes & mindumpdef.DIAGNOSIS_WRITTEN:
        return none
    line = bytes(fields.LastLine.read(head)).partition(b"\0")[0]
    if not line.strip() or not line.isascii() or not line.decode("ascii").isprintable():
        return none
    if line.startswith(mindumpdef.SIGNATURE * 2) or len(line) < _SHORTEST_LINE:
        return none
    build = bytes(fields.Build.read(head)).decode("utf-16-le", "replace").partition("\0")[0]
    revision: int | Absent = none.revision
    if build == str(mindumpdef.DumpHeader64.MinorVersion.read(head)):
        revision = fields.Revision.read(head)
    start, words = fields.Unknown.offset, fields.Unknown.size // 4
    values = struct.unpack_from(f"<{words}I", head, start)
    unknown = tuple((start + 4 * n, v) for n, v in enumerate(values) if v)
    if any(value == mindumpdef.FILLER32 for _, value in unknown):
        unknown = ()  # never filled in
    return Diagnosis(line.decode("ascii").strip(), revision, unknown)


class MachineFile:
    """What a file (or whatever holds a machine's memory) tells of the machine.

    ``fields`` has the names of a dump header, whoever found their values; ``anomalies`` collects
    what is odd.
    """

    pointer_size = 8
    architecture: str | Absent = Absent("not-found", "no Windows was found")
    size = 0
    data = FileBytes.of(b"", "")

    def __init__(self, path: str) -> None:
        self.path = path
        self.anomalies: list[Anomaly] = []
        self.fields: dict[str, Value] = {}
        self.diagnosis = Diagnosis()

    def load(self, least: int, what: str) -> None:
        """Opens the file; InputError when it cannot be read or is shorter than ``least`` bytes."""
        self.data = FileBytes(self.path)
        self.size = self.data.size
        if self.size < least:
            raise InputError(
                self.path,
                f"too short for {what}",
                expected=f"at least {least} bytes",
                found=str(self.size),
            )

    def number(self, name: str) -> int | Absent:
        """A header field as an integer."""
        value = self.fields.get(name, Absent("not-recorded", "this kind of file has no such field"))
        return value if isinstance(value, (int, Absent)) else Absent("not-applicable")

    def register(self, name: str) -> int | Absent:
        """The instruction ("ip") or the stack pointer ("sp") of the crash context."""
        return Absent("not-recorded", "this kind of file holds no context of the crash")

    def exception(self) -> tuple[int, int] | None:
        """Code and address of the exception record; None where there is none."""
        return None

    def origin(self, how: str, offset: int | None, confidence: str = "certain") -> Origin:
        """Provenance at a file offset."""
        return Origin(self.path, how, confidence, offset)

    def note(
        self, rule: str, text: str, *, offset: int | None = None, subject: str = "",
        evidence: tuple[Evidence, ...] = (),
    ) -> None:  # fmt: skip
        """Records something odd, in a clause or a sentence; identical notes are kept once."""
        if not text.endswith("."):
            text = f"{text[0].upper()}{text[1:]}."
        note = Anomaly(rule, text, self.origin("dump file check", offset), subject, evidence)
        if note not in self.anomalies:
            self.anomalies.append(note)

    def find(self, needle: bytes, start: int = 0) -> int:
        """File offset of a byte string, -1 when it is not there."""
        return self.data.find(needle, start)


class DumpFile(MachineFile):
    """A kernel dump file and its header; readers of its memory are built on it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.load(SMALLEST, "a kernel dump")
        magic = self.data[:8]
        if magic == mindumpdef.SIGNATURE + mindumpdef.VALID_DUMP64:
            self.layout = mindumpdef.DumpHeader64
        elif magic == mindumpdef.SIGNATURE + mindumpdef.VALID_DUMP32:
            self.layout = mindumpdef.DumpHeader32
        else:
            raise UnsupportedError(
                path,
                "not a kernel dump",
                offset=0,
                expected="PAGEDU64 or PAGEDUMP",
                found=repr(magic),
            )
        self.pointer_size = self.layout.pointer_size
        self.header_size = self.layout.size
        self.head = self.data[: self.header_size]
        if not self.head[len(magic) :].strip(b"\0"):
            raise InputError(path, "nothing but zeros follows the signature, so no dump is in it")
        self.fields = {
            name: self._field(field) for name, field in mindumpdef.fields(self.layout).items()
        }
        if self.pointer_size == 8:
            self.diagnosis = _diagnosis(self.head)
        self.architecture = self._architecture()
        if self.size < self.header_size:
            self.note(
                "dump-file-cut",
                f"the file ends at {self.size:,} bytes, inside its {self.header_size:,}-byte "
                "header; only the header fields before that are known",
                offset=self.size,
            )
        unset = [
            name
            for name, value in ((name, self.fields[name]) for name in MANDATORY)
            if isinstance(value, Absent) and value.reason == "unset"
        ]
        if unset:
            self.note(
                "header-field-unset",
                f"the header fields {', '.join(unset)} were never filled in (they still hold PAGE)",
                offset=mindumpdef.fields(self.layout)[unset[0]].offset,
                evidence=tuple(Evidence(name, "PAGE") for name in unset),
            )

    def _field(self, field: mindumpdef.Field) -> Value:
        if field.offset + field.size > len(self.head):
            return Absent("file-cut", f"the file ends before header offset {field.offset:#x}")
        value = field.read(self.head)
        if isinstance(value, int):
            filler = {
                8: mindumpdef.FILLER64,
                4: mindumpdef.FILLER32,
            }.get(field.size)
            if value == filler:
                return Absent("unset", f"the header field at {field.offset:#x} still holds PAGE")
        return bytes(value) if isinstance(value, (bytes, bytearray)) else int(value)

    def _architecture(self) -> str | Absent:
        machine = self.fields["MachineImageType"]
        if isinstance(machine, Absent):
            return machine
        name = mindumpdef.IMAGE_FILE_MACHINES.get(int(machine))
        known = {8: ("x64", "arm64"), 4: ("x86",)}[self.pointer_size]
        if name not in known:
            text = f"machine type {int(machine):#x} in a {8 * self.pointer_size}-bit header"
            self.note(
                "dump-map-inconsistent",
                f"the header contradicts itself: {text}; its memory is read by what fits",
                offset=self.layout.MachineImageType.offset,
            )
            return Absent("out-of-range", text)
        if name == "x86":
            # A page dump whose writer left the byte at its filler ("P" of PAGE) is told apart by
            # its page tables.
            return "x86-pae" if self.fields.get("PaeEnabled") == 1 else "x86"
        return name

    def register(self, name: str) -> int | Absent:
        """The instruction ("ip") or the stack pointer ("sp") of the crash context."""
        if isinstance(self.architecture, Absent):
            return self.architecture
        field = REGISTERS[self.architecture][0 if name == "ip" else 1]
        offset = self.layout.ContextRecord.offset + field.offset
        value = self._field(mindumpdef.Field(offset, field.format))
        assert not isinstance(value, bytes)
        return value

    def exception(self) -> tuple[int, int] | None:
        """Code and address of the exception record; None where the writer left it empty."""
        at = self.layout.Exception.offset
        place = mindumpdef.EXCEPTION_ADDRESS[self.pointer_size]
        code = self._field(mindumpdef.Field(at, "I"))
        address = self._field(mindumpdef.Field(at + place.offset, place.format))
        if isinstance(code, int) and isinstance(address, int) and code and address:
            return code, address
        return None

    def context_record(self) -> bytes:
        """The raw CONTEXT of the crash (the whole reserved area)."""
        field = self.layout.ContextRecord
        return self.head[field.offset : field.offset + field.size]
