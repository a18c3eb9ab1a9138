"""What the simulated machine does, as data: its filters, what is asked of it, each call's outcome.

Invariant: ``calls`` is the whole truth of a scenario: the guest's scripts are made from it, and
what the guest did is compared with it.
"""

from __future__ import annotations

from typing import NamedTuple

#: of the simulated time stamp counter
TICKS_PER_SECOND = 2_500_000_000
CALLBACKS = ("Dump_Start", "Dump_Write", "Dump_Finish", "Dump_Unload", "Dump_Read")
CRASH, HIBERNATION = 1, 2
STATUS_UNSUCCESSFUL = 0xC0000001


class Call(NamedTuple):
    """One call of a callback: what it costs, returns and changes."""

    filter: str
    callback: str
    ticks: int
    status: int = 0
    hangs: bool = False
    poke_at: int = 0  #: offset in FILTER_EXTENSION of a ULONG that it changes; 0: none
    poke: int = 0


class Scenario(NamedTuple):
    """One life of the machine."""

    calls: tuple[Call, ...]
    #: load NAME, dump, hibernate, unload NAME (its callback), drop NAME (its image), reboot; the
    #: first waits for a debugger
    requests: tuple[str, ...] = ("dump",)
    filters: tuple[str, ...] = ("dump_alpha.sys", "dump_beta.sys")
    late: tuple[str, ...] = ()  #: filters that are not loaded at the start
    writes: int = 2
    reads: int = 0
    processors: int = 1
    dumping_processor: int = 0
    hibernation_stack: bool = False
    boots: int = 1  #: how often all of ``calls`` happens


def calls(*rows: str) -> tuple[Call, ...]:
    """Calls written as "filter callback ticks"."""
    found = []
    for row in rows:
        name, callback, ticks = row.split()
        found.append(Call(name, callback, int(ticks)))
    return tuple(found)


ALPHA, BETA = "dump_alpha.sys", "dump_beta.sys"
NORMAL = calls(
    "dump_alpha.sys Dump_Start 250000",  # 100 us
    "dump_beta.sys Dump_Start 125000",
    "dump_alpha.sys Dump_Write 2500000",
    "dump_beta.sys Dump_Write 5000",
    "dump_alpha.sys Dump_Write 3750000",
    "dump_beta.sys Dump_Write 10000",
    "dump_alpha.sys Dump_Finish 25000",
    "dump_beta.sys Dump_Finish 50000",
)
SCENARIOS = {
    "normal": Scenario(NORMAL),
    # crashdmp drops a filter that failed and goes on
    "failing": Scenario(
        (
            NORMAL[0],
            NORMAL[1]._replace(status=STATUS_UNSUCCESSFUL),
            NORMAL[2],
            NORMAL[4],
            NORMAL[6],
        )
    ),
    "hang": Scenario((NORMAL[0], NORMAL[1], NORMAL[2], NORMAL[3]._replace(hangs=True))),
    "late": Scenario(NORMAL, requests=("load dump_beta.sys", "dump"), late=(BETA,)),
    "unload": Scenario(
        (*NORMAL, Call(BETA, "Dump_Unload", 75000)), requests=("dump", "unload dump_beta.sys")
    ),
    "hibernation": Scenario(
        calls(
            "hiber_alpha.sys Dump_Start 250000",
            "hiber_alpha.sys Dump_Write 2500000",
            "hiber_alpha.sys Dump_Read 1250000",
            "hiber_alpha.sys Dump_Finish 25000",
        ),
        requests=("hibernate",),
        filters=("dump_alpha.sys", "hiber_alpha.sys"),
        writes=1,
        reads=1,
        hibernation_stack=True,
    ),
    "processors": Scenario(NORMAL, processors=2, dumping_processor=1),
    "reboot": Scenario(NORMAL, requests=("dump", "reboot", "dump"), boots=2),
    # the image is gone while its callbacks are watched; the dump goes on without it
    "dropped": Scenario(
        (Call(BETA, "Dump_Unload", 75000), *(c for c in NORMAL if c.filter == ALPHA)),
        requests=("unload dump_beta.sys", "drop dump_beta.sys", "dump"),
    ),
    # the first callback changes FILTER_EXTENSION.Flags
    "mutated": Scenario((NORMAL[0]._replace(poke_at=0x54, poke=0x11223344), *NORMAL[1:])),
}
