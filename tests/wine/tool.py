"""Runs the tool's commands on the shipped samples: ``tool.py SAMPLES LOGS WORK OUT``.

Runs in the Windows Python and in this one; each command's output becomes a file of OUT, so that
both can be compared byte by byte. A command that fails leaves its message in its file. LOGS holds
event logs, WORK is an empty folder for what needs one.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import re
import shutil
import sys
import traceback

from analyzer import cli

COMMANDS = {
    "analyze": ["analyze", "SAMPLE"],
    "json": ["analyze", "SAMPLE", "--format", "json"],
    "html": ["analyze", "SAMPLE", "--format", "html"],
    "markdown": ["analyze", "SAMPLE", "--format", "markdown"],
    "junit": ["analyze", "SAMPLE", "--format", "junit"],
    "perfetto": ["analyze", "SAMPLE", "--format", "perfetto"],
    "info": ["info", "SAMPLE"],
    "callbacks": ["show", "callbacks", "SAMPLE", "--format", "csv"],
    "events": ["show", "events", "SAMPLE", "--format", "json"],
    "redacted": ["analyze", "SAMPLE", "--format", "json", "--redact"],
}
FOLDERS = ("", "captures", "logs", "traces", "cases")
DRAWN = ("run-01.jsonl", "run-09.jsonl")
FIGURES = ("timeline", "durations", "statuses", "latency")


KINDS = (".dmp", ".jsonl", ".log", ".reg", ".etl", ".evtx", ".zip")


def samples(root: str, logs: str) -> list[tuple[str, str]]:
    """(folder, name) of the shipped samples and of the event logs."""
    return [
        (folder, name)
        for folder in (*(os.path.join(root, name) for name in FOLDERS), logs)
        for name in sorted(os.listdir(folder))
        if name.endswith(KINDS)
    ]


def run(arguments: list[str]) -> bytes:
    """What a command prints, and its exit code."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code: object = cli.main(arguments)
        except Exception:  # noqa: BLE001 - the other side may fail as well
            code = traceback.format_exc()
    printed.flush()
    return printed.buffer.getvalue() + f"\n[{code}]\n".encode()  # type: ignore[attr-defined]


def figures(path: str) -> dict[str, bytes]:
    """Figures of a sample as SVG: the same drawing, whatever rasterises it."""
    import matplotlib

    import analyzer
    from analyzer import plots

    matplotlib.rcParams["svg.hashsalt"] = "same"
    case, found = analyzer.open(path), {}
    for name in FIGURES:
        held = io.BytesIO()
        getattr(plots, name)(case).savefig(held, format="svg", metadata={"Date": None})
        found[name] = held.getvalue()
    return found


def exported(name: str) -> dict[str, bytes]:
    """What ``export`` makes of a dump or trace of this folder, and what it prints."""
    found = {}
    for kind, output in (("slice", "made.dmp"), ("etl", "made.etl")):
        printed = run(["export", f"--{kind}", name, "--output", output])
        data = b""
        if os.path.exists(output):
            with open(output, "rb") as file:
                data = file.read()
            os.remove(output)
        found[kind] = data + printed
    return found


def scanned() -> dict[str, bytes]:
    """The data set of this folder: what is printed, each table's rows, the study of them."""
    import pyarrow.parquet

    def plain(data: bytes) -> bytes:  # without what paths and speed differ in
        return re.sub(rb"\(\d+/s\)", b"", re.sub(rb"\\+", b"/", data))

    found = {"scan": plain(run(["scan", ".", "--output", "../fleet", "--jobs", "1"]))}
    for table in sorted(os.listdir("../fleet")):
        rows = b""
        for path in sorted(glob.glob(os.path.join("..", "fleet", table, "*.parquet"))):
            for row in pyarrow.parquet.read_table(path).to_pylist():
                rows += plain(json.dumps(row, default=str).encode()) + b"\n"
        if rows:
            found[f"table-{table}"] = rows
    found["population"] = plain(run(["population", "../fleet"]))
    return found


def main(root: str, logs: str, work: str, out: str) -> None:
    """Runs all commands on all samples, each from its own folder: paths are no difference then."""

    def keep(name: str, data: bytes) -> None:
        with open(os.path.join(out, name), "wb") as file:
            file.write(data)

    cases = os.path.join(work, "cases")
    os.mkdir(cases)
    for folder, name in samples(root, logs):
        shutil.copy(os.path.join(folder, name), cases)
        os.chdir(folder)
        for title, words in COMMANDS.items():
            arguments = [name if word == "SAMPLE" else word for word in words]
            keep(f"{title}__{name}", run(arguments))
        if name in DRAWN:
            for title, data in figures(name).items():
                keep(f"figure-{title}__{name}", data)
    os.chdir(os.path.join(root, "traces"))
    keep("explain", run(["explain"]))
    keep("wildcard", run(["analyze", "*.etl"]))
    os.chdir(cases)
    for name in sorted(os.listdir(cases)):
        if name.endswith((".dmp", ".etl")):
            for title, data in exported(name).items():
                keep(f"export-{title}__{name}", data)
    for title, data in scanned().items():
        keep(title, data)
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
