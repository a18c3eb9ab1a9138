"""The record types every source yields: plain, immutable, each with its provenance.

Invariant: a record states one fact as the source told it; what the source cannot tell is an
``Absent`` with its reason. The annotations below (``Address``, ``Code``, ...) are the column kinds
of the tables made from these records (:mod:`analyzer.tables`); there is no second schema. Standard
library only.
"""

from typing import NamedTuple, Union

from .base import (
    Address,
    Big,
    Code,
    Duration,
    Facts,
    Flag,
    Number,
    Origin,
    Proof,
    Real,
    Text,
    Time,
)
from .dryrun import DryRun
from .stacks import Frame, Processor, Residue

#: kind of a source: memory taken from outside of Windows
SNAPSHOT = "memory snapshot"


class Source(NamedTuple):
    """One input file: what it is, what it can and cannot tell."""

    path: Text
    kind: Text  #: "kernel dump", "etl", "dumpstack.log", "evtx", ...
    subtype: Text  #: dump type in words, log flavour, ...
    size_bytes: Number
    architecture: Text  #: x64, arm64, x86-pae, x86
    can_tell: Text  #: "; "-separated
    cannot_tell: Text
    origin: Origin


class Machine(NamedTuple):
    """The crashed machine and the crash, as one source tells it."""

    build: Number
    build_lab: Text
    architecture: Text
    machine_type: Code  #: IMAGE_FILE_MACHINE_*
    processors: Number
    bugcheck: Code
    bugcheck_name: Text
    parameter1: Address
    parameter2: Address
    parameter3: Address
    parameter4: Address
    system_time: Time  #: frozen at the crash
    uptime_ns: Duration
    boot_id: Number
    dump_type: Number
    dump_type_name: Text
    attributes: Code
    attribute_names: Text
    writer_status: Code
    writer_status_name: Text
    secondary_data_state: Code
    secondary_data_state_name: Text
    required_dump_space: Number
    directory_table_base: Address
    ps_loaded_module_list: Address
    kd_debugger_data_block: Address
    instruction_pointer: Address
    stack_pointer: Address
    revision: Number  #: UBR, the number behind the build: 26100.4946
    last_dump_line: Text  #: the last line of DumpStack.log, as the header keeps it (Windows 11)
    faulting_address: Address  #: the code that the bugcheck, its exception or its context names
    faulting_symbol: Text  #: module+0x offset of that address
    faulting_module: Text
    origin: Origin


class Module(NamedTuple):
    """One image of the target, loaded or unloaded."""

    name: Text  #: base name with extension, as the dump spells it
    base: Address
    end: Address  #: exclusive
    size: Number
    role: Text  #: kernel, crash dump driver, dump port driver, dump miniport, dump filter, driver
    stack: Text  #: crash, hibernation, or None
    loaded: Flag
    time_date_stamp: Code
    checksum: Code
    image_key: Text  #: symbol server key: time stamp + size of image
    original: Text  #: for a dump_*/hiber_* copy: the module it copies
    original_match: Text  #: "same image", "different image", or absent with the reason
    load_order: Number
    origin: Origin


class Structure(NamedTuple):
    """One structure of the dump path that was located: where to look in a debugger."""

    structure: Text  #: "crashdmp!Context", "dump stack context (tail)", "filter list head", ...
    stack: Text  #: crash or hibernation, None when it belongs to both
    location: Address
    symbol: Text  #: module+0x offset, absent for pool memory
    detail: Text  #: what was read there, in words
    origin: Origin


class Filter(NamedTuple):
    """One crash dump filter driver: crashdmp's node and its FILTER_INITIALIZATION_DATA."""

    filter: Text  #: module name
    stack: Text  #: crash or hibernation
    ring_index: Number  #: 0-based place in crashdmp's list = call order
    ring_count: Number  #: how many filters that list has, where it could be told
    node: Address
    layout: Text
    major_version: Number
    minor_version: Number
    dump_start: Address
    dump_write: Address
    dump_finish: Address
    dump_unload: Address
    dump_read: Address
    dump_pre_read_write: Address
    dump_data: Address
    max_pages_per_write: Number
    flags: Code
    flags_meaning: Text
    is_disabled: Flag
    state: Code
    last_failing_routine: Text
    last_failing_status: Code
    last_failing_status_name: Text
    product: Text  #: product and vendor of a known filter, and whether it encrypts
    origin: Origin


class Extension(NamedTuple):
    """A FILTER_EXTENSION, field by field, as Dump_Start is given it."""

    filter: Text
    stack: Text
    node: Address  #: of the filter it belongs to
    extension: Address
    dump_type: Number
    dump_type_name: Text
    device_object: Address
    cylinders: Number
    media_type: Number
    media_type_name: Text
    tracks_per_cylinder: Number
    sectors_per_track: Number
    bytes_per_sector: Number
    disk_size: Number
    size_of_partition_info: Number
    partition_style: Number
    partition_style_name: Text
    mbr_signature: Code
    mbr_checksum: Code
    gpt_disk_id: Text
    dump_data: Address
    size: Number
    flags: Code
    is_reconstructed: Flag  #: not read from a FILTER_EXTENSION but from the dump stack context
    raw_bytes: Text  #: the structure as it was read, in hex
    origin: Origin


class Callback(NamedTuple):
    """One callback of one filter (a dump), or one call of it (a capture, an ETW trace)."""

    filter: Text
    stack: Text
    node: Address  #: of the filter it belongs to
    callback: (
        Text  #: Dump_Start, Dump_Write, Dump_Finish, Dump_Unload, Dump_Read, Dump_PreReadWrite
    )
    routine: Address
    symbol: Text  #: module+0x offset
    call: Number  #: 0-based number of the call; None where the source knows no single calls
    was_called: Text  #: yes, likely, no; absent when not determined
    processor: Number
    entry_time: Time
    entry_clock: Big
    return_clock: Big
    duration_ns: Duration
    duration_low_ns: Duration  #: interval, where the source can only bound the duration
    duration_high_ns: Duration
    status: Code
    status_name: Text
    extension: Address
    origin: Origin


class Stage(NamedTuple):
    """One step of writing the dump."""

    stage: Text  #: id in words: "progress-0x42", "write-header", "secondary-callbacks", ...
    progress: Code  #: BugCheckProgress, where the step is one of its changes
    text: Text  #: as the source words it
    driver: Text
    elapsed_ms: Number  #: since the bugcheck began, as the source states it
    duration_ms: Number
    time: Time
    status: Code
    status_name: Text
    amount: Number  #: pages or bytes, see unit
    unit: Text
    rate_mb_per_s: Real
    origin: Origin


class Request(NamedTuple):
    """One storage request around the crash."""

    request: Number  #: place in the source's list
    operation: Text
    opcode: Number
    srb_function: Number
    start: Time
    end: Time
    duration_ns: Duration
    before_crash_ns: Duration  #: from the later of start and end to the crash time
    in_flight: Flag  #: not completed when the machine crashed
    status: Number  #: an SRB status without its two bits that are flags, or an NTSTATUS
    status_name: Text
    error: Number
    tag: Code
    driver: Text
    origin: Origin


class Event(NamedTuple):
    """One event of a trace or of an event log."""

    time: Time
    provider: Text
    provider_id: Text
    event_id: Number
    version: Number
    channel: Number
    level: Number
    opcode: Number
    task: Number
    keyword: Big
    name: Text
    processor: Number
    process_id: Number
    thread_id: Number
    session: Text
    text: Text  #: decoded payload in words
    origin: Origin


class Tag(NamedTuple):
    """One block of the tagged secondary data."""

    guid: Text
    owner: Text
    size_bytes: Number
    origin: Origin


class Setting(NamedTuple):
    """One configured value (CrashControl, a driver's service key)."""

    key: Text
    name: Text
    value: Text
    meaning: Text
    origin: Origin


class Crash(NamedTuple):
    """One piece of evidence of one crash; rows with the same number are taken for the same crash.

    The confidence of the row says how sure it is that the piece belongs to that crash.
    """

    crash: Number  #: from 1, oldest first
    tells: Text  #: what the piece is: "kernel dump", "dump log", "event 161", ...
    outcome: Text  #: what it says of the dump: written, smaller, failed; None where nothing
    bugcheck: Code
    bugcheck_name: Text
    parameter1: Address
    parameter2: Address
    parameter3: Address
    parameter4: Address
    time: Time  #: of the crash, or of the event that was logged after the restart
    local_time: Text  #: the same as it stands in a source that gives no zone
    boot_id: Number
    dump_file: Text  #: the path that the event names
    why: Text  #: why it is taken for this crash
    origin: Origin


class Finding(NamedTuple):
    """A checked statement, with its evidence and what to do."""

    rule: Text
    severity: Text  #: error, warning, info
    subject: Text
    text: Text
    advice: Text
    evidence: Proof
    facts: Facts  #: the same as data, by names that stay
    origin: Origin


Record = Union[
    Source, Machine, Crash, Module, Structure, Filter, Extension, Callback, DryRun, Stage, Request,
    Event, Processor, Frame, Residue, Tag, Setting, Finding,
]  # fmt: skip
#: of one filter
OfFilter = Union[Filter, Extension, Callback, DryRun]

#: table name -> record type; the order is the order of reports and of JSON
TABLES: dict[str, type[Record]] = {
    "sources": Source,
    "machine": Machine,
    "crashes": Crash,
    "modules": Module,
    "structures": Structure,
    "filters": Filter,
    "extensions": Extension,
    "callbacks": Callback,
    "dry_runs": DryRun,
    "stages": Stage,
    "requests": Request,
    "events": Event,
    "processors": Processor,
    "frames": Frame,
    "residue": Residue,
    "tags": Tag,
    "settings": Setting,
    "findings": Finding,
}
