"""Classic kernel events by hook group: process, image, thread, disk I/O, stack walk, and headers.

Invariant: a layout is used only for the versions it is known for (MSDN's MOF classes; the process
and image ones are checked against real traces of every version); others stay undecoded.
"""

from __future__ import annotations

from typing import NamedTuple

from . import payload as p
from .payload import Field, Schema


class Group(NamedTuple):
    """One hook group (high byte of a hook id) and the class GUID its classic events carry."""

    name: str
    guid: str
    opcodes: dict[int, str]


_LOAD = {1: "Start", 2: "End", 3: "DCStart", 4: "DCEnd", 39: "Defunct"}
_IMAGE = {2: "UnLoad", 3: "DCStart", 4: "DCEnd", 10: "Load", 33: "KernelBase"}
_DISK = {10: "Read", 11: "Write", 12: "ReadInit", 13: "WriteInit", 14: "FlushBuffers",
         15: "FlushInit"}  # fmt: skip
GROUPS: dict[int, Group] = {
    0x00: Group("EventTrace", "68fdd900-4a3e-11d1-84f4-0000f80464e3",
                {0: "Header", 5: "Extension", 8: "RDComplete", 0x20: "EndExtension",
                 0x40: "DbgIdRSDS", 0x42: "BuildInfo", 0x43: "BinaryPath", 0x50: "PartitionInfo"}),
    0x01: Group("DiskIo", "3d6fa8d4-fe05-11d0-9dda-00c04fd7ba7c", _DISK),
    0x02: Group("PageFault", "3d6fa8d3-fe05-11d0-9dda-00c04fd7ba7c", {}),
    0x03: Group("Process", "3d6fa8d0-fe05-11d0-9dda-00c04fd7ba7c", _LOAD),
    0x04: Group("FileIo", "90cbdc39-4a3e-11d1-84f4-0000f80464e3", {}),
    0x05: Group("Thread", "3d6fa8d1-fe05-11d0-9dda-00c04fd7ba7c",
                {1: "Start", 2: "End", 3: "DCStart", 4: "DCEnd", 36: "CSwitch"}),
    0x06: Group("TcpIp", "9a280ac0-c8e0-11d1-84e2-00c04fb998a2", {}),
    0x08: Group("UdpIp", "bf3a50c5-a9c9-4988-a005-2df0b7c80f80", {}),
    0x09: Group("Registry", "ae53722e-c863-11d2-8659-00c04fa321a1", {}),
    0x0B: Group("SystemConfig", "01853a65-418f-4f36-aefc-dc0f1d2fd235", {}),
    0x0F: Group("PerfInfo", "ce1dbfb4-137e-4da6-87b0-3f59aa102cbc", {}),
    0x11: Group("Object", "89497f50-effe-4440-8cf2-ce6b1cdcaca7", {}),
    0x12: Group("Power", "e43445e0-0903-48c3-b878-ff0fccebdd04", {}),
    0x14: Group("Image", "2cb15d1d-5fc1-11d2-abe1-00a0c911f518", _IMAGE),
    0x18: Group("StackWalk", "def2fe46-7bd6-4b80-bd94-f57fe20d0ce3", {0x20: "Stack"}),
    0x1B: Group("SplitIo", "d837ca92-12b9-44a5-ad6a-3a65b3578aa8", {}),
}  # fmt: skip
IMAGE_ID = "b3e675d7-2554-4f18-830b-2762732560de"
_BY_GUID = {group.guid: number for number, group in GROUPS.items()}
_BY_GUID[IMAGE_ID] = -1


def _fields(text: str) -> tuple[Field, ...]:
    """Fields from "name:kind" words."""
    kinds = {
        "ptr": (p.POINTER, ""), "u8": (p.UINT8, ""), "u16": (p.UINT16, ""), "u32": (p.UINT32, ""),
        "i32": (p.INT32, ""), "u64": (p.UINT64, ""), "x32": (p.HEX32, "hex"),
        "x64": (p.HEX64, "hex"), "guid": (p.GUID, ""), "wsid": (p.WBEM_SID, ""),
        "str": (p.ANSI, ""), "wstr": (p.UNICODE, ""), "pid": (p.UINT32, "pid"),
        "status": (p.UINT32, "ntstatus"), "utf8": (p.ANSI, "utf8"),
    }  # fmt: skip
    out = []
    for word in text.split():
        name, _, kind = word.partition(":")
        out.append(Field(name, *kinds[kind]))
    return tuple(out)


_PROCESS: dict[int, tuple[Field, ...]] = {
    0: _fields("ProcessId:ptr ParentId:ptr UserSID:wsid ImageFileName:str"),
    1: _fields("PageDirectoryBase:ptr ProcessId:pid ParentId:pid SessionId:u32 ExitStatus:status "
               "UserSID:wsid ImageFileName:str"),
    2: _fields("UniqueProcessKey:ptr ProcessId:pid ParentId:pid SessionId:u32 ExitStatus:status "
               "UserSID:wsid ImageFileName:str CommandLine:wstr"),
    3: _fields("UniqueProcessKey:ptr ProcessId:pid ParentId:pid SessionId:u32 ExitStatus:status "
               "DirectoryTableBase:ptr UserSID:wsid ImageFileName:str CommandLine:wstr"),
    4: _fields("UniqueProcessKey:ptr ProcessId:pid ParentId:pid SessionId:u32 ExitStatus:status "
               "DirectoryTableBase:ptr Flags:x32 UserSID:wsid ImageFileName:str CommandLine:wstr "
               "PackageFullName:wstr ApplicationId:wstr"),
}  # fmt: skip
_IMAGES: dict[int, tuple[Field, ...]] = {
    0: _fields("ImageBase:ptr ImageSize:x32 FileName:wstr"),
    1: _fields("ImageBase:ptr ImageSize:ptr ProcessId:pid FileName:wstr"),
    2: _fields("ImageBase:ptr ImageSize:ptr ProcessId:pid ImageChecksum:x32 TimeDateStamp:x32 "
               "Reserved0:u32 DefaultBase:ptr Reserved1:u32 Reserved2:u32 Reserved3:u32 "
               "Reserved4:u32 FileName:wstr"),
    3: _fields("ImageBase:ptr ImageSize:ptr ProcessId:pid ImageChecksum:x32 TimeDateStamp:x32 "
               "SignatureLevel:u8 SignatureType:u8 Reserved0:u16 DefaultBase:ptr Reserved1:u32 "
               "Reserved2:u32 Reserved3:u32 Reserved4:u32 FileName:wstr"),
}  # fmt: skip
_KERNEL_BASE = _fields("ImageBase:ptr")  # 8 bytes in PerfView's net.4.5.2 traces, like its baseline
_TRANSFER = ("DiskNumber:u32 IrpFlags:x32 TransferSize:u32 Reserved:u32 ByteOffset:x64 "
             "FileObject:ptr Irp:ptr HighResResponseTime:u64")  # fmt: skip
_FLUSH = "DiskNumber:u32 IrpFlags:x32 HighResResponseTime:u64 Irp:ptr"
_DISKS: dict[tuple[int, int], tuple[Field, ...]] = {}
for _version, _tail in ((2, ""), (3, " IssuingThreadId:u32")):
    for _opcode, _text in ((10, _TRANSFER), (11, _TRANSFER), (14, _FLUSH), (12, "Irp:ptr"),
                           (13, "Irp:ptr"), (15, "Irp:ptr")):  # fmt: skip
        _DISKS[_opcode, _version] = _fields(_text + _tail)
_THREAD = {
    2: _fields("ProcessId:pid TThreadId:u32 StackBase:ptr StackLimit:ptr UserStackBase:ptr "
               "UserStackLimit:ptr StartAddr:ptr Win32StartAddr:ptr TebBase:ptr SubProcessTag:x32"),
    3: _fields("ProcessId:pid TThreadId:u32 StackBase:ptr StackLimit:ptr UserStackBase:ptr "
               "UserStackLimit:ptr Affinity:ptr Win32StartAddr:ptr TebBase:ptr SubProcessTag:x32 "
               "BasePriority:u8 PagePriority:u8 IoPriority:u8 ThreadFlags:u8 ThreadName:wstr"),
}  # fmt: skip
_STACK = _fields("EventTimeStamp:u64 StackProcess:x32 StackThread:u32")
_HEADERS: dict[int, tuple[Field, ...]] = {
    0x40: _fields("GuidSig:guid Age:u32 PdbFileName:utf8"),
    0x42: _fields("BuildLab:str"),
}
_IMAGE_ID: dict[int, tuple[Field, ...]] = {
    # Two pointers: PerfView's baseline of net.4.5.2.x64 has ImageSize 1,404,928 and TimeDateStamp
    # 1,343,270,522 for ntdll.dll.
    0x00: _fields("ImageBase:ptr ImageSize:ptr ProcessId:pid TimeDateStamp:x32 "
                  "OriginalFileName:wstr"),
    0x24: _fields("ImageBase:ptr ProcessId:pid GuidSig:guid Age:u32 PdbFileName:utf8"),
    0x40: _fields("ImageSize:x32 TimeDateStamp:x32 OrigFileName:wstr FileDescription:wstr "
                  "FileVersion:wstr BinFileVersion:wstr VerLanguage:wstr ProductName:wstr "
                  "CompanyName:wstr ProductVersion:wstr FileId:wstr ProgramId:wstr"),
}  # fmt: skip
_CACHE: dict[tuple[int, int, int], Schema | None] = {}


def group_of(guid: str) -> int | None:
    """The hook group of a class GUID; -1 for image ids; None when it is no kernel class."""
    return _BY_GUID.get(guid)


def event_name(group: int, opcode: int) -> str:
    """Such as Process/Start; numbers where there is no name."""
    if group == -1:
        return "ImageID/" + {0: "Info", 36: "DbgID_RSDS", 64: "FileVersion"}.get(
            opcode, str(opcode)
        )
    if group == 0x03 and opcode == 10:
        return "Image/Load"
    known = GROUPS.get(group)
    if known is None:
        return f"Group{group:#04x}/{opcode}"
    return f"{known.name}/{known.opcodes.get(opcode, str(opcode))}"


def schema(group: int, opcode: int, version: int) -> Schema | None:
    """The schema of a kernel event, None when its layout is not known here."""
    key = (group, opcode, version)
    if key not in _CACHE:
        fields = _lookup(group, opcode, version)
        _CACHE[key] = (
            None if fields is None
            else Schema("Windows Kernel", event_name(group, opcode), fields, told_by="MOF")
        )  # fmt: skip
    return _CACHE[key]


def _lookup(group: int, opcode: int, version: int) -> tuple[Field, ...] | None:
    if group == 0x03 and opcode in _LOAD:
        return _PROCESS.get(version)
    if group == 0x05 and 1 <= opcode <= 4:
        return _THREAD.get(version)
    if group == 0x14 and opcode == 33:
        return _KERNEL_BASE
    if (group == 0x14 and opcode in _IMAGE) or (group == 0x03 and opcode == 10):
        return _IMAGES.get(version)
    if group == 0x01:
        return _DISKS.get((opcode, version))
    if group == 0x18 and opcode == 0x20:
        return _STACK
    if group == 0x00:
        return _HEADERS.get(opcode)
    if group == -1:
        return _IMAGE_ID.get(opcode)
    return None


def stack_frames(data: bytes, pointer: int) -> list[int]:
    """The return addresses of a stack walk event, innermost first."""
    width = 4 if pointer == 4 else 8
    return [
        int.from_bytes(data[at : at + width], "little")
        for at in range(16, len(data) - width + 1, width)
    ]
