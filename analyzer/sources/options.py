"""Options that name files: each is read and checked before the inputs are, or refused.

Invariant: no such option is passed over in silence; a file that cannot be used raises, whatever
the inputs are, and so does an option that none of them has a use for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..errors import AnalyzerError, InputError, UsageError
from . import KINDS, identify

#: keyword of analyzer.open -> option of the command
FLAGS = {
    "manifests": "--manifest",
    "tmf": "--tmf",
    "mapping": "--mapping",
    "baseline": "--baseline",
}


def check(options: Mapping[str, Sequence[str]], inputs: Iterable[str]) -> None:
    """Raises UsageError or InputError when a file of an option cannot be used or has no use."""
    wanted = {name: files for name, files in options.items() if files}
    if not wanted:
        return
    for name, files in wanted.items():
        for file in files:
            _CHECKS[name](file)
    usable = {option for path in inputs for option in _options_of(path)}
    for name in wanted:
        if name not in usable:
            kinds = sorted({kind.name for _, kind in KINDS if name in kind.options})
            raise UsageError(
                f"{FLAGS[name]} is for files of kind {' or '.join(kinds)}; none was given."
            )


def _options_of(path: str) -> Sequence[str]:
    try:
        return identify(path).options
    except AnalyzerError:  # said when it is read
        return ()


def _regular(path: str) -> None:
    if not os.path.isfile(path):
        is_there = os.path.lexists(path)
        raise InputError(path, "this is not a file" if is_there else "there is no such file")


def _manifest(path: str) -> None:
    from ..etw import manifests

    _regular(path)
    manifests.load(path)


def _tmf(path: str) -> None:
    from ..etw import wpp

    if not os.path.isdir(path):
        _regular(path)
    if not wpp.load(path):
        raise InputError(path, "no trace message format is in this folder")


def _mapping(path: str) -> None:
    from ..etw import callbacks

    _regular(path)
    callbacks.load_mapping(path)


def _baseline(path: str) -> None:
    from . import capture_file

    _regular(path)
    kind = identify(path)
    if "baseline" not in kind.options:
        raise InputError(
            path,
            f"this is {kind.name}, which cannot be a baseline",
            advice="name a capture of a good run, or a file of 'dumpstart baseline'",
        )
    if not capture_file.durations_of(path):
        raise InputError(path, "no duration of a callback is in it, so it cannot be a baseline")


_CHECKS: dict[str, Callable[[str], None]] = {
    "manifests": _manifest,
    "tmf": _tmf,
    "mapping": _mapping,
    "baseline": _baseline,
}
