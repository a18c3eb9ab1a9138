"""Passes the tests: ``python tests/run.py [--wheel] [--again] [--no-lint] [pytest options]``.

It makes a fresh environment under ``.venv-test/``, installs the package and what the tests need,
runs the static checks and then pytest. With ``--wheel`` it builds the wheel, installs that and
runs a copy of the tests in a folder without ``analyzer/``: only what was packaged can be imported.
``--again`` takes the environment that the last run with this Python made and installs the package
alone.
Any Python from 3.9 on may start it; standard library only, because nothing is installed yet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "[evtx,registry,parquet,fsspec,dask]"  # the optional readers whose code is tested
LINT_NEEDS = (3, 11)  # the checkers' current versions need it; the 3.9 syntax is vermin's job
CHECKS = (
    ("ruff", "check", "--output-format=concise"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports",),
    (
        "vermin",
        "-q",
        "-t=3.9-",
        "--no-tips",
        "--violations",
        "--eval-annotations",
        "analyzer",
        "tests",
    ),
)
#: what the tests read besides the installed package
TESTED = ("tests", "sample-traces", "docs", "notebooks", "benchmarks", ".ci", "README.md")
TESTED += ("CHANGELOG.md", "LICENSE", "pyproject.toml")


def main() -> int:
    """Runs everything; returns the exit code of the first step that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", action="store_true", help="test the built wheel")
    parser.add_argument("--again", action="store_true", help="in the environment that is there")
    parser.add_argument("--no-lint", action="store_true", help="leave the static checks out")
    options, pytest_options = parser.parse_known_args()

    folder = ROOT / ".venv-test" / "py{}.{}".format(*sys.version_info)
    say(f"environment {folder} with Python {sys.version.split()[0]}")
    if not options.again:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PATH"] = str(scripts) + os.pathsep + environment.get("PATH", "")
    environment["VIRTUAL_ENV"] = str(folder)
    shared = ROOT.parent / "shared" / "samples"
    environment.setdefault("DUMPSTART_SHARED", str(shared))

    def run(*command: str, cwd: Path = ROOT) -> int:
        say(" ".join(command))
        program = shutil.which(command[0], path=environment["PATH"]) or command[0]
        return subprocess.run(
            [program, *command[1:]], cwd=cwd, env=environment, check=False
        ).returncode

    def pip(*arguments: str) -> int:
        return run("python", "-m", "pip", "--disable-pip-version-check", *arguments)

    lint = not options.no_lint and sys.version_info >= LINT_NEEDS
    if not options.no_lint and not lint:
        say("static checks left out: they need Python {}.{}".format(*LINT_NEEDS))
    groups = ["--group", "test"] + (["--group", "lint"] if lint else [])
    if not options.again and pip("install", "--quiet", "--upgrade", "pip>=25.1"):
        return 1  # the first that knows --group
    with tempfile.TemporaryDirectory(prefix="dumpstart-") as temporary:
        package, where = ["--editable", "." + EXTRAS], ROOT
        if options.wheel:
            if pip("wheel", "--quiet", "--no-deps", "--wheel-dir", temporary, "."):
                return 1
            wheel = next(Path(temporary).glob("dumpstart-*.whl"))
            package, where = [str(wheel) + EXTRAS], Path(temporary) / "tree"
            for path in TESTED:
                copy(ROOT / path, where / path)
            environment["DUMPSTART_WHEEL"] = str(wheel)
        if options.again:
            package = ["--force-reinstall", "--no-deps", *package]
        # what is imported is compiled then; of most of it the tests import nothing
        groups = [] if options.again else groups
        if pip("install", "--quiet", "--no-compile", *package, *groups):
            return 1
        failed = [" ".join(check) for check in CHECKS if lint and run(*check)]
        cores = ("-n", "auto", "--dist", "worksteal")  # "-n 0" after these takes it back
        code = run("python", "-m", "pytest", *cores, *pytest_options, cwd=where)
        if code:
            failed.append("pytest")
    say("failed: " + "; ".join(failed) if failed else "all passed")
    return 1 if failed else 0


def copy(source: Path, target: Path) -> None:
    """Copies a file or folder that is there; build leftovers stay behind."""
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(source, target, ignore=ignored)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def say(text: str) -> None:
    """Prints one line at once, so that it stands before the output of the next step."""
    print(f"== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
