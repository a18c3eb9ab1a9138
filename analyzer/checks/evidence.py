"""What the checks look at (the records of one source together) and how they word their evidence.

Invariant: values are shown as the tables show them, each with the place it was read from; an absent
value is never shown as a value. An address is compared only with addresses of the same source.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from ..absence import first_present, is_absent, known
from ..records import TABLES, Address, Anomaly, Evidence, Filter, Module, OfFilter, Record, Records
from ..records.base import Cell, Text
from ..records.collection import Tables
from ..tables import SCHEMA
from ..target import ModuleMap

#: tables that the checks read; events can be millions and are looked at by their own source
_TABLES = (
    "sources", "machine", "modules", "filters", "extensions", "callbacks", "dry_runs", "stages",
    "requests", "processors", "frames",
)  # fmt: skip
_KINDS = {
    (TABLES[table], column.name): column.kind for table in _TABLES for column in SCHEMA[table]
}


#: a source that told one of these has not all modules: what it lacks says nothing
PARTIAL = frozenset({"modules-incomplete", "log-modules-partial"})


class SourceRecords(Tables):
    """What one source told, by table."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: set[str] = set()  #: rule ids the source itself reported

    def is_dump(self) -> bool:
        """True for a kernel dump."""
        return any(row.kind == "kernel dump" for row in self["sources"])

    @property
    def build(self) -> int | None:
        """The Windows build, where it is told."""
        return first_present(row.build for row in self["machine"])

    @property
    def architecture(self) -> str | None:
        """The same of the architecture."""
        return first_present(row.architecture for row in self["machine"])

    def module(self, name: Text) -> Module | None:
        """The loaded module of this name."""
        return None if is_absent(name) else self._by_name.get(name.lower())

    def module_at(self, address: int) -> Module | None:
        """The module whose image holds the address, a loaded one rather than an unloaded one."""
        loaded, every = self._maps
        return loaded.at(address) or every.at(address)

    def filter_at(self, node: Address) -> Filter | None:
        """The filter whose node lies at an address."""
        return None if is_absent(node) else self._by_node.get(node)

    # Kept by what is looked up, because a source can hold thousands: checks run when all is there.

    @cached_property
    def _by_name(self) -> dict[str, Module]:
        rows = [m for m in self["modules"] if m.loaded and not is_absent(m.name)]
        return {str(m.name).lower(): m for m in reversed(rows)}

    @cached_property
    def _maps(self) -> tuple[ModuleMap, ModuleMap]:
        modules = self["modules"]
        return ModuleMap(m for m in modules if m.loaded), ModuleMap(modules)

    @cached_property
    def _by_node(self) -> dict[Address, Filter]:
        return {f.node: f for f in reversed(self["filters"]) if not is_absent(f.node)}

    @cached_property
    def callback_at(self) -> dict[Text, Text]:
        """Symbol of a routine -> the callback that it is."""
        return {row.symbol: row.callback for row in reversed(self["callbacks"])}


def by_source(records: Records) -> Iterator[SourceRecords]:
    """The records of each source on their own, in the order the sources first appear."""
    parts: dict[str, SourceRecords] = {}
    for table in _TABLES:
        for row in records[table]:
            parts.setdefault(row.origin.source, SourceRecords())[table].append(row)
    for anomaly in records.anomalies:
        parts.setdefault(anomaly.origin.source, SourceRecords()).reported.add(anomaly.rule)
    yield from parts.values()


def contains(module: Module, address: int) -> bool | None:
    """Whether the address lies in the image; None when its range is not known."""
    base, end = known(module.base), known(module.end)
    return None if base is None or end is None else base <= address < end


def same_name(one: Text, other: Text) -> bool:
    """True for two equal module names; Windows does not tell case apart."""
    return not (is_absent(one) or is_absent(other)) and one.lower() == other.lower()


def span(module: Module) -> str:
    """First and last address of an image whose range is known."""
    return f"0x{known(module.base) or 0:016x} to 0x{(known(module.end) or 0) - 1:016x}"


def about(record: OfFilter) -> str:
    """The filter a record is of, with its stack."""
    name = "a filter without a name" if is_absent(record.filter) else str(record.filter)
    return name if is_absent(record.stack) else f"{name} ({record.stack} stack)"


def evidence_of(record: Record, *fields: str) -> tuple[Evidence, ...]:
    """Fields of one record as evidence."""
    kinds = ((field, _KINDS[type(record), field]) for field in fields)
    return tuple(
        Evidence(field, getattr(record, field), kind, origin=record.origin) for field, kind in kinds
    )


def wrong_fields(*fields: str) -> dict[str, bool]:
    """Facts that say which of the fields in the evidence are wrong; the others are context."""
    return {f"wrong_{field}": True for field in fields}


def broken(
    rule: str, text: str, record: Record, subject: str, *fields: str, **facts: Cell
) -> Anomaly:
    """A rule that one record breaks; a record that is not certain says so in the text."""
    origin = record.origin
    whose = {name: known(getattr(record, name, None)) for name in ("filter", "stack")}
    facts = {**{name: value for name, value in whose.items() if value is not None}, **facts}
    if origin.confidence != "certain":
        text += f" The record itself is not certain but {origin.confidence} ({origin.how})."
    return Anomaly(rule, text, origin, subject, evidence_of(record, *fields), facts)
