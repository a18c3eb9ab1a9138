"""The entries of nt's module lists, in memory and in a minidump, and the registers of CONTEXT.

Invariant: the 32-bit and the 64-bit layout of a structure stand in one table with the same names.
Sources: public types of _KLDR_DATA_TABLE_ENTRY and _UNLOADED_DRIVERS; winnt.h (CONTEXT); the
entries of a minidump were read off 52 real ones.
"""

from __future__ import annotations

from .mindumpdef import Field, Layout, both

#: what DbgEng gives for the time stamp of an image whose header it could not read (10.0.15063)
NO_STAMPS = (0xFFFFFFFE, 0xFFFFFFFF)


def _by_size(table: str, size64: int, size32: int) -> dict[int, Layout]:
    """The two layouts of a table by the pointer size of the machine."""
    wide, narrow = both(table, size64, size32)
    return {8: wide, 4: narrow}


#: KLDR_DATA_TABLE_ENTRY, linked from PsLoadedModuleList
KLDR = _by_size(
    """
InLoadOrderLinks  0x0 Q   0x0 I
DllBase           0x30 Q  0x18 I
SizeOfImage       0x40 I  0x20 I
FullDllName       0x48 H  0x24 H
BaseDllName       0x58 H  0x2c H
CheckSum          0x78 I  0x40 I
TimeDateStamp     0x9c I  0x58 I
""",
    0xA0,
    0x5C,
)
#: since this build the entry holds the image's TimeDateStamp; before, its tail differs
STAMP_IN_KLDR = 10240
#: an entry of a minidump's driver list: where its name lies, then the head of a KLDR entry
TRIAGE_DRIVER = _by_size(
    """
Name           0x0 I   0x0 I
DllBase        0x38 Q  0x1c I
SizeOfImage    0x48 I  0x24 I
CheckSum       0x80 I  0x44 I
TimeDateStamp  0x88 I  0x48 I
""",
    0x90,
    0x4C,
)
#: an entry of nt's array of unloaded drivers: UNICODE_STRING, start, end, time
UNLOADED = _by_size(
    """
Name          0x0 H   0x0 H
StartAddress  0x10 Q  0x8 I
EndAddress    0x18 Q  0xc I
""",
    0x28,
    0x18,
)
#: the same in a minidump: UNICODE_STRING, its first 12 letters, start, end
UNLOADED_TRIAGE = _by_size(
    """
Length        0x0 H    0x0 H
Name          0x10 24s 0x8 24s
StartAddress  0x28 Q   0x20 I
EndAddress    0x30 Q   0x24 I
""",
    0x38,
    0x28,
)
#: CONTEXT: architecture -> (instruction pointer, stack pointer)
REGISTERS = {
    "x64": (Field(0xF8, "Q"), Field(0x98, "Q")),
    "arm64": (Field(0x108, "Q"), Field(0x100, "Q")),
    "x86": (Field(0xB8, "I"), Field(0xC4, "I")),
    "x86-pae": (Field(0xB8, "I"), Field(0xC4, "I")),
}
#: sizeof(CONTEXT)
CONTEXT_SIZES = {"x64": 0x4D0, "arm64": 0x390}
