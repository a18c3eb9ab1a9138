"""Where image files and PDBs of the user lie: flat folders, symbol caches, ``_NT_SYMBOL_PATH``.

Invariant: only local folders are looked into, never a server or a share; a file is used when it
proves to be the one asked for (time stamp and size of an image, GUID and age of a PDB).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from .pe import ImageFile

if TYPE_CHECKING:
    from .pdb import Pdb

SYMBOL_PATH = "_NT_SYMBOL_PATH"
#: the kernel's file goes by the name of its variant, the module by the first
_KERNELS = ("ntoskrnl.exe", "ntkrnlmp.exe", "ntkrla57.exe", "ntkrnlpa.exe", "ntkrpamp.exe")
_COPIES = ("dump_", "hiber_")  #: prefixes of images that crashdmp maps a second time
_NETWORK = ("\\\\", "//", "http:", "https:", "ftp:")
#: where debuggers look for a PDB below a folder of symbols
_SYMBOL_FOLDERS = ("", "sys", "exe", "dll", "symbols", "symbols/sys", "symbols/exe", "symbols/dll")
MAX_FOLDERS = 64


def folders_of(text: str) -> list[str]:
    r"""The local folders of a symbol path such as ``srv*C:\symbols*https://server``."""
    found: list[str] = []
    for part in text.split(";"):
        words = [word.strip() for word in part.split("*")]
        if len(words) > 1:
            # srv*A*B and cache*A name stores behind the first word, symsrv*DLL*A behind the second
            words = words[2:] if words[0].lower() == "symsrv" else words[1:]
        found += [w for w in words if w and not w.lower().startswith(_NETWORK) and w not in found]
    return found[:MAX_FOLDERS]


def symbol_folders(given: Sequence[str] = ()) -> list[str]:
    """Folders of ``--symbols`` (each may be a whole symbol path), then of ``_NT_SYMBOL_PATH``."""
    return folders_of(";".join([*given, os.environ.get(SYMBOL_PATH, "")]))


class Folders:
    """Folders of image files and PDBs, looked into once; ``refused`` says why a file did not do."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = list(folders)
        self.refused: list[str] = []
        self._listed: dict[str, dict[str, str]] = {}

    def image(self, name: str, stamp: int, size: int) -> ImageFile | None:
        """The file of a module, by its name, time stamp and size of image."""
        key = f"{stamp:08X}{size:x}"
        for path in self._candidates(_image_names(name), key, ("",)):
            try:
                found = ImageFile(path)
            except (InputError, ValueError) as error:
                self._refuse(path, f"not used: {getattr(error, 'problem', error)}")
                continue
            here = (found.header.time_date_stamp, found.header.size_of_image)
            if here == (stamp, size):
                return found
            self._refuse(
                path,
                f"not the image of {name}: time stamp {here[0]:#010x} and size {here[1]:#x}, the "
                f"module has {stamp:#010x} and {size:#x}",
            )
        return None

    def pdb(self, name: str, key: str) -> Pdb | None:
        """A PDB by its name, GUID and age."""
        from .pdb import open_pdb

        for path in self._candidates([name], key, _SYMBOL_FOLDERS):
            try:
                found = open_pdb(path)
                found.names()  # all is read here, so that nothing is refused later
            except (InputError, ValueError) as error:
                self._refuse(path, f"not used: {getattr(error, 'problem', error)}")
                continue
            if found.key == key:
                return found
            same = found.key[:32] == key[:32]
            what = f"age {found.age:X}, the image wants {key[32:]}" if same else (
                f"its key is {found.key}, the image wants {key}"
            )  # fmt: skip
            self._refuse(path, f"not the PDB of this image: {what}")
        return None

    def _refuse(self, path: str, why: str) -> None:
        text = f"{path}: {why}"
        if text not in self.refused:
            self.refused.append(text)

    def _candidates(self, names: Sequence[str], key: str, below: Sequence[str]) -> Iterator[str]:
        for folder in self.folders:
            for name in names:
                # NAME/KEY/NAME as in a symbol cache, also with the two letters of a large one
                for store in ((name, key, name), (name[:2], name, key, name)):
                    path = self._find(folder, store)
                    if path:
                        yield path
                packed = self._find(folder, (name, key, name[:-1] + "_"))
                if packed:
                    self._refuse(packed, "not used: it is compressed; 'expand' unpacks it")
                for parts in below:
                    path = self._find(folder, (*filter(None, parts.split("/")), name))
                    if path and os.path.isfile(path):
                        yield path

    def _find(self, folder: str, parts: Sequence[str]) -> str | None:
        """A path below a folder, letters of either case."""
        at = folder
        for part in parts:
            if at not in self._listed:
                try:
                    self._listed[at] = {entry.lower(): entry for entry in os.listdir(at)}
                except OSError:
                    self._listed[at] = {}
            entry = self._listed[at].get(part.lower())
            if entry is None:
                return None
            at = os.path.join(at, entry)
        return at


def _image_names(name: str) -> list[str]:
    """File names that a module's image can have."""
    lower = name.lower()
    if lower in _KERNELS:
        return [lower, *(kernel for kernel in _KERNELS if kernel != lower)]
    return [lower, *(lower[len(prefix) :] for prefix in _COPIES if lower.startswith(prefix))]
