"""A snapshot of a running machine as the same kind of target as a kernel dump.

Invariant: what a dump header would state is found in memory or absent; nothing here says that the
machine crashed: its bugcheck is what nt keeps in KiBugCheckData, 0 where it has not crashed.

Sources: public types of KPCR and KPRCB (stable on x64 since Vista) and of KUSER_SHARED_DATA.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..absence import Absent
from ..dumpfile import loaded
from ..dumpfile.header import MachineFile, Value
from ..dumpfile.kernel import KernelDump, StackRegion
from ..dumpfile.processors import STACK_SIZE
from ..errors import UnsupportedError
from ..layouts import mindumpdef
from ..records import SNAPSHOT, Module
from ..stacks.caught import Caught
from .image import MemoryImage
from .raw import Progress
from .windows import Windows, debugger_block, find

_KUSER = 0xFFFF_F780_0000_0000
_BUILD = 0x260  #: NtBuildNumber in KUSER_SHARED_DATA, since Windows 10
_AMD64 = 0x8664
_PRCB, _SELF = 0x180, 0x18  #: in KPCR
_CURRENT_THREAD, _IDLE_THREAD, _STACK_BASE = 0x08, 0x18, 0x28  #: in KPRCB
_KERNEL = 0xFFFF_8000_0000_0000
_HEADER_FIELDS = ("KdDebuggerDataBlock", "PfnDataBase")


class Snapshot(KernelDump):
    """Windows in a memory image."""

    kind = SNAPSHOT
    machine_how = "nt's exports, its data and KUSER_SHARED_DATA"
    machine_offset = None
    holds = "physical memory"

    def __init__(
        self, file: MachineFile, image: MemoryImage, progress: Progress | None = None
    ) -> None:
        found = find(image, progress)
        if isinstance(found, Absent):
            problem = f"this is a memory snapshot ({image.kind}) in which Windows was not found"
            raise UnsupportedError(file.path, problem, found=found.detail)
        self.image, self.windows, self.space = image, found, found.space
        file.architecture = found.space.scheme.name
        file.fields = self._fields(found, image)
        super().__init__(file)
        self._modules: list[Module] | None = None

    def subtype(self) -> str:
        return self.image.kind

    def _fields(self, found: Windows, image: MemoryImage) -> dict[str, Value]:
        """Header fields, out of nt's exports and the data that every Windows shares."""
        none = Absent("not-found", "nt does not export KiBugCheckData or it is not in the memory")
        other = Absent("not-applicable", "a memory snapshot has no dump header")
        fields: dict[str, Value] = dict.fromkeys(mindumpdef.fields(mindumpdef.DumpHeader64), other)
        count = len(image.processors) or Absent("not-recorded", "the file has no registers")
        fields |= {
            "PsLoadedModuleList": found.modules,
            "DirectoryTableBase": found.space.root,
            "MachineImageType": _AMD64,
            "MinorVersion": self._build(found),
            "NumberProcessors": count,
        }
        names = ["BugCheckCode", *(f"BugCheckParameter{n}" for n in (1, 2, 3, 4))]
        data = found.space.read(found.exports.get("KiBugCheckData", 0), 40)
        values: Sequence[Value] = [none] * 5
        if "KiBugCheckData" in found.exports and not isinstance(data, Absent):
            values = struct.unpack("<5Q", data)
        fields.update(zip(names, values))
        clocks = found.space.read(_KUSER + 0x08, 0x18)
        if not isinstance(clocks, Absent):
            up_low, up_high, _, low, high, _ = struct.unpack("<6I", clocks)
            fields["SystemUpTime"] = up_low | up_high << 32
            fields["SystemTime"] = low | high << 32
        fields["KdDebuggerDataBlock"] = debugger_block(found.space, found.nt)
        if image.header:  # left by a driver in the guest when it started
            known = mindumpdef.fields(mindumpdef.DumpHeader64)
            for name in _HEADER_FIELDS:
                place = known[name].offset
                if isinstance(fields[name], Absent) and place + 8 <= len(image.header):
                    fields[name] = known[name].read(image.header)
        return fields

    @staticmethod
    def _build(found: Windows) -> int | Absent:
        data = found.space.read(found.exports.get("NtBuildNumber", _KUSER + _BUILD), 4)
        return data if isinstance(data, Absent) else int.from_bytes(data[:2], "little")

    # -- memory ----------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes | Absent:
        return self.space.read(address, size)

    def file_offset(self, address: int) -> int | None:
        physical, reason = self.space.translate(address)
        return None if reason else self.image.physical.offset(physical)

    def read_physical(self, physical: int, size: int) -> bytes | Absent:
        """``size`` bytes at a physical address, or why they are not there."""
        return self.image.physical.read(physical, size)

    # -- lists -----------------------------------------------------------------------------------

    def modules(self) -> Sequence[Module]:
        if self._modules is None:
            self._modules = loaded.loaded_modules(self)
        return self._modules

    def unloaded(self) -> Sequence[Module]:
        return loaded.unloaded_modules(self)

    def build_lab(self) -> str | Absent:
        at = self.windows.exports.get("NtBuildLab")
        if at is None:
            return Absent("not-found", "nt does not export NtBuildLab")
        data = self.read(at, 64)
        if isinstance(data, Absent):
            return data
        text = data.split(b"\0")[0].decode("ascii", "replace")
        return text if text.isprintable() else Absent("out-of-range", "NtBuildLab is not text")

    def stacks(self) -> Sequence[StackRegion]:
        """What lies above each processor's stack pointer, where that is a kernel stack."""
        found = []
        for number, registers in enumerate(self.image.processors):
            start = registers["rsp"] & -8
            if start < _KERNEL:
                continue
            end = start + STACK_SIZE[8]
            block = self.processor_block(number)
            base = (
                Absent("unset") if isinstance(block, Absent) else self.pointer(block + _STACK_BASE)
            )
            if isinstance(base, int) and start < base < end:
                end = base
            found.append(StackRegion(start, end, f"processor {number}"))
        return found

    # -- processors ------------------------------------------------------------------------------

    def caught(self) -> list[Caught]:
        found = []
        for number, registers in enumerate(self.image.processors):
            origin = self.file.origin("registers of the virtual processor", None)
            thread, is_idle = self.current_thread(number)
            name = f"processor {number}"
            found.append(Caught(name, registers, origin, number, thread, is_idle))
        return found

    def processor_block(self, number: int) -> int | Absent:
        """The KPRCB of a processor, through the KPCR that its GS register names."""
        registers = self.image.processors[number]
        for name in ("gs_base", "kernel_gs_base"):
            at = registers.get(name, 0)
            if at >= _KERNEL and self.pointer(at + _SELF) == at:
                return at + _PRCB
        return Absent("not-found", "neither GS base is a KPCR")

    def current_thread(self, number: int) -> tuple[int | Absent, bool | Absent]:
        """(thread that a processor runs, whether it is its idle thread)."""
        block = self.processor_block(number)
        if isinstance(block, Absent):
            return block, block
        thread = self.pointer(block + _CURRENT_THREAD)
        idle = self.pointer(block + _IDLE_THREAD)
        is_known = isinstance(thread, int) and isinstance(idle, int) and idle
        return thread, (thread == idle if is_known else Absent("not-found", "no idle thread"))
