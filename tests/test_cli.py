"""The command: arguments, output, exit codes; run in this process unless the process matters."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
from conftest import SAMPLE_TRACES, shared_sample

from analyzer import __version__, cli, records
from analyzer.checks import RULES
from analyzer.progress import Bar

HEALTHY = str(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
WORST = str(SAMPLE_TRACES / "broken-x64-worst.dmp")


class Outcome(NamedTuple):
    """What a run gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command in this process."""

    def call(*arguments: str) -> Outcome:
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "analyzer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def one_sentence(outcome: Outcome) -> str:
    """The error of a run that could not do its work; nothing else may be written."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("dumpstart: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    return outcome.err


# -- analyze -----------------------------------------------------------------------------------


def test_analyze_of_a_healthy_dump_is_clean(run: Callable[..., Outcome]) -> None:
    """Exit code 0, the report on stdout, nothing on stderr."""
    outcome = run("analyze", HEALTHY)
    assert outcome.code == 0
    assert outcome.out.startswith("The machine crashed with bugcheck 0xD1")
    assert outcome.err == ""


@pytest.mark.parametrize(("fail_on", "code"), [("error", 1), ("warning", 1), ("never", 0)])
def test_fail_on_decides_the_exit_code(
    run: Callable[..., Outcome], fail_on: str, code: int
) -> None:
    """The worst sample has errors."""
    assert run("analyze", WORST, "--fail-on", fail_on).code == code


def test_analyze_as_json(run: Callable[..., Outcome]) -> None:
    """The whole of stdout is one JSON document."""
    report = json.loads(run("analyze", WORST, "--format", "json").out)
    assert report["schema"] == 2
    assert {f["severity"] for f in report["tables"]["findings"]} == {"error", "warning", "info"}


def test_output_goes_to_a_file(run: Callable[..., Outcome], tmp_path: Path) -> None:
    """The file holds what stdout would, and stdout is empty."""
    path = tmp_path / "report.txt"
    outcome = run("analyze", HEALTHY, "--output", str(path))
    assert outcome == (0, "", "")
    assert path.read_text("utf-8") == run("analyze", HEALTHY, "--output", "-").out


def test_output_never_overwrites_an_input(run: Callable[..., Outcome], tmp_path: Path) -> None:
    """Evidence is not lost to a slip of the keyboard."""
    path = tmp_path / "case.dmp"
    content = Path(HEALTHY).read_bytes()
    path.write_bytes(content)
    error = one_sentence(run("analyze", str(path), "--output", str(path)))
    assert "would overwrite an input" in error
    assert path.read_bytes() == content


def test_output_that_cannot_be_written_is_an_error(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    """The sentence names the output."""
    target = str(tmp_path / "no" / "report.txt")
    assert target in one_sentence(run("analyze", HEALTHY, "--output", target))


def test_analyze_of_the_real_x64_minidump(run: Callable[..., Outcome]) -> None:
    """The page names crash, stack and filter, and says what is not determined."""
    path = shared_sample("dmp/rizinorg_rizin-testbins__triage_x64.dmp")
    outcome = run("analyze", str(path))
    text = " ".join(outcome.out.split())
    assert outcome.code == 0
    # Oracle: samples/INDEX.md and facts on this file: one filter in the list, 512-byte sectors.
    assert "build 19041" in text
    assert "0x1000007E (SYSTEM_THREAD_EXCEPTION_NOT_HANDLED_M)" in text
    assert "According to the module list, the dump stack contained dump_dumpfve.sys." in text
    assert "1 TB disk, GPT, 512-byte sectors (reconstructed)" in text
    assert "This input does not show what Dump_Start returned, how long it took," in text
    assert "reconstructed" in text
    assert [line for line in outcome.out.splitlines() if len(line) > 80] == []


# -- inputs ------------------------------------------------------------------------------------


def test_an_unusable_input_is_one_sentence(run: Callable[..., Outcome], tmp_path: Path) -> None:
    """The kind is named, for every command that opens files."""
    path = tmp_path / "user.dmp"
    path.write_bytes(b"MDMP\x93\xa7")
    for arguments in (("analyze",), ("info",), ("show", "modules")):
        assert "user-mode minidump" in one_sentence(run(*arguments, str(path)))


def test_hostile_file_names_are_escaped(run: Callable[..., Outcome]) -> None:
    """A file name cannot send escapes to the terminal."""
    assert "\\x1b[2J" in one_sentence(run("analyze", "no\x1b[2J\nfile"))


def test_wildcards_are_filled_in(run: Callable[..., Outcome], tmp_path: Path) -> None:
    """cmd.exe does not do it, so the program does."""
    for name in ("b.dmp", "a.dmp"):
        (tmp_path / name).write_bytes(Path(HEALTHY).read_bytes())
    outcome = run("show", "sources", str(tmp_path / "*.dmp"), "--format", "json")
    names = [os.path.basename(row["path"]) for row in json.loads(outcome.out)]
    assert names == ["a.dmp", "b.dmp"]


def test_a_file_with_brackets_in_its_name_is_no_wildcard(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    """A name that exists is taken as it is."""
    path = tmp_path / "case[1].dmp"
    path.write_bytes(Path(HEALTHY).read_bytes())
    assert run("analyze", str(path)).code == 0


def test_a_wildcard_without_a_match_is_an_error(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    """An empty match must not look like a clean result."""
    error = one_sentence(run("analyze", str(tmp_path / "*.dmp")))
    assert "no file matches" in error


# -- info, show, explain -----------------------------------------------------------------------


def test_info_tells_kind_and_limits(run: Callable[..., Outcome]) -> None:
    """What the file is, what it can tell, what it cannot."""
    outcome = run("info", HEALTHY)
    assert outcome.code == 0
    assert "kernel dump" in outcome.out
    assert "  can tell " in outcome.out
    assert "  cannot tell " in outcome.out


def test_info_of_a_broken_dump_is_no_failure(run: Callable[..., Outcome]) -> None:
    """Only analyze judges."""
    assert run("info", WORST).code == 0


@pytest.mark.parametrize("table", records.TABLES)
def test_show_gives_the_same_rows_in_each_format(run: Callable[..., Outcome], table: str) -> None:
    """CSV has as many rows as JSON; text has none where they have none."""
    rows = json.loads(run("show", table, HEALTHY, "--format", "json").out)
    cells = list(csv.reader(io.StringIO(run("show", table, HEALTHY, "--format", "csv").out)))
    assert len(cells) == 1 + len(rows)
    text = run("show", table, HEALTHY).out
    assert ("has no rows" in text) == (not rows)


def test_show_of_an_unknown_table_lists_the_tables(run: Callable[..., Outcome]) -> None:
    """The user need not look them up, where none has a similar name."""
    error = one_sentence(run("show", "zzz", HEALTHY))
    assert "there is no table 'zzz'" in error
    assert all(table in error for table in records.TABLES)


def test_show_events_with_conditions(run: Callable[..., Outcome]) -> None:
    """Provider, ids and times pick rows; the traces of two files are one stream in time order."""
    traces = [
        str(shared_sample(f"etl/{name}.etl"))
        for name in ("microsoft_krabsetw__powershell", "microsoft_perfview__primitive-types")
    ]

    def events(*arguments: str) -> list[dict[str, Any]]:
        out = run("show", "events", *traces, "--format", "json", *arguments).out
        return json.loads(out)  # type: ignore[no-any-return]

    everything = events()
    assert len(everything) == 114 + 7  # Oracle: samples/INDEX.md
    times = [row["time"] for row in everything]
    assert times == sorted(times)
    provider, number = everything[-1]["provider_id"], everything[-1]["event_id"]
    picked = events("--provider", provider, "--id", str(number))
    assert picked
    assert picked == [
        row for row in everything if (row["provider_id"], row["event_id"]) == (provider, number)
    ]
    middle = times[60]
    assert events("--to", middle) == [row for row in everything if row["time"] <= middle]
    assert events("--from", middle) == [row for row in everything if row["time"] >= middle]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("events", HEALTHY, "--from", "noon"), "'noon' is no UTC time"),
        (("modules", HEALTHY, "--id", "3"), "are for the table events"),
    ],
)
def test_wrong_conditions_are_one_sentence(
    run: Callable[..., Outcome], arguments: tuple[str, ...], problem: str
) -> None:
    """A condition that does not work must not look like an empty result."""
    assert problem in one_sentence(run("show", *arguments))


def test_explain_lists_all_rules(run: Callable[..., Outcome]) -> None:
    """One line each, errors first."""
    lines = run("explain").out.splitlines()
    assert {line.split()[1] for line in lines} == set(RULES)
    severities = [line.split()[0] for line in lines]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_explain_of_each_rule(run: Callable[..., Outcome], rule: str) -> None:
    """Meaning, reason and next step are there."""
    outcome = run("explain", rule)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{rule} ({RULES[rule].severity})")
    text = " ".join(outcome.out.split())
    assert all(part in text for part in (RULES[rule].meaning, RULES[rule].why))
    assert RULES[rule].next_step in text
    assert [line for line in outcome.out.splitlines() if len(line) > 80] == []


def test_explain_of_an_unknown_rule_lists_the_rules(run: Callable[..., Outcome]) -> None:
    """The user need not look them up."""
    error = one_sentence(run("explain", "filter-disable"))
    assert "there is no rule 'filter-disable'" in error
    assert "filter-disabled" in error


# -- usage -------------------------------------------------------------------------------------


def test_version(run: Callable[..., Outcome]) -> None:
    """Name and version, nothing else."""
    assert run("--version") == (0, f"dumpstart {__version__}\n", "")


@pytest.mark.parametrize("switch", ["-?", "-h", "--help"])
@pytest.mark.parametrize("command", [(), ("analyze",), ("info",), ("show",), ("explain",)])
def test_help(run: Callable[..., Outcome], command: tuple[str, ...], switch: str) -> None:
    """Debugger users type -?."""
    outcome = run(*command, switch)
    assert outcome.code == 0
    assert outcome.out.startswith("usage: dumpstart")
    assert outcome.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("analyze",),
        ("analyze", HEALTHY, "--format", "docx"),
        ("analyze", HEALTHY, "--fail-on", "info"),
        ("show", "filters"),
        ("show", "filters", HEALTHY, "--format", "html"),
        ("analyze", HEALTHY, "--no-such-option"),
        ("analyze", HEALTHY, "--form", "json"),
    ],
)
def test_wrong_usage_is_one_sentence(
    run: Callable[..., Outcome], arguments: tuple[str, ...]
) -> None:
    """Exit code 2, and where to find the usage."""
    assert "-?' shows the usage" in one_sentence(run(*arguments))


# -- the process -------------------------------------------------------------------------------


def test_a_closed_pipe_is_no_error() -> None:
    """`dumpstart ... | head -1` must not end in a traceback."""
    command = [sys.executable, "-m", "analyzer", "analyze", HEALTHY, "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        error = started.stderr.read()
    assert error == b""
    assert started.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_is_one_sentence() -> None:
    """A report that could not be written must not look written."""
    command = [sys.executable, "-m", "analyzer", "analyze", HEALTHY]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("dumpstart: stdout: the output cannot be written: no space left")
    assert done.stderr.count("\n") == 1


def test_a_console_that_holds_ascii_only_is_no_error(tmp_path: Path) -> None:
    """A name outside the console's encoding is shown escaped."""
    path = tmp_path / "dump-\u00e4\u4e2d.dmp"
    path.write_bytes(Path(HEALTHY).read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for format in ("text", "csv", "json"):
        done = process("show", "sources", str(path), "--format", format, env=environment)
        assert done.stderr == ""
        assert done.returncode == 0
        assert "\\xe4\\u4e2d" in done.stdout or "\\u00e4\\u4e2d" in done.stdout


def test_no_colour_in_a_pipe() -> None:
    """Escapes are for terminals."""
    assert "\x1b" not in process("analyze", WORST).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are a Unix thing")
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_on_a_terminal(environment: dict[str, str], coloured: bool) -> None:
    """Colour where a terminal shows it, unless the user does not want any."""
    import pty

    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "analyzer", "analyze", WORST]
    with subprocess.Popen(command, stdout=slave, env={**inherited, **environment}) as started:
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
    os.close(master)
    assert started.returncode == 1
    assert (b"\x1b[31merror\x1b[0m" in shown) == coloured


HEAVY = ("numpy", "pandas", "matplotlib", "jinja2")
WITHOUT_HEAVY = f"""
import sys
from analyzer.absence import Absent
from analyzer.case import Case
from analyzer.records import Finding, Origin, Records
made = Records()
made.add(Finding("a", "error", "b", "c", "d", (), {{}}, Origin("f", "g")))
case = Case(made)
case.report(), case.report("json"), case.exit_code()
from analyzer import cli
from analyzer.progress import Bar
for arguments in (["--version"], ["explain"], ["explain", "dump-file-cut"]):
    assert cli.main(arguments) == 0
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


def test_reports_and_command_line_load_no_heavy_library() -> None:
    """pandas takes longer to load than a minidump to read."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAVY], capture_output=True, text=True, check=False
    )
    assert done.stderr == "[]\n"


def test_analyze_of_a_dump_loads_no_pandas() -> None:
    """The text report of a dump is made from records."""
    script = (
        "import sys; from analyzer import cli; cli.main(sys.argv[1:]);"
        "heavy = ('pandas', 'matplotlib', 'jinja2');"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "analyze", HEALTHY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "[]\n"


# -- progress ----------------------------------------------------------------------------------


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_the_bar_waits_a_second_and_cleans_up() -> None:
    """Short work shows no bar; a long one shows share, time and subject, then wipes its line."""
    clock, stream = Clock(), io.StringIO()
    with closing(Bar(stream, clock)) as bar:
        bar("reading a\x1bb.dmp", 2, 4)
        clock.now = 0.9
        bar.draw()
        assert stream.getvalue() == ""
        clock.now = 3.0
        bar.draw()
        shown = stream.getvalue().split("\r")[1]
        assert shown.rstrip() == "[##########          ]  50%    3 s  reading a\\x1bb.dmp"
        assert len(shown) == 79
    assert stream.getvalue().endswith("\r" + " " * 79 + "\r")


def test_the_bar_runs_while_the_source_is_busy() -> None:
    """A source that does not tell how far it is must not look dead."""
    stream = io.StringIO()
    with closing(Bar(stream, delay=0)) as bar:
        bar("reading x.dmp", 0, 1)
        end = time.monotonic() + 20
        while "reading x.dmp" not in stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    assert "0 s  reading x.dmp" in stream.getvalue()


def test_a_bar_that_was_not_shown_writes_nothing() -> None:
    """No stray spaces on a terminal."""
    stream = io.StringIO()
    with closing(Bar(stream)):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("done", "total", "shown"), [(5, 0, "  0%"), (9, 4, "100%"), (-1, 4, "  0%")]
)
def test_the_bar_survives_odd_numbers(done: int, total: int, shown: str) -> None:
    """A source that miscounts must not end the work."""
    stream = io.StringIO()
    with closing(Bar(stream, delay=0)) as bar:
        bar("x", done, total)
        bar.draw()
    assert f"] {shown} " in stream.getvalue()
