"""Names of addresses: image headers, PDB files, symbol paths, and the one function that names.

Invariant: a name is taken only from a PDB whose GUID and age are those of the image; nothing here
goes to a network. Standard library only: this also runs inside the debugger.
"""

from __future__ import annotations

from .names import Names

__all__ = ["Names"]
