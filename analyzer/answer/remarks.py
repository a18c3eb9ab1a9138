"""What else is worth a sentence: limits of time, files that are beside the point, doubts.

Invariant: a remark is about what was given; what is wrong is a problem, not a remark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crashes import Index
from ..checks.machine import live_sources
from ..names.drivers import plain_name
from ..records import Records
from .next_steps import DUMP, SNAPSHOT

_MOST = 3  #: of a kind


def remarks(records: Records, index: Index, names: Mapping[str, str]) -> Iterator[str]:
    """In the order of how much they change what was said before."""
    yield from _maybe_one(index)
    yield from _guesses(index, names)
    if index.numbers():
        yield from _beside(records, index, names)
    yield from _bounds(records, index, names)
    read = {plain_name(e.filter) for e in records["extensions"] if e.is_reconstructed is not True}
    made = [e for e in records["extensions"] if e.is_reconstructed is True]
    if any(plain_name(e.filter) not in read for e in made):
        yield (
            "Reconstructed: the filter's own FILTER_EXTENSION was not read; these values come from "
            "the dump stack context, from which crashdmp fills it."
        )


def _maybe_one(index: Index) -> Iterator[str]:
    """Crashes that only the clock tells apart."""
    named: dict[tuple[object, ...], list[int]] = {}
    for number, rows in index.by_number.items():
        for row in rows:
            key = (row.bugcheck, *(getattr(row, f"parameter{n}") for n in range(1, 5)))
            if not any(map(is_absent, key)) and any(key[1:]):
                numbers = named.setdefault(key, [])
                numbers += [] if numbers[-1:] == [number] else [number]
    for numbers in named.values():
        kinds = [row.tells for number in numbers for row in index.by_number[number]]
        if len(numbers) > 1 and len(set(kinds)) == len(kinds):  # one crash has one of each
            alike = fmt.listed(map(str, numbers[:6]))
            yield (
                f"Crashes {alike} have the same bugcheck code and parameters: if a clock was "
                "wrong, they may be one."
            )


def _guesses(index: Index, names: Mapping[str, str]) -> Iterator[str]:
    for number in index.numbers()[-_MOST:]:
        rows = index.by_number[number]
        for row in rows:
            if row.origin.confidence == "guess" and row.outcome is not None and len(rows) > 1:
                what = f"{row.tells} of {names.get(row.origin.source, '')}"
                which = "this crash" if len(index.by_number) == 1 else f"crash {number}"
                yield f"That {what} belongs to {which} is a guess: {fmt.clean(row.why)}."


def _beside(records: Records, index: Index, names: Mapping[str, str]) -> Iterator[str]:
    """Sources that are of no crash, where others are."""
    bound = {row.origin.source for rows in index.by_number.values() for row in rows}
    live = live_sources(records)
    for source in records["sources"]:
        name = names.get(str(source.path), "")
        if source.path in bound or is_absent(source.kind):
            continue
        if source.kind == SNAPSHOT or (source.kind == DUMP and source.path in live):
            yield f"{name} was taken of a running system, so it shows no crash."
    calls = dict.fromkeys(
        c.origin.source for c in records["callbacks"] if c.origin.source not in bound | live
    )
    for path in list(calls)[:_MOST]:
        yield (
            f"{names.get(path, '')} names no bugcheck, so it is not certain which crash its calls "
            "belong to."
        )


def _bounds(records: Records, index: Index, names: Mapping[str, str]) -> Iterator[str]:
    """What the dump log bounds, as far as that is known: the filters are started before it."""
    for stage in [s for s in records["stages"] if s.stage == "dump-start-upper-bound"][:_MOST]:
        if is_absent(stage.elapsed_ms):
            continue
        longest = fmt.duration(stage.elapsed_ms * 1_000_000)
        where = names.get(stage.origin.source, "the dump log")
        number = index.of(stage.origin)
        of = f" (crash {number})" if number is not None and len(index.by_number) > 1 else ""
        yield (
            f"By {where}{of}, Dump_Start of every loaded filter had likely returned within "
            f"{longest} of the bugcheck; that time also covers the freeze of the "
            "processors, the bugcheck screen, triage data and the dump port driver."
        )
