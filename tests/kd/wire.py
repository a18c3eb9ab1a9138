"""Packets of the KD serial protocol, the target's side: framing, checksums, acknowledgements.

Invariant: a damaged or repeated packet never reaches the target. There is no official description;
leaders, types and sizes are those of public headers (ReactOS's windbgkd.h), the rules marked RULE
were seen with DbgEng 10.0.15063.
"""

from __future__ import annotations

import os
import select
import struct
import time
from typing import NamedTuple

DATA, CONTROL, TRAILER = b"0000", b"iiii", b"\xaa"
STATE_MANIPULATE, ACKNOWLEDGE, RESEND, RESET, STATE_CHANGE = 2, 4, 5, 6, 7
BREAK_IN = -1  # a bare byte on the line, here shown as a packet
#: RULE: the engine drops the first state change and resets after 2.5 s of silence; a target that
#: repeats itself much faster keeps it waiting for ever
REPEAT_AFTER = 2.0


class Packet(NamedTuple):
    """One packet; control packets have no data."""

    kind: int
    id: int = 0
    data: bytes | None = None


class ResetError(Exception):
    """The debugger asked to start over."""


class GoneError(Exception):
    """The line was closed."""


class Wire:
    """One end of a serial line."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.held = bytearray()
        self.early: list[Packet] = []
        self.start()

    def start(self) -> None:
        """The first packet of a boot says that the count begins."""
        self.next_out, self.next_in = 0x80800800, 0x80800000
        self.broken_in = False  #: a break-in came while a packet was sent

    def waiting(self, seconds: float = 0) -> bool:
        """True when something came in, or does so within the time."""
        if self.early or self.held:
            return True
        return bool(select.select([self.descriptor], [], [], seconds)[0])

    def _take(self, size: int, until: float | None) -> bytes | None:
        while len(self.held) < size:
            wait = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.descriptor], [], [], wait)[0]:
                return None
            piece = os.read(self.descriptor, 1 << 16)
            if not piece:
                raise GoneError
            self.held += piece
        taken = bytes(self.held[:size])
        del self.held[:size]
        return taken

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.descriptor, data) :]

    def control(self, kind: int, id: int = 0) -> None:
        """Sends a control packet."""
        self._put(struct.pack("<4sHHII", CONTROL, kind, 0, id, 0))

    def receive(self, until: float | None = None) -> Packet | None:
        """The next packet in good order, None when the time is over."""
        while True:
            leader = b""
            while len(leader) < 4:
                byte = self._take(1, until)
                if byte is None:
                    return None
                if byte == b"b" and not leader:
                    return Packet(BREAK_IN)
                leader = leader + byte if leader[:1] in (b"", byte) else byte
                leader = leader if leader[:1] in (b"0", b"i") else b""
            rest = self._take(12, time.monotonic() + REPEAT_AFTER)
            if rest is None:
                continue
            kind, size, id, checksum = struct.unpack("<HHII", rest)
            if leader == CONTROL:
                return Packet(kind, id)
            body = self._take(size + 1, time.monotonic() + REPEAT_AFTER)
            if body and body[-1:] == TRAILER and sum(body[:-1]) & 0xFFFF_FFFF == checksum:
                return Packet(kind, id, body[:-1])
            self.control(RESEND)

    def send(self, kind: int, data: bytes) -> None:
        """Sends a data packet until it is acknowledged."""
        head = struct.pack("<4sHHII", DATA, kind, len(data), self.next_out, sum(data) & 0xFFFF_FFFF)
        while True:
            self._put(head + data + TRAILER)
            answer = self.receive(time.monotonic() + REPEAT_AFTER)
            while answer and answer.kind == BREAK_IN:
                self.broken_in = True
                answer = self.receive(time.monotonic() + REPEAT_AFTER)
            if answer is None or answer.kind == RESEND:
                continue
            if answer.kind == RESET:
                self.reset()
                raise ResetError
            if answer.data is not None:
                self.early.append(answer)  # RULE: a request in place of the ACK counts as the ACK
            elif answer.kind != ACKNOWLEDGE:
                continue
            self.next_out = (self.next_out & ~0x800) ^ 1
            return

    def reset(self) -> None:
        """Answers a reset: both sides count packets from the start."""
        self.next_out = self.next_in = 0x80800000
        self.early.clear()
        self.control(RESET)

    def request(self) -> bytes:
        """The debugger's next request, acknowledged."""
        while True:
            packet = self.early.pop(0) if self.early else self.receive()
            assert packet is not None  # no time limit was given
            if packet.kind == RESET:
                self.reset()
                raise ResetError
            if packet.data is None:
                continue
            self.control(ACKNOWLEDGE, packet.id)
            if packet.id & ~0x800 != self.next_in:
                continue  # a repetition
            self.next_in ^= 1
            if packet.kind == STATE_MANIPULATE:
                return packet.data
