"""Built-in knowledge of the providers that speak about crash dumps, power and storage.

Invariant: a layout is used for exactly the event versions it is known for. Field lists are those of
the providers' own manifests (public dumps of Windows 10 and 11 builds); where a layout was checked
on real bytes instead, the line says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache

from ..names import events, locations, ntstatus
from . import payload as p
from .payload import IN_TYPES, Decoded, Field, Schema
from .reader import Reader, ShortError

CRASHDUMP = events.GUIDS[events.CRASHDUMP]
KERNEL_DUMP = events.GUIDS[events.KERNEL_DUMP]
KERNEL_IO = events.GUIDS[events.KERNEL_IO]
KERNEL_BOOT = events.GUIDS[events.KERNEL_BOOT]
KERNEL_GENERAL = events.GUIDS[events.KERNEL_GENERAL]
KERNEL_POWER = events.GUIDS[events.KERNEL_POWER]
STORPORT = events.GUIDS[events.STORPORT]
WER = events.GUIDS[events.WER]
CALLBACKS = "0f41c9b5-7d1e-5a1c-9d0e-6d5a8b1f7c42"  # published in docs/dumpstart-callbacks.man
IO_ERROR_LOG = events.IO_ERROR_LOG
SERVICES = "555908d1-a6d7-4695-8e1e-26931d2012f4"

NAMES: dict[str, str] = {
    **{guid: events.SPELLED[name] for name, guid in events.GUIDS.items()},
    CALLBACKS: "Dumpstart-Callbacks",
    IO_ERROR_LOG: "I/O error log (classic driver entries)",
    SERVICES: "Service Control Manager",
    "bef2aa8e-81cd-11e2-a7bb-5eac6188709b": "Microsoft-Windows-Kernel-LiveDump",
    "c7c9e4f7-c41d-5c68-f104-d72a920016c7": "Microsoft-Windows-Hyper-V-CrashDump",
    "9c205a39-1250-487d-abd7-e831c6290539": "Microsoft-Windows-Kernel-PnP",
    "3ff37a1c-a68d-4d6e-8c9b-f79e8b16c482": "Microsoft-Windows-Ntfs",
    "f3c5e28e-63f6-49c7-a204-e48a1bc4b09d": "Microsoft-Windows-FilterManager",
    "4ee76bd8-3cf4-44a0-a0ac-3937643e37a3": "Microsoft-Windows-CodeIntegrity",
}

#: numbers of the published callback events, in the order of FILTER_INITIALIZATION_DATA
CALLBACK_NAMES = {
    1: "Dump_Start", 2: "Dump_Write", 3: "Dump_Finish", 4: "Dump_Unload", 5: "Dump_Read",
    6: "Dump_PreReadWrite",
}  # fmt: skip

# provider, id, version, name, fields; "#" fields carry an NTSTATUS. StorPort 523 version 3 is as
# Windows itself renders it in an event log.
_TABLE = f"""
{CRASHDUMP} 1 1 ResumeCapable ResumeCapable:Boolean ReasonCodes:HexInt32
{CRASHDUMP} 2 1 TransferSizes Minimum:UInt32 Maximum:UInt32
{CRASHDUMP} 3 1 CreateDumpFile IoSpaceEnabled:Boolean PhysicalMemorySizeInBytes:UInt64 \
DumpFileSizeInBytes:UInt64 CreateDumpFileDurationInMs:UInt64
{CRASHDUMP} 3 2 CreateDumpFile IoSpaceEnabled:Boolean PhysicalMemorySizeInBytes:UInt64 \
DumpFileSizeInBytes:UInt64 CreateDumpFileDurationInMs:UInt64 LargeDumpThresholdGB:UInt32
{CRASHDUMP} 4 0 EarlyCrashDump/PrepareFailure Status#:UInt32 FailurePoint:UInt32
{CRASHDUMP} 5 0 EarlyCrashDump/InitializationFailure Status#:UInt32
{CRASHDUMP} 6 0 EarlyCrashDump/Initialized
{CRASHDUMP} 7 0 EarlyCrashDump/Supported
{KERNEL_DUMP} 1 0 CrashDumpPolicy/PolicyOperationFailed OperationType:AnsiString
{KERNEL_DUMP} 2 0 CrashDumpPolicy/PolicyValueChanged PolicyValue:UInt32 NTStatus#:UInt32
{KERNEL_DUMP} 3 0 CrashDumpPolicy/DisabledOnBoot PolicyValue:UInt32
{KERNEL_DUMP} 4 0 DisableFailed NTStatus#:UInt32
{KERNEL_DUMP} 5 0 InitializationFailed NTStatus#:UInt32
{KERNEL_DUMP} 6 0 LoadDriverFailed NTStatus#:UInt32
{KERNEL_DUMP} 7 0 DumpStackInitializationFailed NTStatus#:UInt32
{KERNEL_DUMP} 8 0 FreeDumpStackFailed NTStatus#:UInt32
{KERNEL_DUMP} 9 0 LoadDumpStackFailed NTStatus#:UInt32
{KERNEL_DUMP} 10 0 Disabled
{KERNEL_DUMP} 11 0 Reconfigured NTStatus#:UInt32
{KERNEL_DUMP} 12 0 ForceDumpDisabled
{KERNEL_IO} 1304 0 CrashDumpInitialize/Start
{KERNEL_IO} 1305 0 CrashDumpInitialize/Stop Status#:UInt32
{KERNEL_IO} 1207 0 DumpEncryptionFailure DumpEncryptionFailureReason:UInt32
{KERNEL_BOOT} 16 0 ResumeFailed FailureStatus#:UInt64 FailureMsgId:UInt64
{KERNEL_BOOT} 16 1 ResumeFailed FailureStatus#:UInt32 FailureMsg:UnicodeString
{KERNEL_BOOT} 29 0 FastStartupFailed FailureStatus#:UInt64 FailureMsgId:UInt64
{KERNEL_BOOT} 29 1 FastStartupFailed FailureStatus#:UInt32 FailureMsg:UnicodeString
{KERNEL_BOOT} 20 0 DirtyBootShutdown LastShutdownGood:Boolean LastBootGood:Boolean
{KERNEL_BOOT} 20 1 DirtyBootShutdown LastShutdownGood:Boolean LastBootGood:Boolean \
LastBootId:UInt32 BootStatusPolicy:UInt32
{KERNEL_BOOT} 25 0 BootMenuPolicy BootMenuPolicy:UInt32
{KERNEL_BOOT} 27 1 BootType BootType:UInt32 LoadOptions:AnsiString
{KERNEL_BOOT} 30 0 FirmwareBootData ResetEndStart:UInt64 LoadOSImageStart:UInt64 \
StartOSImageStart:UInt64 ExitBootServicesEntry:UInt64 ExitBootServicesExit:UInt64
{KERNEL_BOOT} 55 0 PrepareTargetFailure Status#:UInt32 FailurePoint:UInt32
{KERNEL_BOOT} 257 0 EarlyDump/LoadFailure ModulePath:UnicodeString Status#:UInt32
{KERNEL_BOOT} 258 0 EarlyDump/LoadFailure ModulePath:UnicodeString Status#:UInt32
{KERNEL_BOOT} 264 0 EarlyDump/Failure Status#:UInt32
{KERNEL_BOOT} 265 0 EarlyDump/Failure Status#:UInt32
{KERNEL_BOOT} 267 0 EarlyDump/Failure Status#:UInt32
{KERNEL_POWER} 1 0 PowerTransition/Start Reason:UInt32 Flags:HexInt32 Time:FILETIME
{KERNEL_POWER} 2 0 PowerTransition/Stop Status#:UInt32 Time:FILETIME
{KERNEL_POWER} 34 0 Hibernate Status#:UInt32
{KERNEL_POWER} 39 0 PowerTransition SleepTime:UInt32 ResumeTime:UInt32 DriverWakeTime:UInt32 \
HiberWriteTime:UInt32 HiberReadTime:UInt32 HiberPagesWritten:UInt32 BiosInitTime:UInt32
{KERNEL_POWER} 41 0 DirtyTransition
{KERNEL_POWER} 42 0 PreSleepNotification TargetState:UInt32 EffectiveState:UInt32
{KERNEL_POWER} 42 2 PreSleepNotification TargetState:UInt32 EffectiveState:UInt32 Reason:UInt32 \
Flags:HexInt32
{KERNEL_POWER} 42 3 PreSleepNotification TargetState:UInt32 EffectiveState:UInt32 Reason:UInt32 \
Flags:HexInt32 TransitionsToOn:UInt32
{KERNEL_POWER} 109 0 ShutdownTransition ShutdownActionType:UInt32 ShutdownEventCode:UInt32 \
ShutdownReason:UInt32
{KERNEL_GENERAL} 12 0 SystemStart MajorVersion:UInt32 MinorVersion:UInt32 BuildVersion:UInt32 \
QfeVersion:UInt32 ServiceVersion:UInt16 BootMode:UInt32 StartTime:FILETIME
{KERNEL_GENERAL} 13 0 SystemStop StopTime:FILETIME
{WER} 1000 0 NotSaved param1:UnicodeString
{WER} 1000 1 NotSaved param1:UnicodeString
{WER} 1001 0 BugCheck param1:UnicodeString param2:UnicodeString param3:UnicodeString
{WER} 1001 1 BugCheck param1:UnicodeString param2:UnicodeString param3:UnicodeString
{WER} 1019 0 SuspectedDriver SuspectedDriver:UnicodeString
{WER} 1019 1 SuspectedDriver SuspectedDriver:UnicodeString
{CALLBACKS} 1 0 CallbackEntry Filter:UnicodeString Callback:UInt8 Call:UInt32 Extension:Pointer \
Clock:UInt64 ClockFrequency:UInt64
{CALLBACKS} 2 0 CallbackReturn Filter:UnicodeString Callback:UInt8 Call:UInt32 Status#:UInt32 \
Clock:UInt64 ClockFrequency:UInt64
{STORPORT} 1 1 Reset/LogicalUnit PortNumber:UInt32 PathID:UInt8 TargetID:UInt8 LUN:UInt8
{STORPORT} 2 1 Reset/Target PortNumber:UInt32 PathID:UInt8 TargetID:UInt8
{STORPORT} 13 1 IoPerf/MiniportServiceTime MiniportExtension:Pointer PortNumber:UInt32 \
PathID:UInt8 TargetID:UInt8 LUN:UInt8 RequestDuration:UInt32 Command:HexUInt8 \
ScsiStatus:HexUInt8 SrbStatus:HexUInt8
{STORPORT} 200 2 IoPerf/Request @perf
{STORPORT} 201 2 IoPerf/Request @perf
{STORPORT} 208 1 Port/Completion @completion
{STORPORT} 211 1 Port/FlushCompletion @completion
{STORPORT} 507 1 Reset/Request MiniportName:UnicodeString @where ClassDeviceGuid:GUID \
SrbFunction:HexInt32 CdbLength:UInt32 Cdb:Binary[CdbLength] IoDispatchToResetTime_100ns:UInt64
{STORPORT} 508 1 Abort/Request MiniportName:UnicodeString @where ClassDeviceGuid:GUID \
AbortedReq_SrbFunction:HexInt32 AbortedReq_CdbLength:UInt32 \
AbortedReq_Cdb:Binary[AbortedReq_CdbLength]
{STORPORT} 513 1 HostMemoryBuffer AdapterName:UnicodeString PortNumber:Int32 \
AllocationPolicy:UInt32 DeviceMinSizeInBytes:UInt32 DevicePreferredSizeInBytes:UInt32 \
PolicyMaxInBytes:UInt32 TargetAllocationSizeInBytes:UInt32 ActualAllocationSizeInBytes:UInt32 \
RangesAllocated:UInt32 Success:UInt32 FailReason:UInt32
{STORPORT} 516 1 Miniport/Error @miniport @two
{STORPORT} 517 1 Miniport/Error @miniport @two @four
{STORPORT} 519 1 Miniport/Error @miniport @unit @two
{STORPORT} 520 1 Miniport/Error @miniport @unit @two @four
{STORPORT} 522 1 Miniport/Error @miniport @unit @request @two
{STORPORT} 523 1 Miniport/Error @miniport @unit @request @two @four
{STORPORT} 523 3 Miniport/Error @miniport AdapterGuid:GUID PathID:UInt8 TargetID:UInt8 LUN:UInt8 \
ClassDeviceGuid:GUID VendorId:AnsiString ProductId:AnsiString SerialNumber:AnsiString \
BootDevice:Boolean @request @two @four
{STORPORT} 525 1 Miniport/Warning @miniport @two
{STORPORT} 526 1 Miniport/Warning @miniport @two @four
"""
_GROUPS = {
    "@perf": "RequestDuration_100ns:UInt64 Irp:Pointer Command:HexUInt8 SrbStatus:HexUInt8 "
    "OriginalIrp:Pointer Port:UInt8 Bus:UInt8 Target:UInt8 LUN:UInt8 ScsiStatus:HexUInt8 "
    "ByteLengthOfTransfer:UInt32 BuildIoDuration_100ns:UInt64 StartIoDuration_100ns:UInt64",
    "@completion": "Irp:Pointer NTStatus#:UInt32 SrbStatus:HexUInt8 ScsiStatus:HexUInt8 "
    "SenseKey:HexUInt8 AddSense:HexUInt8 AddSenseQ:HexUInt8 OriginalIrp:Pointer",
    "@where": "PortNumber:UInt32 Bus:UInt8 Target:UInt8 LUN:UInt8",
    "@miniport": "MiniportName:UnicodeString MiniportEventId:UInt32 "
    "MiniportEventDescription:UnicodeString PortNumber:UInt32",
    "@unit": "Bus:UInt8 Target:UInt8 LUN:UInt8",
    "@request": "Irp:Pointer Srb:Pointer",
    "@two": "Parameter1Name:UnicodeString Parameter1Value:HexInt64 "
    "Parameter2Name:UnicodeString Parameter2Value:HexInt64",
    "@four": "Parameter3Name:UnicodeString Parameter3Value:HexInt64 "
    "Parameter4Name:UnicodeString Parameter4Value:HexInt64",
}
_DIRTY = (
    "BugcheckCode:HexInt32 BugcheckParameter1:HexInt64 BugcheckParameter2:HexInt64 "
    "BugcheckParameter3:HexInt64 BugcheckParameter4:HexInt64 SleepInProgress:UInt32 "
    "PowerButtonTimestamp:UInt64 BootAppStatus:HexInt32"
)
_DIRTY_MORE = (
    (4, ("Checkpoint:UInt8 ConnectedStandbyInProgress:Boolean SystemSleepTransitionsToOn:UInt32 "
         "CsEntryScenarioInstanceId:UInt8")),
    (5, "BugcheckInfoFromEFI:Boolean"),
    (6, "CheckpointStatus:UInt8"),
)  # fmt: skip


def _field(word: str) -> Field:
    name, _, kind = word.partition(":")
    length = None
    if kind.endswith("]"):
        kind, _, length = kind[:-1].partition("[")
    if kind == "HexUInt8":
        return Field(name, p.UINT8, "hex")
    if name == "Callback":
        return Field(name, IN_TYPES[kind], names=CALLBACK_NAMES)
    out = "ntstatus" if name.endswith("#") else ""
    return Field(name.rstrip("#"), IN_TYPES[kind], out, None, length)


def _lines() -> Iterator[str]:
    yield from _TABLE.replace("\\\n", "").strip().splitlines()
    text = _DIRTY
    for version in range(2, 7):
        text += "".join(" " + more for first, more in _DIRTY_MORE if first == version)
        yield f"{KERNEL_POWER} 41 {version} DirtyTransition {text}"


#: provider, id and version -> name and fields, as they stand above
WORDS = {
    (guid, int(number), int(version)): words
    for guid, number, version, *words in map(str.split, _lines())
}


def schema(guid: str, number: int, version: int) -> Schema | None:
    """What is built in of an event; None where nothing is."""
    return _schema(guid, number, version) if (guid, number, version) in WORDS else None


@cache
def _schema(guid: str, number: int, version: int) -> Schema:
    name, *words = WORDS[guid, number, version]
    flat = [w for word in words for w in _GROUPS.get(word, word).split()]
    return Schema(NAMES[guid], name, tuple(map(_field, flat)), told_by="built in")


# -- classic entries of the I/O error log -----------------------------------------------------

_ENTRY = Schema(
    NAMES[IO_ERROR_LOG],
    "ErrorLogEntry",
    (
        Field("Time", p.FILETIME),
        Field("ErrorCode", p.HEX32, "hex"),
        Field("Source", p.UNICODE),
        Field("Sid", p.SID),
        Field("Strings", p.UNICODE, count=0),
        Field("LocationCode", p.HEX32, "hex"),
        Field("FinalStatus", p.UINT32, "ntstatus"),
        Field("Data", p.BINARY),
    ),
    told_by="built in",
)


def error_log_entry(data: bytes) -> Decoded | None:
    """A classic entry of the I/O error log, recognised by its shape; None when it is none.

    Time, code, source name, SID, strings, then data, which for drivers is an IO_ERROR_LOG_PACKET
    with the location code at 0x10 and the final status at 0x14 (seen in real minidumps).
    """
    reader = Reader(data, 8)
    values: dict[str, p.Value] = {}
    try:
        values["Time"], values["ErrorCode"] = reader.number("Q"), reader.number("I")
        values["Source"] = reader.text(True, reader.number("H"), "")
        sid = reader.take(reader.number("H"))
        if len(sid) >= 8:
            values["Sid"] = p.decode(Schema("", "", (Field("s", p.SID),)), sid).values.get("s", "")
        count = reader.number("H")
        if count > 256:
            return None
        values["Strings"] = [reader.text(True, None, "") for _ in range(count)]
        blob = reader.take(reader.number("I"))
    except ShortError:
        return None
    if reader.at != len(data):
        return None
    if len(blob) >= 0x28 and struct.unpack_from("<I", blob, 0x0C)[0] == values["ErrorCode"]:
        values["LocationCode"], values["FinalStatus"] = struct.unpack_from("<II", blob, 0x10)
    values["Data"] = blob
    return Decoded(_ENTRY, values, "", 0)


def error_log_text(entry: Decoded) -> str:
    """An entry in words, with volmgr's meaning of its code."""
    values = entry.values
    code, source = p.whole(values, "ErrorCode") or 0, str(values["Source"])
    number = code & 0xFFFF
    text = f"{source} event {number} (code {code:#010x})"
    if source.lower() == "volmgr" and number in locations.VOLMGR:
        text += f": {locations.VOLMGR[number]}"
    location, status = p.whole(values, "LocationCode"), p.whole(values, "FinalStatus")
    if location is not None and status is not None:
        text += f"; location {location:#x}, status {ntstatus.name(status)}"
    strings = values["Strings"]
    words = [str(part) for part in strings if part] if isinstance(strings, list) else []
    return "; ".join([text, *words])
