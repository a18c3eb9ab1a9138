"""What each module is to the dump path: kernel, crash dump driver, port driver, miniport, filter.

Invariant: evidence in the machine comes before a name. A filter node in an image makes it a filter;
the first image of a stack is its dump port driver, because crashdmp loads port driver, miniport and
filters in this order; an image that imports the port driver is the miniport. Only where these say
nothing do known names decide, and what is left is a filter by elimination, which the record says.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

from ..absence import Absent
from ..names import drivers
from ..names.drivers import (
    CRASH_DUMP_DRIVER,
    DRIVER,
    FILTER,
    KERNEL,
    MINIPORT,
    PORT,
    plain_name,
    split_prefix,
    stem,
)
from ..records import Module

__all__ = [
    "CRASH_DUMP_DRIVER", "DRIVER", "FILTER", "KERNEL", "MINIPORT", "PORT", "classify", "proven",
    "split_prefix", "stem",
]  # fmt: skip

#: stems of the images that an image imports; Absent where they cannot be read
Imports = Callable[[Module], "frozenset[str] | Absent"]
_ELIMINATION = "taken for a filter: no known dump port or miniport driver"
_FIRST = "taken for the dump port driver: first image of its stack"
_BEHIND = "taken for the miniport: first unknown image behind the dump port driver"
_IMPORTS = "taken for the miniport: it imports the dump port driver"
_NODE = "a filter node has its routines here"


def classify(
    modules: Sequence[Module],
    unloaded: Sequence[Module] = (),
    imports: Imports | None = None,
    *,
    is_whole: bool = True,
) -> list[Module]:
    """All modules with role, stack and comparison with their originals filled in.

    ``is_whole``: no module is missing from the list, so that the first of a stack is its first.
    """
    done = [_by_name(module) for module in modules]
    for stack in ("crash", "hibernation"):
        places = [i for i, m in enumerate(done) if m.stack == stack]
        for place, role, why in _of_stack([done[i] for i in places], imports, is_whole):
            module = done[places[place]]
            origin = module.origin._replace(how=f"{module.origin.how}; {why}")
            done[places[place]] = module._replace(role=role, origin=origin)
    originals = {stem(m.name): m for m in done if not m.stack}
    done = [_compare(module, originals) for module in done]
    by_name = {plain_name(m.name): m.role for m in done if m.stack}
    for module in unloaded:
        entry = _by_name(module, cut=len(str(module.name)) >= 12)
        text = plain_name(entry.name)
        alike = {role for name, role in by_name.items() if text and name.startswith(text)}
        if entry.stack and len(alike) == 1:  # an earlier copy of what is loaded now
            entry = entry._replace(role=alike.pop())
        done.append(entry if entry.role else entry._replace(role=FILTER))
    return done


def proven(modules: Sequence[Module], filters: Iterable[Module]) -> list[Module]:
    """The modules, with those a filter node was found in as filters whatever was taken before."""
    bases = {m.base for m in filters}
    return [
        m._replace(role=FILTER, origin=m.origin._replace(how=f"{_listed(m)}; {_NODE}"))
        if m.base in bases and m.stack and m.role != FILTER
        else m
        for m in modules
    ]


def _listed(module: Module) -> str:
    """How the module itself was found, without the guess at its role."""
    return module.origin.how.split("; taken for ")[0]


def _by_name(module: Module, cut: bool = False) -> Module:
    stack, text = split_prefix(module.name)
    if stack:
        row = drivers.known(module.name, is_cut=cut)
        return module._replace(stack=stack, role=row.role if row else "")
    if text == "crashdmp":
        return module._replace(role=CRASH_DUMP_DRIVER)
    return module._replace(role=KERNEL if drivers.is_kernel(module.name) else DRIVER)


def _of_stack(
    stack: Sequence[Module], imports: Imports | None, is_whole: bool
) -> list[tuple[int, str, str]]:
    """(place, role, why) of the images of one stack that their names do not tell."""
    roles = [str(m.role) for m in stack]
    found: list[tuple[int, str, str]] = []

    def take(place: int, role: str, why: str) -> None:
        roles[place] = role
        found.append((place, role, why))

    # One image alone is no stack whose first could be told, and a known filter can come first only
    # where the list has lost something.
    is_ordered = is_whole and len(stack) > 1 and roles[0] != FILTER
    if is_ordered and PORT not in roles:
        take(0, PORT, _FIRST)
    ports = {plain_name(stack[i].name) for i, role in enumerate(roles) if role == PORT}
    ports |= {name for name, row in drivers.KNOWN.items() if row.role == PORT}
    needs = {
        i: imports(stack[i]) if imports else Absent("not-found")
        for i, role in enumerate(roles)
        if not role
    }
    for place, names in needs.items():
        if not isinstance(names, Absent) and names & ports:
            take(place, MINIPORT, _IMPORTS)
    for place, names in needs.items():
        if roles[place]:
            continue
        behind = PORT in roles[:place]
        if behind and MINIPORT not in roles and isinstance(names, Absent):
            take(place, MINIPORT, _BEHIND)
        else:
            take(place, FILTER, _ELIMINATION)
    return found


def _compare(module: Module, originals: dict[str, Module]) -> Module:
    if not module.stack:
        return module
    text = plain_name(module.name)
    original = originals.get(text)
    if module.role == PORT:
        # dump_storport.sys is mapped from the dump port driver's own file, not from storport.sys.
        why = Absent(
            "not-applicable", "dump port drivers have no running original of the same file"
        )
        return module._replace(original=why, original_match=why)
    if original is None:
        why = Absent("not-found", f"{text}.sys itself is not loaded, nothing to compare with")
        return module._replace(original=why, original_match=why)
    mine = (module.time_date_stamp, module.size)
    theirs = (original.time_date_stamp, original.size)
    if any(isinstance(value, Absent) for value in mine + theirs):
        match: str | Absent = Absent("not-recorded", "a time stamp is missing")
    else:
        match = "same image" if mine == theirs else "different image"
    return module._replace(original=original.name, original_match=match)
