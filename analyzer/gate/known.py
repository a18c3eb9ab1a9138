"""Findings that are known: a TOML file that says which, why, and until when.

Invariant: an entry needs a rule, a reason and a last day; what has expired counts in full again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import NamedTuple

from ..absence import is_absent
from ..checks import RULES
from ..checks.rules_gate import UNUSED
from ..errors import InputError
from ..files import reason
from ..formatting import clean
from ..names.drivers import plain_name
from ..records import Anomaly, Evidence, Finding, Origin

try:
    import tomllib  # novermin
except ImportError:  # Python before 3.11
    import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]

_KEYS = ("rule", "subject", "reason", "expires")
_LARGEST = 1 << 20


class Known(NamedTuple):
    """One entry: a rule, of one subject or of any."""

    rule: str
    subject: str  #: filter, module or field; "" for any
    reason: str
    expires: date  #: the last day on which it holds, UTC
    path: str
    number: int  #: of the entry in its file, from 1


def load(path: str) -> list[Known]:
    """The entries of a file: one [[known]] table each."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise InputError(path, f"it cannot be read: {why}") from None
    if len(text) > _LARGEST:
        raise InputError(path, f"it is larger than {_LARGEST:,} characters")
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"it is not TOML: {error}") from None
    entries = content.get("known", [])
    wrong = sorted(content.keys() - {"known"})
    if wrong or not isinstance(entries, list):
        what = f"'{wrong[0]}'" if wrong else "'known' that is not a list"
        raise InputError(path, f"it has {what}; it may have [[known]] tables only")
    return [_entry(entry, path, number) for number, entry in enumerate(entries, 1)]


def _entry(entry: object, path: str, number: int) -> Known:
    def wrong(problem: str) -> InputError:
        return InputError(path, f"entry {number}: {problem}")

    if not isinstance(entry, dict):
        raise wrong("this is not a table")
    unknown = sorted(entry.keys() - set(_KEYS))
    if unknown:
        raise wrong(f"there is no key '{unknown[0]}'; the keys are {', '.join(_KEYS)}")
    texts = {name: entry.get(name, "") for name in _KEYS[:3]}
    for name, value in texts.items():
        if not isinstance(value, str) or (name != "subject" and not value.strip()):
            raise wrong(f"'{name}' needs a text")
    if texts["rule"] not in RULES:
        raise wrong(f"there is no rule '{texts['rule']}'; 'dumpstart explain' lists them")
    return Known(**texts, expires=_day(entry.get("expires"), wrong), path=path, number=number)


def _day(value: object, wrong: Callable[[str], InputError]) -> date:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            value = None
    if type(value) is not date:  # a date with a time of day is another type
        raise wrong("'expires' needs the last day on which it holds, such as 2027-03-31")
    return value


def lowered(
    findings: Iterable[Finding], known: Sequence[Known], today: date
) -> tuple[list[Finding], list[Anomaly]]:
    """The findings with what is known of them, and a finding for each entry that fits none."""
    made, used = [], set[int]()
    for finding in findings:
        fitting = [place for place, one in enumerate(known) if _fits(one, finding)]
        used.update(fitting)
        if fitting:
            # of several entries the one that holds longest
            finding = _judged(finding, max((known[k] for k in fitting), key=_until), today)
        made.append(finding)
    unused = [_unused(one) for place, one in enumerate(known) if place not in used]
    return made, unused


def _until(one: Known) -> date:
    return one.expires


def _fits(one: Known, finding: Finding) -> bool:
    if one.rule != finding.rule:
        return False
    if not one.subject:
        return True
    named = [finding.subject, *(finding.facts.get(name) for name in ("filter", "module"))]
    return any(
        one.subject.lower() == str(name).lower() or plain_name(one.subject) == plain_name(name)
        for name in named
        if name and not is_absent(name)
    )


def _judged(finding: Finding, one: Known, today: date) -> Finding:
    is_expired = today > one.expires
    why = clean(one.reason, 300).rstrip(".")
    if is_expired:
        note = f"It was known until {one.expires} ({why}); that has expired, so it counts again."
    else:
        note = f"Known until {one.expires}: {why}."
    facts = {
        **finding.facts,
        "known_reason": one.reason,
        "known_until": str(one.expires),
        "known_expired": is_expired,
        "severity_of_rule": finding.severity,
    }
    return finding._replace(
        text=f"{finding.text} {note}",
        severity=finding.severity if is_expired else "info",
        facts=facts,
    )


def _unused(one: Known) -> Anomaly:
    subject = f" of {clean(one.subject, 80)}" if one.subject else ""
    text = f"Entry {one.number} ({one.rule}{subject}, until {one.expires}) fits no finding."
    evidence = (Evidence("rule", one.rule), Evidence("reason", one.reason))
    return Anomaly(UNUSED, text, Origin(one.path, "whole file"), one.rule, evidence)
