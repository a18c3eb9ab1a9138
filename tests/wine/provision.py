"""Makes the folder in which the real pykd and DbgEng run under Wine.

``python tests/wine/provision.py`` does it; the tests do it themselves when it is not there.

Invariant: what is there and complete is kept, so a second call takes no time; every step has a time
limit; what is missing is named in :class:`MissingPartError`. Nothing of Microsoft's or of a wheel
leaves the git-ignored cache folder. Parts: Wine and compilers from Debian (installed by
``.ci/run``), the pykd wheel and the Windows CPython core (in the panda3d wheel) from PyPI, the
standard libraries of a CPython 3.9 and 3.13 of this machine, small programs of ours (``c/``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
#: .venv*/ is ignored by git
CACHE = Path(os.environ.get("DUMPSTART_WINE") or REPOSITORY / ".venv-test" / "wine")
PROGRAMS = ("wine", "wineserver", "taskset", "x86_64-w64-mingw32-gcc")
#: Wine has stubs of these; the real ones must win (pyarrow asks for a dbghelp where none is)
NATIVE = "dbgeng,dbgmodel,symsrv,srcsrv,msdia140,mscoree=n;dbghelp=n,b"
LEFT_OUT = {
    *("__pycache__ ensurepip idlelib lib-dynload lib2to3 site-packages test tests".split()),
    *("tkinter turtledemo config-3.9 config-3.13-x86_64-linux-gnu".split()),
}


class MissingPartError(Exception):
    """A part that provisioning needs is not on this machine; the text names it."""


class Wine(NamedTuple):
    """The provisioned folder, one Windows Python in it, and one of the prefixes."""

    folder: Path
    minor: int = 9
    number: int = 1

    @property
    def python(self) -> Path:
        """Windows Python; that of 3.9 has pykd."""
        return self.folder / f"windows3{self.minor}" / "python.exe"

    @property
    def engine(self) -> Path:
        """Microsoft's DbgEng, as the pykd wheel carries it."""
        return self.folder / "windows39" / "dbgeng.dll"

    @property
    def prefix(self) -> Path:
        """Wine's own folder; each has one COM1, so each serves one target at a time."""
        return self.folder / f"prefix{self.number}"

    @property
    def host(self) -> Path:
        """The debugger host."""
        return self.folder / "windows39" / "kd.exe"

    @property
    def extension(self) -> Path:
        """pykd under the name of a debugger extension."""
        return self.folder / "windows39" / "pykd.dll"

    @property
    def port(self) -> Path:
        """Wine's COM1 is what this link leads to."""
        return self.folder / f"com{self.number}"

    def environment(self) -> dict[str, str]:
        """Environment variables for Wine's programs."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WINE"))}
        return {
            **kept,
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": NATIVE + ";winemenubuilder.exe=d",
            "PYTHONHOME": windows_path(self.python.parent),
            "PYTHONPATH": ";".join(map(windows_path, (REPOSITORY, HERE.parent))),
            "PYTHONPYCACHEPREFIX": windows_path(self.folder / "bytecode"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "DUMPSTART_DBGENG": windows_path(self.engine),
        }


def windows_path(path: Path) -> str:
    """A path of this machine as Wine's programs see it."""
    return "Z:" + str(path).replace("/", "\\")


def provide(minor: int = 9, number: int = 1) -> Wine:
    """The folder with this Python and this prefix, made as far as it is not there yet."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        raise MissingPartError("not installed: " + ", ".join(missing))
    wine = Wine(CACHE, minor, number)
    CACHE.mkdir(parents=True, exist_ok=True)
    for version in sorted({9, minor}):
        one = Wine(CACHE, version)
        wheels, own = [requirements(version)], list((HERE / "c").iterdir())
        name = one.python.parent.name
        step(name, f"Windows Python 3.{version}", partial(windows_python, one), wheels)
        after = [CACHE / f"{name}.done", *own]
        step(f"programs3{version}", "own programs", partial(own_programs, one), after)
    step(f"prefix{number}", "Wine prefix", partial(make_prefix, wine), [])
    return wine


def requirements(minor: int) -> Path:
    """The wheels of a Windows Python."""
    return HERE / f"requirements3{minor}.txt"


def step(name: str, title: str, make: Callable[[], None], sources: Sequence[Path]) -> None:
    """Runs one step unless it was done after its sources; one that fails is tried once more."""
    mark = CACHE / f"{name}.done"
    if mark.exists() and all(s.stat().st_mtime <= mark.stat().st_mtime for s in sources):
        return
    began = time.monotonic()
    try:
        make()
    except subprocess.SubprocessError as error:
        print(f"{title}: first try failed ({error}), trying again", flush=True)
        make()
    mark.touch()
    print(f"{title}: {time.monotonic() - began:.1f} s", flush=True)


def windows_python(wine: Wine) -> None:
    """Unpacks the wheels and adds the standard library of a CPython of this machine."""
    library = standard_library(wine.minor)
    home = wine.python.parent
    wheels = CACHE / f"wheels3{wine.minor}"
    for folder in (wheels, home):
        shutil.rmtree(folder, ignore_errors=True)
    options = f"--quiet --no-deps --platform win_amd64 --python-version 3{wine.minor}".split()
    files = ["--requirement", str(requirements(wine.minor)), "--dest", str(wheels)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    run([*pip, *options, "--require-hashes", "--only-binary", ":all:", *files], limit=300)
    home.mkdir()
    with zipfile.ZipFile(next(wheels.glob("panda3d-*.whl"))) as archive:
        for entry in archive.namelist():
            folder, _, name = entry.rpartition("/")
            # the forwarders of the C runtime are Wine's business, free-threading is not wanted, and
            # in WMI, which the module platform asks, Wine 8 aborts
            is_other = name.startswith(("api-ms-win-", "_wmi")) or "t-win" in name
            if folder == "deploy_libs" and name and not is_other:
                (home / name).write_bytes(archive.read(entry))
    packages = home / "Lib" / "site-packages"
    shutil.copytree(
        library, home / "Lib", ignore=lambda _, names: [n for n in names if n in LEFT_OUT]
    )
    for wheel in wheels.glob("*.whl"):
        if not wheel.name.startswith("panda3d-"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(packages)
    for engine in (packages / "pykd").glob("*.dll"):  # the debugger host wants them beside it
        shutil.copy(engine, home)
    if (packages / "pykd").exists():
        shutil.copy(packages / "pykd" / "pykd.pyd", wine.extension)
    shutil.rmtree(wheels)


def standard_library(minor: int) -> Path:
    """The .py files of a CPython (the wheels lack them; the patch level does not matter)."""
    _, told = own_python(minor, "import os; print(os.__file__)", "its standard library")
    return Path(told).parent


def own_python(minor: int, script: str, why: str) -> tuple[str, str]:
    """A CPython of this machine in which a script succeeds, and what that prints."""
    candidates = [
        os.environ.get(f"DUMPSTART_PYTHON3{minor}"),
        str(REPOSITORY / ".venv-test" / f"py3.{minor}" / "bin" / "python"),  # of tests/run.py
        shutil.which(f"python3.{minor}"),
    ]
    if sys.version_info[:2] == (3, minor):
        candidates.insert(0, sys.executable)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates += sorted(map(str, versions.glob(f"3.{minor}.*/bin/python")), reverse=True)
    check = f"import sys; assert sys.version_info[:2] == (3, {minor})\n{script}"
    for python in filter(None, candidates):
        if Path(python).exists():
            told = subprocess.run(
                [python, "-c", check], capture_output=True, text=True, timeout=60, check=False
            )
            if told.returncode == 0:
                return python, told.stdout.strip()
    raise MissingPartError(f"not installed: a CPython 3.{minor} with {why}")


def own_programs(wine: Wine) -> None:
    """Compiles ``c/``."""
    programs = [("python.c", wine.python.name, ["-municode", f"-DMINOR={wine.minor}"])]
    programs.append(("bcryptprimitives.c", "bcryptprimitives.dll", ["-shared"]))
    if wine.minor == 9:
        programs += [("mscoree.c", "mscoree.dll", ["-shared"]), ("kd.c", wine.host.name, [])]
    for source, target, options in programs:
        compiler = ["x86_64-w64-mingw32-gcc", "-O1", "-s", "-Wall", "-Wextra", "-Werror"]
        compiler += ["-Wno-cast-function-type", *options, str(HERE / "c" / source)]
        libraries = ["-ladvapi32"]  # behind the source that needs it
        run([*compiler, "-o", str(wine.python.parent / target), *libraries], limit=60)
    stable_interface(wine)


def stable_interface(wine: Wine) -> None:
    """Makes python3.dll, which the wheel's core lacks: each name leads to that of the core."""
    home, core = wine.python.parent, f"python3{wine.minor}"
    shown = subprocess.run(
        ["x86_64-w64-mingw32-objdump", "-p", str(home / f"{core}.dll")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    names = re.findall(r"\] (?:.* )?(_?Py\w+)$", shown.stdout, re.M)
    definitions, empty = home / "python3.def", home / "python3.c"
    lines = (f"  {name} = {core}.{name}\n" for name in names)
    definitions.write_text("LIBRARY python3.dll\nEXPORTS\n" + "".join(lines))
    empty.write_text("extern int unused;\n")
    compiler = ["x86_64-w64-mingw32-gcc", "-shared", "-nostdlib", "-s", "-Wl,--entry=0"]
    run([*compiler, str(empty), str(definitions), "-o", str(home / "python3.dll")], limit=60)


def make_prefix(wine: Wine) -> None:
    """Makes the Wine prefix and names its COM1."""
    stop_server(wine)
    shutil.rmtree(wine.prefix, ignore_errors=True)
    quiet = {**wine.environment(), "WINEDLLOVERRIDES": "mscoree,mshtml=;winemenubuilder.exe=d"}
    run(["wineboot", "-i"], limit=180, environment=quiet)
    port = ["reg", "add", r"HKLM\Software\Wine\Ports", "/v", "COM1", "/d", str(wine.port), "/f"]
    run(["wine", *port], limit=60, environment=wine.environment())
    run(["wineserver", "-w"], limit=60, environment=wine.environment())


def stop_server(wine: Wine) -> None:
    """Ends what runs in this prefix: its server reads where COM1 leads when it starts."""
    subprocess.run(
        ["wineserver", "-k"], env=wine.environment(), capture_output=True, timeout=30, check=False
    )


def run(command: list[str], limit: float, environment: dict[str, str] | None = None) -> None:
    """Runs a program that must succeed in time; its output is shown when it does not."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit,
        check=False,
    )
    if done.returncode:
        print(done.stdout.decode(errors="replace")[-4000:], flush=True)
        raise subprocess.CalledProcessError(done.returncode, command[0])


if __name__ == "__main__":
    try:
        print("ready:", provide(13).folder)
    except MissingPartError as missing:
        sys.exit(str(missing))
