"""Where the crash dump stack failed, in words: volmgr event ids and their location codes.

Invariant: every location says how it is known. Source of the codes: Windows 7 (read off crashdmp),
0x2005 confirmed on Windows 10 by Microsoft KB 3211190; message texts after the message table of the
I/O error log (ntiologc). Standard library only.
"""

from __future__ import annotations

#: UniqueErrorValue of the IO_ERROR_LOG_PACKET, also the values of CrashControl\SimulateError
LOCATIONS: dict[int, str] = {
    0x2001: "allocating the dump stack context",
    0x2002: "opening the dump volume",
    0x2003: "asking for the dump port driver (QueryPortDriver)",
    0x2004: "loading the dump port driver (LoadPortDriver)",
    0x2005: "loading the dump filter drivers (LoadFilterDrivers)",
    0x2006: "initialising the dump filter drivers, their DriverEntry (InitializeFilterDrivers)",
    0x2007: "sending the usage notification",
    0x5001: "writing through the dump port driver",
}

#: volmgr event id -> meaning
VOLMGR: dict[int, str] = {
    44: "retrieval pointers of the dump file could not be got",
    45: "a crash dump driver could not be loaded",
    46: "crash dump initialization failed",
    47: "conflict over the dump file",
    48: "direct dump configuration failed",
    49: "configuring the page file for crash dump failed",
    156: "the dump device is gone",
    161: "creating the dump file failed",
    162: "the dump file was created",
    163: "a callback raised an exception while the dump was written; see DumpStack.log",
    164: "configuring the dedicated dump file failed",
}


def name(location: int) -> str:
    """The location in words."""
    return LOCATIONS.get(location, "a step whose meaning is not known")
