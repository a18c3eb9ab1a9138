"""Runs the tool's commands on the shipped samples: ``tool.py SAMPLES OUT``.

Runs in the Windows Python and in this one; each command's output becomes a file of OUT, so that
both can be compared byte by byte. A command that fails leaves its message in its file.
"""

from __future__ import annotations

import contextlib
import io
import os
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


def samples(root: str) -> list[tuple[str, str]]:
    """(folder, name) of the shipped samples."""
    found = []
    for folder in (os.path.join(root, name) for name in FOLDERS):
        for name in sorted(os.listdir(folder)):
            is_sample = name.endswith((".dmp", ".jsonl", ".log", ".reg", ".etl", ".zip"))
            if is_sample:
                found.append((folder, name))
    return found


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


def main(root: str, out: str) -> None:
    """Runs all commands on all samples, each from its own folder: paths are no difference then."""

    def keep(name: str, data: bytes) -> None:
        with open(os.path.join(out, name), "wb") as file:
            file.write(data)

    for folder, name in samples(root):
        os.chdir(folder)
        for title, words in COMMANDS.items():
            arguments = [name if word == "SAMPLE" else word for word in words]
            keep(f"{title}__{name}", run(arguments))
        if name in DRAWN:
            for title, data in figures(name).items():
                keep(f"figure-{title}__{name}", data)
    keep("explain", run(["explain"]))
    keep("wildcard", run(["analyze", "*.etl"]))
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
