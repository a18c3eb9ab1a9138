"""Structures as Windows declares them: WDK names, offsets and constants, no logic.

Invariant: a module here states where a field lies and what it is called, never what it means for
the user. Every offset is compared with a C compiler's in ``tests/test_layouts.py``, or has its
source beside it. Standard library only.
"""
