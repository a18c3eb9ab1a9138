"""Runs in the Windows Python: ``engine_dump.py DUMP...``; opens dumps in DbgEng through ctypes.

Prints for each, as JSON, which tables are those of our own reader.
"""

from __future__ import annotations

import json
import sys

import analyzer
from analyzer.live import dbgeng_target, look

SKIP = {"origin", "last_failing_routine", "last_failing_status", "last_failing_status_name"}


def main(*paths: str) -> None:
    """Compares the filters and extensions of each dump."""
    found = {}
    for path in paths:
        session = dbgeng_target.dump(path)
        records = look.records(session)
        own = analyzer.open(path).records
        session.close()
        same = {}
        for table in ("filters", "extensions"):
            rows = [
                [[v for n, v in zip(row._fields, row) if n not in SKIP] for row in side[table]]
                for side in (records, own)
            ]
            same[table] = [len(rows[0]), rows[0] == rows[1]]
        found[path.rsplit("\\", 1)[-1]] = same
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
