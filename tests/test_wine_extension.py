"""The commands inside a debugger: pykd loaded as an extension into a host of the real engine.

The host runs ``.load pykd`` and ``!py -g SCRIPT`` as a WinDbg user does; the ``!py`` of pykd's own
library loses arguments, so each script names its command.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
from kd import expect
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest, simulated
from wine import session
from wine.provision import windows_path

import analyzer
from analyzer.live import instructions
from analyzer.reports import write

pytestmark = pytest.mark.live
Find = Callable[[str], Path]
#: lines of a FILTER_EXTENSION in the report of each: the x64 one holds a dump stack context
TRIAGE = {
    "dmp/rizinorg_rizin-testbins__triage_x64.dmp": 16,
    "dmp/rizinorg_rizin-testbins__triage_arm64.dmp": 0,
}


def extension(folder: Path, *arguments: str) -> str:
    """The debugger's command that runs ``!dumpstart ARGUMENTS``."""
    script = folder / f"{arguments[0]}.py"
    script.write_text(f"from analyzer.live.extension import main\nmain({list(arguments)!r})\n")
    return f"!py -g {windows_path(script)}"


def load() -> str:
    """The command that loads pykd."""
    return f".load {windows_path(session.provided().extension)}"


# ---- on the live machine -------------------------------------------------------------------------


class Session(NamedTuple):
    """One session in the host: armed, run, reported."""

    capture: Any
    log: Any
    printed: dict[str, str]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A filter that fails, seen by the extension; the engine's own log runs along."""
    return session.twice(lambda: live_session(tmp_path_factory.mktemp("extension")))


def live_session(folder: Path) -> Session:
    """One session of the engine."""
    wine, machine = session.provided(), Machine(guest()[1], SCENARIOS["failing"])
    capture, log = folder / "capture.jsonl", folder / "session.log"
    arm = ["arm", "--output", windows_path(capture), "--writes", "all", "--facts"]
    commands = {
        "reload": ".reload",
        "load": load(),
        "log": f".logopen {windows_path(log)}",
        "arm": extension(folder, *arm),
        "end": f"bp {machine.nt.address('KiRequestDone'):#x}",
        "go": "g",
        "callbacks": extension(folder, "callbacks"),
        "report": extension(folder, "report"),
        "stop": extension(folder, "stop"),
        "close": ".logclose",
        "clear": "bc *",
        "quit": "qd",
    }
    with simulated("failing", tty=wine.port) as target:
        printed = session.debug(wine, list(commands.values()))
        report = target.end()
    opened = [analyzer.open(str(path)) for path in (capture, log)]
    return Session(*opened, dict(zip(commands, printed)), report)


def test_the_capture_has_every_call(live: Session) -> None:
    """Filter, callback, status and exact duration of every call."""
    expect.calls("failing", live.capture)
    expect.findings("failing", live.capture)


def test_the_engines_log_is_a_capture_too(live: Session) -> None:
    """What ``.logopen`` wrote of the session gives the same callbacks as the capture file."""
    told = [
        [tuple(row)[:-1] for row in case.records["callbacks"]] for case in (live.log, live.capture)
    ]
    assert told[0] == told[1]


def test_the_report_inside_the_debugger(live: Session) -> None:
    """``report`` tells the failed Dump_Start in words, within 80 columns."""
    text = live.printed["report"]
    assert "filter-callback-failed" in text
    assert "0xc0000001" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    said = " ".join(answer(text))
    assert "Dump_Start of dump_beta.sys" in said, said
    assert "whether a dump was written is not known" in said


def test_the_machine_runs_on(live: Session) -> None:
    """After the session no breakpoint is left and the machine is not left standing."""
    expect.runs_on("failing", live.report)


def test_a_stop_of_the_users_own(tmp_path: Path) -> None:
    """A wait of three seconds at a breakpoint inside a callback is not the callback's time."""
    case = session.twice(lambda: paused(tmp_path))
    rows = {
        (row.filter, row.callback): row
        for row in case.records["callbacks"]
        if row.callback in ("Dump_Start", "Dump_Finish") and row.was_called == "yes"
    }
    beta = rows["dump_beta.sys", "Dump_Start"]
    assert "stood in the debugger" in str(beta.duration_ns)
    assert beta.duration_low_ns == 0
    assert rows["dump_alpha.sys", "Dump_Start"].duration_ns == 100_000  # as scripted
    assert rows["dump_alpha.sys", "Dump_Finish"].duration_ns == 10_000
    rules = {row.rule for row in case.records["findings"]}
    assert "duration-paused" in rules
    assert not rules & {"callback-slow", "capture-error"}


def paused(folder: Path) -> Any:
    """The capture of a session whose user stops inside Dump_Start of dump_beta."""
    wine, machine = session.provided(), Machine(guest()[1], SCENARIOS["failing"])
    capture = folder / "paused.jsonl"
    capture.unlink(missing_ok=True)
    entry = machine.filters["dump_beta.sys"].address("DumpStart")
    inside = entry + (instructions.length(machine.read(entry, 16), "x64") or 0)
    assert inside > entry
    arm = ["arm", "--output", windows_path(capture), "--quiet"]
    commands = [
        *(".reload", load(), extension(folder, *arm), f"bp {inside:#x}"),
        *(f"bp {machine.nt.address('KiRequestDone'):#x}", "g", ".sleep 0n3000", "g"),
        *(extension(folder, "stop"), "bc *", "qd"),
    ]
    with simulated("failing", tty=wine.port) as target:
        session.debug(wine, commands)
        target.end()
    return analyzer.open(str(capture))


# ---- on an open dump -----------------------------------------------------------------------------


def in_the_debugger(path: Path, folder: Path) -> str:
    """What ``report`` prints when the host has opened a dump."""
    commands = [load(), extension(folder, "report")]
    return session.debug(session.provided(), commands, path)[1]


def outside(path: Path) -> str:
    """What ``dumpstart analyze`` prints of it."""
    return "".join(write(analyzer.open(str(path)).records, "text", details=True))


def facts(text: str) -> dict[str, list[str]]:
    """The lines that state facts: fields of extensions, routines, modules of the stack, crash."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    # the commands leave unloaded modules out
    stack = r"(\S+ +dump (?:port driver|miniport|filter) +0x[0-9a-f]{16})"
    crash = re.search(r"^ +bugcheck +.*\n +parameters +.*\n +.*$", text, re.M)
    return {
        "fields": [line for line in lines if re.match(r"\+0x[0-9a-f]{3} ", line)],
        "routines": re.findall(r"^ +(Dump_\w+ +\S+\+0x[0-9a-f]+)", text, re.M),
        "stack": sorted(re.findall(rf"^ +{stack}(?! +unloaded)", text, re.M)),
        "crash": crash.group(0).split() if crash else [],
        "answer": answer(text),
    }


def answer(text: str) -> list[str]:
    """The words of the sentences that a report begins with."""
    found = re.search(r"^(?:The machine|Dump_Start|Processor) .*?(?=^$)", text, re.M | re.S)
    assert found, text
    return found.group(0).split()


def test_a_synthetic_dump(sample: Find, tmp_path: Path) -> None:
    """Extensions, routines, dump stack and crash from the engine's memory and from our reader."""
    path = sample("healthy-x64-kernel.dmp")
    report = in_the_debugger(path, tmp_path)
    told, own = facts(report), facts(outside(path))
    assert len(own["fields"]) == 32  # two filters
    assert len(own["stack"]) == 4
    assert told == own
    assert "a kernel bitmap dump was written" in " ".join(own["answer"])
    # the engine reads time stamps from image headers, which this dump leaves out
    assert "module-copy-differs" not in report


@pytest.mark.parametrize("name", TRIAGE)
def test_a_real_dump(name: str, shared_sample: Find, tmp_path: Path) -> None:
    """Extension, dump stack and crash of a real machine."""
    path = shared_sample(name)
    told, own = facts(in_the_debugger(path, tmp_path)), facts(outside(path))
    assert len(own["stack"]) == 3
    assert len(own["fields"]) == TRIAGE[name]
    assert own["crash"]
    assert told == own
