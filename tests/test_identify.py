"""What a file is, by content alone, and how each unusable kind is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import shared_names, shared_sample

from analyzer import sources
from analyzer.errors import InputError, UnsupportedError

PE = b"MZ\x90\0" + bytes(60)
REFUSED = {
    # Oracle: the published magic numbers of each format.
    "user-mode minidump": b"MDMP\x93\xa7" + bytes(26),
    "Raw_Dmp!": b"Raw_Dmp!" + bytes(48),
    "hibernation file": b"HIBR" + bytes(4092),
    "zip archive": b"PK\x03\x04" + bytes(26),
    "7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(26),
    "gzip file": b"\x1f\x8b\x08" + bytes(7),
    "cabinet archive": b"MSCF" + bytes(32),
    "ELF core of a machine": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\0" + bytes(46),
    "ELF program": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0" + bytes(46),
    "program or driver image": PE,
    "symbol file": b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0",
    "virtual disk": b"vhdxfile" + bytes(32),
    "BlueScreenView": b"Bug Check String  : X\nBug Check Code : 0xd1\nCaused By Driver  : a.sys\n",
    "WhoCrashed": b"This was probably caused by the following module: a.sys (a+0x1)\n",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "DumpBlob": b"DumpBlob" + bytes(32),
    "zero-filled": bytes(70000),
    "empty file": b"",
    "text file of no known kind": b"The machine crashed on Monday.\n",
    "report of this tool": b'{"schema": 1, "tool": {}}',
    "old event log": b"\x30\0\0\0LfLe" + bytes(40),
    "no file of a known kind": bytes(range(128, 256)) * 8,
}
XML = '<?xml version="1.0"?><Events><Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event">'
OPENED = {
    "memory snapshot": [b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\0\x3e\0" + bytes(44)],
    "kernel dump": [b"PAGEDU64" + bytes(0x1FF8), b"PAGEDUMP" + bytes(0xFF8)],
    "evtx": [b"ElfFile\0" + bytes(4088)],
    "registry hive": [b"regf" + bytes(4092)],
    "registry export": [
        b"Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE]\r\n",
        "\ufeffWindows Registry Editor Version 5.00\r\n".encode("utf-16-le"),
        b"REGEDIT4\r\n",
    ],
    "event log XML": [XML.encode(), XML.encode("utf-16")],
    "event log CSV": [
        b"Level,Date and Time,Source,Event ID,Task Category\r\nError,x,volmgr,161,None\r\n",
        "Ebene,Datum und Uhrzeit,Quelle,Ereignis-ID,Aufgabenkategorie\r\n"
        "Fehler,22.07.2026 18:19:40,volmgr,161,Keine,x\r\n".encode("utf-8-sig"),
    ],
    "dumpstack log": [
        b"DLOGFILE00010000DUMP\x01\0\0\0Dump stack initialized at UTC: 2025/01/01" + bytes(99)
    ],
    "capture": [b'{"dumpstart": "capture", "schema": 1}\n'],
    "WinDbg log": [
        b"Opened log file 'c:\\x.log'\r\n0: kd> lm\r\n",
        b"\r\nMicrosoft (R) Windows Debugger Version 10.0.22621 AMD64\r\n",
    ],
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    """The sentence names the file and the kind, and ends there."""
    path = tmp_path / "MEMORY.DMP"
    path.write_bytes(REFUSED[name])
    with pytest.raises(UnsupportedError) as caught:
        sources.collect(str(path))
    said = str(caught.value)
    assert said.startswith(f"{path}: this is ")
    assert name in said
    assert "; " in said, "no advice"
    assert said.count("\n") == 0
    assert said.endswith(".")


@pytest.mark.parametrize("name", OPENED)
def test_known_kinds_are_recognised_whatever_the_file_is_called(name: str, tmp_path: Path) -> None:
    """Content decides, the name does not."""
    for content in OPENED[name]:
        path = tmp_path / "file.bin"
        path.write_bytes(content)
        assert sources.identify(str(path)).name == name


KIND_OF_FOLDER = {
    ".etl": "etl",
    ".evtx": "evtx",
    ".Evt": "an old event log (.evt)",
    ".log": "dumpstack log",
    ".txt": "WinDbg log",
    ".mdmp": "a user-mode minidump of one process",
}


@pytest.mark.parametrize(
    "name", [n for n in shared_names("*/*") if os.path.splitext(n)[1] in KIND_OF_FOLDER]
)
def test_real_files_are_recognised(name: str) -> None:
    """Every real file is what its name says."""
    kind = sources.identify(str(shared_sample(name)))
    assert kind.name == KIND_OF_FOLDER[os.path.splitext(name)[1]]


@pytest.mark.parametrize("name", shared_names("dmp/*.dmp"))
def test_real_dumps_are_told_apart(name: str) -> None:
    """Kernel dumps and user minidumps share their extension but not their first bytes."""
    path = shared_sample(name)
    is_user = path.read_bytes()[:4] == b"MDMP"
    expected = "a user-mode minidump of one process" if is_user else "kernel dump"
    assert sources.identify(str(path)).name == expected


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path and the system's words."""
    path = str(tmp_path / "no.dmp")
    with pytest.raises(InputError, match="the file cannot be read: no such file"):
        sources.identify(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    """A folder gives advice instead of a system error."""
    with pytest.raises(InputError, match="this is a folder; name the files in it"):
        sources.identify(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to would never end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="this is a pipe, not a file"):
        sources.identify(str(tmp_path / "pipe"))


@pytest.mark.parametrize("signature", [b"PAGEDU64", b"PAGEDUMP"])
def test_a_signature_before_zeros_is_no_dump(signature: bytes, tmp_path: Path) -> None:
    """Bugcheck 0 of an empty header does not make it a dump of a running system."""
    path = tmp_path / "MEMORY.DMP"
    path.write_bytes(signature + bytes(1 << 16))
    with pytest.raises(InputError, match="nothing but zeros follows the signature"):
        sources.collect(str(path))


def test_a_capture_with_a_line_without_end_is_refused(tmp_path: Path) -> None:
    """Its memory is bounded: no line of a capture has megabytes."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"dumpstart": "capture", "schema": 1}\n' + b"\0" * (1 << 20))
    with pytest.raises(InputError, match="a line has more than 262,144 bytes"):
        sources.collect(str(path))


def test_a_name_with_a_nul_is_refused() -> None:
    """Python's ValueError does not escape."""
    with pytest.raises(InputError, match="not a file name"):
        sources.identify("a\0b")


@pytest.mark.parametrize("length", range(0, 130, 7))
def test_the_start_of_any_kind_is_identified_without_an_error(length: int, tmp_path: Path) -> None:
    """A file cut after any number of bytes is still some kind."""
    for content in [*REFUSED.values(), *(c for many in OPENED.values() for c in many)]:
        path = tmp_path / "cut"
        path.write_bytes(content[:length])
        assert sources.identify(str(path)).name


def test_every_kind_that_is_refused_has_advice() -> None:
    """A refusal tells what to open instead."""
    kinds = [kind for _, kind in sources.KINDS] + [sources.EMPTY, sources.UNKNOWN]
    assert [kind.name for kind in kinds if not kind.module and not kind.advice] == []
