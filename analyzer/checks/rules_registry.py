"""The rules about the dump configuration in the registry, in words.

Invariant: a text claims what is proven and says where it is not.
"""

from __future__ import annotations

from .rule import Rule

#: switches crashdmp's log on for the next crash (documented values; the second adds write rates)
ENABLE_LOG = (
    r"reg add HKLM\SYSTEM\CurrentControlSet\Control\CrashControl /v EnableLogFile /t REG_DWORD "
    r"/d 1 /f, then reg add HKLM\SYSTEM\CurrentControlSet\Control\CrashControl /v DumpLogLevel "
    r"/t REG_DWORD /d 1 /f"
)

REGISTRY = (
    Rule(
        "registry-simulate-error",
        "error",
        "A simulated dump failure is configured",
        "CrashControl\\SimulateError is set. On Windows 7 it makes the dump stack fail at the "
        "given step; newer versions are not proven.",
        "Where Windows obeys it, dumps fail because somebody asked for it.",
        r"Remove it: reg delete HKLM\SYSTEM\CurrentControlSet\Control\CrashControl /v "
        r"SimulateError /f",
    ),
    Rule(
        "registry-dump-disabled",
        "warning",
        "Crash dumps are switched off",
        "CrashControl\\CrashDumpEnabled is 0.",
        "No crash leaves a dump; dump filters are not started.",
        r"Switch automatic dumps on: reg add HKLM\SYSTEM\CurrentControlSet\Control\CrashControl "
        "/v CrashDumpEnabled /t REG_DWORD /d 7 /f",
    ),
    Rule(
        "registry-filter-service-missing",
        "warning",
        "A registered dump filter has no service key",
        "DumpFilters names a driver for which there is no key under Services.",
        "It is typical of a leftover of removed software. If its file is gone too, the whole dump "
        "stack does not load (volmgr event 45, location 0x2005).",
        "Check for the file in System32\\drivers; if it is gone, remove the entry from "
        "DumpFilters.",
    ),
    Rule(
        "registry-filter-kmdf",
        "warning",
        "A KMDF driver is registered as a dump filter",
        "The service of an entry of DumpFilters has the key Parameters\\Wdf, which the driver "
        "framework makes.",
        "The entry of such a driver belongs to the framework and takes a driver object; crashdmp "
        "calls it with FILTER_EXTENSION and FILTER_INITIALIZATION_DATA. A driver author saw it "
        "crash there, in FxDriverEntry.",
        "Put the dump filter into a driver of its own that does not use the framework, and "
        "register that.",
    ),
    Rule(
        "registry-filter-name-odd",
        "warning",
        "An entry of DumpFilters is not a plain file name",
        "The documentation asks for file names such as dumpfve.sys, without a path.",
        "An entry that cannot be loaded makes the whole dump stack fail.",
        "Correct the entry.",
    ),
    Rule(
        "registry-page-file-too-small",
        "warning",
        "Windows noted that the page file is too small for a dump",
        "CrashControl\\PageFileTooSmall is set.",
        "An earlier dump did not fit.",
        "Make the page file larger than the stated size, or set DedicatedDumpFile.",
    ),
    Rule(
        "registry-no-crash-control",
        "warning",
        "The CrashControl key is not in the file",
        "The key of the current control set was not found.",
        "The dump configuration is not known.",
        "Export HKLM\\SYSTEM\\CurrentControlSet\\Control\\CrashControl, or give the SYSTEM hive.",
    ),
    Rule(
        "registry-changes-elsewhere",
        "info",
        "The newest changes are not in the registry hive",
        "The numbers of begun and finished writes in the hive's header differ: it was copied from "
        "a running or a crashed Windows. The transaction logs beside it (SYSTEM.LOG1, .LOG2) have "
        "the rest; this tool does not read them.",
        "A setting that was changed shortly before may be shown with its older value.",
        "Where a setting matters, export HKLM\\SYSTEM\\CurrentControlSet\\Control\\CrashControl on "
        "the machine.",
    ),
    Rule(
        "registry-damaged",
        "warning",
        "Parts of the registry file cannot be read",
        "Keys or values of the file are damaged; the rest was read.",
        "Settings may be missing.",
        "Export the key again on the machine.",
    ),
    Rule(
        "registry-value-odd",
        "info",
        "A value has a type or a number it should not have",
        "The value does not fit what the documentation says about it.",
        "Windows may ignore it, or read it differently.",
        "Correct the value.",
    ),
    Rule(
        "registry-filter-service-disabled",
        "info",
        "The service of a registered dump filter is disabled",
        "The Start value of the filter's service key is 4.",
        "crashdmp loads the file all the same, but a filter whose normal driver does not run may "
        "fail or do nothing in Dump_Start.",
        "Remove the entry from DumpFilters if the software is not used any more.",
    ),
    Rule(
        "registry-third-party-filter",
        "info",
        "A dump filter of another vendor is registered",
        "DumpFilters has an entry besides the in-box dumpfve.sys.",
        "It runs in every crash and in every hibernation.",
        "When dumps fail, try without it: Microsoft's advice is to leave only dumpfve.sys.",
    ),
    Rule(
        "registry-dumpfve-missing",
        "info",
        "BitLocker's dump filter is not registered",
        "DumpFilters has no dumpfve.sys, which it has by default.",
        "On a BitLocker volume the dump would be written without encryption or not at all.",
        "Add dumpfve.sys to DumpFilters again.",
    ),
    Rule(
        "registry-log-disabled",
        "info",
        "The dump log is switched off",
        "CrashControl\\EnableLogFile is not 1.",
        "The next crash most likely leaves no DumpStack.log, the best source for the timing of a "
        "dump.",
        f"Switch it on for the next crash: {ENABLE_LOG}",
    ),
)
