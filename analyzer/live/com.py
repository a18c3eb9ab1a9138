"""Calls of DbgEng's COM interfaces through ctypes: any Python for Windows, no package.

Invariant: a method is called by its name, its place in the interface's table is data below (an
interface once published never changes); a call that fails raises :class:`EngineError` with the
HRESULT in words. Source: the public dbgeng.h; ``tests/test_live_engine.py`` has a C compiler count.
Standard library only.
"""

from __future__ import annotations

import ctypes
import uuid
from ctypes import POINTER, byref, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any, Callable, NamedTuple

from ..errors import SessionError
from ..names import ntstatus

#: the calling convention of COM; elsewhere than on Windows it is only looked at by tests
FUNCTION: Callable[..., Any] = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)


class Interface(NamedTuple):
    """An interface: its identity and where its methods stand in its table."""

    iid: str
    methods: dict[str, int]


INTERFACES = {
    "IDebugClient": Interface(
        "27fe5639-8407-4f47-8364-ee118fb08ac8",
        {
            "AttachKernel": 3, "OpenDumpFile": 19, "ConnectSession": 21, "EndSession": 26,
            "DispatchCallbacks": 28, "CreateClient": 30, "SetOutputCallbacks": 34,
            "SetOutputMask": 36, "SetEventCallbacks": 46,
        },
    ),
    "IDebugControl": Interface(
        "5182e668-105e-416e-ad92-24ef800424ba",
        {
            "SetInterrupt": 4, "GetDebuggeeType": 34, "GetActualProcessorType": 35,
            "GetNumberProcessors": 39, "GetSystemVersion": 40, "IsPointer64Bit": 42,
            "ReadBugCheckData": 43, "GetExecutionStatus": 49, "SetExecutionStatus": 50,
            "AddEngineOptions": 54, "Execute": 66, "GetBreakpointById": 70,
            "AddBreakpoint": 72, "RemoveBreakpoint": 73,
            "WaitForEvent": 93, "GetLastEventInformation": 94,
        },
    ),
    "IDebugDataSpaces": Interface(
        "88f7dfab-3ea7-4c3a-aefb-c4e8106173aa",
        {"ReadVirtual": 3, "WriteVirtual": 4, "ReadMsr": 16},
    ),
    "IDebugRegisters": Interface(
        "ce289126-9e84-45a7-937e-67bb18691493", {"GetIndexByName": 5, "GetValue": 6}
    ),
    "IDebugSymbols": Interface(
        "8c31e98c-983a-48a5-9016-6fe5d667a950",
        {
            "GetNameByOffset": 7, "GetOffsetByName": 8, "GetNumberModules": 12,
            "GetModuleByIndex": 13, "GetModuleNames": 16, "GetModuleParameters": 17, "Reload": 39,
            "SetSymbolPath": 41,
        },
    ),
    "IDebugSystemObjects": Interface(
        "6b86fe2c-2c4f-4f0c-9da2-174311acc327",
        {"GetCurrentThreadId": 5, "GetTotalNumberThreads": 10},
    ),
    "IDebugBreakpoint": Interface(
        "5bd9d474-5975-423a-b88b-65a8e7110e65",
        {"GetId": 3, "AddFlags": 7, "GetOffset": 10, "SetOffset": 11, "SetDataParameters": 13},
    ),
}  # fmt: skip
#: HRESULT -> what it means to somebody who attaches a debugger
_MEANINGS = {
    0x80004001: "the engine cannot do that here",
    0x80004002: "the engine does not have that interface",
    0x80004005: "the engine gives no reason",
    0x8000FFFF: "the engine is not in a state for that",
    0x80010107: "that cannot be done through a remote debugger",
    0x80010108: "the other debugger is gone",
    0x80040205: "the command failed",
    0x80070002: "no such file or port",
    0x80070003: "no such path",
    0x80070005: "access is denied: run elevated, and see whether another debugger holds it",
    0x80070006: "the connection is not open",
    0x8007000E: "not enough memory",
    0x80070020: "something else holds it open",
    0x80070057: "an argument is malformed",
    0x8007007B: "the name is malformed",
    0x80070079: "the time is up",
    0x800706BA: "no debugger answers there",
    0x8007274C: "no debugger answers there in time",
    0x8007274D: "no debugger listens there",
    0x80072AF9: "there is no machine of that name",
}


class EngineError(SessionError):
    """The engine refused a call."""

    def __init__(self, method: str, result: int) -> None:
        self.result = result & 0xFFFFFFFF
        super().__init__(f"{method}: {words(self.result)}")


def words(result: int) -> str:
    """An HRESULT in words, and its number."""
    result &= 0xFFFFFFFF
    meaning = _MEANINGS.get(result, "")
    if not meaning and result >> 28 == 0xD:  # FACILITY_NT_BIT: an NTSTATUS inside
        status = result & ~0x10000000
        meaning = str(ntstatus.name(status) or "")
    if not meaning and hasattr(ctypes, "FormatError"):
        code = result & 0xFFFF if result >> 16 == 0x8007 else result - (1 << 32)
        meaning = " ".join(ctypes.FormatError(code).split()).rstrip(".")
        meaning = "" if meaning == "<no description>" else meaning
    return f"{meaning} (HRESULT {result:#010x})" if meaning else f"HRESULT {result:#010x}"


class Com:
    """An object of the engine; the engine keeps it alive as long as the session lives."""

    def __init__(self, interface: str, pointer: int | None) -> None:
        if not pointer:
            raise SessionError(f"the engine gives no {interface}.")
        self.interface, self.pointer = interface, pointer
        self._functions: dict[tuple[str, tuple[type, ...]], Callable[..., int]] = {}

    def ask(self, method: str, *arguments: object) -> int:
        """The HRESULT of a call, negative when it failed."""
        types = tuple(
            type(a) if isinstance(a, ctypes._SimpleCData) else c_void_p for a in arguments
        )
        key = (method, types)
        function = self._functions.get(key)
        if function is None:
            place = INTERFACES[self.interface].methods[method]
            table = ctypes.cast(self.pointer, POINTER(POINTER(c_void_p))).contents
            function = FUNCTION(c_int32, c_void_p, *types)(table[place])
            self._functions[key] = function
        try:
            return function(self.pointer, *arguments)
        except OSError as error:  # Windows tells ctypes of a fault inside the call
            raise SessionError(f"the engine failed in {method}: {error}.") from None

    def do(self, method: str, *arguments: object) -> int:
        """The same for a call that must succeed."""
        result = self.ask(method, *arguments)
        if result < 0:
            raise EngineError(method, result)
        return result

    def number(self, method: str, *arguments: object) -> int:
        """The 32-bit number that a call gives behind its arguments."""
        value = c_uint32()
        self.do(method, *arguments, byref(value))
        return value.value

    def query(self, interface: str) -> Com:
        """Another interface of the same object."""
        found = c_void_p()
        types = (c_int32, c_void_p, c_void_p, c_void_p)
        table = ctypes.cast(self.pointer, POINTER(POINTER(c_void_p))).contents
        identity = guid(INTERFACES[interface].iid)
        result = FUNCTION(*types)(table[0])(
            self.pointer, ctypes.addressof(identity), ctypes.addressof(found)
        )
        if result < 0:
            raise EngineError(f"QueryInterface({interface})", result)
        return Com(interface, found.value)


def guid(text: str) -> ctypes.Array[ctypes.c_ubyte]:
    """A GUID as 16 bytes in memory."""
    return (ctypes.c_ubyte * 16)(*uuid.UUID(text).bytes_le)


def u32(value: int) -> c_uint32:
    """A 32-bit argument."""
    return c_uint32(value)


def u64(value: int) -> c_uint64:
    """A 64-bit argument."""
    return c_uint64(value & 0xFFFF_FFFF_FFFF_FFFF)
