"""DbgEng through ctypes, as far as it can be tried without Windows: interfaces, finding, versions.

Oracle for places and identities: mingw's dbgeng.h, counted by its compiler.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import types
import uuid
from pathlib import Path
from typing import Any

import pytest
from conftest import missing

from analyzer.cli import main
from analyzer.errors import SessionError
from analyzer.live import com, connection, dbgeng_events, engine
from analyzer.live.com import INTERFACES
from analyzer.live.options import backend_of

COMPILER = "x86_64-w64-mingw32-gcc"


def compiled(source: str, *options: str) -> str:
    """What mingw's compiler prints of a program that includes dbgeng.h."""
    if not shutil.which(COMPILER):
        missing(f"needs {COMPILER}; .ci/run installs it")
    command = [COMPILER, "-x", "c", *options, "-"]
    head = "#define CINTERFACE\n#include <windows.h>\n#include <dbgeng.h>\n#include <stddef.h>\n"
    done = subprocess.run(command, input=head + source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_methods_stand_where_the_header_has_them() -> None:
    """Each method's place in its interface's table."""
    checks = [
        f'_Static_assert(offsetof({name}Vtbl, {method}) == 8 * {place}, "{name}::{method}");'
        for name, interface in INTERFACES.items()
        for method, place in interface.methods.items()
    ]
    assert len(checks) > 40
    compiled("\n".join(checks) + "\n", "-fsyntax-only", "-Werror")


def test_events_stand_where_the_header_has_them() -> None:
    """The callbacks' order, and the numbers of what is listened to."""
    order = "Breakpoint Exception LoadModule UnloadModule SessionStatus ChangeEngineState".split()
    places = dict(zip(order, (4, 5, 10, 11, 13, 15)))
    lines = [
        f'_Static_assert(offsetof(IDebugEventCallbacksVtbl, {name}) == 8 * {place}, "{name}");'
        for name, place in places.items()
    ]
    wanted = "BREAKPOINT EXCEPTION LOAD_MODULE UNLOAD_MODULE SESSION_STATUS CHANGE_ENGINE_STATE"
    mask = " | ".join(f"DEBUG_EVENT_{name}" for name in wanted.split())
    lines.append(f'_Static_assert(({mask}) == {dbgeng_events._WANTED}, "mask");')
    lines.append(f'_Static_assert(DEBUG_SESSION_REBOOT == {dbgeng_events.REBOOT}, "reboot");')
    lines.append('_Static_assert(sizeof(DEBUG_MODULE_PARAMETERS) == 64, "module");')
    compiled("\n".join(lines) + "\n", "-fsyntax-only", "-Werror")


def test_identities_are_those_of_the_header() -> None:
    """The IID of each interface."""
    text = compiled("", "-E", "-DINITGUID")
    form = r"IID_(IDebug\w+) *= *\{ *(0x\w+), *(0x\w+), *(0x\w+), *\{([^}]*)\}"
    found = {
        name: uuid.UUID(
            fields=(
                *(int(word, 16) for word in words),
                *(int(byte, 16) for byte in tail.split(",")[:2]),
                int.from_bytes(bytes(int(byte, 16) for byte in tail.split(",")[2:]), "big"),
            )
        )
        for name, *words, tail in re.findall(form, text)
    }
    for name, interface in INTERFACES.items():
        assert uuid.UUID(interface.iid) == found[name], name
    assert bytes(com.guid(str(found["IDebugEventCallbacks"]))) in dbgeng_events._OURS


def library(folder: Path, version: tuple[int, int, int, int]) -> Path:
    """A file with a version, as the resources of a library hold it (verrsrc.h)."""
    folder.mkdir(parents=True)
    high, low = version[0] << 16 | version[1], version[2] << 16 | version[3]
    data = b"MZ" + bytes(100) + struct.pack("<IIII", 0xFEEF04BD, 0x10000, high, low) + bytes(40)
    (folder / "dbgeng.dll").write_bytes(data)
    return folder / "dbgeng.dll"


def test_the_engine_of_the_kit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit first, then what is part of Windows; each is named with its version."""
    for name in ("ProgramFiles", "ProgramFiles(x86)", "SYSTEMROOT", engine.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROCESSOR_ARCHITECTURE", "AMD64")
    monkeypatch.setattr(engine.sys, "path", [])
    assert list(engine.candidates()) == []
    kit = library(
        tmp_path / "Kits [x86]" / "Windows Kits" / "10" / "Debuggers" / "x64", (10, 0, 26100, 1)
    )
    own = library(tmp_path / "Windows" / "System32", (10, 0, 19041, 5))
    monkeypatch.setenv("ProgramFiles(x86)", str(tmp_path / "Kits [x86]"))
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path / "Windows"))
    found = list(engine.candidates())
    assert found == [(str(kit), "Windows kit"), (str(own), "part of Windows")]
    assert [engine.version(path) for path, _ in found] == ["10.0.26100.1", "10.0.19041.5"]
    monkeypatch.setenv(engine.VARIABLE, str(own.parent))
    assert list(engine.candidates()) == [(str(own), "named by DUMPSTART_DBGENG")]
    assert list(engine.candidates(str(kit))) == [(str(kit), "as named")]
    with pytest.raises(SessionError, match="there is no such debugger engine"):
        list(engine.candidates(str(tmp_path / "nowhere.dll")))


@pytest.mark.parametrize("data", [b"", b"MZ", b"\xbd\x04\xef\xfe", b"\xbd\x04\xef\xfe" + bytes(11)])
def test_a_library_without_a_version(tmp_path: Path, data: bytes) -> None:
    """Said as that."""
    (tmp_path / "x.dll").write_bytes(data)
    assert engine.version(str(tmp_path / "x.dll")) == ""
    assert "of unknown version" in str(engine.Engine(None, str(tmp_path / "x.dll"), "as named"))


@pytest.mark.skipif(hasattr(com.ctypes, "WinDLL"), reason="is about other systems")
def test_elsewhere_than_on_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence says what to use instead."""
    output = tmp_path / "x.jsonl"
    assert main(["capture", "com:port=com1", "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert said == (
        "dumpstart: DbgEng is a part of Windows; on other systems use --backend ntoseye.\n"
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net:port=50000,key=1.2.3.4", ("dbgeng", False)),
        ("com:port=com1,baud=115200", ("dbgeng", False)),
        (r"com:pipe,port=\\.\pipe\vm,resets=0,reconnect", ("dbgeng", False)),
        ("tcp:server=HOST,port=5005", ("dbgeng", True)),
        ("npipe:server=HOST,pipe=x", ("dbgeng", True)),
        ("/run/vm/serial.sock", ("ntoseye", False)),
    ],
)
def test_what_a_connection_means(text: str, expected: tuple[str, bool]) -> None:
    """The backend, and whether a debugger is joined."""
    assert backend_of(text, None) == expected
    assert backend_of(text, "pykd") == ("pykd", expected[1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("net:port=1,key=a.b.c.d", "net:port=1,key=..."),
        ("net:port=1,KEY = a.b.c.d,target=x", "net:port=1,KEY = ...,target=x"),
        ("tcp:server=x,password=secret", "tcp:server=x,password=..."),
        ("com:port=com1", "com:port=com1"),
        ("monkey=x", "monkey=x"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    """Neither key nor password."""
    assert connection.secretless(text) == shown


#: names of winerror.h, and what somebody reads who attaches a debugger
RESULTS = {
    "E_NOTIMPL": "the engine cannot do that here",
    "E_NOINTERFACE": "the engine does not have that interface",
    "E_FAIL": "the engine gives no reason",
    "E_UNEXPECTED": "the engine is not in a state for that",
    "RPC_E_INVALIDMETHOD": "that cannot be done through a remote debugger",
    "RPC_E_DISCONNECTED": "the other debugger is gone",
    "EVENT_E_INTERNALEXCEPTION": "the command failed",
    "HRESULT_FROM_WIN32(ERROR_FILE_NOT_FOUND)": "no such file or port",
    "HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND)": "no such path",
    "E_ACCESSDENIED": "access is denied: run elevated, and see whether another debugger holds it",
    "E_HANDLE": "the connection is not open",
    "E_OUTOFMEMORY": "not enough memory",
    "HRESULT_FROM_WIN32(ERROR_SHARING_VIOLATION)": "something else holds it open",
    "E_INVALIDARG": "an argument is malformed",
    "HRESULT_FROM_WIN32(ERROR_INVALID_NAME)": "the name is malformed",
    "HRESULT_FROM_WIN32(ERROR_SEM_TIMEOUT)": "the time is up",
    "HRESULT_FROM_WIN32(RPC_S_SERVER_UNAVAILABLE)": "no debugger answers there",
    "HRESULT_FROM_WIN32(WSAETIMEDOUT)": "no debugger answers there in time",
    "HRESULT_FROM_WIN32(WSAECONNREFUSED)": "no debugger listens there",
    "HRESULT_FROM_WIN32(WSAHOST_NOT_FOUND)": "there is no machine of that name",
}


def test_results_mean_what_the_header_calls_them() -> None:
    """Each number that has words has the name of winerror.h that they are for."""
    numbers = {words: number for number, words in com._MEANINGS.items()}
    assert set(numbers) == set(RESULTS.values())
    checks = [
        f'_Static_assert((unsigned)({name}) == {numbers[words]:#x}u, "{words}");'
        for name, words in RESULTS.items()
    ]
    head = "#undef HRESULT_FROM_WIN32\n#define HRESULT_FROM_WIN32(x) (0x80070000 | (x))\n"
    compiled(head + "\n".join(checks) + "\n", "-fsyntax-only", "-Werror")
    for name, words in RESULTS.items():
        assert com.words(numbers[words]) == f"{words} (HRESULT {numbers[words]:#010x})", name


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (0x80070522, "1314 no (HRESULT 0x80070522)"),
        (0x80040111, "-2147221231 no (HRESULT 0x80040111)"),
        (0x8007FFFF, "65535 no (HRESULT 0x8007ffff)"),
        (0x80080007, "HRESULT 0x80080007"),
        (0xC0000022, "-1073741790 no (HRESULT 0xc0000022)"),
        (0xD0000022, "STATUS_ACCESS_DENIED (HRESULT 0xd0000022)"),
        (1, "-4294967295 no (HRESULT 0x00000001)"),
    ],
)
def test_results_that_windows_has_words_for(
    result: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an error of Windows the low half is the number; no words where Windows has none."""

    def told(code: int) -> str:
        return "<no description>" if code == 0x80080007 - (1 << 32) else f"{code} \r\n no. "

    monkeypatch.setattr(com.ctypes, "FormatError", told, raising=False)
    assert com.words(result) == com.words(result - (1 << 32)) == words


def test_which_engines_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest kit of both folders, the Store's, pykd's, Windows' own; each once."""
    for name in ("ProgramFiles", "ProgramFiles(x86)", "SYSTEMROOT"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    monkeypatch.setenv("PROCESSOR_ARCHITECTURE", "arm64")
    monkeypatch.setattr(engine.sys, "path", [str(tmp_path / "lib"), str(tmp_path / "lib")])
    monkeypatch.setattr(engine, "_store_folders", lambda: [str(tmp_path / "store")])
    wanted = [
        (tmp_path / "ProgramFiles(x86)/Windows Kits/11/Debuggers/arm64", "Windows kit"),
        (tmp_path / "ProgramFiles(x86)/Windows Kits/10/Debuggers/arm64", "Windows kit"),
        (tmp_path / "ProgramFiles/Windows Kits/11/Debuggers/arm64", "Windows kit"),
        (tmp_path / "store/arm64", "WinDbg of the Store"),
        (tmp_path / "lib/pykd", "package pykd"),
        (tmp_path / "SYSTEMROOT/System32", "part of Windows"),
    ]
    for folder, _ in reversed(wanted):
        library(folder, (1, 2, 3, 4))
    library(tmp_path / "ProgramFiles/Windows Kits/20/Debuggers/arm64", (1, 2, 3, 4))
    expected = [(str(folder / "dbgeng.dll"), origin) for folder, origin in wanted]
    assert list(engine.candidates()) == expected
    monkeypatch.setenv("PROCESSOR_ARCHITECTURE", "AMD64")
    assert engine.kinds() == ("x64", "amd64")
    assert list(engine.candidates()) == expected[4:]
    monkeypatch.delenv("PROCESSOR_ARCHITECTURE")
    assert engine.kinds() == ("x64", "amd64")
    monkeypatch.setattr(engine.struct, "calcsize", lambda _: 4)
    assert engine.kinds() == ("x86", "x86")


def test_engines_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that was tried, with the reason; where none is found, what to install."""
    path = library(tmp_path / "x", (10, 0, 1, 2))
    asked = []

    def load(name: str, winmode: int) -> object:
        asked.append((name, winmode))
        if len(asked) == 1:
            raise OSError("no luck")
        return object()

    monkeypatch.setattr(engine.ctypes, "WinDLL", load, raising=False)
    for words in ("Windows says: no luck", "it is no DbgEng"):
        with pytest.raises(SessionError) as caught:
            engine.load(str(path))
        assert str(caught.value) == f"the debugger's engine cannot be loaded: {path}: {words}."
    assert asked == [(str(path), 8)] * 2
    monkeypatch.setattr(engine, "_known", lambda: iter(()))
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    with pytest.raises(SessionError, match=r"no debugger engine was found: install WinDbg"):
        engine.load()
    text = str(engine.Engine(None, str(path), "as named"))
    assert text == f"{path} (DbgEng 10.0.1.2, as named)"


def test_the_last_version_of_a_library_counts(tmp_path: Path) -> None:
    """Its resources stand at its end; the last 16 bytes may be one."""
    mark = struct.pack("<IIII", 0xFEEF04BD, 0, 0x0001FFFF, 0x80000002)
    old = struct.pack("<IIII", 0xFEEF04BD, 0, 7, 7)
    (tmp_path / "x.dll").write_bytes(old + b"ab" + mark)
    assert engine.version(str(tmp_path / "x.dll")) == "1.65535.32768.2"
    assert engine.version(str(tmp_path / "y.dll")) == ""


def test_the_newest_windbg_of_the_store_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages as the registry lists them; one that cannot be opened ends the list."""
    packages = {
        "Microsoft.WinDbg_1.2402.1_x64": "C:\\a", "Microsoft.Other_1_x64": "C:\\other",
        "Microsoft.WinDbg_1.2506.1_x64": "C:\\b", "Microsoft.WinDbg_broken": None,
    }  # fmt: skip

    class Key:
        def __init__(self, name: str) -> None:
            if packages.get(name, "") is None:
                raise OSError(name)
            self.name = name

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    registry = types.SimpleNamespace(
        HKEY_CURRENT_USER=1,
        OpenKey=lambda _, name: Key(name),
        QueryInfoKey=lambda _: (len(packages), 0, 0),
        EnumKey=lambda _, place: list(packages)[place],
        QueryValueEx=lambda key, _: (packages[key.name], 1),
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    assert engine._store_folders() == ["C:\\b", "C:\\a"]
    del packages["Microsoft.WinDbg_broken"]
    assert engine._store_folders() == ["C:\\b", "C:\\a"]
