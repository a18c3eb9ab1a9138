"""Options that commands share; those that name files are checked before the inputs are read.

Invariant: no such option is passed over in silence; a file that cannot be used raises, whatever
the inputs are, and so does an option that none of them has a use for.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..errors import AnalyzerError, InputError, UsageError
from . import HYPERVISOR, KINDS, identify

#: keyword of analyzer.open -> option of the command
FLAGS = {
    "manifests": "--manifest",
    "tmf": "--tmf",
    "mapping": "--mapping",
    "baseline": "--baseline",
    "images": "--images",
    "symbols": "--symbols",
    "max_stop": "--max-stop",
    "watch": "--watch",
}
_FOR_TRACES = {
    "manifests": "instrumentation manifest (.man)",
    "tmf": "TMF file of WPP messages, or a folder of them",
    "mapping": "TOML file: which events are callbacks of a filter",
    "baseline": "what is normal: a capture of a good run, or a file of 'dumpstart baseline'",
}
_FOR_MACHINES = {
    "max_stop": "how long a machine may be stopped while it is read (default: 2)",
    "watch": "look again after this time, and say what moved",
}
_FOR_DUMPS = {
    "images": "image files (.sys, .exe), flat or as in a symbol cache: for call stacks",
    "symbols": "PDBs, beside _NT_SYMBOL_PATH: for names; nothing is downloaded",
}


def add(parser: ArgumentParser) -> None:
    """Adds all of them to the parser of a command."""
    for title, metavar, texts in (
        ("for traces and captures; each may be repeated", "FILE", _FOR_TRACES),
        ("for dumps and snapshots; each may be repeated", "DIR", _FOR_DUMPS),
        ("for qmp:SOCKET and virsh:DOMAIN, a virtual machine itself", "SECONDS", _FOR_MACHINES),
    ):
        group = parser.add_argument_group(title)
        for name, text in texts.items():
            group.add_argument(
                FLAGS[name], metavar=metavar, action="append", default=[], dest=name, help=text
            )


def add_gate(parser: ArgumentParser) -> None:
    """Adds what a pipeline asks for."""
    group = parser.add_argument_group("for pipelines, see docs/ci.md; each may be repeated")
    group.add_argument(
        "--expect", metavar="WHAT", action="append", default=[],
        help="such as dump-written,filter:NAME:enabled,filter:NAME:dump_start=success",
    )  # fmt: skip
    group.add_argument(
        "--known", metavar="FILE", action="append", default=[],
        help="TOML file of known findings: [[known]] with rule, subject, reason and expires",
    )  # fmt: skip


def add_redact(parser: ArgumentParser) -> None:
    """Adds the option that leaves out what names people and machines."""
    parser.add_argument(
        "--redact", action="store_true",
        help="leave out paths, disk ids, and all texts that may name people or machines",
    )  # fmt: skip


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
            known = [*(kind for _, kind in KINDS), HYPERVISOR]
            kinds = sorted({kind.name for kind in known if name in kind.options})
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


def _folder(path: str) -> None:
    if not os.path.isdir(path):
        raise InputError(path, "this is not a folder")


def _symbols(text: str) -> None:
    from ..symbols.paths import folders_of

    folders = folders_of(text)
    if not folders:
        advice = "name a folder that holds them; 'symchk' or a debugger downloads them"
        raise InputError(text, "no local folder is in this symbol path", advice=advice)
    for folder in folders:
        _folder(folder)


def _seconds(text: str) -> None:
    from .hypervisor import seconds

    seconds(text)


_CHECKS: dict[str, Callable[[str], None]] = {
    "manifests": _manifest,
    "tmf": _tmf,
    "mapping": _mapping,
    "baseline": _baseline,
    "images": _folder,
    "symbols": _symbols,
    "max_stop": _seconds,
    "watch": _seconds,
}
