"""Runs the calls of all filters of a target, one after the other, and makes their records.

Invariant: one record for each call that is wanted, whatever becomes of the call. Standard library
only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Callable

from ..absence import Absent
from ..dumpstack.nodes import Node
from ..dumpstack.walk import Ring, filter_module
from ..names import ntstatus
from ..records import DryRun, Module, Origin
from ..target import PAGE, Target
from . import plan, shapes, words, world
from .ask import Limits, Progress
from .host import Host
from .images import Images
from .pipe import Call, Result

_ARCHITECTURES = ("x64", "x86", "arm64")


def run(
    target: Target,
    modules: Sequence[Module],
    rings: Sequence[Ring],
    *,
    had_crashed: bool | None,
    filters: Sequence[str] = (),
    callbacks: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008 - immutable
    progress: Progress | None = None,
    code: Callable[[int], bytes | None] | None = None,
) -> list[DryRun]:
    """One record for each call. ``filters`` and ``callbacks`` choose, none of them means all.

    ``had_crashed``: None where the target does not tell. ``code`` gives a page of code that the
    target does not have. UsageError when Unicorn is not installed.
    """
    if world.architecture(target) not in _ARCHITECTURES:
        return []
    runner = _Runner(target, modules, rings, had_crashed, limits, code)
    try:
        for ring in rings:
            for number, node in enumerate(ring.nodes):
                runner.filter(ring, number, node, filters, callbacks, progress)
    finally:
        runner.host.close()
    return runner.found


class _Runner:
    def __init__(
        self, target: Target, modules: Sequence[Module], rings: Sequence[Ring],
        had_crashed: bool | None, limits: Limits, code: Callable[[int], bytes | None] | None,
    ) -> None:  # fmt: skip
        self.found: list[DryRun] = []
        self._target, self._limits = target, limits
        self._stack_modules = [m for m in modules if m.stack and m.loaded]
        images = Images(target, modules)
        base = world.free_area(target)
        nodes = [filter_module(self._stack_modules, node) for r in rings for node in r.nodes]
        setup = world.setup(target, images, base, [module for module in nodes if module])
        self.host = Host(target, setup, code)
        self._kpcr = setup["kpcr"]
        self._has_hibernation = any(ring.stack == "hibernation" for ring in rings)
        self._scene = words.Scene(
            images, base, self._kpcr, target.pointer_size, hasattr(target, "backend"),
            had_crashed, self.host.missing, images.name,
        )  # fmt: skip

    def filter(
        self, ring: Ring, number: int, node: Node, filters: Sequence[str], callbacks: Sequence[str],
        progress: Progress | None,
    ) -> None:  # fmt: skip
        """All calls of one filter."""
        module = filter_module(self._stack_modules, node)
        name = "" if module is None else str(module.name)
        if filters and not any(_is_same(name, wanted) for wanted in filters):
            return
        if isinstance(node.address, Absent):
            return  # there is nothing to call it with
        own = node.extension.DumpType
        types = [own if own in (plan.CRASH, plan.HIBERNATION) else plan.CRASH]
        if types == [plan.CRASH] and not self._has_hibernation:
            types.append(plan.HIBERNATION)
        self._stack = ring.stack or (str(module.stack) if module is not None else "")
        started: dict[int, bool] = {}
        no_code: set[int] = set()
        steps = list(plan.steps(node, types, callbacks))
        for place, step in enumerate(steps):
            if step.routine in no_code:
                continue
            if progress is not None:
                progress(f"calling {step.callback} of {name}", place, len(steps))
            is_started = started.get(step.dump_type, step.callback == "Dump_Start")
            if not is_started:
                step = step._replace(source="")
                if step.dump_type in started and not self._scene.had_crashed:
                    step = step._replace(windows=shapes.NEVER)
            row = self._call(ring, number, node, name, step, step.dump_type != own)
            if step.callback == "Dump_Start":
                status = row.status
                started[step.dump_type] = row.outcome == words.RETURNS and not (
                    isinstance(status, int) and ntstatus.is_failure(status)
                )
            if step.is_shown:
                self.found.append(row)
            if not row.instructions and row.outcome == words.STOPPED:
                no_code.add(step.routine)  # the other shapes would end in the same way

    def _call(
        self, ring: Ring, number: int, node: Node, name: str, step: plan.Step, is_assumed: bool
    ) -> DryRun:
        assert isinstance(node.address, int)
        extension = node.address + node.layout.extension
        layout = node.layout.extension_class
        called = words.Called(
            step, self._stack, extension, layout, int(node.extension.DumpData), is_assumed
        )
        result: Result = {}
        times = step.shape.times if step.shape is not None else 1
        for turn in range(times):
            call = self._message(node, step, extension, is_assumed)
            if turn + 1 < times:
                call["keep"] = "between"
            if turn:
                call["source"] = "between"
            result = self.host.call(call)
            if result["outcome"] != "returned":
                break
        return self._record(ring, number, name, called, result)

    def _message(self, node: Node, step: plan.Step, extension: int, is_assumed: bool) -> Call:
        import ctypes

        arguments = [extension]
        made: list[tuple[int, bytes]] = []
        if step.shape is not None:
            area, most = self._scene.base + world.AREA, int(node.init.MaxPagesPerWrite)
            built = shapes.build(step.shape, area, self._target.pointer_size, most)
            arguments += [built.offset, built.mdl]
            made = built.pages
        patches: list[tuple[int, bytes]] = []
        if is_assumed:
            patches.append((extension, struct.pack("<I", step.dump_type)))
        irql = world.IRQL_IN_KPCR.get(world.architecture(self._target))
        if irql is not None:
            patches.append((self._kpcr + irql[0], bytes([irql[1]])))
        return {
            "routine": step.routine,
            "arguments": arguments,
            "extension": (extension, ctypes.sizeof(node.layout.extension_class)),
            "patches": patches,
            "made": made,
            "source": step.source,
            "keep": step.keep,
            "limits": self._limits._asdict(),
        }

    def _record(
        self, ring: Ring, number: int, name: str, called: words.Called, result: Result
    ) -> DryRun:
        scene, step = self._scene, called.step
        end = words.outcome(scene, called, result)
        read = words.reads(scene, called, result)
        assumed = list(result.get("assumed", ()))
        if called.is_hibernation_assumed:
            assumed.append(f"FILTER_EXTENSION.DumpType is {step.dump_type}")
        if any(address & -PAGE in self.host.from_files for address in result.get("code", ())):
            assumed.append("code that the target does not hold is that of its image file")
        is_proven = end.kind != words.STOPPED
        none = Absent("not-applicable", "the call did not return")
        no_shape = Absent("not-applicable", "the callback is given no MDL")
        is_repeatable = is_proven and not read.depends_on
        certain = is_proven and (is_repeatable or scene.had_crashed is False)
        text = f"{words.lead(scene, called)}, {step.callback} {end.why}."
        return DryRun(
            filter=name or Absent("not-found", "no routine of this node lies in a dump module"),
            stack=self._stack or None,
            ring_index=number if isinstance(ring.head, int) else None,
            callback=step.callback,
            dump_type=step.dump_type,
            shape=no_shape if step.shape is None else step.shape.name,
            windows=step.windows,
            routine=step.routine,
            symbol=scene.name(step.routine),
            outcome=end.kind,
            status=none if end.status is None else end.status,
            status_name=none if end.status is None else ntstatus.name(end.status),
            text=text,
            where=None if end.at is None else scene.name(end.at),
            called_after="Dump_Start" if step.source else None,
            instructions=result.get("instructions"),
            stack_bytes=result.get("stack_bytes"),
            stall_ns=result.get("stall_us", 0) * 1000,
            host_ns=int(result.get("seconds", 0) * 1e9),
            members_read=words.cell(
                words.members(called.extension_class, result.get("members_read", ()))
            ),
            members_written=words.cell(
                words.members(called.extension_class, result.get("members_written", ()))
            ),
            variables_read=words.cell(read.variables),
            changes=words.cell(words.changes(scene, called, result)),
            calls=words.cell(words.calls(scene, step.routine, result)),
            forbidden=words.cell(list(result.get("forbidden", ()))),
            pageable=words.cell(words.pageable(scene, result)),
            assumed=words.cell(assumed),
            is_repeatable=is_repeatable,
            depends_on=words.cell(read.depends_on),
            had_crashed=scene.had_crashed,
            extension=called.extension,
            origin=Origin(
                self._target.path,
                "dry run: the routine's code, executed on a copy of this memory",
                "likely" if certain else "guess",
                self._target.file_offset(step.routine),
                step.routine,
            ),
        )


def _is_same(name: str, wanted: str) -> bool:
    """Module names with or without their extension, whatever the case."""
    one, other = name.lower(), wanted.lower()
    return one == other or one.rsplit(".", 1)[0] == other
