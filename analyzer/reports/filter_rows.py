"""Which FILTER_EXTENSION and which calls belong to which filter.

Invariant: a filter is its node: two filters of one name, or without a name, never share what is
shown of them. Only where no node is known do the name and the stack decide, within one source.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from .. import formatting as fmt
from ..absence import is_absent
from ..records import Callback, Extension, Filter, Records

Piece = Union[Filter, Extension, Callback]


class Owned(NamedTuple):
    """A filter with what belongs to it, each with its row; or what belongs to no known one."""

    name: str
    stack: str
    source: str
    filters: list[tuple[int, Filter]]  #: one, or none
    extensions: list[tuple[int, Extension]]
    callbacks: list[tuple[int, Callback]]


def by_filter(records: Records) -> list[Owned]:
    """Filters in the order of their table, then what belongs to none of them."""
    groups: list[Owned] = []
    known: dict[tuple[object, ...], Owned] = {}
    for row, one in enumerate(records["filters"]):
        group = _new(one)
        group.filters.append((row, one))
        groups.append(group)
        for key in _keys(one):
            known.setdefault(key, group)
    for table in ("extensions", "callbacks"):
        for row, record in enumerate(records[table]):
            keys = _keys(record)
            found = next((known[key] for key in keys if key in known), None)
            if found is None:
                found = known[keys[0]] = _new(record)
                groups.append(found)
            getattr(found, table).append((row, record))
    return groups


def _new(record: Piece) -> Owned:
    name, stack = fmt.owner(record)
    return Owned(name, stack, record.origin.source, [], [], [])


def _keys(record: Piece) -> list[tuple[object, ...]]:
    """What identifies the filter of a record, best first."""
    source = record.origin.source
    keys: list[tuple[object, ...]] = [] if is_absent(record.node) else [(source, record.node)]
    if not is_absent(record.filter):
        stack = None if is_absent(record.stack) else record.stack
        keys.append((source, record.filter, stack))
    return keys or [(source, None, None if is_absent(record.stack) else record.stack)]
