"""Call stacks: from registers to the chain of callers, as far as the evidence proves it.

Invariant: a frame is given only when unwind data, a verified frame pointer or frame record leads to
it; where that ends, the last frame says why. Bounded whatever the bytes are. Standard library only:
this also runs inside the debugger.
"""

from __future__ import annotations

from .step import MAX_FRAMES, Registers, Stack, Step, unwind

__all__ = ["MAX_FRAMES", "Registers", "Stack", "Step", "unwind"]
