"""The command ``export --slice``: the part of a dump that its analysis reads, as a small dump.

Invariant: the pages are those that were read while the records were made; what the file still
holds of the machine is printed each time.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import outputs
from ..absence import is_absent
from ..dryrun.ask import Ask, is_installed
from ..dumpstack import roles
from ..errors import UnsupportedError
from ..target import PAGE
from . import identify

if TYPE_CHECKING:
    from ..dumpfile.pagedump import PageDump
    from ..dumpfile.slicing import Slice

_IMAGE_BYTES = 64 << 20  #: of one image; nt has 10 to 20 MB
_CODE = (roles.FILTER, roles.CRASH_DUMP_DRIVER, roles.KERNEL)


def options(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    group = parser.add_argument_group("for --slice")
    group.add_argument(
        "--with-code", action="store_true",
        help="also the code of the filters, crashdmp and nt, so that a dry run works",
    )  # fmt: skip
    group.add_argument(
        "--redact", action="store_true", help="zero every byte that the analysis does not read"
    )
    group.add_argument(
        "--secondary", choices=("all", "none"), default="all",
        help="secondary data behind the pages, with the last events (default: all)",
    )  # fmt: skip


def run(arguments: Namespace, tell: Callable[[str], None]) -> int:
    """Writes the slice; the exit code."""
    from ..dumpfile import open_dump
    from ..dumpfile.pagedump import PageDump
    from ..dumpfile.slicing import Touched, write

    path = arguments.path
    touched = Touched()
    kind = identify(path)
    if kind.module not in ("dump", "snapshot"):
        advice = "a slice is cut from a kernel, automatic, active or complete dump, or a snapshot"
        raise UnsupportedError(path, f"this is {kind.name}", advice=advice)
    is_dump = kind.module == "dump"
    dump = open_dump(path, touched.add) if is_dump else _of_snapshot(path, touched.add)
    if not isinstance(dump, PageDump) or not dump.pages.pages:
        advice = "it is small already; share it as it is"
        raise UnsupportedError(path, "this dump has no pages to choose from", advice=advice)
    _touch(dump, arguments.with_code)
    dump.file.data.touched = None
    with outputs.replacing(arguments.output) as name, open(name, "wb") as file:
        made = write(
            dump, touched, file, redact=arguments.redact, secondary=arguments.secondary == "all"
        )
    for line in left_out(arguments, dump, made):
        tell(line)
    return 0


def _of_snapshot(path: str, touched: Callable[[int, int], None]) -> PageDump:
    """A snapshot as a dump, with the registers of the processor that tells most."""
    from ..snapshot import open_snapshot
    from ..snapshot.as_dump import as_dump
    from .dump import records_of

    snapshot = open_snapshot(path)
    rows = records_of(snapshot)["processors"]
    inside = [row.processor for row in rows if not is_absent(row.filter)]
    numbers = [number for number in inside if isinstance(number, int)]
    return as_dump(snapshot, numbers[0] if numbers else 0, touched)


def _touch(dump: PageDump, with_code: bool) -> None:
    """Reads all that an analysis reads, and what a dry run may execute."""
    from .dump import records_of

    ask = Ask() if with_code and is_installed() else None
    records = records_of(dump, dry_run=ask)
    for module in records["modules"] if with_code else ():
        if module.role in _CODE and module.loaded and isinstance(module.base, int):
            size = module.size if isinstance(module.size, int) else 0
            for at in range(module.base, module.base + min(size, _IMAGE_BYTES), PAGE):
                dump.read(at, PAGE)


def left_out(arguments: Namespace, dump: PageDump, made: Slice) -> list[str]:
    """What was left out, and what of people's data may still be there."""
    from ..dumpfile.pagemap import room_for_runs

    name = arguments.output
    before = f"{os.path.getsize(dump.path):,} bytes"
    pages, left = f"{made.pages:,}", "all"
    if made.of_pages:
        pages, left = f"{pages} of {made.of_pages:,}", f"the {made.of_pages - made.pages:,}"
    lines = [f"{name}: {made.size:,} of {before}, {pages} pages."]
    if dump.is_of_file and made.dump_type != dump.file.number("DumpType"):
        room = room_for_runs(dump.pointer_size == 8)
        lines.append(
            "The dump is a full one, the slice a bitmap dump: the pages lie in more runs than the "
            f"{room} that a full dump's header has room for."
        )
    lines.append(
        f"Left out: {left} pages that the analysis does not read"
        + ("." if arguments.with_code else "; a dry run may miss them (--with-code).")
    )
    kept = "Still in it: the names of drivers and of their files, the layout of memory, disk "
    kept += "identifiers in FILTER_EXTENSION, the kernel stacks of the processors, which can hold "
    kept += "pieces of anything that was worked on"
    if not arguments.redact:
        others = made.pages * PAGE - made.page_bytes_read
        kept += f"; and {others:,} bytes that only share a page with what is read (--redact zeroes "
        kept += "them)"
    if made.secondary_bytes:
        kept += f"; and {made.secondary_bytes:,} bytes of secondary data, which can hold events "
        kept += "with paths and names, and serial numbers (--secondary none leaves them out)"
    return [*lines, kept + "."]
