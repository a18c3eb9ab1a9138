"""IDebugEventCallbacks in Python: what the engine calls while the target stands or runs.

Invariant: nothing raises into the engine, and an event that is not understood changes nothing.
Interface order: the public dbgeng.h. Standard library only.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any, Callable, Protocol

from .com import FUNCTION, guid

NO_CHANGE, GO, BREAK, NO_DEBUGGEE = 0, 1, 6, 7
#: DEBUG_EVENT_...: breakpoints, exceptions, modules, sessions, what the user does
_WANTED = 0x1 | 0x2 | 0x40 | 0x80 | 0x200 | 0x800
#: DEBUG_CES_EXECUTION_STATUS
_EXECUTION = 0x10
_NO_INTERFACE = 0x80004002 - (1 << 32)
#: IUnknown and IDebugEventCallbacks
_OURS = (
    bytes(guid("00000000-0000-0000-c000-000000000046")),
    bytes(guid("337be28b-5036-4d72-b6bf-c45fbb9f2eaa")),
)
#: DEBUG_SESSION_...: how a session ended
REBOOT = 5
ENDINGS = {
    1: "the session was ended",
    2: "the debugger was detached",
    3: "the session was left",
    4: "the session ended",
    REBOOT: "the target rebooted",
    6: "the target hibernated",
    7: "the connection failed",
}


class Listener(Protocol):
    """Who is told of events; each method gives how the target goes on, such as NO_CHANGE."""

    errors: list[str]

    def at_breakpoint(self, pointer: int) -> int: ...
    def at_exception(self, record: int, is_first: int) -> int: ...
    def at_load(self, base: int, name: bytes | None, image: bytes | None) -> int: ...
    def at_unload(self, base: int) -> int: ...
    def at_session(self, status: int) -> int: ...
    def at_status(self, status: int) -> int: ...


class Events:
    """The callbacks' object."""

    def __init__(self, listener: Listener) -> None:
        self._errors = listener.errors
        pointer = c_void_p
        exception = (c_uint64, c_uint64, c_uint64, c_uint32, pointer, pointer, c_uint32, c_uint32)
        table: list[tuple[Callable[..., int], type, tuple[type, ...]]] = [
            (lambda: 1, c_uint32, ()),
            (lambda: 1, c_uint32, ()),
            (_mask, c_int32, (pointer,)),
            (self._guarded(listener.at_breakpoint, GO), c_int32, (pointer,)),
            (self._guarded(listener.at_exception), c_int32, (pointer, c_uint32)),
            (_nothing, c_int32, (c_uint64, c_uint64, c_uint64)),
            (_nothing, c_int32, (c_uint32,)),
            (_nothing, c_int32, (*exception, c_uint64, c_uint64, c_uint64)),
            (_nothing, c_int32, (c_uint32,)),
            (
                self._guarded(lambda _, base, *rest: listener.at_load(base, rest[1], rest[2])),
                c_int32,
                (c_uint64, c_uint64, c_uint32, c_char_p, c_char_p, c_uint32, c_uint32),
            ),
            (self._guarded(lambda _, base: listener.at_unload(base)), c_int32, (pointer, c_uint64)),
            (_nothing, c_int32, (c_uint32, c_uint32)),
            (self._guarded(listener.at_session), c_int32, (c_uint32,)),
            (_nothing, c_int32, (c_uint32, c_uint64)),
            (self._guarded(_only_execution(listener)), c_int32, (c_uint32, c_uint64)),
            (_nothing, c_int32, (c_uint32, c_uint64)),
        ]
        query = FUNCTION(c_int32, pointer, pointer, pointer)(_query)
        self._kept = [query, *(_method(*entry) for entry in table)]
        places = [ctypes.cast(function, c_void_p).value for function in self._kept]
        self._table = (c_void_p * len(places))(*places)
        self._object = (c_void_p * 1)(ctypes.addressof(self._table))
        self.pointer = ctypes.addressof(self._object)

    def _guarded(self, function: Callable[..., int], failed: int = NO_CHANGE) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            try:
                return int(function(*arguments) or NO_CHANGE)
            except Exception as error:  # noqa: BLE001 - a raise would leave the machine standing
                self._errors.append(f"{type(error).__name__}: {error}")
                return failed

        return call


def _only_execution(listener: Listener) -> Callable[[int, int], int]:
    def changed(flags: int, argument: int) -> int:
        return listener.at_status(argument) if flags & _EXECUTION else NO_CHANGE

    return changed


def _method(function: Callable[..., int], result: type, types: tuple[type, ...]) -> Any:
    return FUNCTION(result, c_void_p, *types)(lambda _, *arguments: function(*arguments))


def _nothing(*_: object) -> int:
    return NO_CHANGE


def _query(this: int, identity: int, out: int) -> int:
    is_ours = ctypes.string_at(identity, 16) in _OURS
    ctypes.cast(out, POINTER(c_void_p))[0] = this if is_ours else None
    return 0 if is_ours else _NO_INTERFACE


def _mask(out: int) -> int:
    ctypes.cast(out, POINTER(c_uint32))[0] = _WANTED
    return 0
