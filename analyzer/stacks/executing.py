"""Where processors were executing, as records: the tables ``processors`` and ``frames``.

Invariant: a processor is said to be inside a callback only when a frame of its stack lies in the
function that begins at the callback's routine; a filter's code alone does not tell which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..absence import Absent
from ..records import Address, Callback, Extension, Frame, Module, Origin, Processor, Text
from ..symbols import Names
from ..symbols.images import Images
from ..target import module_at
from . import stale
from .caught import Caught
from .step import Stack, Step, unwind

_POINTERS = {"x64": ("rip", "rsp"), "arm64": ("pc", "sp"), "x86": ("eip", "esp")}
_FIRST_ARGUMENT = {"x64": "rcx", "arm64": "x0"}
#: where a frame was found by what it says of the stack, not by unwind data
_LIKELY = ("frame record", "frame pointer")
_NEAR = 0x1000  #: a callback is not longer
FILTER, CRASH_DUMP_DRIVER = "dump filter", "crash dump driver"  #: roles of modules


class Known(NamedTuple):
    """What the dump stack tells that makes sense of an address.

    A callback that lies outside its filter's image is left out: other code runs there, too.
    """

    routines: Mapping[int, tuple[str, str]]  #: address -> (filter, callback)
    extensions: Mapping[int, str]  #: address of a FILTER_EXTENSION -> filter

    @classmethod
    def of(
        cls,
        callbacks: Iterable[Callback],
        extensions: Iterable[Extension],
        modules: Sequence[Module],
    ) -> Known:
        """From rows of the tables ``callbacks``, ``extensions`` and ``modules``."""
        routines = {}
        for row in callbacks:
            if isinstance(row.routine, int) and row.routine:
                module = module_at(modules, row.routine)
                if module is not None and module.name == row.filter:
                    routines[row.routine] = (str(row.filter), str(row.callback))
        known = {r.extension: str(r.filter) for r in extensions if isinstance(r.extension, int)}
        return cls(routines, known)


class _Inside(NamedTuple):
    """The filter that a stack is inside of."""

    filter: Text = None
    callback: Text = None
    is_nearest: bool = False  #: no unwind data: the callback is the one that begins before


def rows(
    caught: Sequence[Caught], images: Images, names: Names, known: Known, architecture: str
) -> list[Processor | Frame]:
    """Records of register sets: a processor each, then the frames of all stacks."""
    processors: list[Processor | Frame] = []
    frames: list[Processor | Frame] = []
    for one in caught:
        stack = unwind(images, one.registers, architecture)
        if not stack.steps:
            continue
        if one.is_processor:
            processors.append(_processor(one, stack, images, names, known, architecture))
        frames += _frames(one, stack, images, names)
    return [*processors, *frames]


def _processor(
    one: Caught, stack: Stack, images: Images, names: Names, known: Known, architecture: str
) -> Processor:
    ip, sp = stack.steps[0][:2]
    inside = _inside(stack.steps, images, names, known)
    origin = one.origin
    if inside.is_nearest:
        sure = "guess" if origin.confidence == "guess" else "likely"
        how = f"{origin.how}; the callback is the one whose routine begins nearest before"
        origin = origin._replace(how=how, confidence=sure)
    module = module_at(images.modules, ip)
    register = _FIRST_ARGUMENT.get(architecture.partition("-")[0])
    argument: Address = Absent("not-applicable", "32-bit x86 passes arguments on the stack")
    meaning: str | None = None
    if register is not None:
        argument = one.registers.get(register, Absent("not-recorded", f"{register} is not known"))
        if isinstance(argument, int) and argument in known.extensions:
            meaning = f"FILTER_EXTENSION of {known.extensions[argument]}"
    return Processor(
        processor=one.processor,
        thread=one.thread,
        is_idle=one.is_idle,
        instruction_pointer=ip,
        stack_pointer=sp,
        symbol=names.name(ip),
        module=None if module is None else module.name,
        filter=inside.filter,
        callback=inside.callback,
        first_argument=argument,
        first_argument_is=meaning,
        registers=" ".join(f"{name}={value:#x}" for name, value in one.registers.items()),
        origin=origin,
    )


def _inside(steps: Sequence[Step], images: Images, names: Names, known: Known) -> _Inside:
    """The innermost callback of a filter on a stack, else the innermost filter."""
    in_filter: Text = None
    innermost = 0
    for step in steps:
        # A caller stands behind its call, which may be the last instruction of its function.
        place = step.instruction_pointer - (step.how not in ("registers", "machine frame"))
        start = images.function_start(place)
        if start is None:
            named = names.function_at(place)
            start = place if named is None else named.start
        if start in known.routines:
            return _Inside(*known.routines[start])
        module = module_at(images.modules, step.instruction_pointer)
        if in_filter is None and module is not None and module.role == FILTER:
            in_filter, innermost = module.name, step.instruction_pointer
    if in_filter is None:
        return _Inside()
    nearest = _nearest(innermost, images, known)
    if nearest is not None:
        return _Inside(*known.routines[nearest], True)
    why = "no frame lies in a function that begins at one of its callbacks"
    return _Inside(in_filter, Absent("not-found", why))


def _nearest(address: int, images: Images, known: Known) -> int | None:
    """The callback that begins nearest before an address, where no unwind data says otherwise."""
    image = images.at(address)
    before = max((r for r in known.routines if r <= address), default=None)
    if image is None or before is None or images.at(before) is not image:
        return None
    if address - before > _NEAR or image.begins_between(before - image.base, address - image.base):
        return None
    return before


def _frames(one: Caught, stack: Stack, images: Images, names: Names) -> list[Frame]:
    found = []
    for number, step in enumerate(stack.steps):
        outer = stack.steps[number + 1] if number + 1 < len(stack.steps) else None
        back = outer.instruction_pointer if outer is not None else stack.end
        origin = one.origin
        if number:
            sure = "likely" if step.how in _LIKELY else origin.confidence
            origin = images.target.origin(f"{step.how} of the frame inside it", _slot(step), sure)
        module = module_at(images.modules, step.instruction_pointer)
        found.append(
            Frame(
                one.stack_of, one.processor, number, step.instruction_pointer, back,
                step.stack_pointer, names.name(step.instruction_pointer),
                None if module is None else module.name, step.how, origin,
            )
        )  # fmt: skip
    return found


def _slot(step: Step) -> int:
    """Where the return address that leads to a frame lay, as far as its stack pointer tells."""
    return max(0, step.stack_pointer - (4 if "eip" in step.registers else 8))


# -- what was left on stacks ---------------------------------------------------------------------


def stale_rows(
    regions: Sequence[tuple[int, int, str]], images: Images, names: Names, architecture: str,
    frames: Sequence[Frame], caught: Sequence[Caught],
) -> list[Frame]:  # fmt: skip
    """Frames of chains left on stacks that touch the dump path.

    ``regions``: pieces of stacks (start, end, owner); ``frames``: those that are known already.
    """
    live = {frame.origin.address for frame in frames}
    records = {one.registers["x29"] for one in caught if "x29" in one.registers}
    found: list[Frame] = []
    for start, end, owner in regions:
        for chain in stale.chains(images, architecture, start, end, records):
            if all(word.place in live for word in chain):
                continue
            if any(_in_dump_path(images, word.value) for word in chain):
                found += _chain(chain, owner, images, names, architecture)
    return found


def _in_dump_path(images: Images, address: int) -> bool:
    module = module_at(images.modules, address)
    return module is not None and bool(module.stack or module.role == CRASH_DUMP_DRIVER)


def _chain(
    chain: Sequence[stale.Word], owner: str, images: Images, names: Names, architecture: str
) -> list[Frame]:
    how = "frame record" if architecture == "arm64" else "direct call"
    end = Absent("not-found", "no direct call proves who called it")
    found = []
    for number, word in enumerate(chain):
        module = module_at(images.modules, word.value)
        origin: Origin = images.target.origin("word left on a stack", word.place, "likely")
        found.append(
            Frame(
                f"stale {owner}" if owner.endswith("stack") else f"stale stack of {owner}", None,
                number, word.value, chain[number + 1].value if number + 1 < len(chain) else end,
                word.place + 8, names.name(word.value), None if module is None else module.name,
                how, origin,
            )
        )  # fmt: skip
    return found
