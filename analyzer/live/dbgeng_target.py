"""DbgEng through ctypes: attaches to a kernel, joins a debugger that ran ``.server``, opens a dump.

Invariant: from the moment that the target answered, an error lets it run on. Standard library only.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_void_p
from typing import Any, Callable

from ..errors import SessionError
from . import engine as engines
from .com import FUNCTION, INTERFACES, Com, EngineError, guid, u32, words
from .connection import secretless
from .dbgeng_session import FOREVER, DbgEngSession

#: DEBUG_ENGOPT_INITIAL_BREAK
_INITIAL_BREAK = 0x20


def _created(path: str | None, symbols: str | None) -> tuple[Com, str]:
    engine, made = engines.load(path), c_void_p()
    create = FUNCTION(ctypes.c_int32, c_void_p, c_void_p)(_address(engine.library.DebugCreate))
    identity = guid(INTERFACES["IDebugClient"].iid)
    result = create(ctypes.addressof(identity), ctypes.addressof(made))
    if result < 0:
        raise EngineError("DebugCreate", result)
    client = Com("IDebugClient", made.value)
    # Without a path the engine would ask symbol servers, for minutes.
    client.query("IDebugSymbols").ask("SetSymbolPath", c_char_p((symbols or "").encode()))
    return client, str(engine)


def _address(function: Any) -> int | None:
    return ctypes.cast(function, c_void_p).value


def attach(
    connect: str,
    symbols: str | None = None,
    engine: str | None = None,
    heard: Callable[[], None] | None = None,
) -> DbgEngSession:
    """A live kernel; ``connect`` is DbgEng's; ``heard()`` is called once the target answers.

    Blocks until the target answers, which may be never: run it in a process that can be ended.
    """
    client, which = _created(engine, symbols)
    control = client.query("IDebugControl")
    control.do("AddEngineOptions", u32(_INITIAL_BREAK))
    try:
        client.do("AttachKernel", u32(0), c_char_p(connect.encode("utf-8")))
        control.do("WaitForEvent", u32(0), u32(FOREVER))
    except EngineError as error:
        raise SessionError(
            f"the debugger cannot attach to '{secretless(connect)}': {error}."
        ) from error
    if heard is not None:
        heard()
    try:
        client.query("IDebugSymbols").ask("Reload", c_char_p(b""))  # else it lists nt alone
        return DbgEngSession(secretless(connect), client, which, is_owner=True)
    except BaseException:
        control.ask("Execute", u32(3), c_char_p(b"qd"), u32(0))
        raise


def remote(connect: str, symbols: str | None = None, engine: str | None = None) -> DbgEngSession:
    """A debugger that ran ``.server``; ``connect`` is such as ``tcp:server=HOST,port=5005``."""
    loaded, made = engines.load(engine), c_void_p()
    place = _address(loaded.library.DebugConnect)
    join = FUNCTION(ctypes.c_int32, c_char_p, c_void_p, c_void_p)(place)
    identity = guid(INTERFACES["IDebugClient"].iid)
    text = c_char_p(connect.encode("utf-8"))
    result = join(text, ctypes.addressof(identity), ctypes.addressof(made))
    if result < 0:
        raise SessionError(f"no debugger at '{secretless(connect)}': {words(result)}.")
    client = Com("IDebugClient", made.value)
    client.do("ConnectSession", u32(0), u32(0))
    if symbols is not None:
        client.query("IDebugSymbols").ask("SetSymbolPath", c_char_p(symbols.encode()))
    return DbgEngSession(secretless(connect), client, str(loaded), is_owner=False)


def dump(path: str, symbols: str | None = None, engine: str | None = None) -> DbgEngSession:
    """A dump in the engine."""
    client, which = _created(engine, symbols)
    try:
        client.do("OpenDumpFile", c_char_p(path.encode("utf-8")))
        client.query("IDebugControl").do("WaitForEvent", u32(0), u32(FOREVER))
    except EngineError as error:
        raise SessionError(f"{path}: the engine cannot open it: {error}.") from error
    return DbgEngSession(path, client, which, is_owner=True)
