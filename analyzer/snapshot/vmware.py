"""VMware: ``.vmss`` and ``.vmsn`` (processors, and where memory lies) beside a ``.vmem``.

Invariant: a file that holds its memory compressed is refused by name; without the other file of the
pair what is there is read alone.

Sources: crash-utility vmware_vmss.c and .h, volatility's VMware address space. No file of real
VMware was available: the offsets are those of these two programs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..dumpfile.header import MachineFile
from ..errors import UnsupportedError
from ..files import FileBytes
from ..target import PAGE
from . import notes
from .image import MemoryImage
from .physical import Run, ranges

#: first words of a state file; BED0BED0 is the old form with 32-bit lengths
MAGICS = {
    0xBED2BED2: 8, 0xBED3BED3: 8, 0xBAD1BAD1: 8, 0xBAD2BAD2: 8, 0xBED0BED0: 4,
}  # fmt: skip
_GROUP = "<64sQQ"
_MOST_GROUPS, _MOST_TAGS, _MOST_REGIONS, _MOST_VALUE = 1 << 12, 1 << 18, 64, 256
_BLOCK, _COMPRESSED = 63, 62
_STATES = (".vmss", ".vmsn")
_REGISTERS = "rax rcx rdx rbx rbp rsp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
_CONTROLS = ("cr0", "cr1", "cr2", "cr3", "cr4")


class _Tag(NamedTuple):
    name: str
    indices: tuple[int, ...]
    data: bytes
    offset: int
    is_compressed: bool


def is_state(head: bytes) -> bool:
    """True for the first bytes of a ``.vmss`` or ``.vmsn``."""
    return int.from_bytes(head[:4], "little") in MAGICS


def state_beside(path: str) -> str | None:
    """The state file that belongs to a ``.vmem``, where it lies beside it."""
    stem, extension = os.path.splitext(path)
    if extension.lower() != ".vmem":
        return None
    for wanted in _STATES:
        for name in (stem + wanted, stem + wanted.upper()):
            try:
                with open(name, "rb") as file:
                    if is_state(file.read(4)):
                        return name
            except OSError:
                continue
    return None


def open_state(file: MachineFile) -> MemoryImage:
    """A state file with the memory inside or in the ``.vmem`` beside it."""
    state = _State(file)
    if state.memory is not None:
        return _image(file, state, file.data, state.memory.offset, "in the state file")
    stem = os.path.splitext(file.path)[0]
    beside = next((n for n in (f"{stem}.vmem", f"{stem}.VMEM") if os.path.isfile(n)), None)
    if beside is None:
        problem = "this is the state of a VMware machine without its memory"
        raise UnsupportedError(
            file.path, problem, advice=f"put {os.path.basename(stem)}.vmem beside it"
        )
    memory = MachineFile(beside)
    memory.load(PAGE, "memory")
    return _image(file, state, memory.data, 0, "registers from the state file")


def open_memory(file: MachineFile, state_path: str) -> MemoryImage:
    """A ``.vmem`` with the state file beside it."""
    beside = MachineFile(state_path)
    beside.load(12, "a VMware state file")
    image = _image(file, _State(beside), file.data, 0, f"with {os.path.basename(state_path)}")
    file.anomalies += beside.anomalies
    return image


def _image(file: MachineFile, state: _State, data: FileBytes, start: int, how: str) -> MemoryImage:
    runs = [
        Run(physical * PAGE, start + page * PAGE, size * PAGE)
        for page, physical, size in state.regions()
    ] or [Run(0, start, len(data) - start)]
    image = MemoryImage(f"VMware memory, {how}", ranges(data, runs), state.processors())
    if not image.processors:
        file.note("snapshot-damaged", "the state file holds no registers that are known")
        return image._replace(kind="VMware memory")
    return image


class _State:
    """What the groups "memory" and "cpu" of a state file tell."""

    def __init__(self, file: MachineFile) -> None:
        self.file, self.data = file, file.data
        self.memory: _Tag | None = None
        self._left = _MOST_TAGS
        self._regions: dict[str, dict[int, int]] = {}
        self._processors: dict[int, dict[str, int]] = {}
        magic, _, groups = self.data.unpack("<III", 0)
        self._width = MAGICS[magic]
        for number in range(min(groups, _MOST_GROUPS)):
            at = 12 + number * struct.calcsize(_GROUP)
            if at + struct.calcsize(_GROUP) > len(self.data):
                file.note("snapshot-damaged", "the state file ends inside its list of groups")
                break
            name, position, _ = self.data.unpack(_GROUP, at)
            group = name.split(b"\0")[0]
            if group in (b"memory", b"cpu"):
                for tag in self._tags(position):
                    self._take(tag, group == b"cpu")

    def _tags(self, at: int) -> Iterator[_Tag]:
        data = self.data
        while self._left and at + 2 <= len(data):
            self._left -= 1
            (flags,) = data.unpack("<H", at)
            if not flags:
                return
            length, count, size = flags >> 8, flags >> 6 & 3, flags & 63
            name = data[at + 2 : at + 2 + length].decode("latin-1")
            at += 2 + length
            if at + 4 * count + 18 > len(data):
                return
            indices = data.unpack(f"<{count}I", at)
            at += 4 * count
            if size in (_BLOCK, _COMPRESSED):
                size_form = "<QQH" if self._width == 8 else "<IIH"
                stored, _, padding = data.unpack(size_form, at)
                at += struct.calcsize(size_form) + padding
                yield _Tag(
                    name, indices, data[at : at + min(stored, _MOST_VALUE)], at, size == _COMPRESSED
                )
                at += stored
            else:
                yield _Tag(name, indices, data[at : at + size], at, False)
                at += size

    def _take(self, tag: _Tag, is_cpu: bool) -> None:
        if not is_cpu:
            if tag.name == "Memory":
                if tag.is_compressed:
                    problem = "this is the state of a VMware machine with compressed memory"
                    advice = "take a snapshot of it instead: that writes the memory to a .vmem"
                    raise UnsupportedError(self.file.path, problem, advice=advice)
                self.memory = tag
            elif tag.name.startswith("region") and len(tag.indices) == 1 and len(tag.data) <= 8:
                values = self._regions.setdefault(tag.name, {})
                values[tag.indices[0]] = int.from_bytes(tag.data, "little")
            return
        if not tag.indices or tag.indices[0] >= notes.MAX_PROCESSORS:
            return
        registers = self._processors.setdefault(tag.indices[0], {})
        words = [
            int.from_bytes(tag.data[at : at + 8], "little")
            for at in range(0, min(len(tag.data), 128), 8)
        ]
        if tag.name in _REGISTERS and len(tag.indices) == 1 and words:
            registers[tag.name] = words[0]
        elif tag.name == "eflags" and words:
            registers["rflags"] = words[0]
        elif tag.name == "gpregs" and len(words) == 16:
            registers.update(zip(_REGISTERS, words))
        elif tag.name == "CR64" and len(tag.indices) == 1:
            registers.update(zip(_CONTROLS, words))
        elif tag.name == "CR64" and words and tag.indices[1] < len(_CONTROLS):
            registers[_CONTROLS[tag.indices[1]]] = words[0]
        elif tag.name == "IDTR" and len(tag.indices) == 1 and len(tag.data) >= 10:
            registers["idt_base"] = int.from_bytes(tag.data[2:10], "little")
        elif tag.name == "IDTR" and words and tag.indices[1] in (1, 2):
            shift = 32 * (tag.indices[1] - 1)
            registers["idt_base"] = registers.get("idt_base", 0) | words[0] << shift

    def regions(self) -> list[tuple[int, int, int]]:
        """(page in the file, physical page, pages) of each region."""
        pages, frames, sizes = (
            self._regions.get(name, {}) for name in ("regionPageNum", "regionPPN", "regionSize")
        )
        numbers = sorted(set(pages) & set(frames) & set(sizes))[:_MOST_REGIONS]
        return [(pages[n], frames[n], sizes[n]) for n in numbers]

    def processors(self) -> list[dict[str, int]]:
        """Registers of the processors of which enough is there."""
        needed = {"rip", "rsp", "rcx", "cr3", "idt_base"}
        found = [self._processors[n] for n in sorted(self._processors)]
        return [registers for registers in found if needed <= set(registers)]
