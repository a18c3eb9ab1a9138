"""The libraries that an option needs, and the command that installs them.

Invariant: a command names the libraries, which are on the package index, not an extra of dumpstart:
so it works wherever dumpstart was installed from. Standard library only.
"""

from __future__ import annotations

#: extra of the distribution -> the libraries that are missing without it
LIBRARIES = {
    "completion": "shtab",
    "dask": "distributed pyarrow",
    "dryrun": "unicorn",
    "evtx": "evtx",
    "fsspec": "fsspec pyarrow",
    "kdump": "cramjam lzallright",
    "mcp": "mcp",
    "ntoseye": "ntoseye",
    "parquet": "pyarrow",
    "registry": "regipy",
}


def install(extra: str) -> str:
    """The command to type; the same in every shell."""
    return f"pip install {LIBRARIES[extra]}"
