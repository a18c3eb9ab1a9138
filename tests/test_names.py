"""The name tables: values taken from the headers and documents named in each module."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from conftest import missing

from analyzer.dumpfile import storport
from analyzer.etw import mof, session
from analyzer.names import bugchecks, ntstatus, progress

COMPILER = "x86_64-w64-mingw32-gcc"


@pytest.fixture(scope="module")
def macros() -> dict[str, int]:
    """The numbers that srb.h, scsi.h and evntrace.h define, as mingw's preprocessor has them."""
    if not shutil.which(COMPILER):
        missing(f"needs {COMPILER}; .ci/run installs it")
    source = "#include <windows.h>\n#include <ddk/scsi.h>\n#include <ddk/srb.h>\n"
    source += "#include <wmistr.h>\n#include <evntrace.h>\n"
    command = [COMPILER, "-E", "-dM", "-x", "c", "-"]
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    form = r"#define ((?:SRB|SCSIOP|EVENT_TRACE)_\w+) (0x[0-9a-fA-F]+)$"
    return {name: int(value, 16) for name, value in re.findall(form, text, re.M)}


def test_srb_functions_and_statuses(macros: dict[str, int]) -> None:
    """Each has its number of srb.h; the two that are left out are flags."""
    for number, name in storport.FUNCTIONS.items():
        assert macros[f"SRB_FUNCTION_{name}"] == number
    told = {f"SRB_STATUS_{name}": number for number, name in storport.STATUSES.items()}
    flags = {"SRB_STATUS_QUEUE_FROZEN": 0x40, "SRB_STATUS_AUTOSENSE_VALID": 0x80}
    assert {**told, **flags} == {n: v for n, v in macros.items() if n.startswith("SRB_STATUS_")}


def test_modes_of_sessions_and_operations_of_the_disk(macros: dict[str, int]) -> None:
    """As evntrace.h has them."""
    told = {text: number for number, text in session.MODES.items()}
    for word in "sequential circular append newfile".split():
        assert macros[f"EVENT_TRACE_FILE_MODE_{word.upper()}"] == told[word]
    for text, name in {
        "real time": "REAL_TIME", "buffering": "BUFFERING", "private": "PRIVATE_LOGGER",
        "added header": "ADD_HEADER", "relogged": "RELOG", "system logger": "SYSTEM_LOGGER",
        "compressed": "COMPRESSED", "independent session": "INDEPENDENT_SESSION",
    }.items():  # fmt: skip
        assert macros[f"EVENT_TRACE_{name}_MODE"] == told[text]
    # Microsoft's page "Logging Mode Constants" has the newer ones
    assert told["private in-process"] == 0x00020000
    assert told["no per-processor buffering"] == 0x10000000
    assert told["added to triage dumps"] == 0x80000000
    names = "Read Write ReadInit WriteInit FlushBuffers FlushInit".split()
    types = "READ WRITE READ_INIT WRITE_INIT FLUSH FLUSH_INIT".split()
    wanted = {macros[f"EVENT_TRACE_TYPE_IO_{kind}"]: name for kind, name in zip(types, names)}
    assert mof.GROUPS[1].opcodes == wanted


def test_scsi_operations(macros: dict[str, int]) -> None:
    """Each has its number of scsi.h, which leaves the 10 of a command of ten bytes out."""
    for number, name in storport.OPERATIONS.items():
        base, _, size = name.rstrip(")").partition("(")
        base = "SCSIOP_" + base.replace(" ", "_").replace("-", "")
        assert number in (macros.get(base + size), macros.get(base) if size == "10" else None)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        # ntstatus.h, the statuses a dump path is known to return
        (0x00000000, "STATUS_SUCCESS"),
        (0xC0000001, "STATUS_UNSUCCESSFUL"),
        (0xC0000002, "STATUS_NOT_IMPLEMENTED"),
        (0xC000000D, "STATUS_INVALID_PARAMETER"),
        (0xC0000022, "STATUS_ACCESS_DENIED"),
        (0xC0000034, "STATUS_OBJECT_NAME_NOT_FOUND"),
        (0xC000003F, "STATUS_CRC_ERROR"),
        (0xC000009A, "STATUS_INSUFFICIENT_RESOURCES"),
        (0xC00000A3, "STATUS_DEVICE_NOT_READY"),
        (0xC00000B5, "STATUS_IO_TIMEOUT"),
        (0xC0000185, "STATUS_IO_DEVICE_ERROR"),
        (0xC000022D, "STATUS_RETRY"),
        (0xC000028A, "STATUS_ENCRYPTION_FAILED"),
        (0xC0210000, "STATUS_FVE_LOCKED_VOLUME"),
        (0xC0210001, "STATUS_FVE_NOT_ENCRYPTED"),
        (0xC0210002, "STATUS_FVE_BAD_INFORMATION"),
    ],
)
def test_status_names(status: int, name: str) -> None:
    """Every status that the dump path is known to return has its header name."""
    assert ntstatus.name(status) == name


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0xC0DE1234, "0xc0de1234 (error)"),
        (0x80FFFFFF, "0x80ffffff (warning)"),
        (0x40FFFFFF, "0x40ffffff (informational)"),
        (0x00FFFFFF, "0x00ffffff (success)"),
        (-1, "0xffffffff (error)"),
    ],
)
def test_unknown_status_keeps_its_number_and_severity(status: int, text: str) -> None:
    """A value outside the table is shown as a number with the severity of its two top bits."""
    assert ntstatus.name(status) == text


def test_failure_is_the_sign_bit() -> None:
    """NT_SUCCESS() is "not negative": warnings and errors fail, informational codes do not."""
    assert [ntstatus.is_failure(s) for s in (0, 0x103, 0x40000000, 0x80000005, 0xC0000001)] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_status_table_has_no_value_twice() -> None:
    """A pair lost or doubled in the packed table would shorten the dictionary."""
    words = ntstatus._TABLE.split()
    assert len(words) == 2 * len(ntstatus.NAMES) == 866  # 433 pairs


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x133, "DPC_WATCHDOG_VIOLATION"),
        (0x18, "REFERENCE_BY_POINTER"),
        (0x1C8, "MANUALLY_INITIATED_POWER_BUTTON_HOLD"),
        (0xD1, "DRIVER_IRQL_NOT_LESS_OR_EQUAL"),
        (0x7E, "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED"),
        (0x1000007E, "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED_M"),  # the code of sample triage_x64
        (0xC000021A, "STATUS_SYSTEM_PROCESS_TERMINATED"),
        (0xDEADDEAD, "MANUALLY_INITIATED_CRASH1"),
        (0x0BADC0DE, "0x0badc0de"),
        (0x1BADC0DE, "0x1badc0de"),
    ],
)
def test_bugcheck_names(code: int, name: str) -> None:
    """Documented codes have names, "_M" marks the 0x1000xxxx variants, others stay numbers."""
    assert bugchecks.name(code) == name


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0x42, "dump stack initialised, filters started, log begins"),
        # the upper bits are flags; 0x10000 has no known meaning
        (
            0x00050046,
            "dump complete callbacks called, dump is being closed; probably a failure that "  # noqa: ISC004
            "crashdmp noted; flags 0x10000",
        ),
        (
            0x20042,
            "dump stack initialised, filters started, log begins; "  # noqa: ISC004
            "a second bugcheck while this stage was reached",
        ),
        (0x463, "root crash dump resumed; retried as a minidump"),
        (0x82, "blue screen shown"),
        (0x7F, "a stage whose meaning is not known"),
    ],
)
def test_progress_names(value: int, words: str) -> None:
    """Stages are named by the low nine bits; an unknown stage is said to be unknown."""
    assert progress.name(value) == words


@pytest.mark.parametrize("value", [0, 0x42, 0x40049, 0x20042, 0xFFFFFFFF])
def test_progress_is_taken_apart_without_rest(value: int) -> None:
    """The stage and the flags are the whole value (facts: 0x20000 and 0x40000 freeze the stage)."""
    told = progress.decode(value)
    rest = [int(text.split()[1], 16) for text in told.flags if text.startswith("flags ")]
    bits = [bit for bit in progress.FLAGS if value & bit]
    assert told.stage | sum(bits) | sum(rest) == value
    assert told.is_frozen is bool(value & 0x60000)
    assert told.is_second_bugcheck is bool(value & 0x20000)
