"""The file header of DumpStack.log, as seen in 21 public logs (there is no documentation).

Offsets of bytes in the file as crashdmp writes it; the 8 bytes at 0x18 are zero in all logs seen.
"""

from __future__ import annotations

MAGIC = "DLOGFILE"  #: at 0x00
VERSION = 0x08  #: 8 digits, "00010000" = 1.0
VERSION_LENGTH = 8
TAG = 0x10  #: "DUMP"
#: ULONG: file offset where the text ends; the size of the file in two logs that broke off
TEXT_END = 0x14
TEXT = 0x20  #: the text starts here, with an empty line (CR LF)

#: sizes the file was seen with
CAPACITIES = (0x2000, 0x3000)
CLUSTER = 0x1000  #: the file is made of whole clusters
