"""The rules about where processors were executing, in words.

Invariant: no text takes one look for a hang.
"""

from __future__ import annotations

from .rule import Rule

EXECUTING = (
    Rule(
        "callback-executing",
        "info",
        "A processor is inside a crash dump filter's callback",
        "The registers of a processor, and the call stack that unwind data proves from them, lie "
        "inside a callback of a crash dump filter.",
        "While a callback runs, no other part of the dump is written. A callback that never "
        "returns is the reason that no dump comes about. One look does not prove that: it shows "
        "where the processor was at that moment.",
        "Take a second snapshot some seconds later. The same place in the same callback speaks for "
        "a hang; another place shows that it moves on.",
    ),
    Rule(
        "symbols-refused",
        "info",
        "An image file or PDB was found by name, but is not the one that belongs here",
        "A file of the name that was looked for lies in a folder that was given, or in the symbol "
        "path. Its time stamp and size, or its GUID and age, are not those of the module, or it is "
        "of a kind that is not read.",
        "Names and call stacks of that module are given without it.",
        "Name the folder of the very build that ran. PDBs of Windows come from the public symbol "
        "server; a debugger or 'symchk' downloads them.",
    ),
)
