"""Records of a healthy Windows 10 crash, and what the checks find when they are changed."""

from __future__ import annotations

from conftest import make

from analyzer import checks
from analyzer.absence import Absent
from analyzer.records import (
    Callback,
    Extension,
    Filter,
    Machine,
    Module,
    Origin,
    Records,
    Request,
    Source,
)

ORIGIN = Origin("a.dmp", "list walk", "certain", 0x1234, 0xFFFFC08B_E3D77DB0)
MS = 1_000_000  # ns
NODE = 0xFFFFC08B_E3D77DB0
FVE = 0xFFFFF804_87020000  # base of dump_dumpfve.sys


def blank(record, **fields):
    """A record of the test's dump whose other fields are None."""
    return make(record, origin=ORIGIN, **fields)


def module(name, base, size, role, stack=None, **fields):
    """A loaded module."""
    fields.setdefault("loaded", True)
    return blank(
        Module, name=name, base=base, end=base + size, size=size, role=role, stack=stack, **fields
    )


def healthy():
    """A crash of a Windows 10 x64 machine with one filter, dumpfve, as facts of a real one."""
    records = Records()
    records.add(
        blank(Source, kind="kernel dump"),
        blank(
            Machine,
            build=19041,
            architecture="x64",
            bugcheck=0xD1,
            attributes=0,
            writer_status=0,
            secondary_data_state=0,
            dump_type_name="kernel bitmap",
        ),
        module("ntoskrnl.exe", 0xFFFFF804_60000000, 0x1046000, "kernel"),
        module("crashdmp.sys", 0xFFFFF804_87750000, 0x1E000, "crash dump driver"),
        module("dump_dumpstorport.sys", 0xFFFFF804_87780000, 0xE000, "dump port driver", "crash"),
        module(
            "dump_stornvme.sys",
            0xFFFFF804_877C0000,
            0x2B000,
            "dump miniport",
            "crash",
            image_key="1a2b3c4d2b000",
            original="stornvme.sys",
            original_match="same image",
        ),
        module("stornvme.sys", 0xFFFFF804_65000000, 0x2B000, "driver", image_key="1a2b3c4d2b000"),
        module("dump_dumpfve.sys", FVE, 0x1D000, "dump filter", "crash"),
        blank(
            Filter,
            filter="dump_dumpfve.sys",
            stack="crash",
            ring_index=0,
            ring_count=1,
            node=NODE,
            layout="Windows 8 and later, 64-bit",
            major_version=2,
            minor_version=0,
            dump_start=FVE + 0x1000,
            dump_write=FVE + 0x1070,
            dump_finish=FVE + 0x10D0,
            dump_unload=FVE + 0x10F0,
            dump_read=0,
            dump_pre_read_write=Absent("not-applicable"),
            dump_data=0xFFFFC08B_E0001000,
            max_pages_per_write=16,
            flags=1,
            is_disabled=False,
            state=0,
            last_failing_routine=Absent("unknown-layout"),
            last_failing_status=Absent("unknown-layout"),
        ),
        blank(
            Extension,
            filter="dump_dumpfve.sys",
            stack="crash",
            node=NODE,
            extension=NODE + 0x40,
            dump_type=1,
            device_object=0xFFFFC08B_E3DAC030,
            cylinders=121601,  # of a real 1 TB disk; 121601 * 255 * 63 * 512 <= DiskSize
            media_type=12,
            tracks_per_cylinder=255,
            sectors_per_track=63,
            bytes_per_sector=512,
            disk_size=0xE8E0DB6000,
            size_of_partition_info=0x18,
            partition_style=1,
            dump_data=0xFFFFC08B_E0001000,
            size=0x58,
            flags=0,
            is_reconstructed=False,
        ),
        blank(
            Callback,
            filter="dump_dumpfve.sys",
            stack="crash",
            callback="Dump_Start",
            routine=FVE + 0x1000,
            symbol="dump_dumpfve.sys+0x1000",
            status=Absent("not-recorded"),
        ),
        blank(
            Request,
            request=0,
            operation="READ(10)",
            start=1_600_000_000_000 * MS,
            end=(1_600_000_000_000 + 235) * MS,
            duration_ns=235 * MS,
            before_crash_ns=6 * MS,
            in_flight=False,
            status=1,
            status_name="SUCCESS",
            error=0,
        ),
    )
    return records


def changed(table, index=0, records=None, **fields):
    """Healthy records with fields of one row changed."""
    records = records or healthy()
    records[table][index] = records[table][index]._replace(**fields)
    return records


def broken_rules(records):
    """The ids of what the checks find."""
    return [finding.rule for finding in checks.run(records)]


def only(records, rule):
    """The finding of a rule, of which there must be exactly one."""
    found = [finding for finding in checks.run(records) if finding.rule == rule]
    assert len(found) == 1, broken_rules(records)
    return found[0]


def row_of(name):
    """The place of a module in the healthy module table."""
    return [module.name for module in healthy()["modules"]].index(name)
