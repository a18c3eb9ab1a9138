"""Synthetic Windows kernel dumps with a full crash dump stack, and the truth about each of them.

Invariant: the same `Spec` gives the same bytes on every Python and platform. Standard library
only, and independent of the analyzer on purpose: it is a second writing of the formats.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any, NamedTuple

from . import files, secondary, stack, triage
from .layouts import ARCHS, DUMP_TYPES, LAYOUTS
from .machine import ADDRESSES, Machine, build_kernel
from .variants import VARIANTS, Variant
from .world import PAGE

__all__ = [
    "ARCHS", "DUMP_TYPES", "LAYOUTS", "VARIANTS", "Built", "Spec", "Variant", "build",
    "filler_frame", "write",
]  # fmt: skip

BULK_MAPPED = 1 << 18  # at most so many filler pages get a virtual address
filler_frame = files.filler_frame


class Spec(NamedTuple):
    """What to make. `filler_pages`: stored frames without meaning, for measurements."""

    arch: str = "x64"
    dump_type: int = 6
    layout: str = "win8"
    variant: str = "healthy"
    la57: bool = False
    seed: int = 1
    unaligned: bool = False
    filler_pages: int = 0


class Built(NamedTuple):
    """A dump and the truth about it."""

    data: bytes
    truth: dict[str, Any]

    def offset(self, pfn: int) -> int:
        """File offset of a stored frame."""
        return self.truth["first_page"] + self.truth["frames"].index(pfn) * PAGE

    def page(self, pfn: int) -> bytes:
        """The bytes of a stored frame."""
        at = self.offset(pfn)
        return self.data[at : at + PAGE]


def check(spec: Spec) -> Variant:
    """The variant of a spec that makes sense; ValueError for one that does not."""
    if spec.arch not in ARCHS or spec.layout not in LAYOUTS or spec.dump_type not in DUMP_TYPES:
        raise ValueError(f"no such machine: {spec}")
    variant = VARIANTS[spec.variant]
    if not variant.applies(spec.arch, spec.dump_type, spec.layout):
        raise ValueError(f"no such combination: {spec}")
    if spec.la57 and spec.arch != "x64":
        raise ValueError("five levels exist on x64 only")
    return variant


def assemble(spec: Spec) -> files.Parts:
    """The machine in memory and the parts of its dump."""
    variant = check(spec)
    m = Machine(spec)
    m.truth["spec"] = dict(spec._asdict())
    m.truth["expected_rules"] = sorted(variant.expected)
    m.truth["healthy"] = variant.healthy
    if variant.before:
        variant.before(m)
    build_kernel(m)
    m.list_modules()
    m.list_unloaded()
    stack.build_stack(m)
    secondary.plan_requests(m)
    if variant.memory:
        variant.memory(m)
    if spec.dump_type == 4:
        known = ("node-in-blocks", "bare")
        triage.choose_blocks(m, spec.variant if spec.variant in known else "context-only")
    elif spec.filler_pages:
        map_filler(m)
    parts = files.Parts(m)
    if variant.file:
        variant.file(parts)
    finish_truth(m, parts)
    return parts


def map_filler(m: Machine) -> None:
    """Gives filler pages addresses, scattered, so that random reads can be measured."""
    limit = BULK_MAPPED if m.wide else 0x4000
    count = min(m.spec.filler_pages, limit)
    base = ADDRESSES[m.ptr]["bulk"]
    start, offsets = files.filler_start(m.spec), files.filler_offsets(m.spec)
    for page in range(count):
        index = page * 7919 % m.spec.filler_pages
        if offsets:
            block, place = divmod(index, len(offsets))
            pfn = start + block * files.PATTERN_FRAMES + offsets[place]
        else:
            pfn = start + index
        m.world.set_leaf(base + page * PAGE, m.world.page_entry(pfn))
    m.truth["filler"] = {"address": base, "mapped_pages": count, "step": 7919}


def finish_truth(m: Machine, parts: files.Parts) -> None:
    truth = m.truth
    truth["registers"] = {"ip": m.ip, "sp": m.sp}
    truth["stack"] = (m.stack_limit, m.stack_base)
    truth["pointer_size"] = m.ptr
    truth.setdefault("failure", None)
    truth.setdefault("cut_at", None)
    truth.setdefault("may_refuse", False)
    truth["frames"] = [] if m.spec.dump_type == 4 else list(parts.frames.special)
    truth["frame_sha256"] = {}
    if parts.frames and not parts.scrambled:
        truth["frame_sha256"] = {
            pfn: hashlib.sha256(data).hexdigest() for pfn, data in parts.frames.special.items()
        }
    truth["stored_frames"] = truth["frames"][: parts.whole_frames]
    if m.spec.dump_type == 4:
        truth["translations"], truth["stored_frames"] = [], []
    for row in truth["residue"]:
        frame = m.world.pages.get(row["target"] >> 12)
        if m.spec.dump_type == 4 or frame in m.world.dropped:
            row["follows_call"] = None  # the code before the target is not in the dump


def build(spec: Spec) -> Built:
    """The dump in memory, with its truth."""
    file = io.BytesIO()
    truth = write(spec, file)
    return Built(file.getvalue(), truth)


def write(spec: Spec, file: Any) -> dict[str, Any]:
    """Streams the dump into a binary file object; gives the truth."""
    parts = assemble(spec)
    parts.write(file)
    return parts.machine.truth
