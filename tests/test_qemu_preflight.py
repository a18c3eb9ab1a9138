"""The pre-flight of a healthy virtual machine, and the crash that follows.

Real QEMU runs the guest. The dry run asks the running machine through its monitor; then the machine
is made to crash, its own processor calls the filters, and a snapshot is taken. Oracles: QEMU's own
reading of the words that the guest's crashdmp wrote, and the guest's generator.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import guest_machine
import guest_qemu
import pytest
from oracles import needs

import analyzer
from analyzer.cli import main
from analyzer.dryrun.ask import Ask
from analyzer.errors import InputError

pytestmark = pytest.mark.live
LONG = ("--max-stop", "20")  # this machine may be under load
SUCCESS, NO_RESOURCES = 0, 0xC000009A
#: what the second filter's buffer holds, and what its Dump_Start then returns
BUFFERS = {
    "too small": (guest_machine.BUFFER - 1, NO_RESOURCES),
    "enough": (guest_machine.BUFFER, SUCCESS),
}


class Flight(NamedTuple):
    """One machine, before its crash and in it."""

    status: int  #: of the second filter's Dump_Start, by its making
    truth: dict[str, Any]
    rows: list[dict[str, Any]]  #: of ``dumpstart dryrun qmp:SOCKET``
    exit_code: int  #: of that command
    answer: str  #: of ``dumpstart analyze qmp:SOCKET``
    before: Any  #: records of the running machine
    untouched: bool  #: the dry run left the machine's memory alone, and the machine ran on
    recorded: tuple[
        int, int, int
    ]  #: routine, status, state that crashdmp wrote, as QEMU reads them
    after: Path  #: the snapshot


def said(*arguments: str) -> tuple[int, str]:
    """The command's exit code and output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(list(arguments))
    return code, out.getvalue()


def words(qemu: guest_qemu.Qemu, address: int, count: int) -> list[int]:
    """Pointers in the guest's memory, as QEMU reads them."""
    text = qemu.monitor(f"x /{count}gx {address:#x}")
    return [int(word, 16) for word in re.findall(r"(?<=[:\s])0x([0-9a-f]{16})\b", text)]


@pytest.fixture(scope="module", params=BUFFERS)
def flight(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flight]:
    """Pre-flight, crash, snapshot."""
    guest_qemu.need_tools()
    needs("unicorn")
    folder = tmp_path_factory.mktemp("guest")
    buffer, status = BUFFERS[request.param]
    guest = guest_machine.make(folder, "", buffer=buffer)
    truth = guest.truth
    first, second = truth["filters"]
    failure = truth["context"]["failing_routine_address"]
    with guest_qemu.running(guest, folder) as qemu:
        path = f"qmp:{qemu.second_path}"

        def wrote() -> tuple[int, int, int]:
            """The routine and status of the last failure, and the second filter's state."""
            (state,) = words(qemu, second["state_address"], 1)
            routine, failed = words(qemu, failure, 2)
            return routine, failed & 0xFFFFFFFF, state & 0xFFFFFFFF

        exit_code, listed = said("dryrun", path, "--format", "json", *LONG)
        answer = said("analyze", path, *LONG)[1]
        before = analyzer.open(path, dry_run=Ask(callbacks=("Dump_Start",)), max_stop=20).records
        is_running = bool(qemu.ask("query-status")["running"])
        untouched = is_running and wrote() == (0, 0, 0)
        qemu.press(guest_machine.KEY_OF_CRASH)
        waits = truth["labels"][first["filter"]]["WaitForDevice"]
        qemu.wait_at(waits, waits + 0x40)  # all filters were started, the first one writes
        after = qemu.take("elf", folder / "after")
        yield Flight(status, truth, json.loads(listed), exit_code, " ".join(answer.split()), before,
                     untouched, wrote(), after)  # fmt: skip


def starts(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of each filter's Dump_Start, as Windows calls it in a crash."""
    return {
        r["filter"]: r for r in rows if r["callback"] == "Dump_Start" and r["windows"] == "does"
    }


def test_the_machine_had_not_crashed(flight: Flight) -> None:
    """What the source says; nothing of the machine was changed, and it ran on."""
    (machine,) = flight.before["machine"]
    assert machine.bugcheck == 0
    assert flight.before["sources"][0].subtype.startswith("asked of its hypervisor")
    assert flight.untouched
    assert all(row["had_crashed"] is False for row in flight.rows)
    assert "the machine had not crashed" in flight.answer


def test_what_was_said_before_is_what_the_crash_recorded(flight: Flight) -> None:
    """The filter, its routine and its status: dry run, QEMU, snapshot."""
    first, second = (f["filter"] for f in flight.truth["filters"])
    told = starts(flight.rows)
    assert [(told[name]["outcome"], int(told[name]["status"], 16)) for name in (first, second)] == [
        ("returns", SUCCESS),
        ("returns", flight.status),
    ]
    assert told[second]["text"].startswith("Called now, Dump_Start returns")
    routine = flight.truth["filters"][1]["init"]["DumpStart"]
    has_failed = flight.status != SUCCESS
    assert flight.recorded == ((routine, flight.status, 1) if has_failed else (0, 0, 0))
    records = analyzer.open(str(flight.after)).records
    assert records["machine"][0].bugcheck == 0xD1
    rows = {(r.filter, r.callback): r for r in records["callbacks"]}
    failed = [(r.filter, r.callback, r.status) for r in rows.values() if isinstance(r.status, int)]
    assert failed == ([(second, "Dump_Start", flight.status)] if has_failed else [])
    assert rows[second, "Dump_Start"].was_called == "likely"
    assert rows[first, "Dump_Start"].was_called == "likely"
    assert [f.is_disabled for f in records["filters"]] == [False, has_failed]


def test_the_findings_before_and_after_agree(flight: Flight) -> None:
    """An error of the second filter in both, or in neither."""
    second = flight.truth["filters"][1]["filter"]
    after = analyzer.open(str(flight.after)).records["findings"]
    before = flight.before["findings"]
    errors = [
        {(f.rule, f.text.split(" ")[0]) for f in found if f.severity == "error"}
        for found in (before, after)
    ]
    if flight.status == SUCCESS:
        assert errors == [set(), set()]
        assert flight.exit_code == 0
        return
    assert errors[0] == {("dry-run-fails", second)}
    assert {rule for rule, _ in errors[1]} == {"filter-callback-failed", "filter-disabled"}
    assert all(second in f.text for f in after if f.severity == "error")
    assert flight.exit_code == 1
    assert "Dump_Start returns STATUS_INSUFFICIENT_RESOURCES (0xc000009a)" in flight.answer


def test_the_deciding_value_is_named(flight: Flight) -> None:
    """The pre-flight leads to the buffer."""
    row = starts(flight.rows)[flight.truth["filters"][1]["filter"]]
    assert (row["members_read"], row["depends_on"]) == ("DumpData", "DumpData")


def test_a_device_is_not_guessed(flight: Flight) -> None:
    """The first filter's Dump_Write asks a device; in the crash it waited for it."""
    first = flight.truth["filters"][0]["filter"]
    rows = [r for r in flight.rows if (r["filter"], r["callback"]) == (first, "Dump_Write")]
    assert rows
    assert {row["outcome"] for row in rows} == {"stopped"}
    assert all("port" in row["text"] for row in rows)
    (processor, _) = analyzer.open(str(flight.after)).records["processors"]
    assert (processor.filter, processor.callback) == (first, "Dump_Write")


def test_called_again_after_the_crash(flight: Flight) -> None:
    """The same status, in words that leave the crash's own call alone."""
    ask = Ask(filters=(flight.truth["filters"][1]["filter"],), callbacks=("Dump_Start",))
    row = analyzer.open(str(flight.after), dry_run=ask).records["dry_runs"][0]
    assert (row.outcome, row.status) == ("returns", flight.status)
    assert row.text.startswith("Called again on this memory")
    assert row.had_crashed is True


def test_the_limit_of_the_stop_leaves_no_guess(tmp_path: Path) -> None:
    """Where the machine runs on before the emulator has what it needs, nothing is claimed."""
    guest_qemu.need_tools()
    needs("unicorn")
    guest = guest_machine.make(tmp_path, "", buffer=0)
    with guest_qemu.running(guest, tmp_path) as qemu:
        path = f"qmp:{qemu.second_path}"
        with pytest.raises(InputError, match="before Windows was found") as error:
            analyzer.open(path, max_stop=0.0001)
        assert "--max-stop" in str(error.value)
        for limit in ("0.02", "0.1", "0.3"):
            command = ["dryrun", path, "--callback", "Dump_Start", "--max-stop", limit]
            code, text = said(*command)
            is_late = code == 2 or "reading-stopped" in text
            whole = text.count("Dump_Start returns STATUS_INSUFFICIENT_RESOURCES")
            print(f"--max-stop {limit}: exit {code}, late {is_late}, told {whole}")
            assert whole or is_late, text
            assert code != 0
        assert qemu.ask("query-status")["running"]
