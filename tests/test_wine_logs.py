"""What the debugger's log tells of a dump against what the dump itself tells.

The oracle is DbgEng 10.0.15063: it opens the dump and prints, we read what it printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES, shared_names, shared_sample
from wine import session

import analyzer
from analyzer.absence import is_absent
from analyzer.records import Module, Records

pytestmark = pytest.mark.live
COMMANDS = ("vertarget", ".bugcheck", "lm t n", "lmv m dump*", "r", "kv", ".dumpdebug", "||")
SYNTHETIC = (
    "healthy-arm64-full.dmp", "healthy-x64-kernel.dmp", "hibernation-x64-active.dmp",
    "mbr-x86-kernel.dmp", "minidump-x86.dmp",
)  # fmt: skip
REAL = [name for name in shared_names("dmp/*.dmp") if "triage" in name or "-01.dmp" in name]
EXACT = ("bugcheck", "build", "processors", "writer_status", "ps_loaded_module_list")
PARAMETERS = ("parameter1", "parameter2", "parameter3", "parameter4")
#: only a log can be without a captured call, or list some modules only
OF_A_LOG = {"log-no-session", "log-modules-partial"}


def log_of(dump: Path, folder: Path) -> Records:
    """The records of what the engine prints of a dump."""
    printed = session.debug(session.provided(), list(COMMANDS), dump)
    path = folder / "kd.log"
    pairs = zip(COMMANDS, printed)
    path.write_text("".join(f"0: kd> {command}\n{text}\n" for command, text in pairs))
    return analyzer.open(path).records


def plain(module: Module) -> tuple[Any, ...]:
    """A module as both call it: the debugger makes "_" of dots, and nt of the kernel."""
    name = str(module.name).lower().rpartition(".")[0] or str(module.name).lower()
    name = "nt" if name in ("ntoskrnl", "ntkrnlmp", "ntkrnlpa") else name.replace(".", "_")
    return module.base, module.end, name, bool(module.loaded)


@pytest.mark.parametrize("name", [*SYNTHETIC, *REAL])
def test_the_log_tells_what_the_dump_tells(name: str, tmp_path: Path) -> None:
    """Machine, modules and findings; times as exactly as the debugger prints them."""
    path = SAMPLE_TRACES / name if name in SYNTHETIC else shared_sample(name)
    log, dump = log_of(path, tmp_path), analyzer.open(path).records
    (told,), (true,) = log["machine"], dump["machine"]
    for field in (*EXACT, *PARAMETERS):
        shown = getattr(told, field)
        assert is_absent(shown) or shown == getattr(true, field), field
    assert {told.bugcheck, told.build, told.processors}.isdisjoint({None})
    assert str(true.architecture).startswith(str(told.architecture))
    assert told.system_time == true.system_time // 1_000_000 * 1_000_000
    assert told.uptime_ns == true.uptime_ns // 1_000_000 * 1_000_000
    assert (told.dump_type == 4) == (true.dump_type == 4)
    assert set(map(plain, log["modules"])) == set(map(plain, dump["modules"]))
    findings = {finding.rule for finding in log["findings"]} - OF_A_LOG
    assert findings <= {finding.rule for finding in dump["findings"]}
