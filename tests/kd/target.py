"""The simulated machine as a live kernel target: answers a kernel debugger on a serial line.

``python -m kd.target SCENARIO GUEST_FOLDER REPORT (--tty LINK | --socket PATH)``

Invariant: whatever the debugger does, the machine goes on when it is told to go on; SIGTERM ends
the process with a report of what happened. ``--tty`` makes LINK lead to a pseudo-terminal (Wine's
COM1).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import struct
import time
import tty
from pathlib import Path
from typing import Any, Callable

from .image import Image, compile_guest
from .kernel import PRCB, PROCESSOR_SIZE, PROCESSORS, THREAD
from .machine import NT, Machine
from .scenarios import SCENARIOS, TICKS_PER_SECOND
from .wire import BREAK_IN, RESET, STATE_CHANGE, STATE_MANIPULATE, GoneError, ResetError, Wire

BREAKPOINT, SINGLE_STEP, ACCESS_VIOLATION = 0x80000003, 0x80000004, 0xC0000005
UNSUCCESSFUL = 0xC0000001
#: DbgKd...Api numbers
READ_VIRTUAL, WRITE_VIRTUAL, GET_CONTEXT, SET_CONTEXT = 0x3130, 0x3131, 0x3132, 0x3133
WRITE_BREAKPOINT, RESTORE_BREAKPOINT, CONTINUE = 0x3134, 0x3135, 0x3136
READ_CONTROL, WRITE_CONTROL = 0x3137, 0x3138
CONTINUE2, READ_PHYSICAL, GET_VERSION, READ_MSR = 0x313C, 0x313D, 0x3146, 0x3152
CLEAR_ALL, QUERY_MEMORY, GET_CONTEXT_EX, SET_CONTEXT_EX = 0x315A, 0x315C, 0x315F, 0x3160
KD_REBOOT = 0xFFFF_FFFF_FFFF_FFFF  # in place of a base (windbgkd.h)
LARGEST = 3900  # bytes in one answer
IA32_TSC, IA32_GS_BASE, HV_TSC_FREQUENCY = 0x10, 0xC0000101, 0x40000022
#: requests of the scenario begin when a breakpoint lies in a filter, or after this long undisturbed
PATIENCE = 3.0
#: seconds that an idle machine sleeps at a time: the debugger under test needs the processor
IDLE = 0.01


class Ended(BaseException):
    """SIGTERM: make the report."""


class Target:
    """One machine on one line, once :meth:`run` has one."""

    wire: Wire

    def __init__(self, machine: Machine, stop_ticks: int) -> None:
        self.machine, self.stop_ticks = machine, stop_ticks
        self.breakpoints: dict[int, tuple[int, bytes]] = {}  # handle -> (address, original byte)
        self.next_handle = 1
        self.requests = list(machine.scenario.requests)
        self.resumed_at: float | None = None  # None: never stopped yet
        self.patience = PATIENCE
        self.ran = 0  # pieces of work since the last resume
        self.report: dict[str, Any] = {"stops": 0, "resumes": 0, "standing": False, "unknown": []}
        self.made: list[Any] = []  # in boots that are over

    # ---- what a stop tells -------------------------------------------------------------------

    def state(self, number: int) -> bytearray:
        """DBGKD_ANY_WAIT_STATE_CHANGE without its middle part."""
        machine = self.machine
        counter = machine.get("rip")
        # RULE: no breakpoint may remain in the instruction bytes shown here, or the engine takes
        # its own int3 for one of the program
        for handle, (address, original) in list(self.breakpoints.items()):
            if counter <= address < counter + 16:
                machine.write(address, original)
                del self.breakpoints[handle]
        record = bytearray(0xF0)
        processor = machine.processor
        thread = PROCESSORS + processor * PROCESSOR_SIZE + THREAD
        count = machine.scenario.processors
        struct.pack_into("<IHHI4xQQ", record, 0, number, 6, processor, count, thread, counter)
        (flags,) = struct.unpack_from("<I", machine.context(), 0x44)
        code = machine.read(counter, 16)
        report = (0xFFFF0FF0, 0x400, flags, len(code), 3, code, 0x10, 0x2B, 0x2B, 0x53)
        struct.pack_into("<QQIHH16sHHHH", record, 0xC0, *report)
        return record

    def exception(self, code: int) -> bytes:
        """The machine stops for an exception."""
        record = self.state(0x3030)
        address = self.machine.get("rip")
        struct.pack_into(
            "<IIQQI", record, 0x20, code, 0, 0, address, 1 if code == BREAKPOINT else 0
        )
        struct.pack_into("<I", record, 0xB8, 1)  # first chance
        return bytes(record)

    def module_event(self, image: Image, unload: bool) -> bytes:
        """The machine stops to tell of a module."""
        record = self.state(0x3031)
        path = f"\\SystemRoot\\system32\\drivers\\{image.name}".encode() + b"\0"
        told = (len(path), image.base, 0, image.checksum, image.size, unload)
        struct.pack_into("<I4xQQIIB", record, 0x20, *told)
        return bytes(record) + path

    # ---- a stop ------------------------------------------------------------------------------

    def stand(self, announce: Callable[[], bytes]) -> bool:
        """Stops, answers until the debugger resumes; True when it wants a single step."""
        self.report["stops"] += 1
        self.report["standing"] = True
        self.machine.pass_time(self.stop_ticks // 2)
        while True:
            try:
                self.wire.send(STATE_CHANGE, announce())
                step = None
                while step is None:
                    step = self.answer(self.wire.request())
                break
            except ResetError:
                continue
        self.machine.pass_time(self.stop_ticks - self.stop_ticks // 2)
        self.report["standing"] = False
        self.report["resumes"] += 1
        self.resumed_at = time.monotonic()
        self.ran = 0
        return step

    def answer(self, request: bytes) -> bool | None:
        """Does one request; not None when it resumes the machine: whether by one instruction."""
        machine = self.machine
        number, level, processor = struct.unpack_from("<IHH", request)
        fields, sent, answer, status = bytearray(request[0x10:0x38]), request[0x38:], b"", 0
        here = processor == machine.processor
        if number == CONTINUE:
            return False
        if number == CONTINUE2:
            return struct.unpack_from("<I", fields, 4)[0] != 0
        if number in (READ_VIRTUAL, READ_PHYSICAL):
            address, size = struct.unpack_from("<QI", fields)
            read = machine.read if number == READ_VIRTUAL else machine.read_physical
            answer = read(address, min(size, LARGEST))
            struct.pack_into("<I", fields, 12, len(answer))
            status = 0 if answer else UNSUCCESSFUL
        elif number == WRITE_VIRTUAL:
            address, size = struct.unpack_from("<QI", fields)
            status = 0 if machine.write(address, sent[:size]) else UNSUCCESSFUL
            struct.pack_into("<I", fields, 12, 0 if status else size)
        elif number == GET_CONTEXT:
            answer = bytes(machine.context()) if here else machine.parked
        elif number == SET_CONTEXT:
            if here:
                machine.set_context(sent)
        elif number in (GET_CONTEXT_EX, SET_CONTEXT_EX):
            offset, size = struct.unpack_from("<II", fields)
            context = machine.context() if here else bytearray(machine.parked)
            if number == GET_CONTEXT_EX:
                answer = bytes(context[offset : offset + size])
            elif here:
                context[offset : offset + size] = sent[:size]
                machine.set_context(context)
            struct.pack_into("<I", fields, 8, len(answer) or size)
        elif number == WRITE_BREAKPOINT:
            (address,) = struct.unpack_from("<Q", fields)
            # a second breakpoint at an address keeps the original byte of the first
            known = [original for at, original in self.breakpoints.values() if at == address]
            original = known[0] if known else machine.read(address, 1)
            if original and machine.write(address, b"\xcc"):
                self.breakpoints[self.next_handle] = (address, original)
                struct.pack_into("<I", fields, 8, self.next_handle)
                self.next_handle += 1
            else:
                status = UNSUCCESSFUL
        elif number == RESTORE_BREAKPOINT:
            (handle,) = struct.unpack_from("<I", fields)
            if handle in self.breakpoints:
                address, original = self.breakpoints.pop(handle)
                if address not in [at for at, _ in self.breakpoints.values()]:
                    machine.write(address, original)
            else:
                status = UNSUCCESSFUL
        elif number == READ_CONTROL:
            which, size = struct.unpack_from("<QI", fields)
            block = PROCESSORS + processor * PROCESSOR_SIZE
            spaces = {0: block, 1: block + PRCB, 3: block + THREAD}
            special = machine.read(block + PRCB + 0x100, 0xF0)
            answer = (special if which == 2 else struct.pack("<Q", spaces.get(which, 0)))[:size]
            struct.pack_into("<I", fields, 12, len(answer))
        elif number == WRITE_CONTROL:
            fields[12:16] = fields[8:12]
        elif number == GET_VERSION:
            # RULE: the debugger data is reached through a pointer to a list
            version = (15, 19041, 6, 0, 7, 0x8664, 12, 3, 0x33, 0, 0)
            lists = (NT, machine.nt.address("PsLoadedModuleList"), machine.debugger_list)
            fields[:] = struct.pack("<HHBBHHBBBBHQQQ", *version, *lists)
        elif number == READ_MSR:
            (which,) = struct.unpack_from("<I", fields)
            value = {
                IA32_TSC: machine.clock,
                HV_TSC_FREQUENCY: TICKS_PER_SECOND,
                IA32_GS_BASE: PROCESSORS + processor * PROCESSOR_SIZE,
            }.get(which, 0)
            struct.pack_into("<II", fields, 4, value & 0xFFFF_FFFF, value >> 32)
        elif number == QUERY_MEMORY:
            struct.pack_into("<II", fields, 16, 2, 7)  # kernel space; read, write, execute
        elif number == CLEAR_ALL:
            return None  # RULE: this request has no answer
        else:
            self.report["unknown"].append(hex(number))
            status = UNSUCCESSFUL
        head = struct.pack("<IHHI4x", number, level, processor, status)
        self.wire.send(STATE_MANIPULATE, head + bytes(fields) + answer)
        return None

    # ---- the machine's life ------------------------------------------------------------------

    def run(self, wire: Wire) -> None:
        """Runs until SIGTERM."""
        self.wire = wire
        step = False
        while True:
            outcome = self.machine.run(1 if step else 20_000)
            self.ran += 1
            if outcome == "int3":
                step = self.stand(lambda: self.exception(BREAKPOINT))
            elif outcome == "fault":
                step = self.stand(lambda: self.exception(ACCESS_VIOLATION))
            elif step:
                step = self.stand(lambda: self.exception(SINGLE_STEP))
            elif self.wire.waiting(0 if self.machine.busy else IDLE):
                self.listen()
            elif self.resumed_at is not None:
                step = self.next_request()

    def listen(self) -> None:
        """While the machine runs only a reset or a break-in mean something."""
        packet = self.wire.receive(time.monotonic() + 1)
        if packet and packet.kind == RESET:
            self.wire.reset()
        elif packet and packet.kind == BREAK_IN:
            self.break_in()

    def break_in(self) -> None:
        """As KdPollBreakIn does: calls the routine that holds an int3."""
        machine = self.machine
        machine.set("rsp", machine.get("rsp") - 8)
        machine.write(machine.get("rsp"), struct.pack("<Q", machine.get("rip")))
        machine.set("rip", machine.nt.address("RtlpBreakWithStatusInstruction"))

    def next_request(self) -> bool:
        """Starts the next request of the scenario when its time has come."""
        machine = self.machine
        if not self.requests or machine.busy or self.resumed_at is None:
            return False
        armed = any(
            address in image
            for address, _ in self.breakpoints.values()
            for image in machine.filters.values()
        )
        if not armed and time.monotonic() - self.resumed_at < self.patience:
            return False
        request = self.requests.pop(0)
        verb, _, name = request.partition(" ")
        step = False
        if verb == "reboot":
            return self.reboot()
        if verb == "drop":
            image = machine.filters[name]
            step = self.stand(lambda: self.module_event(image, unload=True))
            for handle, (address, _) in list(self.breakpoints.items()):
                if image.base <= address < image.base + image.size:
                    del self.breakpoints[handle]  # as the kernel does
            machine.drop(image)
            return step
        if verb == "load":
            image = machine.filters[name]
            machine.show(image, there=True)
            step = self.stand(lambda: self.module_event(image, unload=False))
        machine.ask(request)
        return step

    def reboot(self) -> bool:
        """The machine says so, and begins anew: the debugger hears of nt first."""
        gone = struct.pack("<I4xQQIIB", 0, KD_REBOOT, 0, 0, 0, True)

        def farewell() -> bytes:
            record = self.state(0x3031)
            record[0x20 : 0x20 + len(gone)] = gone
            return bytes(record)

        self.stand(farewell)
        self.made += self.machine.made()
        self.breakpoints.clear()
        self.machine = Machine(self.machine.built, self.machine.scenario)
        self.wire.start()
        step = self.stand(lambda: self.module_event(self.machine.nt, unload=False))
        if self.wire.broken_in:  # RULE: the engine asks for its initial break while it connects
            self.break_in()
        return step

    def finish(self) -> dict[str, Any]:
        """What happened, for the test."""
        machine = self.machine
        return {
            **self.report,
            "made": self.made + machine.made(),
            "busy": machine.busy,
            "breakpoints": sorted(hex(address) for address, _ in self.breakpoints.values()),
            "ran_since_resume": self.ran,
            "left_to_do": self.requests,
        }


def main() -> None:
    """Serves one debugger after another until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--tty", type=Path)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--patience", type=float, default=PATIENCE)
    parser.add_argument("--stop-ticks", type=int, default=40_000)
    options = parser.parse_args()
    machine = Machine(compile_guest(options.folder), SCENARIOS[options.scenario])
    target = Target(machine, options.stop_ticks)
    target.patience = options.patience

    def end(*_: object) -> None:
        raise Ended

    signal.signal(signal.SIGTERM, end)
    signal.alarm(300)  # nobody waits longer for a test
    try:
        if options.tty:
            descriptor, line = os.openpty()  # the line stays open here, so reads never fail
            tty.setraw(descriptor)
            tty.setraw(line)
            options.tty.unlink(missing_ok=True)
            options.tty.symlink_to(os.ttyname(line))
            print("ready", flush=True)
        else:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(options.socket))
            listener.listen(1)
            print("ready", flush=True)
            connection = listener.accept()[0]
            descriptor = connection.fileno()
        target.run(Wire(descriptor))
    except (Ended, GoneError):
        options.report.write_text(json.dumps(target.finish()))


if __name__ == "__main__":
    main()
