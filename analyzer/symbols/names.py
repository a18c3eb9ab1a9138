"""The one function that gives an address its name.

Invariant: a name comes from a PDB of the very image (GUID and age) or from the engine of a
debugger; without either it is ``module+0x`` as WinDbg shows it. A public symbol states no length,
so it names a place only when unwind data does not contradict it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, NamedTuple

from ..absence import Absent
from ..target import symbol
from . import pe
from .images import Image, Images
from .paths import Folders, symbol_folders

if TYPE_CHECKING:
    from .pdb import Pdb

#: longest name that is shown: decorated names of templates have no end
MAX_NAME = 200
#: what decoration adds to names of C functions on 32-bit Windows: _name@8, @name@8
_DECORATED = re.compile(r"[_@]?(\w+)@\d+")


class NamedFunction(NamedTuple):
    """An address by name."""

    function: str
    start: int  #: address at which the function begins


class Names:
    """Names of addresses in a target's modules."""

    def __init__(
        self,
        images: Images,
        paths: Sequence[str] = (),
        ask: Callable[[int], str | None] | None = None,
    ) -> None:
        """``paths``: symbol paths, in front of ``_NT_SYMBOL_PATH``; ``ask``: a debugger's engine.

        PDBs beside the files of images are found, too.
        """
        self._images, self._ask = images, ask
        self.folders = Folders([*symbol_folders(paths), *images.folders.folders])
        self._pdbs: dict[int, Pdb | None] = {}
        self._known: dict[int, str | None] = {}

    @property
    def refused(self) -> list[str]:
        """Files that were found by name and did not do, with the reason."""
        return [*self._images.folders.refused, *self.folders.refused]

    def name(self, address: int) -> str:
        """``module!function+0x12``; without symbols ``module+0x1012``; outside all the address."""
        return self.named(address) or symbol(self._images.modules, address)

    def named(self, address: int) -> str | None:
        """``module!function+0x12``; None without symbols."""
        if address not in self._known:
            asked = None if self._ask is None else self._ask(address)
            self._known[address] = asked or self._named(address)
        return self._known[address]

    def _named(self, address: int) -> str | None:
        place = self.function_at(address)
        if place is None:
            return None
        module = symbol(self._images.modules, address).partition("+")[0]
        distance = address - place.start
        return f"{module}!{place.function}" + (f"+{distance:#x}" if distance else "")

    def function_at(self, address: int) -> NamedFunction | None:
        """The function that holds an address, by its PDB; None without one."""
        image = self._images.at(address)
        if image is None:
            return None
        pdb = self._pdb(image)
        if pdb is None:
            return None
        found = pdb.at(address - image.base)
        if found is None:
            return None
        if found.size is None:
            start = image.start(address - image.base)
            if start is not None and found.offset < start:
                return None  # another function begins between the symbol and the address
        return NamedFunction(_shown(found.text), image.base + found.offset)

    def _pdb(self, image: Image) -> Pdb | None:
        if image.base not in self._pdbs:
            self._pdbs[image.base] = self._find(image)
        return self._pdbs[image.base]

    def _find(self, image: Image) -> Pdb | None:
        if not self.folders.folders:
            return None
        header = image.header
        identity = header if isinstance(header, Absent) else pe.pdb_identity(image.read, header)
        return None if isinstance(identity, Absent) else self.folders.pdb(*identity)


def _shown(text: str) -> str:
    """A name as it is shown: decoration of C functions taken off, nothing that does not print."""
    plain = _DECORATED.fullmatch(text)
    text = plain.group(1) if plain else text
    text = "".join(letter if letter.isprintable() and letter != " " else "?" for letter in text)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."
