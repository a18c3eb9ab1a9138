"""Folders for what a run unpacks or fetches, and their end.

Invariant: a folder made here is gone when the process is, unless the process is killed outright.
"""

from __future__ import annotations

import atexit
import os

_folders: set[str] = set()


def make() -> str:
    """A new folder."""
    if not _folders:
        atexit.register(remove_all)
    from tempfile import mkdtemp  # slow to load, and only archives need it

    folder = mkdtemp(prefix="dumpstart-")
    _folders.add(folder)
    return folder


def remove(folder: str) -> None:
    """Removes one; where files in it are still open (Windows), at the end."""
    from shutil import rmtree

    rmtree(folder, ignore_errors=True)
    if not os.path.exists(folder):
        _folders.discard(folder)


def remove_all() -> None:
    """Removes those that are left."""
    for folder in list(_folders):
        remove(folder)
