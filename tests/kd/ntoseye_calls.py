"""Runs natively: ``ntoseye_calls.py SOCKET COUNT ADDRESS...``, prints what ntoseye sees as JSON.

Stops at each of the addresses and at the return of each call, COUNT stops in all. A program of its
own, so that a debugger that never answers ends with it.
"""

from __future__ import annotations

import json
import sys

import ntoseye


def main(socket: str, count: str, *addresses: str) -> None:
    """Prints modules and stops."""
    entries = {int(address, 16) for address in addresses}
    stops = []
    with ntoseye.attach(
        backend="kd", connect=socket, memory_source="kd", kd_handshake_timeout=15
    ) as debugger:
        modules = [(module.name, module.base) for module in debugger.modules]
        kept = {address: debugger.breakpoints.add(address) for address in entries}
        for _ in range(int(count)):
            if debugger.run(timeout=20.0) is None:
                break
            registers = debugger.cpus[0].registers
            stop = {"rip": registers.rip, "rax": registers.rax, "rcx": registers.rcx}
            stop["tsc"] = debugger.command("rdmsr 10")
            if registers.rip in entries:
                stop["extension"] = bytes(debugger.memory.read(registers.rcx, 0x58)).hex()
                back = int.from_bytes(debugger.memory.read(registers.rsp, 8), "little")
                if back not in kept:
                    kept[back] = debugger.breakpoints.add(back)
            stops.append(stop)
    print(json.dumps({"modules": modules, "stops": stops}))


if __name__ == "__main__":
    main(*sys.argv[1:])
