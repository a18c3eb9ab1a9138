"""The simulated machine by itself, before a debugger looks at it."""

from __future__ import annotations

import pytest
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest


def life(machine: Machine) -> None:
    """Runs all requests of the scenario, without a debugger."""
    for request in machine.scenario.requests:
        if request == "reboot":
            return  # the second boot is as the first
        if request.startswith("drop "):
            machine.drop(machine.filters[request[5:]])
            continue
        machine.ask(request)
        for _ in range(50):
            assert machine.run(20_000) == "ran"
            if not machine.busy:
                break


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_guest_does_what_the_scenario_says(name: str) -> None:
    """Order, status and cost of every call, as the guest's own log tells them."""
    scenario = SCENARIOS[name]
    machine = Machine(guest()[1], scenario)
    before = machine.clock
    life(machine)
    assert machine.made() == [
        (call.filter, call.callback, call.status, machine.processor)
        for call in scenario.calls
        if not call.hangs
    ]
    assert machine.clock - before == sum(call.ticks for call in scenario.calls)
    assert machine.busy == any(call.hangs for call in scenario.calls)
