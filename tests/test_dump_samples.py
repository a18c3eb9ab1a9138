"""Every field that the dump reader tells of a synthetic dump equals what the generator wrote.

The oracle is `truth` of the generator, which knows nothing of the analyzer: it writes the formats a
second time, from the same public headers.
"""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
from generator import ARCHS, DUMP_TYPES, LAYOUTS, VARIANTS, Built, Spec, build

from analyzer.absence import Absent
from analyzer.dumpfile import KernelDump, open_dump
from analyzer.records import Records
from analyzer.sources.dump import records_of

KERNEL_TYPES = tuple(kind for kind in DUMP_TYPES if kind != 4)


def _specs(
    variant: str, archs: Any = ARCHS, types: Any = KERNEL_TYPES, layouts: Any = LAYOUTS, **more: Any
) -> list[Spec]:
    return [
        Spec(arch, kind, layout, variant, **more)
        for arch, kind, layout in itertools.product(archs, types, layouts)
        if VARIANTS[variant].applies(arch, kind, layout)
    ]


HEALTHY = _specs("healthy", types=DUMP_TYPES)
#: the same machines with one thing else: what a reader must not stumble over
OTHER = [
    *_specs("healthy", archs=("x64",), types=(5, 6), layouts=("win8",), la57=True),
    *_specs("healthy", types=(2, 5, 6, 8, 9, 10), layouts=("newest",), unaligned=True),
    *_specs("pcid", types=(1, 6), layouts=("win8",)),
    *_specs("mbr", types=(6,)),
    *_specs("hibernation", types=(6,)),
    *_specs("no-secondary", types=(1, 4, 6, 10), layouts=("win8",)),
    *_specs("hostile-names", types=(6,), layouts=("win8", "vista")),
]
WITH_NODES = _specs("node-in-blocks", types=(4,))
BARE = _specs("bare", types=(4,))
#: the structural walk has no crashdmp image, or not even the dump stack context, to start from
SCANNED = [*_specs("crashdmp-absent", types=(6,)), *_specs("nodes-only", types=(6,))]

#: WDK member of the truth -> field of the record
INIT = {
    "MajorVersion": "major_version",
    "MinorVersion": "minor_version",
    "DumpStart": "dump_start",
    "DumpWrite": "dump_write",
    "DumpFinish": "dump_finish",
    "DumpUnload": "dump_unload",
    "DumpData": "dump_data",
    "MaxPagesPerWrite": "max_pages_per_write",
    "Flags": "flags",
    "DumpRead": "dump_read",
    "DumpPreReadWrite": "dump_pre_read_write",
}
EXTENSION = {
    "address": "extension",
    "DumpType": "dump_type",
    "DeviceObject": "device_object",
    "Cylinders": "cylinders",
    "MediaType": "media_type",
    "TracksPerCylinder": "tracks_per_cylinder",
    "SectorsPerTrack": "sectors_per_track",
    "BytesPerSector": "bytes_per_sector",
    "DiskSize": "disk_size",
    "SizeOfPartitionInfo": "size_of_partition_info",
    "PartitionStyle": "partition_style",
    "MbrSignature": "mbr_signature",
    "MbrCheckSum": "mbr_checksum",
    "GptDiskId": "gpt_disk_id",
    "DumpData": "dump_data",
    "Size": "size",
    "Flags": "flags",
}
#: what a dump stack context does not hold, so that only the node itself tells it
NOT_REBUILT = ("address", "DumpData", "Size", "Flags")
CALLBACKS = {
    "DumpStart": "Dump_Start",
    "DumpWrite": "Dump_Write",
    "DumpFinish": "Dump_Finish",
    "DumpUnload": "Dump_Unload",
    "DumpRead": "Dump_Read",
    "DumpPreReadWrite": "Dump_PreReadWrite",
}
HEADER = {
    "build": "build",
    "machine_type": "machine_type",
    "processors": "processors",
    "bugcheck": "bugcheck",
    "directory_table_base": "directory_table_base",
    "ps_loaded_module_list": "ps_loaded_module_list",
    "kd_debugger_data_block": "kd_debugger_data_block",
    "dump_type": "dump_type",
    "writer_status": "writer_status",
    "secondary_data_state": "secondary_data_state",
    "attributes": "attributes",
    "boot_id": "boot_id",
    "required_dump_space": "required_dump_space",
}


class Case(NamedTuple):
    """One dump: how it was made, the bytes, the opened dump and its records."""

    spec: Spec
    built: Built
    dump: KernelDump
    records: Records

    @property
    def truth(self) -> dict[str, Any]:
        """What the generator wrote."""
        return self.built.truth

    def rows(self, table: str, **where: Any) -> list[Any]:
        """Rows of a table with the given field values."""
        return [
            row
            for row in self.records[table]
            if all(getattr(row, name) == value for name, value in where.items())
        ]

    def row(self, table: str, **where: Any) -> Any:
        """The one row of a table with the given field values."""
        rows = self.rows(table, **where)
        assert len(rows) == 1, (table, where, len(rows))
        return rows[0]


def name_of(spec: Spec) -> str:
    """Id of a parametrized test."""
    flags = [name for name in ("la57", "unaligned") if getattr(spec, name)]
    return "-".join(str(part) for part in (*spec[:4], *flags))


def _open(spec: Spec, folder: Path) -> Case:
    built = build(spec)
    path = folder / f"{name_of(spec)}.dmp"
    path.write_bytes(built.data)
    dump = open_dump(str(path))
    return Case(spec, built, dump, records_of(dump))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dumps of this module are written."""
    return tmp_path_factory.mktemp("dumps")


WITH_NODE_SPECS = [s for s in HEALTHY + OTHER if s.dump_type != 4] + WITH_NODES + SCANNED
#: what is proven of which dumps: any healthy machine; those that hold the filter nodes; small ones
#: that hold the end of the dump stack context alone, or nothing of the dump stack
SPECS = {
    "machine": HEALTHY + OTHER,
    "stack": WITH_NODE_SPECS,
    "context": _specs("context-only", types=(4,)),
    "bare": BARE,
}
Proof = Callable[[Case], None]
PROOFS: dict[str, list[Proof]] = {kind: [] for kind in SPECS}


def proves(kind: str) -> Callable[[Proof], Proof]:
    """Adds a function to what is proven of the dumps of a kind."""

    def add(function: Proof) -> Proof:
        PROOFS[kind].append(function)
        return function

    return add


def ns(filetime: int) -> int:
    """A FILETIME as ns since 1970; written apart from the analyzer's own."""
    return (filetime - 134774 * 86400 * 10**7) * 100


def same_id(value: Any, wanted: str) -> bool:
    """Whether two spellings name one GUID."""
    return uuid.UUID(value) == uuid.UUID(wanted)


def agrees(value: Any, wanted: Any) -> bool:
    """A field of the truth: None stands for a member that is not there or does not apply."""
    if wanted is None:
        return isinstance(value, Absent) and value.reason == "not-applicable"
    return same_id(value, wanted) if isinstance(wanted, str) else bool(value == wanted)


# ---- the 78 healthy combinations are there -----------------------------------------------------
def test_all_combinations_are_read() -> None:
    """Four architectures, eight types (ranges are 64-bit only), three node layouts."""
    assert len(HEALTHY) == 2 * 8 * 3 + 2 * 5 * 3 == 78


# ---- filters ------------------------------------------------------------------------------------
@proves("stack")
def filters_are_those_of_the_ring_in_call_order(stack: Case) -> None:
    """Each filter of each stack appears once, at its place in crashdmp's list."""
    wanted = [
        (row["filter"], row["stack"], row["ring_index"], row["node"])
        for row in stack.truth["filters"]
    ]
    found = [(f.filter, f.stack, f.ring_index, f.node) for f in stack.records["filters"]]
    if stack.spec.variant == "nodes-only" or isinstance(found[0][2], Absent):
        # without the list head the order of the ring has no start, so no place is claimed
        wanted = [(name, of, None, node) for name, of, _, node in wanted]
        assert all(isinstance(index, Absent) for _, _, index, _ in found)
        found = [(name, of, None, node) for name, of, _, node in found]
        assert stack.spec.variant in ("nodes-only", "node-in-blocks")
    assert sorted(found) == sorted(wanted)


@proves("stack")
def ring_count_is_the_number_of_filters(stack: Case) -> None:
    """`ring_count` is 2 in every list that has a head; without a head it is not claimed."""
    for row in stack.records["filters"]:
        if stack.spec.variant == "nodes-only":
            assert isinstance(row.ring_count, Absent)
        else:
            assert row.ring_count == 2


@proves("stack")
def initialization_data_field_by_field(stack: Case) -> None:
    """Every member of FILTER_INITIALIZATION_DATA is the one written; others say why not."""
    for wanted in stack.truth["filters"]:
        row = stack.row("filters", filter=wanted["filter"])
        for member, field in INIT.items():
            value = getattr(row, field)
            assert agrees(value, wanted["init"].get(member)), (wanted["filter"], field, value)


@proves("stack")
def layout_and_state_of_each_node(stack: Case) -> None:
    """The layout is told by content; a healthy filter has state 0 and is not disabled."""
    for wanted in stack.truth["filters"]:
        row = stack.row("filters", filter=wanted["filter"])
        assert (row.layout, row.state, row.is_disabled) == (wanted["layout"], 0, False)


@proves("stack")
def nothing_failed(stack: Case) -> None:
    """A healthy machine has no last failing routine, and the reason is given."""
    for row in stack.records["filters"]:
        for value in (row.last_failing_routine, row.last_failing_status):
            assert isinstance(value, Absent)
            assert str(value)


@proves("stack")
def extension_field_by_field(stack: Case) -> None:
    """Every member of FILTER_EXTENSION is the one written, and it was read, not rebuilt."""
    for wanted in stack.truth["filters"]:
        row = stack.row("extensions", filter=wanted["filter"])
        assert row.is_reconstructed is False
        assert row.stack == wanted["stack"]
        for member, field in EXTENSION.items():
            value = getattr(row, field)
            assert agrees(value, wanted["extension"].get(member)), (wanted["filter"], field, value)


@proves("stack")
def extension_names(stack: Case) -> None:
    """Enumerations are named as the WDK names them (ntdddump.h, ntdddisk.h)."""
    style = "MBR" if stack.spec.variant == "mbr" else "GPT"
    for row in stack.records["extensions"]:
        kind = {"crash": "DumpTypeCrashdump", "hibernation": "DumpTypeHibernation"}[row.stack]
        names = (row.dump_type_name, row.media_type_name, row.partition_style_name)
        assert names == (kind, "FixedMedia", style)


@proves("stack")
def callbacks_are_named_by_module_and_offset(stack: Case) -> None:
    """Each callback shows its routine as WinDbg does, the ones not registered say so."""
    bases = {m["name"]: m["base"] for m in stack.truth["modules"] if m["loaded"]}
    for wanted in stack.truth["filters"]:
        rows = {row.callback: row for row in stack.rows("callbacks", filter=wanted["filter"])}
        there = {CALLBACKS[name] for name in wanted["init"] if name in CALLBACKS}
        assert set(rows) == there
        for member, callback in CALLBACKS.items():
            routine = wanted["init"].get(member)
            if routine:
                offset = routine - bases[wanted["filter"]]
                stem = wanted["filter"].rsplit(".", 1)[0]
                assert rows[callback].symbol == f"{stem}+{offset:#x}"
            elif routine == 0:
                assert rows[callback].was_called == "no"
                assert isinstance(rows[callback].symbol, Absent)


@proves("stack")
def no_dump_claims_a_status_or_a_duration(stack: Case) -> None:
    """Return status and duration of a callback are never in a dump: absent, with the reason."""
    for row in stack.records["callbacks"]:
        for value in (row.status, row.duration_ns, row.entry_time):
            assert isinstance(value, Absent)
            assert value.reason in ("not-recorded", "not-applicable")


@proves("stack")
def origin_points_at_the_node(stack: Case) -> None:
    """Address and file offset of the provenance are where the generator put the node."""
    gap = 12 if stack.dump.pointer_size == 8 else 4  # from the pool tag to the block
    for wanted in stack.truth["filters"]:
        origin = stack.row("filters", filter=wanted["filter"]).origin
        assert origin.address == wanted["node"]
        assert isinstance(origin.file_offset, int)
        head = stack.built.data[origin.file_offset :][:4]
        assert int.from_bytes(head, "little") == wanted["init"]["MajorVersion"]
        if stack.spec.dump_type != 4:  # a small dump keeps the node, not the pool header before it
            assert stack.built.data[origin.file_offset - gap :][:4] == b"CDmp"


@proves("stack")
def only_a_walk_from_the_list_head_is_certain(stack: Case) -> None:
    """Confidence says how a filter was found."""
    expected = "likely" if stack.spec.variant == "nodes-only" else "certain"
    assert {row.origin.confidence for row in stack.records["filters"]} == {expected}


@proves("stack")
def dump_start_was_likely_called(stack: Case) -> None:
    """Where crashdmp's own marks show that it got behind the start of the filters; else unknown.

    A callback of the hibernation stack is not called in a crash, and no mark tells of the others.
    """
    for row in stack.records["callbacks"]:
        if not row.routine:
            continue
        told = stack.truth["tags"] or stack.rows("stages")
        if row.callback == "Dump_Start" and row.stack == "crash" and told:
            assert row.was_called == "likely"
            assert "; called: " in row.origin.how
        else:
            assert isinstance(row.was_called, Absent)


@proves("stack")
def flag_bit_0_is_told_apart_as_far_as_the_rest_tells(stack: Case) -> None:
    """ntdddump.h gives the bit two names; only a registered Dump_Read shows which is meant."""
    old = stack.spec.layout == "vista"
    first = "DUMP_FILTER_CRITICAL or read support (the same bit)"
    if not old:
        first = "read support (bit 0 shares its value with DUMP_FILTER_CRITICAL)"
    for row in stack.records["filters"]:
        is_first = row.filter.endswith("_dumpfve.sys")
        assert row.flags_meaning == (first if is_first else "none")


@proves("stack")
def raw_bytes_are_those_of_the_file(stack: Case) -> None:
    """The bytes shown beside the fields lie in the file at the place that the row names."""
    for row in stack.records["extensions"]:
        raw = bytes.fromhex(row.raw_bytes)
        assert stack.built.data[row.origin.file_offset :][: len(raw)] == raw
        assert len(raw) == (0x50 if stack.spec.layout == "vista" else 0x58) - (
            8 if stack.dump.pointer_size == 4 else 0
        )


@pytest.mark.parametrize("arch", ARCHS)
def test_a_live_dump_calls_no_filter(arch: str, folder: Path) -> None:
    """nt writes it itself, so nothing is said of Dump_Start although crashdmp's tag is there."""
    case = _open(Spec(arch, 6, "win8", "live-dump"), folder)
    assert case.rows("filters")
    for row in case.rows("callbacks", callback="Dump_Start"):
        assert isinstance(row.was_called, Absent)


# ---- structures of crashdmp ---------------------------------------------------------------------
@proves("stack")
def structures_lie_where_the_generator_put_them(stack: Case) -> None:
    """crashdmp's contexts, the disk geometry and the list heads have the addresses written."""
    context = stack.truth["context"]
    wanted = {("filter list head", "crash"): context["filter_list_head"]}
    wanted["dump stack context (disk geometry)", "crash"] = context["geometry"]
    has_image = stack.spec.variant not in ("crashdmp-absent", "nodes-only")
    if has_image and (stack.spec.dump_type != 4 or stack.dump.pointer_size == 8):
        wanted["crashdmp!Context", None] = context["crashdmp_context"]
        wanted["crashdmp!ContextCopy", None] = context["crashdmp_context_copy"]
    if stack.spec.variant == "nodes-only":
        wanted = {}
    found = {(s.structure, s.stack): s.location for s in stack.records["structures"]}
    if stack.spec.variant == "hibernation":
        assert (
            found.pop(("filter list head", "hibernation"))
            == (context["hibernation_filter_list_head"])
        )
        assert found.pop(("dump stack context (disk geometry)", "hibernation")) == (
            context["hibernation_stack_context"]
            + context["geometry"]
            - context["dump_stack_context"]
        )
    assert found == wanted


@proves("stack")
def progress_mark_of_the_dump_block(stack: Case) -> None:
    """BugCheckProgress is told where its layout is proven (64-bit), else nothing is claimed."""
    stages = [(row.stage, row.amount) for row in stack.records["stages"]]
    whole = stack.spec.dump_type != 4 and stack.spec.variant not in (
        "crashdmp-absent",
        "nodes-only",
    )
    progress = stack.truth["context"]["progress"]
    assert stages == ([(f"progress-{progress:#04x}", progress)] if whole and progress else [])


# ---- small dumps without the nodes --------------------------------------------------------------
@proves("context")
def context_rebuilds_the_extension(context_only: Case) -> None:
    """What crashdmp fills the extension from is in the dump: told, and marked as rebuilt."""
    for wanted in context_only.truth["filters"]:
        row = context_only.row("extensions", filter=wanted["filter"])
        assert row.is_reconstructed is True
        assert row.origin.how.startswith("reconstructed from the dump stack context")
        assert row.origin.confidence == "likely"
        assert row.origin.address == context_only.truth["context"]["geometry"]
        for member, field in EXTENSION.items():
            value = getattr(row, field)
            if member in NOT_REBUILT:
                assert isinstance(value, Absent)
                assert value.reason in ("not-in-dump", "not-applicable")
            else:
                assert agrees(value, wanted["extension"].get(member)), (field, value)


@proves("context")
def context_alone_tells_no_callbacks(context_only: Case) -> None:
    """The nodes are not in the dump: their members are absent, and a bigger dump would tell."""
    for wanted in context_only.truth["filters"]:
        row = context_only.row("filters", filter=wanted["filter"])
        for field in ("node", "major_version", "dump_start", "flags", "state", "is_disabled"):
            value = getattr(row, field)
            assert isinstance(value, Absent)
            assert value.reason == "not-in-dump"
            assert "kernel or complete memory dump" in value.would_tell


@proves("context")
def list_of_two_unread_nodes_is_not_counted(context_only: Case) -> None:
    """The head's two links differ, so there are at least two filters, but how many is not known."""
    counts = {str(row.ring_count) for row in context_only.records["filters"]}
    assert counts == {"the list of filters could not be walked to its end; at least 2"}


@proves("bare")
def bare_small_dump_says_why_it_knows_nothing(bare: Case) -> None:
    """Filters are known by their modules; every other field is not determined, with the reason."""
    names = [row["filter"] for row in bare.truth["filters"]]
    assert [row.filter for row in bare.records["filters"]] == names
    for name in names:
        row = bare.row("filters", filter=name)
        extension = bare.row("extensions", filter=name)
        assert extension.is_reconstructed is False
        told = {"filter", "stack", "origin", "is_reconstructed", "product"}
        values = [
            getattr(record, field)
            for record in (row, extension)
            for field in record._fields
            if field not in told
        ]
        assert {value.reason for value in values} == {"not-in-dump"}
        assert {value.would_tell for value in values} == {"a kernel or complete memory dump"}


# ---- the machine and its modules ----------------------------------------------------------------
@proves("machine")
def header_field_by_field(machine: Case) -> None:
    """Each header field is the one written; what the writer left unset is absent."""
    row = machine.row("machine")
    for name, field in HEADER.items():
        value, wanted = getattr(row, field), machine.truth["header"][name]
        if wanted is None:
            assert isinstance(value, Absent), field
            assert value.reason == "unset", field
        else:
            assert value == wanted, field
    assert [getattr(row, f"parameter{n}") for n in (1, 2, 3, 4)] == (
        machine.truth["header"]["parameters"]
    )


@proves("machine")
def times_and_registers(machine: Case) -> None:
    """Crash time, uptime and the crash context's registers, to the tick."""
    row, header = machine.row("machine"), machine.truth["header"]
    assert row.system_time == ns(header["system_time"])
    assert row.uptime_ns == header["uptime"] * 100
    registers = machine.truth["registers"]
    assert (row.instruction_pointer, row.stack_pointer) == (registers["ip"], registers["sp"])


@proves("machine")
def architecture_and_build_lab(machine: Case) -> None:
    """Five levels and PAE are told apart; NtBuildLab is read where the dump holds its text."""
    row = machine.row("machine")
    assert row.architecture == machine.spec.arch + ("-la57" if machine.spec.la57 else "")
    if machine.spec.dump_type == 4:
        assert isinstance(row.build_lab, Absent)
    else:
        assert row.build_lab == machine.truth["build_lab"]


@proves("machine")
def modules_field_by_field(machine: Case) -> None:
    """Name, range, check sum, role, stack and load order of every module, loaded and unloaded."""
    wanted = [
        (
            m["name"], m["base"], m["base"] + m["size"], m["size"], m["role"], m["stack"],
            m["loaded"], m["load_order"], m["checksum"],
        )
        for m in machine.truth["modules"]
    ]  # fmt: skip
    found = [
        (
            m.name, m.base, m.end, m.size, m.role, m.stack, m.loaded, m.load_order,
            None if isinstance(m.checksum, Absent) else m.checksum,
        )
        for m in machine.records["modules"]
    ]  # fmt: skip
    assert found == wanted


@proves("machine")
def time_stamps_of_modules(machine: Case) -> None:
    """From the list entry; Windows 7 keeps none there, so only images in the dump have one."""
    from_image = machine.spec.layout == "vista" and machine.spec.dump_type != 4
    # the generator leaves the header pages of drivers out, but for the HAL and the one that crashed
    crashed = next(
        m["name"]
        for m in machine.truth["modules"]
        if m["base"] <= machine.truth["registers"]["ip"] < m["base"] + m["size"]
    )
    seen = ("hal.dll", crashed)
    for wanted, row in zip(machine.truth["modules"], machine.records["modules"]):
        stamp, is_driver = wanted["time_date_stamp"], wanted["role"] == "driver"
        hidden = from_image and is_driver and wanted["name"] not in seen
        if hidden or not wanted["loaded"]:
            assert isinstance(row.time_date_stamp, Absent), wanted["name"]
            assert row.time_date_stamp.detail
        else:
            assert row.time_date_stamp == stamp, wanted["name"]
            assert row.image_key == f"{stamp:08X}{wanted['size']:x}"


@proves("machine")
def copies_are_compared_with_their_originals(machine: Case) -> None:
    """Miniport and filters are the same image as their originals; the port driver has none."""
    old = machine.spec.layout == "vista" and machine.spec.dump_type != 4
    for wanted, row in zip(machine.truth["modules"], machine.records["modules"]):
        if not wanted["stack"] or not wanted["loaded"]:
            continue
        if wanted["role"] == "dump port driver":
            assert isinstance(row.original, Absent)
            assert row.original.reason == "not-applicable"
            continue
        assert row.original == wanted["original"]
        if old:  # no time stamp of the original: nothing to compare
            assert row.original_match == Absent("not-recorded", "a time stamp is missing")
        else:
            assert row.original_match == "same image"


@proves("machine")
def tags_of_the_secondary_data(machine: Case) -> None:
    """GUID and size of each block."""
    found = [{"guid": tag.guid, "size": tag.size_bytes} for tag in machine.records["tags"]]
    assert found == machine.truth["tags"]


@proves("machine")
def requests_to_the_tick(machine: Case) -> None:
    """Every storage request: times, duration, what it was, and whether it is in flight."""
    assert len(machine.records["requests"]) == len(machine.truth["requests"])
    crash = ns(machine.truth["header"]["system_time"])
    for row, wanted in zip(machine.records["requests"], machine.truth["requests"]):
        start, end = wanted["start"], wanted["end"]
        assert (row.opcode, row.srb_function) == (wanted["opcode"], wanted["srb_function"])
        assert (row.tag, row.driver) == (wanted["tag"], "storport.sys")
        assert row.start == ns(start) if start else isinstance(row.start, Absent)
        assert row.end == ns(end) if end else isinstance(row.end, Absent)
        assert row.before_crash_ns == crash - ns(max(start, end))
        assert row.in_flight is wanted["in_flight"]
        if start and end:
            assert row.duration_ns == (end - start) * 100
        else:
            assert isinstance(row.duration_ns, Absent)
        if wanted["in_flight"]:  # the words there are queue action and queue tag, no status
            assert isinstance(row.status, Absent)
            assert isinstance(row.error, Absent)
        else:
            assert (row.status, row.error) == (wanted["status"], wanted["error"])
            assert row.status_name == "SRB_STATUS_SUCCESS"


@proves("machine")
def residue_of_the_dump_writer(machine: Case) -> None:
    """Each pointer into the dump path on the stack, and whether it follows a call instruction."""
    wanted = {
        (row["address"], row["target"], row["module"], row["follows_call"])
        for row in machine.truth["residue"]
    }
    found = set()
    for row in machine.records["residue"]:
        follows = None if isinstance(row.follows_call, Absent) else row.follows_call
        found.add((row.origin.address, row.target, row.module, follows))
    assert found == wanted


@proves("machine")
def source_says_what_the_dump_can_tell(machine: Case) -> None:
    """The source row names nodes where there are some, and always what no dump keeps."""
    row = machine.row("sources")
    nodes = machine.spec.dump_type != 4
    assert ("2 crash dump filter nodes" in row.can_tell or "4 crash" in row.can_tell) is nodes
    assert ("a kernel or complete memory dump holds them" in row.cannot_tell) is not nodes
    assert "duration of any callback" in row.cannot_tell


@proves("machine")
def healthy_dumps_have_no_anomaly(machine: Case) -> None:
    """The reader notes nothing odd, but for a dump without secondary data."""
    rules = {note.rule for note in machine.records.anomalies}
    assert rules == (
        {"secondary-data-missing", "dump-not-by-windows"}
        if machine.spec.variant == "no-secondary"
        else set()
    )


# ---- every dump ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "spec", dict.fromkeys(s for specs in SPECS.values() for s in specs), ids=name_of
)
def test_every_field_is_the_one_written(spec: Spec, folder: Path) -> None:
    """All that is proven of dumps like this one."""
    case = _open(spec, folder)
    proofs = [f for kind, specs in SPECS.items() if spec in specs for f in PROOFS[kind]]
    assert len(proofs) >= min(map(len, PROOFS.values())) > 0
    for proof in proofs:
        proof(case)
