"""A capture of a live session: what the debugger saw of each callback, as it happened.

Invariant: a file cut at any byte loads up to the cut and says so. Standard library only.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from ..records import Anomaly, Origin, Records
from . import capture_timing as timing
from .capture_format import read
from .capture_story import Story
from .capture_table import CallTable

#: from this size on many lines are taken at once
LARGE = 1 << 20
UTF8_MARK = b"\xef\xbb\xbf"


def collect(path: str, baseline: Sequence[str] = ()) -> Records:
    """Records of one capture; ``baseline`` are captures whose durations are what is usual."""
    was_enabled = gc.isenabled()
    gc.disable()  # millions of small objects and no cycle: collecting costs a fifth of the time
    try:
        story, is_whole = load(path)
        records = story.records(os.path.getsize(path))
    finally:
        if was_enabled:
            gc.enable()
    if story.end is None:
        where = "in the middle of a line" if not is_whole else "without its end line"
        records.add(
            Anomaly(
                "capture-cut",
                f"The capture stops {where}: what happened after that is not in it.",
                Origin(path, "end of the file", "certain", os.path.getsize(path)),
            )
        )
    for other in baseline:
        records.add(*compare(path, records, other))
    return records


def load(path: str) -> tuple[Story, bool]:
    """The story of a capture, and whether its last line is whole."""
    story, is_whole = Story(path), True
    try:
        bulk = _bulk(path)
        if bulk is not None:
            with open(path, "rb") as file:
                file.seek(3 if file.read(3) == UTF8_MARK else 0)
                return story, bulk.load(story, file)
        for lines in read(path):
            is_whole = lines.is_whole
            for fact, offset in zip(lines.facts, lines.offsets):
                if fact is not None:
                    story.take(fact, offset)
                elif is_whole or offset != lines.offsets[-1]:
                    story.odd(offset)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(path, f"the file cannot be read: {reason}") from None
    return story, is_whole


def _bulk(path: str) -> Any:
    """What reads a large file; None for others, for UTF-16, and where there is no numpy."""
    with open(path, "rb") as file:
        is_coded = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    if is_coded or os.path.getsize(path) < LARGE:
        return None
    try:
        from . import capture_bulk
    except ImportError:  # inside a debugger
        return None
    return capture_bulk


def compare(path: str, records: Records, baseline: str) -> list[Anomaly]:
    """Callbacks of ``path`` that took longer than in a baseline."""
    found = []
    usual = _durations(collect(baseline))
    for key, now in _durations(records).items():
        then = usual.get(key)
        if now is not None and then is not None and timing.is_slower(now, then):
            found.append(
                Anomaly(
                    "callback-slower-than-baseline",
                    f"{key[1]} of {key[0]} took at least {now.low / 1e6:.3f} ms (median of "
                    f"{now.count}); in the baseline it took at most {then.high / 1e6:.3f} ms "
                    f"(median of {then.count}).",
                    Origin(path, f"compared with {baseline}"),
                    key[0],
                    (f"baseline = {baseline}",),
                )
            )
    return found


def _durations(records: Records) -> dict[tuple[str, str], timing.Statistics | None]:
    """(filter, callback) -> statistics of its durations."""
    bounds: dict[tuple[str, str], list[tuple[int, int]]] = {}
    rows: Any = records["callbacks"]
    if isinstance(rows, CallTable):
        return rows.durations()
    for row in rows:
        if isinstance(row.duration_low_ns, int):
            key = (str(row.filter or "an unnamed filter").lower(), row.callback)
            bounds.setdefault(key, []).append((row.duration_low_ns, row.duration_high_ns))
    return {key: timing.statistics(pairs) for key, pairs in bounds.items()}
