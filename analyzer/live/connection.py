"""What a connection string means, and how it is shown.

Invariant: a shown connection holds no secret: neither a KDNET key nor a password reaches a capture,
a message or a process list. Standard library only.
"""

from __future__ import annotations

import re

_SECRETS = re.compile(r"\b(key|password)(\s*=\s*)[^,;\s]*", re.I)
#: of another debugger's server (WinDbg's documentation of -remote)
_SERVERS = ("tcp", "npipe", "spipe", "ssl", "com")


def secretless(connect: str) -> str:
    """The connection without its secrets."""
    return _SECRETS.sub(r"\1\2...", connect)


def is_server(connect: str) -> bool:
    """True for a debugger that ran ``.server``, not a target: ``tcp:server=HOST,port=5005``."""
    transport, _, rest = connect.partition(":")
    words = [word.partition("=")[0].strip().lower() for word in rest.split(",")]
    return transport.lower() in _SERVERS and "server" in words


def is_socket(connect: str) -> bool:
    """True for a VM's serial socket or address, which ntoseye attaches to."""
    return "/" in connect and re.match(r"(?i)(net|com|usb|1394|local)\b", connect) is None
