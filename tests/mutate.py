"""How many small faults do the tests notice: ``python tests/mutate.py --seed 11``.

cosmic-ray makes the faults ("mutants"): other operators, numbers one off, conditions turned round,
loops that do not run. Of each part of the package a sample that the seed fixes is tried, at most
one fault a place, each in a copy of the tree. Only tests that run the changed line are run, one of
each file first, until one fails. docs/mutation.md has the results. Unix only; needs
``pip install --group mutation``, some minutes of work for the first run, and reads no input.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("checks", "sources", "dumpfile", "dumpstack", "etw", "live")
#: tests of what is not in these parts, of other programs, or of the tree itself
LEFT_OUT = (
    "notebooks benchmarks browser layers packaging scan_dask plots fuzz_dump costs imports html "
    "dryrun_drivers symbols snapshot_formats snapshot_specimens perfetto readme oracles_generator "
    "population scan"  # their threads and the measuring wait for each other
)
#: run lines of a part in other processes, where nothing is measured
ELSEWHERE = {"live": ("kd_ntoseye", "kd_debuggers", "live_process", "dryrun_live")}
#: equal numbers and words are mostly the same object: no fault
NO_FAULT = ("_Is", "_IsNot", "Is_Eq", "IsNot_NotEq")
#: of the last round: seconds that its tests took in the first run, the quickest first
MOST = 60.0
MEMORY = 8 << 30
#: a modification time for each changed file: a test's own process may leave it compiled
_MOMENTS = iter(range(1, 1 << 31))
CPU, WAITED = 60, 900  #: seconds after which a fault counts as noticed: it does not end


class Mutant(NamedTuple):
    """One fault: which operator of cosmic-ray, and where."""

    path: str
    start: tuple[int, int]
    end: tuple[int, int]
    operator: str
    occurrence: int

    @property
    def part(self) -> str:
        """The folder below analyzer/."""
        return self.path.split("/")[1]


# -- faults ----------------------------------------------------------------------------------------


def mutants_of(tree: Path, path: str) -> Iterator[Mutant]:
    """Every fault in a file but those in annotations, which nothing executes."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    text = (tree / path).read_text(encoding="utf-8")
    nodes = list(ast_nodes(get_ast(text)))
    dead = list(_annotations(ast.parse(text)))
    for name in sorted(plugins.operator_names()):
        kind = plugins.get_operator(name)
        if kind.arguments() or name.endswith(NO_FAULT):
            continue
        operator = kind()
        places = (place for node in nodes for place in operator.mutation_positions(node))
        for number, (start, end) in enumerate(places):
            if not any(first <= start < last for first, last in dead):
                yield Mutant(path, tuple(start), tuple(end), name, number)


def _annotations(tree: ast.Module) -> Iterator[tuple[Any, Any]]:
    for node in ast.walk(tree):
        for one in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if one is not None:
                yield (one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)


def sampled(tree: Path, part: str, seed: int, count: int) -> list[Mutant]:
    """So many faults of a part, each at another place."""
    paths = sorted(p.relative_to(tree).as_posix() for p in (tree / "analyzer" / part).glob("*.py"))
    places: dict[Any, list[Mutant]] = {}
    for path in paths:
        for one in mutants_of(tree, path):
            places.setdefault((path, one.start, one.end), []).append(one)
    chosen = random.Random(f"{seed} {part}")
    found = []
    for place in chosen.sample(sorted(places), len(places)):
        one = chosen.choice(sorted(places[place]))
        with contextlib.suppress(SyntaxError):  # such as a power in place of "**names"
            compile(applied(tree, one), one.path, "exec")
            found.append(one)
        if len(found) == count:
            break
    return found


def applied(tree: Path, mutant: Mutant) -> str:
    """The text of the file with the fault."""
    from cosmic_ray import mutating, plugins

    text = (tree / mutant.path).read_text(encoding="utf-8")
    operator = plugins.get_operator(mutant.operator)()
    changed = mutating.mutate_code(text, operator, mutant.occurrence)
    assert changed is not None
    return str(changed)


# -- which test runs which line --------------------------------------------------------------------


def pytest_runtest_logreport(report: Any) -> None:
    """As a plug-in of pytest: writes down how long each test took, and whether it passed."""
    log = os.environ.get("MUTATE_LOG")
    if log and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps([report.nodeid, report.outcome, report.duration]) + "\n")


def _environment(tree: Path) -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    shared = found.get("DUMPSTART_SHARED") or str(ROOT.parent / "shared" / "samples")
    return {**found, "PYTHONPATH": f"{tree}:{tree / 'tests'}", "DUMPSTART_SHARED": shared}


def measure(folder: Path, jobs: int) -> None:
    """Runs the tests once, to learn which of them runs which line."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".venv*", ".git", ".*_cache"))
    (folder / "coveragerc").write_text(
        "[run]\nsource =\n" + "".join(f"  {tree}/analyzer/{part}\n" for part in PARTS)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutate", "-p", "no:cacheprovider"]
    command += ["-n", str(jobs), "--cov", "--cov-context=test", "--cov-report="]
    command += [f"--cov-config={folder / 'coveragerc'}"]
    command += [f"--ignore=tests/test_{name}.py" for name in LEFT_OUT.split()]
    log = {"MUTATE_LOG": str(folder / "tests.jsonl"), "COVERAGE_FILE": str(folder / "coverage")}
    subprocess.run(command, cwd=tree, env={**_environment(tree), **log}, check=False)


class Tests:
    """Which tests run a line, in the order in which to try them."""

    def __init__(self, folder: Path) -> None:
        from coverage import CoverageData

        self._tree = (folder / "tree").resolve()
        self._data = CoverageData(str(folder / "coverage"))
        self._data.read()
        self._took: dict[str, float] = {}
        bad = set()
        for line in (folder / "tests.jsonl").read_text(encoding="utf-8").splitlines():
            name, outcome, duration = json.loads(line)
            self._took[name] = self._took.get(name, 0.0) + duration
            if outcome != "passed":
                bad.add(name)
        for name in bad:
            del self._took[name]

    def _naming(self, path: str) -> set[str]:
        """The files of tests that name the module."""
        parent, _, name = path.removesuffix(".py").replace("/", ".").rpartition(".")
        word = re.compile(rf"\b{parent}\.{name}\b|from {parent} import [^\n]*\b{name}\b")
        files = sorted((self._tree / "tests").glob("test_*.py"))
        return {f"tests/{one.name}" for one in files if word.search(one.read_text("utf-8"))}

    def _naming_part(self, part: str) -> set[str]:
        """The files of tests that name any module of a part: it may read the tables of others."""
        files = sorted((self._tree / "tests").glob("test_*.py"))
        word = f"analyzer.{part}"
        return {f"tests/{one.name}" for one in files if word in one.read_text("utf-8")}

    def of(self, mutant: Mutant) -> list[list[str]]:
        """The tests that run the statement, in three rounds: near ones, one of each file, the rest.

        For what a module does when it is imported these are all tests that use the module.
        """
        path = self._tree / mutant.path
        by_line = self._data.contexts_by_lineno(str(path))
        module = ast.parse(path.read_text(encoding="utf-8"))
        lines = _statement(module, mutant.start[0])
        if not _in_function(module, mutant.start[0]):  # it ran when some test imported it first
            lines = range(1, 1 + max(by_line, default=0))
        names = {name for line in lines for name in by_line.get(line, ())}
        tests = {name.rpartition("|")[0] for name in names} & set(self._took)
        naming = self._naming(mutant.path)
        if not _in_function(module, mutant.start[0]):  # a table may be read, and no line be run
            users = naming | self._naming_part(mutant.part)
            tests |= {test for test in self._took if test.partition("::")[0] in users}
        by_file: dict[str, list[str]] = {}
        for test in sorted(tests, key=lambda test: self._took[test]):
            by_file.setdefault(test.partition("::")[0], []).append(test)
        order = sorted(by_file, key=lambda name: (name in naming, len(by_file[name])), reverse=True)
        files = [by_file[name] for name in order]
        near = [test for some in files[:3] for test in some[:10]]
        wide = [test for some in files[3:11] for test in some[:3]]
        if not tests:
            return [[f"tests/test_{name}.py" for name in ELSEWHERE.get(mutant.part, ())]]
        rest = sorted(tests.difference(near, wide), key=lambda test: self._took[test])
        sums = accumulate(self._took[test] for test in rest)
        return [near, wide, [test for test, so_far in zip(rest, sums) if so_far <= MOST]]


def _statement(tree: ast.Module, line: int) -> range:
    """The lines of the innermost statement around a line, of a block only its head."""
    best = range(line, line + 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or line
            if line <= end:
                best = range(node.lineno, end + 1)
    return best


def _in_function(tree: ast.Module, line: int) -> bool:
    functions = (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda)))
    return any(
        (one.body[0] if isinstance(one, ast.FunctionDef) else one).lineno
        <= line
        <= (one.end_lineno or 0)
        for one in functions
    )


# -- trying ----------------------------------------------------------------------------------------


def tried(tree: Path, mutant: Mutant, rounds: list[list[str]]) -> str:
    """What noticed the fault: a test, the time limit, or nothing ("")."""
    file = tree / mutant.path
    whole, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text(applied(tree, mutant), encoding="utf-8")
    moment = next(_MOMENTS)
    os.utime(file, (moment, moment))  # so that what was compiled before does not count
    try:
        found = (_run(tree, tests) for tests in rounds if tests)
        return next((noticed for noticed in found if noticed), "")
    finally:
        file.write_bytes(whole)
        os.utime(file, ns=times)


def _run(tree: Path, tests: list[str]) -> str:
    """Runs the tests in a fork, which has the slow imports done."""
    log = tree.parent / f"{tree.name}.log"
    log.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _child(tree, log, tests)
    until, ended, status = time.monotonic() + WAITED, 0, 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
    if not ended or os.WIFSIGNALED(status):
        return "the time limit"
    code = os.WEXITSTATUS(status)
    if code == pytest.ExitCode.USAGE_ERROR and "::" in tests[0]:  # tests are named by the fault
        return _run(tree, sorted({test.partition("::")[0] for test in tests}))
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return ""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    failed = [name for name, outcome, _ in map(json.loads, lines) if outcome == "failed"]
    return str(failed[0]) if failed else "the import"


def _child(tree: Path, log: Path, tests: list[str]) -> NoReturn:
    os.setpgid(0, 0)
    os.chdir(tree)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ.update({**_environment(tree), "MUTATE_LOG": str(log)})
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # each costs as much as a test
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(tree), str(tree / "tests")]
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "mutate"]
    os._exit(int(pytest.main([*options, *tests])))


def worked(folder: Path, number: int, work: list[Mutant], log: Path) -> None:
    """One process: tries its share of the faults in a tree of its own."""
    for name in ("numpy", "pandas", "jinja2", "hypothesis"):
        importlib.import_module(name)  # once, before the forks
    tree = folder / f"tree-{number}"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree((folder / "tree").resolve(), tree)
    tests = Tests(folder)
    for mutant in work:
        rounds = tests.of(mutant)
        noticed = tried(tree, mutant, rounds)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps([mutant, sum(map(len, rounds)), noticed]) + "\n")
        print(mutant.path, *mutant.start, mutant.operator, noticed or "SURVIVES", flush=True)
    shutil.rmtree(tree)


def main() -> int:
    """Tries the sample, says how many faults each part's tests noticed, and lists the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=11, help="of the sample (default 11)")
    parser.add_argument("--count", type=int, default=50, help="faults of each part (default 50)")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--folder", type=Path, required=True, help="for copies and results; kept")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not (folder / "coverage").exists():
        measure(folder, options.jobs)
    tree, log = (folder / "tree").resolve(), folder / f"seed-{options.seed}.jsonl"
    samples = [sampled(tree, part, options.seed, options.count) for part in options.parts]
    work = [one for some in zip(*samples) for one in some if one not in _done(log)]
    with ProcessPoolExecutor(options.jobs) as pool:
        shares = [work[number :: options.jobs] for number in range(options.jobs)]
        run = partial(worked, folder, log=log)
        list(pool.map(run, range(options.jobs), shares))
    rows = _done(log)
    for part in PARTS:
        noticed = [bool(by) for mutant, by in rows.items() if mutant.part == part]
        print(f"{part:10} {sum(noticed)} of {len(noticed)} noticed")
    print(*(_difference(tree, mutant) for mutant, by in sorted(rows.items()) if not by), sep="\n")
    return 0


def _done(log: Path) -> dict[Mutant, str]:
    """What was tried already, and what noticed it: a run that was ended goes on."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    rows = map(json.loads, lines)
    return {
        Mutant(path, tuple(start), tuple(end), operator, occurrence): by
        for (path, start, end, operator, occurrence), _, by in rows
    }


def _difference(tree: Path, mutant: Mutant) -> str:
    before = (tree / mutant.path).read_text(encoding="utf-8").splitlines()
    after = applied(tree, mutant).splitlines()
    changed = difflib.unified_diff(before, after, mutant.path, mutant.path, n=0, lineterm="")
    return "\n".join(list(changed)[2:])


if __name__ == "__main__":
    sys.exit(main())
