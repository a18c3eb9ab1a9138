"""Crashes of which some have no time or no bugcheck: what others state is not told of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from conftest import SAMPLE_TRACES

import analyzer
from analyzer.cli import main

SENTENCE = (
    "0x{code:08x} (0x0000000000000003, 0x0000000000000002, 0x0000000000000001, "
    "0x0000000000000004). C:\\Windows\\MEMORY.DMP\n"
)
COPIED = """Log Name:      System
Source:        BugCheck
Date:          {date}
Event ID:      1001
Task Category: None
Level:         Error
Keywords:      Classic
User:          N/A
Computer:      HAL
Description:
"""
DUMP_LOG = """Dump stack initialized at UTC: {time}, local time: x.
Elapsed BugCheck duration 00001683ms
Dump completed successfully.
"""


def headline(tmp_path: Path, capsys: Any, **texts: str) -> str:
    """The first two sentences about a folder with these files."""
    folder = tmp_path / "case"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    capsys.readouterr()
    main(["analyze", str(folder)])
    return " ".join(capsys.readouterr().out.split("\n\n")[0].split())


def test_a_crash_without_a_time_is_not_the_newest(tmp_path: Path, capsys: Any) -> None:
    """A text without its date says nothing of when; a date of an unknown zone is off by hours."""
    told = headline(
        tmp_path, capsys, a=SENTENCE.format(code=0x9F), b=SENTENCE.format(code=0x1A),
        c=DUMP_LOG.format(time="2024/05/07 11:34:49"),
        d=COPIED.format(date="5/6/2007 10:11:12 AM") + SENTENCE.format(code=0x50),
    )  # fmt: skip
    assert told.startswith(
        "4 crashes, 1 of them at 2024-05-07 11:34:49 UTC, with 3 different bugchecks, and 1 "
        "without a known one. The newest with a known time: the machine crashed on 2024-05-07 "
        "11:34:49"
    )


def test_unknown_bugchecks_are_not_alike(tmp_path: Path, capsys: Any) -> None:
    """Two logs of Windows 10 that name no bugcheck share none."""
    told = headline(
        tmp_path, capsys, a=DUMP_LOG.format(time="2022/05/07 11:34:49"),
        b=DUMP_LOG.format(time="2024/05/07 11:34:49"),
    )  # fmt: skip
    assert told.startswith(
        "2 crashes between 2022-05-07 11:34:49 UTC and 2024-05-07 11:34:49 UTC, none with a known "
        "bugcheck. The newest: the machine crashed on 2024-05-07 11:34:49 UTC"
    )


def test_without_any_time_none_is_the_newest(tmp_path: Path, capsys: Any) -> None:
    """Their order is that of the files."""
    told = headline(tmp_path, capsys, a=SENTENCE.format(code=0x9F), b=SENTENCE.format(code=0x1A))
    assert told.startswith(
        "2 crashes, with 2 different bugchecks. One of them: the machine crashed"
    )


def test_of_two_at_one_time_none_is_the_newest(tmp_path: Path, capsys: Any) -> None:
    """What failed is counted although both have one bugcheck."""
    first, rest = DUMP_LOG.format(time="2024/05/07 11:34:49").split("\n", 1)
    code = (
        "#BugCheckCode 0x9F\n#BugCheckP1 0x{}\n#BugCheckP2 0x0\n#BugCheckP3 0x0\n#BugCheckP4 0x0\n"
    )
    unfinished = rest.replace("Dump completed successfully.\n", "")
    told = headline(
        tmp_path, capsys, a=f"{first}\n{code.format(3)}{rest}",
        b=f"{first}\n{code.format(5)}{unfinished}",
    )  # fmt: skip
    assert told.startswith(
        "2 crashes at 2024-05-07 11:34:49 UTC, all with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE)"
        "; 1 left no finished dump. One of them: the machine crashed"
    )


def test_what_does_not_fit_on_the_screen_is_counted(capsys: Any) -> None:
    """It is not called more, where nothing was shown."""
    main(["analyze", *(str(SAMPLE_TRACES / n) for n in ("broken-x64-worst.dmp",
          "broken-x86-windows7-filter-failed.dmp", "logs/crash-control.reg"))])  # fmt: skip
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"What is wrong \d+ errors? and \d+ warnings?: A callback", shown)


#: those of sample-traces/healthy-x64-kernel.dmp
PARAMETERS = (0xFFFFC08BE4031010, 2, 0, 0xFFFFF806200C1234)


def test_an_event_without_a_time_is_joined_as_surely_as_it_is_named(tmp_path: Path) -> None:
    """By code and parameters that is likely, by the code alone a guess."""
    for parameters, sure in ((PARAMETERS, "likely"), ((), "guess")):
        data = {"BugcheckCode": "209"}
        data |= {f"BugcheckParameter{n}": hex(value) for n, value in enumerate(parameters, 1)}
        name = "Microsoft-Windows-Kernel-Power"
        path = tmp_path / "e.json"
        path.write_text(json.dumps(
            {"winlog": {"provider_name": name, "event_id": 41, "event_data": data}}
        ))  # fmt: skip
        rows = analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp", path).records["crashes"]
        joined = [(row.crash, row.origin.confidence) for row in rows if row.tells == "event 41"]
        assert joined == [(1, sure)]
