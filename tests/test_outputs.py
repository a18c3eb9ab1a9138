"""What commands write: never over one of their inputs, and whole or not at all."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, SAMPLE_TRACES

import analyzer
from analyzer import outputs
from analyzer.cli import main
from analyzer.errors import InputError, UsageError

DUMP = SAMPLE_TRACES / "healthy-x64-kernel.dmp"
GOOD, RUN = (SAMPLE_TRACES / "captures" / f"run-0{n}.jsonl" for n in (1, 9))
TRACE = SAMPLE_TRACES / "traces" / "crash-callbacks.etl"
MANIFEST = REPOSITORY / "docs" / "dumpstart-callbacks.man"
MAPPING = (
    '[[event]]\nprovider = "11111111-6a8f-4a1e-8f6a-1e4ab35e808e"\nid = 1\nrole = "entry"\n'
    'callback = "Dump_Start"\n'
)
TMF = (
    "11111111-6a8f-4a1e-8f6a-1e4ab35e808e acme // SRC=acme.c MJ= MN=\n"
    '#typev acme_c1 10 "%0started" //   LEVEL=INFO\n{\n}\n'
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Copies of one input of each kind, with links to the dump."""
    found = {}
    for name, source in {
        "dump.dmp": DUMP, "good.jsonl": GOOD, "run.jsonl": RUN, "trace.etl": TRACE,
        "acme.man": MANIFEST,
    }.items():  # fmt: skip
        found[name] = Path(shutil.copy(source, tmp_path / name))
    for name, text in {"map.toml": MAPPING, "acme.tmf": TMF}.items():
        found[name] = tmp_path / name
        found[name].write_text(text, encoding="utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "acme.sys").write_bytes(b"MZ")
    (tmp_path / "folder").mkdir()
    found["inside.dmp"] = Path(shutil.copy(DUMP, tmp_path / "folder" / "inside.dmp"))
    found["ticket.zip"] = tmp_path / "ticket.zip"
    with zipfile.ZipFile(found["ticket.zip"], "w") as archive:
        archive.write(DUMP, "MEMORY.DMP")
    os.link(found["dump.dmp"], tmp_path / "hard.dmp")
    os.symlink(found["dump.dmp"], tmp_path / "soft.dmp")
    os.link(found["inside.dmp"], tmp_path / "hard-inside.dmp")
    return found


def contents(folder: Path) -> dict[str, str]:
    """Every file below the folder, by its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


REFUSED = {
    "analyze": "analyze dump.dmp --output dump.dmp",
    "a hard link": "analyze dump.dmp --output hard.dmp",
    "a symbolic link": "analyze dump.dmp --output soft.dmp",
    "the file behind a link": "analyze soft.dmp --output dump.dmp",
    "in a folder": "analyze folder --output folder/inside.dmp",
    "a link to a file in a folder": "analyze folder --output hard-inside.dmp",
    "an archive": "analyze ticket.zip --output ticket.zip",
    "html": "analyze dump.dmp --format html --output dump.dmp",
    "redacted": "analyze dump.dmp --redact --output dump.dmp",
    "show": "show filters dump.dmp --output dump.dmp",
    "csv": "show filters dump.dmp --format csv --output dump.dmp",
    "parquet": "show filters dump.dmp --format parquet --output dump.dmp",
    "info": "info dump.dmp --output dump.dmp",
    "script": "script dump.dmp --output dump.dmp",
    "script, a link": "script dump.dmp --output hard.dmp",
    "export": "export --etl trace.etl --output trace.etl",
    "baseline": "analyze run.jsonl --baseline good.jsonl --output good.jsonl",
    "mapping": "analyze trace.etl --mapping map.toml --output map.toml",
    "manifest": "analyze trace.etl --manifest acme.man --output acme.man",
    "tmf": "analyze trace.etl --tmf acme.tmf --output acme.tmf",
    "a folder of tmf": "analyze trace.etl --tmf . --output acme.tmf",
    "capture": "capture net:port=50000,key=1.2.3.4 --output run.jsonl",
    "dryrun": "dryrun dump.dmp --output dump.dmp",
    "images": "analyze dump.dmp --images images --output images/acme.sys",
    "symbols": "analyze dump.dmp --symbols images --output images/acme.sys",
    "scan": "scan folder --output folder",
    "scan, a folder in it": "scan folder --output folder/fleet",
    "scan, the folder around it": "scan folder/inside.dmp --output folder",
}


@pytest.mark.parametrize("case", sorted(REFUSED))
@pytest.mark.usefixtures("files")
def test_no_command_writes_over_its_input(
    case: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Exit code 2, one sentence, and every byte of every input as it was."""
    if "parquet" in case or "scan" in case:
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(REFUSED[case].split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "is there already" in err or "output would" in err
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("files")
def test_a_study_does_not_write_over_its_data_set(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Neither the Parquet files nor the labels."""
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    assert main(["scan", "folder", "--output", "fleet"]) == 0
    Path("labels.csv").write_text("location,site\nfolder/inside.dmp,a\n", encoding="utf-8")
    before = contents(tmp_path)
    for line in (
        "population fleet --output fleet/dumpstart.json",
        "population fleet --output fleet/cases/batch-000001.parquet",
        "population fleet --labels labels.csv --output labels.csv",
        "baseline fleet --output fleet/dumpstart.json",
    ):
        capsys.readouterr()
        assert main(line.split()) == 2
        assert "the output would overwrite an input" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_no_module_writes_files_on_its_own() -> None:
    """The invariant of outputs.py: what may write is listed, with what it writes."""
    may_write = {
        "dataset.py": "the data set, staged and renamed",
        "places.py": "copies of URLs in a temporary folder",
        "gather.py": "unpacked files in a temporary folder",
        "capture_format.py": "a capture, line by line, never over another",
        "leftovers.py": "a note of its own",
        "export.py": "through outputs.replacing",
        "slices.py": "through outputs.replacing",
        "cli.py": "standard input in a temporary folder",
    }
    found = set()
    for path in Path(analyzer.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open":
                modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
                if any(set("wax+") & set(str(mode)) for mode in modes):
                    found.add(path.name)
    assert found - {"outputs.py"} <= set(may_write)


# ---- whole or not at all -------------------------------------------------------------------------


def test_an_output_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """An error in the middle: the old bytes stay and nothing lies beside them."""
    path = tmp_path / "report.txt"
    path.write_text("old", encoding="utf-8")

    def pieces() -> Any:
        yield "new " * 100_000
        raise InputError("input", "the file was cut")

    with pytest.raises(InputError, match="the file was cut"):
        outputs.write(str(path), pieces())
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["report.txt"]


def test_an_output_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    """A link stays a link, rights stay what they were, a new file has those of the umask."""
    path, link = tmp_path / "report.txt", tmp_path / "link.txt"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o640)
    link.symlink_to(path)
    outputs.write(str(link), ["new"])
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    before = os.umask(0o027)
    try:
        outputs.write(str(tmp_path / "other.txt"), ["new"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "other.txt").stat().st_mode) == 0o640


def test_an_output_that_is_no_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    """A device stays a device."""
    outputs.write(os.devnull, ["gone"])
    assert not os.path.isfile(os.devnull)
    with pytest.raises(InputError, match="output cannot be written: is a directory"):
        outputs.write(str(tmp_path), ["x"])


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
@pytest.mark.parametrize("redirected", [False, True])
def test_a_stream_by_its_name_is_written_to(redirected: bool, tmp_path: Path) -> None:
    """/dev/stdout as a pipe and as a file that the shell opened."""
    words = ["analyze", str(DUMP), "--fail-on", "never", "--output", "/dev/stdout"]
    out = tmp_path / "out.txt"
    with out.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", "analyzer", *words],
            stdout=file if redirected else subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            check=False, env=environment(tmp_path),
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    text = out.read_text(encoding="utf-8") if redirected else done.stdout
    assert text.startswith("The machine crashed")
    assert os.path.exists("/dev/stdout")


@pytest.mark.skipif(os.name == "nt", reason="limits and signals of POSIX")
def test_a_full_disk_leaves_the_old_report(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that runs full."""
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from analyzer.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "analyze", str(DUMP), "--format", "html"]
    done = subprocess.run(
        [*command, "--output", str(path)], capture_output=True, text=True, check=False,
        env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    assert "the output cannot be written: file too large" in done.stderr
    assert path.read_text(encoding="utf-8") == "old"
    assert not list(tmp_path.glob(".*.part"))


def environment(folder: Path) -> dict[str, str]:
    """Of a child: the same package, and a temporary folder of its own."""
    root = os.path.dirname(os.path.dirname(analyzer.__file__))
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "PYTHONPATH": root, "TMPDIR": str(temporary)}


#: writes a report whose source hands out a piece and then waits, as a slow disk does
SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and one below nohup this
from analyzer import outputs
def pieces():
    yield "new " * 100_000
    print("half", flush=True)
    time.sleep(60)
from analyzer import cli
def _explain(arguments):
    outputs.write({path!r}, pieces())
    return 0
cli._RUNS["explain"] = _explain
sys.exit(cli.main(["explain"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL", "SIGHUP", "SIGINT"])
def test_a_kill_while_a_report_is_written_leaves_the_old_one(number: str, tmp_path: Path) -> None:
    """Whatever ends the process; what can be caught leaves nothing beside it either."""
    path = tmp_path / "report.txt"
    path.write_text("old", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", SLOW.format(path=str(path))], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment(tmp_path),
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(getattr(signal, number))
        _, err = child.communicate(timeout=30)
    assert path.read_text(encoding="utf-8") == "old"
    if number != "SIGKILL":
        assert err == "dumpstart: stopped\n"
        assert child.returncode == (130 if number == "SIGINT" else 128 + getattr(signal, number))
        assert not list(tmp_path.glob(".*.part"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_unpacked_archive_is_removed_on_sigterm(tmp_path: Path) -> None:
    """The ticket may hold secrets: nothing of it stays in the temporary folder."""
    path = tmp_path / "ticket.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2000):
            archive.write(DUMP, f"{number}.dmp")
    env = environment(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "analyzer", "analyze", str(path)], env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        end = time.monotonic() + 60
        while not list(Path(env["TMPDIR"]).glob("dumpstart-*/*")) and time.monotonic() < end:
            time.sleep(0.05)
        assert list(Path(env["TMPDIR"]).glob("dumpstart-*/*"))
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (128 + signal.SIGTERM, "", "dumpstart: stopped\n")
    assert list(Path(env["TMPDIR"]).iterdir()) == []


# ---- stdout --------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["--version", "--help", "explain", "analyze DUMP", "scan DUMP"])
def test_a_full_stdout_is_an_error_in_one_sentence(words: str, tmp_path: Path) -> None:
    """Exit code 2, no traceback, for every command."""
    if words.startswith("scan"):
        pytest.importorskip("pyarrow")
        words += f" --output {tmp_path / 'fleet'}"
    command = [sys.executable, "-m", "analyzer", *words.replace("DUMP", str(DUMP)).split()]
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=environment(tmp_path),
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "dumpstart: stdout: the output cannot be written: no space left on device.\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="closes a descriptor with a POSIX shell")
@pytest.mark.parametrize("words", ["--version", "explain", "analyze DUMP", "scan DUMP"])
def test_a_closed_stdout_is_an_error_in_one_sentence(words: str, tmp_path: Path) -> None:
    """The shell's >&-."""
    if words.startswith("scan"):
        pytest.importorskip("pyarrow")
        words += f" --output {tmp_path / 'fleet'}"
    line = f"{sys.executable} -m analyzer {words.replace('DUMP', str(DUMP))} >&-"
    done = subprocess.run(
        line, shell=True, stderr=subprocess.PIPE, text=True, check=False,
        env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "dumpstart: stdout: the output cannot be written: it is closed.\n"


# ---- options that name files ---------------------------------------------------------------------

NO_USE = {
    "a baseline that is a text": ("run.jsonl", "--baseline README.md", "cannot be a baseline"),
    "a baseline that is missing": ("dump.dmp", "--baseline none.jsonl", "there is no such file"),
    "a baseline for a dump": ("dump.dmp", "--baseline good.jsonl", "--baseline is for files of"),
    "a baseline without calls": ("run.jsonl", "--baseline empty.jsonl", "no duration of a call"),
    "a manifest for a dump": ("dump.dmp", "--manifest acme.man", "--manifest is for files of"),
    "a manifest that is missing": ("trace.etl", "--manifest none.man", "there is no such file"),
    "a manifest that is none": ("run.jsonl", "--manifest good.jsonl", "good.jsonl: "),
    "a folder without tmf": ("trace.etl", "--tmf folder", "no trace message format"),
    "a mapping for a capture": ("run.jsonl", "--mapping map.toml", "--mapping is for files of"),
    "a mapping that is none": ("trace.etl", "--mapping good.jsonl", "not TOML"),
    "a pipe": ("run.jsonl", "--baseline pipe", "this is not a file"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(NO_USE))
@pytest.mark.usefixtures("files")
def test_an_option_that_is_of_no_use_is_refused(
    case: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """A wrong file must not read as "nothing is slower"."""
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("# A page\n\nof text\n", encoding="utf-8")
    first = GOOD.read_text(encoding="utf-8").splitlines(keepends=True)[0]
    Path("empty.jsonl").write_text(first, encoding="utf-8")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
    path, option, why = NO_USE[case]
    assert main(["analyze", path, *option.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


def test_a_baseline_of_other_filters_is_said(files: Any, tmp_path: Path) -> None:
    """Nothing was compared, and that is a finding."""
    other = tmp_path / "other.jsonl"
    text = files["good.jsonl"].read_text(encoding="utf-8")
    other.write_text(text.replace("acmeflt", "other").replace("dumpfve", "another"), "utf-8")
    case = analyzer.open(files["run.jsonl"], baseline=str(other))
    assert "baseline-without-match" in list(case.findings["rule"])


def test_one_path_stands_for_a_list(files: Any) -> None:
    """A text, a path, and lists of them are the same; an unknown keyword is a TypeError."""
    run, good = files["run.jsonl"], files["good.jsonl"]
    wanted = analyzer.open(run, baseline=[str(good)]).report()
    assert analyzer.open(str(run), baseline=str(good)).report() == wanted
    assert analyzer.open([run], baseline=good).report() == wanted
    assert "A callback was slower than in the baseline" in wanted
    with pytest.raises(TypeError, match="basline"):
        analyzer.open(run, basline=good)  # type: ignore[call-arg]
    with pytest.raises(UsageError):
        analyzer.open([])


def test_a_fleet_baseline_is_read_by_open_as_by_the_command(files: Any, tmp_path: Path) -> None:
    """``analyzer.open`` took a file of ``dumpstart baseline`` for a capture."""
    pytest.importorskip("pyarrow")
    fleet, normal = tmp_path / "fleet", tmp_path / "normal.json"
    assert main(["scan", str(files["run.jsonl"]), "--output", str(fleet)]) == 0
    assert main(["baseline", str(fleet), "--output", str(normal)]) == 0
    case = analyzer.open(files["run.jsonl"], baseline=str(normal))
    assert "fleet-too-few" in list(case.findings["rule"])


def test_errors_of_a_redacted_run_name_no_file(tmp_path: Path, capsys: Any) -> None:
    """What leaves the house must not hold what the user wanted left out."""
    secret = tmp_path / "alice-smith.dmp"
    secret.write_bytes(b"PAGEDU64")
    for words in (
        ["analyze", str(secret), "--redact"],
        ["analyze", str(secret), str(tmp_path / "alice-two"), "--redact"],
        ["analyze", str(tmp_path), "--redact"],
        ["analyze", str(secret), "--redact", "--output", str(secret)],
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "alice" not in err
        assert str(tmp_path) not in err
