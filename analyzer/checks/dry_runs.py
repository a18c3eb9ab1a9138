"""What dry runs show: callbacks that fail, hang or break rules, and contradictions.

Invariant: only calls that Windows makes or may make are judged; on the memory of a machine that had
crashed, what contradicts other evidence is judged only where the result cannot have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..absence import known
from ..names import ntstatus
from ..records import Anomaly, Code, DryRun, Evidence, Records, Text
from . import benign
from .evidence import SourceRecords, about, evidence_of, same_name

_JUDGED = ("does", "may")
_ENDS = {
    "never returns": "dry-run-never-returns",
    "bugchecks": "dry-run-bugchecks",
    "faults": "dry-run-bugchecks",
}


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Findings of one source's dry runs."""
    rows = [row for row in seen["dry_runs"] if row.windows in _JUDGED]
    contradicted = {}
    for row in rows:
        found = _contradiction(seen, row)
        if found is not None:
            contradicted[row] = True
            yield found
    yield from _outcomes(rows, contradicted)
    yield from _lists(rows, "forbidden", "dry-run-forbidden-call", "calls at HIGH_LEVEL")
    yield from _lists(rows, "pageable", "dry-run-touches-paged", "uses pageable memory")


def across(records: Records) -> Iterator[Anomaly]:
    """Where a capture or a log of another source saw a call end otherwise."""
    runs = [row for row in records["dry_runs"] if _is_plain(row)]
    for row in runs:
        for call in records["callbacks"]:
            status = known(call.status)
            if (
                status is None
                or call.origin.source == row.origin.source
                or known(call.call) not in (None, 0)
                or known(call.callback) != row.callback
                or not same_name(call.filter, row.filter)
            ):
                continue
            if _is_failure(status) != _fails(row):
                text = f"{call.origin.source} has a call that returned {_status(status)}"
                yield _differs(row, text, Evidence("status", status, "Code", origin=call.origin))
            break


def _is_plain(row: DryRun) -> bool:
    """A call as Windows makes it, without a made-up MDL or DumpType."""
    return row.windows == "does" and not known(row.shape)


def _fails(row: DryRun) -> bool:
    return row.outcome != "returns" or _is_failure(row.status)


def _is_failure(status: Code) -> bool:
    return isinstance(status, int) and ntstatus.is_failure(status)


def _status(status: int) -> str:
    name = ntstatus.name(status)
    return name if name.startswith("0x") else f"{name} ({status & 0xFFFFFFFF:#010x})"


# -- how calls end --------------------------------------------------------------------------------


def _outcomes(rows: Iterable[DryRun], contradicted: dict[DryRun, bool]) -> Iterator[Anomaly]:
    """One finding for a callback and an outcome, whatever the number of shapes."""
    groups: dict[tuple[str, Text, Text, Text, int | None, Text], list[DryRun]] = {}
    for row in rows:
        rule = _ENDS.get(str(row.outcome), "")
        if row.outcome == "returns" and _is_failure(row.status):
            status = row.status if isinstance(row.status, int) else 0
            rule = "" if benign.why(row.filter, row.callback, status) else "dry-run-fails"
        if rule and (row not in contradicted or row.is_repeatable):
            key = (rule, row.filter, row.stack, row.callback, known(row.status), row.where)
            groups.setdefault(key, []).append(row)
    for (rule, *_), same in groups.items():
        first = same[0]
        text = f"{about(first)}: {first.text}{_trust(first)}"
        if len(same) > 1:
            text += f" So it does with {len(same) - 1} more of the shapes that were tried."
        fields = ["status", "where", "depends_on", "instructions"]
        evidence = evidence_of(first, *(f for f in fields if known(getattr(first, f)) is not None))
        shapes = [str(row.shape) for row in same if known(row.shape)]
        if shapes:
            evidence += (Evidence("MDL shapes", ", ".join(shapes)),)
        yield Anomaly(rule, text, first.origin, about(first), evidence)


def _trust(row: DryRun) -> str:
    """What a result on the memory of a crashed machine says of the call that was made."""
    if row.had_crashed is False:
        return ""
    if row.is_repeatable:
        return " Any call on this memory ends like this: it reads nothing that a call changes."
    if known(row.depends_on):
        return f" An earlier call may have ended otherwise: it depends on {row.depends_on}."
    return ""


def _lists(rows: Iterable[DryRun], field: str, rule: str, words: str) -> Iterator[Anomaly]:
    """One finding for a callback of a filter."""
    done = set()
    for row in rows:
        value = known(getattr(row, field))
        key = (row.filter, row.stack, row.callback, value)
        if value and key not in done:
            done.add(key)
            text = f"{row.callback} of {about(row)} {words}: {value}."
            evidence = evidence_of(row, field, "outcome")
            yield Anomaly(rule, text, row.origin, about(row), evidence)


# -- contradictions -------------------------------------------------------------------------------


def _contradiction(seen: SourceRecords, row: DryRun) -> Anomaly | None:
    """What crashdmp's words say of the call that was made, where it does not agree."""
    if not _is_plain(row) or row.outcome == "stopped" or not row.had_crashed:
        return None
    node = next(
        (f for f in seen["filters"] if same_name(f.filter, row.filter) and f.stack == row.stack),
        None,
    )
    if node is None:
        return None
    failed = known(node.last_failing_status)
    if failed is not None and known(node.last_failing_routine) == row.symbol:
        if _fails(row) and (row.status == failed or row.outcome != "returns"):
            return None
        text = f"crashdmp recorded that it returned {_status(failed)}"
        return _differs(row, text, *evidence_of(node, "last_failing_status"))
    if known(node.is_disabled) is False and _fails(row):
        called = next(
            (
                call.was_called
                for call in seen["callbacks"]
                if call.callback == row.callback
                and same_name(call.filter, row.filter)
                and call.stack == row.stack
            ),
            None,
        )
        if known(called) == "likely":  # the dump went on; "yes" may be a call that is under way
            text = "the dump went on after it was called, and crashdmp kept the filter enabled"
            return _differs(row, text, *evidence_of(node, "is_disabled"))
    if known(node.is_disabled) and row.callback == "Dump_Start" and not _fails(row):
        text = "crashdmp disabled the filter, as it does when a callback fails"
        return _differs(row, text, *evidence_of(node, "is_disabled"))
    return None


def _differs(row: DryRun, other: str, *evidence: Evidence) -> Anomaly:
    text = f"{about(row)}: {row.text} But {other}.{_trust(row)}"
    own = evidence_of(row, *(["status"] if known(row.status) is not None else ["outcome"]))
    return Anomaly("dry-run-contradicts", text, row.origin, about(row), (*own, *evidence))
