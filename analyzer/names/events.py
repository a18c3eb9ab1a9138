"""Windows events worth knowing: what each means and tells of a crash, when it is a fault.

Invariant: this is the only list of them; event logs, traces, the events inside dumps and the
joining of crashes read it, so one event means the same wherever it was found. Ids and fields are
those of the providers' manifests (their versions differ in added fields only, and fields are read
by name); volmgr's are those of the message table of I/O errors. Standard library only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from . import locations

VOLMGR = "volmgr"
EVENTLOG = "eventlog"
WER = "microsoft-windows-wer-systemerrorreporting"
CLEARING = "microsoft-windows-eventlog"
SYSTEM_ERROR = "system error"  #: of XP and Server 2003
PROBLEM = "windows error reporting"  #: of the Application log
KERNEL_POWER = "microsoft-windows-kernel-power"
KERNEL_DUMP = "microsoft-windows-kernel-dump"
KERNEL_IO = "microsoft-windows-kernel-io"
KERNEL_BOOT = "microsoft-windows-kernel-boot"
KERNEL_GENERAL = "microsoft-windows-kernel-general"
CRASHDUMP = "microsoft-windows-crashdump"
STORPORT = "microsoft-windows-storport"
HYPERV = "microsoft-windows-hyper-v-worker"  #: of the host of virtual machines

#: provider -> its GUID; classic event sources have none
GUIDS: dict[str, str] = {
    WER: "abce23e7-de45-4366-8631-84fa6c525952",
    KERNEL_POWER: "331c3b3a-2005-44c2-ac5e-77220c37d6b4",
    KERNEL_DUMP: "17d2a329-4539-5f4d-3435-f510634ce3b9",
    KERNEL_IO: "abf1f586-2e50-4ba8-928d-49044e6f0db7",
    KERNEL_BOOT: "15ca44ff-4d7a-4baa-bba5-0998955e531e",
    KERNEL_GENERAL: "a68ca8b7-004f-d7b6-a698-07e2de0f1f5d",
    CRASHDUMP: "ecdaacfa-6fe9-477c-b5f0-85b76f8f50aa",
    STORPORT: "c4636a1e-7986-4646-bf10-7bc3b4a76e8e",
    HYPERV: "51ddfa29-d5c8-4803-be4b-2ecb715570fe",
}
#: classic entries of drivers in traces; an entry names its source
IO_ERROR_LOG = "2d9f3a42-01d4-4733-97f7-041e8021dc84"
#: how the providers are spelled
SPELLED: dict[str, str] = {
    VOLMGR: "volmgr", EVENTLOG: "EventLog", WER: "Microsoft-Windows-WER-SystemErrorReporting",
    KERNEL_POWER: "Microsoft-Windows-Kernel-Power", KERNEL_DUMP: "Microsoft-Windows-Kernel-Dump",
    KERNEL_IO: "Microsoft-Windows-Kernel-IO", KERNEL_BOOT: "Microsoft-Windows-Kernel-Boot",
    KERNEL_GENERAL: "Microsoft-Windows-Kernel-General", CRASHDUMP: "Microsoft-Windows-Crashdump",
    STORPORT: "Microsoft-Windows-StorPort", PROBLEM: "Windows Error Reporting",
    SYSTEM_ERROR: "System Error",
    CLEARING: "Microsoft-Windows-Eventlog", HYPERV: "Microsoft-Windows-Hyper-V-Worker",
}  # fmt: skip
#: other names: of older Windows, and those that Event Viewer's list shows
_ALIASES: dict[str, str] = {
    "bugcheck": WER,
    "save dump": WER,
    **{name.replace("microsoft-windows-", ""): name for name in GUIDS},
}
_BY_GUID = {guid: name for name, guid in GUIDS.items()}

WRITTEN, FAILED = "written", "failed"  #: what an event says of the dump
ALWAYS, BY_STATUS = "always", "by status"  #: when an event is a fault: by its NTSTATUS, or always
#: what an event says of the machine
RESTART = "restart"  #: it started, and had not been shut down
REPORT = "report"  #: what became of the dump of the crash before this start
GUEST = "guest"  #: a guest of it told of its own crash, at that moment
BOOT, SHUTDOWN, SLEEP, RESUME = "boot", "shutdown", "sleep", "resume"


class KnownEvent(NamedTuple):
    """What is known of one event."""

    meaning: str
    rule: str = ""  #: the finding it is when it is a fault
    fault: str = ""  #: ALWAYS, BY_STATUS, or "" for an event that is none
    tells: str = ""  #: RESTART, REPORT, BOOT, ...
    outcome: str = ""  #: WRITTEN, FAILED, or "" where it says nothing of the dump
    fields: tuple[str, ...] = ()  #: of its data, where a form of text has lost the names


def _volmgr(number: int, rule: str, tells: str = "", outcome: str = "") -> KnownEvent:
    return KnownEvent(locations.VOLMGR[number], rule, ALWAYS if rule else "", tells, outcome)


_CONFIG, _STACK, _BOOT_DUMP = (
    "event-dump-config-failed", "event-dump-stack-failed", "event-boot-dump-failed",
)  # fmt: skip
_STATUS = ("NTStatus",)
_DIRTY = (
    "BugcheckCode", "BugcheckParameter1", "BugcheckParameter2", "BugcheckParameter3",
    "BugcheckParameter4", "SleepInProgress", "PowerButtonTimestamp", "BootAppStatus", "Checkpoint",
    "ConnectedStandbyInProgress", "SystemSleepTransitionsToOn", "CsEntryScenarioInstanceId",
    "BugcheckInfoFromEFI", "CheckpointStatus", "CsEntryScenarioInstanceIdV2",
    "LongPowerButtonPressDetected",
)  # fmt: skip

#: (provider, id) -> what is known
EVENTS: dict[tuple[str, int], KnownEvent] = {
    (VOLMGR, 44): _volmgr(44, _CONFIG),
    (VOLMGR, 45): _volmgr(45, "event-dump-driver-load-failed"),
    (VOLMGR, 46): _volmgr(46, "event-dump-init-failed"),
    (VOLMGR, 47): _volmgr(47, _CONFIG),
    (VOLMGR, 48): _volmgr(48, _CONFIG),
    (VOLMGR, 49): _volmgr(49, _CONFIG),
    (VOLMGR, 156): _volmgr(156, "event-dump-device-gone"),
    (VOLMGR, 161): _volmgr(161, "event-dump-failed", REPORT, FAILED),
    (VOLMGR, 162): _volmgr(162, "", REPORT, WRITTEN),
    (VOLMGR, 163): _volmgr(163, "event-dump-callback-exception", REPORT),
    (VOLMGR, 164): _volmgr(164, _CONFIG),
    (KERNEL_POWER, 41): KnownEvent(
        "the machine restarted without shutting down", tells=RESTART, fields=_DIRTY
    ),
    (KERNEL_POWER, 42): KnownEvent(
        "the machine goes to sleep", tells=SLEEP,
        fields=("TargetState", "EffectiveState", "Reason", "Flags", "TransitionsToOn"),
    ),
    (KERNEL_POWER, 107): KnownEvent("the machine resumed from sleep", tells=RESUME),
    (KERNEL_POWER, 109): KnownEvent(
        "a shutdown was begun", tells=SHUTDOWN,
        fields=("ShutdownActionType", "ShutdownEventCode", "ShutdownReason"),
    ),
    (EVENTLOG, 6005): KnownEvent("the event log was started", tells=BOOT),
    (EVENTLOG, 6006): KnownEvent("the event log was stopped", tells=SHUTDOWN),
    (EVENTLOG, 6008): KnownEvent("the previous shutdown was unexpected", tells=RESTART),
    (CLEARING, 104): KnownEvent("a log was cleared", "event-log-cleared", ALWAYS),
    (KERNEL_GENERAL, 12): KnownEvent("Windows started", tells=BOOT),
    (KERNEL_GENERAL, 13): KnownEvent("Windows is shutting down", tells=SHUTDOWN),
    (KERNEL_DUMP, 1): KnownEvent("dump operation"),
    (KERNEL_DUMP, 2): KnownEvent("dump policy value with status"),
    (KERNEL_DUMP, 3): KnownEvent("dump policy value"),
    (KERNEL_DUMP, 4): KnownEvent(
        "disabling the crash dump failed", _STACK, ALWAYS, fields=_STATUS),
    (KERNEL_DUMP, 5): KnownEvent(
        "crash dump initialisation failed", _STACK, ALWAYS, fields=_STATUS),
    (KERNEL_DUMP, 6): KnownEvent("loading a dump driver failed", _STACK, ALWAYS, fields=_STATUS),
    (KERNEL_DUMP, 7): KnownEvent(
        "initialising the dump stack failed (hibernation; this starts the filters)", _STACK,
        ALWAYS, fields=_STATUS,
    ),
    (KERNEL_DUMP, 8): KnownEvent("freeing the dump stack failed", _STACK, ALWAYS, fields=_STATUS),
    (KERNEL_DUMP, 9): KnownEvent("loading the dump stack failed", _STACK, ALWAYS, fields=_STATUS),
    (KERNEL_DUMP, 10): KnownEvent("crash dump was disabled"),
    (KERNEL_DUMP, 11): KnownEvent("crash dump was reconfigured", fields=_STATUS),
    (KERNEL_DUMP, 12): KnownEvent("dumps are disabled by force"),
    (KERNEL_IO, 1207): KnownEvent(
        "dump encryption failed", "event-dump-encryption-failed", ALWAYS,
        fields=("DumpEncryptionFailureReason",),
    ),
    (KERNEL_IO, 1304): KnownEvent("crash dump initialisation at boot starts"),
    (KERNEL_IO, 1305): KnownEvent(
        "crash dump initialisation at boot ended", _BOOT_DUMP, BY_STATUS, fields=("Status",)
    ),
    (CRASHDUMP, 1): KnownEvent("whether the dump stack can resume"),
    (CRASHDUMP, 2): KnownEvent("transfer sizes of the dump stack"),
    (CRASHDUMP, 3): KnownEvent("a dump file was created"),
    (CRASHDUMP, 4): KnownEvent("preparing early crash dump failed", _BOOT_DUMP, ALWAYS,
                               fields=("Status", "FailurePoint")),
    (CRASHDUMP, 5): KnownEvent(
        "initialising early crash dump failed", _BOOT_DUMP, ALWAYS, fields=("Status",)),
    (CRASHDUMP, 6): KnownEvent("early crash dump is initialised"),
    (CRASHDUMP, 7): KnownEvent("early crash dump is supported"),
    (KERNEL_BOOT, 16): KnownEvent(
        "resuming from hibernation failed", "event-resume-failed", ALWAYS,
        fields=("FailureStatus", "FailureMsg"),
    ),
    (KERNEL_BOOT, 29): KnownEvent(
        "fast startup failed", "event-resume-failed", ALWAYS,
        fields=("FailureStatus", "FailureMsg"),
    ),
    **{
        (KERNEL_BOOT, number): KnownEvent(
            "early dump support could not be loaded", _BOOT_DUMP, ALWAYS,
            fields=("ModulePath", "Status") if number < 259 else ("Status",),
        )
        for number in range(257, 268)
    },
    **{
        (WER, number): KnownEvent("Windows Error Reporting after a crash")
        for number in range(1000, 1020)
    },
}  # fmt: skip
for _number, _meaning, _outcome in (
    (1000, "restarted from a bugcheck, a full dump was not saved", FAILED),
    (1001, "restarted from a bugcheck", ""),  # it says of the dump what its path says
    (1002, "the saved dump could not be converted to a minidump", ""),
    (1004, "the dump could not be moved to its final place", FAILED),
    (1005, "no minidump could be made from the full dump", ""),
    (1006, "restarted from a bugcheck, a dump was not saved", FAILED),
):
    EVENTS[WER, _number] = KnownEvent(
        _meaning, "event-dump-not-saved" if _number != 1001 else "",
        ALWAYS if _number != 1001 else "", REPORT, _outcome,
        ("param1", "param2", "param3") if _number == 1001 else (),
    )  # fmt: skip
#: of a problem called BlueScreen only; P1 is the bugcheck, P2 to P5 are its parameters
EVENTS[PROBLEM, 1001] = KnownEvent(
    "the crash was reported as a problem", tells=REPORT,
    fields=("Bucket", "BucketType", "EventName", "Response", "CabId", "P1", "P2", "P3", "P4", "P5"),
)  # fmt: skip
EVENTS[HYPERV, 18590] = KnownEvent("a virtual machine told its host of a bugcheck", tells=GUEST)
EVENTS[SYSTEM_ERROR, 1003] = KnownEvent("a bugcheck was reported", tells=REPORT)
EVENTS[WER, 1003] = KnownEvent("the shutdown settings could not be read from the registry")
EVENTS[WER, 1019] = KnownEvent("a driver is suspected", fields=("SuspectedDriver",))

#: disk and storage port drivers that log errors under their own name
STORAGE = re.compile(
    r"disk|storahci|stornvme|storport|microsoft-windows-storport|iastor\w*|amdsata|amd_sata|"
    r"megasas\w*|lsi_\w+|nvme\w*|secnvme\w*|viostor|vioscsi|pvscsi|atapi|mpio|storvsc"
)
#: warning and worse; level 0 is what some drivers log errors with
STORAGE_LEVELS = (1, 2, 3)


def provider_key(name: str, guid: str = "") -> str:
    """The provider as the table spells it: by GUID, by name or an older name, in lower case."""
    lower = name.strip().lower()
    return _BY_GUID.get(guid.strip("{}").lower()) or _ALIASES.get(lower) or lower


def known_event(provider: str, event_id: object) -> KnownEvent | None:
    """What is known of an event; None for one of no meaning here."""
    if not isinstance(event_id, int):
        return None
    return EVENTS.get((provider_key(provider), event_id))


def is_storage(provider: str) -> bool:
    """True for a disk or storage port driver."""
    return STORAGE.fullmatch(provider_key(provider)) is not None


def is_wanted(provider: str, event_id: int) -> bool:
    """True for the events of the table and of storage drivers."""
    return known_event(provider, event_id) is not None or is_storage(provider)
