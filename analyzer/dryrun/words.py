"""From what the emulator saw to a record: names for addresses, a sentence for the outcome.

Invariant: says "called again on this memory", never "returned"; what ended a run and is not known
of the machine is "stopped", not a fault of the driver. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple

from ..absence import Absent
from ..layouts.ntdddump import Structure
from ..names import bugchecks, ntstatus
from ..target import PAGE
from . import world
from .images import Images
from .pipe import Result
from .plan import CRASH, Step

RETURNS, BUGCHECKS, FAULTS, NEVER, STOPPED = (
    "returns", "bugchecks", "faults", "never returns", "stopped",
)  # fmt: skip
#: so many names are shown in a cell
_SHOWN = 24
_KUSER = {8: 0xFFFF_F780_0000_0000, 4: 0xFFDF_0000}
_FAST_FAIL_BUGCHECK = 0x139


class Scene(NamedTuple):
    """What the words of one target share."""

    images: Images
    base: int  #: of the emulator's own area
    kpcr: int
    pointer_size: int
    is_live: bool
    had_crashed: bool | None
    missing: dict[int, Absent]
    #: a better name for an address than the image's headers give
    name: Callable[[int], str]


class Called(NamedTuple):
    """What the words of one call share."""

    step: Step
    stack: str
    extension: int
    extension_class: type[Structure]
    dump_data: int
    is_hibernation_assumed: bool


def members(layout: type[Structure], offsets: Iterable[int]) -> list[str]:
    """Members of FILTER_EXTENSION that these bytes belong to, in order."""
    names: dict[str, None] = {}
    for offset in sorted(offsets):
        name = _member(layout, offset)
        if name:
            names[name] = None
    return list(names)


def _member(layout: type[Structure], offset: int, before: str = "") -> str:
    for name, kind, *_ in layout._fields_:
        field = getattr(layout, name)
        if not field.offset <= offset < field.offset + field.size:
            continue
        if name.startswith("Padding_"):
            return ""
        if name == "Style":  # a union: which arm holds is another member's matter
            return f"{before}Mbr/Gpt"
        if issubclass(kind, Structure) and name in ("Geometry", "PartitionInfo"):
            return _member(kind, offset - field.offset, f"{name}.")
        return f"{before}{name}"
    return ""


def name_of(scene: Scene, called: Called, address: int) -> str:
    """A name for an address."""
    if scene.images.module(address) is not None:
        return scene.name(address)
    inside = address - called.extension
    size = called.extension_class.DumpData.offset + 0x20
    if 0 <= inside < size:
        member = _member(called.extension_class, inside)
        return f"FILTER_EXTENSION.{member}" if member else f"FILTER_EXTENSION+{inside:#x}"
    for name, start, length in (
        ("DumpData", called.dump_data, PAGE),
        ("processor block", scene.kpcr, 4 * PAGE),
        ("KUSER_SHARED_DATA", _KUSER[scene.pointer_size], PAGE),
    ):
        if start and 0 <= address - start < length:
            return f"{name}+{address - start:#x}" if address != start else name
    return f"{address:#x}"


class Outcome(NamedTuple):
    """How a call ended."""

    kind: str
    why: str  #: continues "it ..."
    at: int | None = None  #: where it ended
    status: int | None = None


def outcome(scene: Scene, called: Called, result: Result) -> Outcome:
    """The result of the emulator in words."""
    kind = result.get("outcome")
    pc = result.get("pc")
    say = {
        "returned": _returned, "bugcheck": _bugcheck, "loop": _loop, "memory": _memory,
        "instruction": _instruction,
    }.get(str(kind))  # fmt: skip
    if say is not None:
        return say(scene, called, result)
    if kind == "stack":
        why = f"needs more stack than the {result['size'] // 1024} KB that a kernel thread has"
        return Outcome(FAULTS, why, pc)
    if kind == "raise":
        code = f" ({ntstatus.name(result['raised'])})" if "raised" in result else ""
        why = f"calls {result['name']}{code}; exception handlers are not emulated"
        return Outcome(STOPPED, why, pc)
    if kind == "wait":
        why = f"calls {result['name']}, which needs other threads or drivers: none runs any more"
        return Outcome(STOPPED, why, pc)
    if kind == "exception":
        why = f"causes a {result['text']} exception; exception handlers are not emulated"
        return Outcome(STOPPED, why, pc)
    if kind == "limit":
        what = {
            "instructions": f"{result['instructions']:,} instructions were executed",
            "seconds": "the time for one call was used up",
            "pages": "it used too many pages of memory",
        }[result["what"]]
        return Outcome(STOPPED, f"had not returned when {what}", pc)
    why = result.get("why", "the emulator gave no result")
    return Outcome(STOPPED, f"could not be followed to its end: {why}", pc)


def _returned(_: Scene, __: Called, result: Result) -> Outcome:
    status = result["status"]
    return Outcome(RETURNS, f"returns {_status(status)}", None, status)


def _status(status: int) -> str:
    name = ntstatus.name(status)
    return name if name.startswith("0x") else f"{name} ({status:#x})"


def _bugcheck(_: Scene, __: Called, result: Result) -> Outcome:
    code, *rest = result["arguments"]
    values = ", ".join([f"{code:#x} {bugchecks.name(code)}", *(f"{value:#x}" for value in rest)])
    return Outcome(BUGCHECKS, f"calls {result['name']} ({values})")


def _loop(scene: Scene, called: Called, result: Result) -> Outcome:
    names = [name_of(scene, called, address) for address, _ in result["waits"]]
    waits = f"; it waits for a change at {', '.join(names[:4])}" if names else ""
    why = f"stays in a loop of {result['lap']} instructions that changes nothing{waits}"
    return Outcome(NEVER, why, result["pc"])


def _memory(scene: Scene, called: Called, result: Result) -> Outcome:
    address, verb, pc = result["address"], result["access"], result["pc"]
    name = name_of(scene, called, address)
    shown = name if name.startswith("0x") else f"{name} ({address:#x})"
    if scene.base + world.NO_BLOCK <= address < scene.base + world.NO_BLOCK + 0x10_0000:
        why = f"{verb} the processor block, which was not found"
        return Outcome(STOPPED, why, pc)
    if scene.base <= address < scene.base + 0x200_0000:
        return Outcome(FAULTS, f"{verb} {shown}, where nothing is mapped", pc)
    section = scene.images.section(address)
    if verb == "writes" and section is not None and not section.is_writable:
        return Outcome(FAULTS, f"writes {shown}, in the read-only section {section.name}", pc)
    half = 1 << (8 * scene.pointer_size - 1)
    if address < half:
        return Outcome(FAULTS, f"{verb} {shown}, an address in the user half", pc)
    reason = scene.missing.get(address & -PAGE, Absent("not-found"))
    if reason.reason == "paged-out":
        return Outcome(FAULTS, f"{verb} {shown}, which is paged out", pc)
    if reason.reason == "not-mapped" and not scene.is_live:
        return Outcome(FAULTS, f"{verb} {shown}, where the target has no memory", pc)
    return Outcome(STOPPED, f"{verb} {shown}, which is not there to follow it: {reason}", pc)


def _instruction(_: Scene, __: Called, result: Result) -> Outcome:
    text, pc = result["text"], result["pc"]
    if text.startswith("fast fail"):
        name = bugchecks.name(_FAST_FAIL_BUGCHECK)
        return Outcome(BUGCHECKS, f"ends with a {text}: {_FAST_FAIL_BUGCHECK:#x} {name}", pc)
    return Outcome(STOPPED, f"executes {text}, which is not emulated", pc)


def lead(scene: Scene, called: Called) -> str:
    """How the sentence of a call begins."""
    step = called.step
    begins = "Called on this memory"
    natural = step.dump_type == CRASH and called.stack == "crash"
    was_called = step.callback in ("Dump_Start", "Dump_Write", "Dump_Finish")
    if scene.had_crashed and natural and was_called:
        begins = "Called again on this memory"
    elif scene.had_crashed is False:
        begins = "Called now"
    if step.shape is not None:
        begins += f" with an MDL of the shape '{step.shape.name}'"
    if called.is_hibernation_assumed:
        begins += f" with DumpType {step.dump_type}"
    return begins


class Reads(NamedTuple):
    """What a call depends on."""

    variables: list[str]
    depends_on: list[str]


def reads(scene: Scene, called: Called, result: Result) -> Reads:
    """Writable memory that a call read, and what of all it read may have been otherwise before."""
    changed = {
        address for address, old, _ in result.get("changes", ()) for address in _span(address, old)
    }
    variables: dict[str, None] = {}
    depends: dict[str, None] = {}
    for address, size in _runs(result.get("reads", ())):
        if scene.base <= address < scene.base + 0x200_0000 or scene.images.is_constant(address):
            continue
        name = name_of(scene, called, address)
        shown = name if size <= 8 else f"{name} ({size} bytes)"
        variables[shown] = None
        is_changed = any(byte in changed for byte in range(address, address + min(size, 4096)))
        depends[f"{name}, which it changes" if is_changed else name] = None
    written = set(result.get("members_written", ()))
    both = written & set(result.get("members_read", ()))
    for name in members(called.extension_class, both):
        depends[f"FILTER_EXTENSION.{name}, which it changes"] = None
    if result.get("varies"):
        depends["the clock or random numbers"] = None
    if any("gives memory" in text for text in result.get("assumed", ())):
        depends["an allocation"] = None
    if result.get("is_cut"):
        depends["more than is listed"] = None
    return Reads(list(variables), list(depends))


def _span(address: int, old: str) -> range:
    return range(address, address + len(old) // 2)


def _runs(found: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Reads that touch one another as one: an array is one thing."""
    runs: list[tuple[int, int]] = []
    for address, size in found:
        if runs and address <= runs[-1][0] + runs[-1][1]:
            start, length = runs[-1]
            runs[-1] = (start, max(length, address + size - start))
        else:
            runs.append((address, size))
    return runs


def changes(scene: Scene, called: Called, result: Result) -> list[str]:
    """Memory that a call changed, old -> new."""
    found = []
    for address, old, new in result.get("changes", ()):
        if scene.base <= address < scene.base + 0x200_0000:
            continue
        name = name_of(scene, called, address)
        if len(old) > 16:
            found.append(f"{name}: {len(old) // 2} bytes")
        else:
            before, after = (int.from_bytes(bytes.fromhex(raw), "little") for raw in (old, new))
            found.append(f"{name}: {before:#x} -> {after:#x}")
    return found


def calls(scene: Scene, routine: int, result: Result) -> list[str]:
    """Routines outside the module of the routine that was called."""
    own = scene.images.module(routine)
    images = scene.images
    found = result.get("calls", ())
    return [scene.name(address) for address in found if images.module(address) is not own]


def pageable(scene: Scene, result: Result) -> list[str]:
    """Pageable sections that code was executed in or data read from."""
    found: dict[str, None] = {}
    gone = result.get("address") if result.get("outcome") == "memory" else None
    if gone is not None and scene.missing.get(gone & -PAGE, Absent("")).reason == "paged-out":
        found[f"{scene.name(gone)} (paged out)"] = None
    places = [*result.get("code", ()), *(address for address, _ in result.get("reads", ()))]
    for address in places:
        section = scene.images.section(address)
        if section is not None and section.is_pageable:
            found[f"{scene.name(address)} (section {section.name})"] = None
    return list(found)


def cell(names: Sequence[str]) -> str | None:
    """A list as one cell of a table; None for an empty one."""
    if not names:
        return None
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return "; ".join([*names[:_SHOWN], *more])
