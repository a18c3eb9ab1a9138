"""Nothing that a report tells of a known file changes unnoticed.

tests/unchanged.json has a digest of each table of the JSON report of each shipped, shared and
generated file.
They say that something changed, not what is right: that the other tests do. After a change that was
meant, look at the differences and write the digests again: ``python tests/test_unchanged.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import REPOSITORY, SHARED, shared_sample  # makes the generators importable

# isort: split
import generator_cases
from generator.variants import VARIANTS

from analyzer.cli import main

DIGESTS = REPOSITORY / "tests" / "unchanged.json"
KNOWN: dict[str, dict[str, str]] = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
SHIPPED = ("*.dmp", "captures/*.jsonl", "traces/*.etl", "logs/*", "cases/*.zip")
SHARED_ONES = ("samples/*/*", "faults/*")
LARGE = 1_300_000  #: bytes; what is larger takes seconds
_NOT_INPUTS = (".md", ".py", ".toml")


def digests(path: Path) -> dict[str, str]:
    """A digest of the answer and of each table that has rows."""
    here = Path.cwd()
    os.chdir(path.parent)  # sources are named as they were given
    try:
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(["analyze", path.name, "--format", "json"])
    finally:
        os.chdir(here)
    if not out.getvalue():
        return {"error": _digest(errors.getvalue())}
    report = json.loads(out.getvalue())
    report["answer"].pop("checked", None)  # a new rule would change it in all
    parts = {"answer": [code, report["answer"]], **report["tables"]}
    parts.pop("dry_runs", None)  # has how long they took
    return {name: _digest(json.dumps(part)) for name, part in parts.items() if part}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "bomb" in name else ()) for name in KNOWN]
)
def test_nothing_changes_unnoticed(name: str, tmp_path: Path) -> None:
    """The answer and each table, by name."""
    folder, _, rest = name.partition("/")
    if folder == "shared":
        path = shared_sample(f"../{rest}")
    else:
        path = REPOSITORY / name if folder == "sample-traces" else generated(name, tmp_path)
    if path.suffix == ".evtx" and sys.version_info < (3, 10):
        pytest.skip("an older evtx is all there is for it, which reads damaged logs otherwise")
    assert digests(path) == KNOWN[name]


def generated(name: str, folder: Path) -> Path:
    """A file or folder of the generators: "dump/VARIANT/TYPE" or "story/NAME"."""
    kind, what, *dump_type = name.split("/")
    if kind == "dump":
        path = folder / "generated.dmp"
        path.write_bytes(generator_cases.dump(what, int(*dump_type))[0])
        return path
    for inside, data in generator_cases.stories()[what].files.items():
        path = folder / "story" / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "story"


def _all() -> dict[str, dict[str, str]]:
    shipped = REPOSITORY / "sample-traces"
    found = {}
    for root, top, patterns in (
        (shipped, shipped.name, SHIPPED),
        (SHARED.parent, "shared", SHARED_ONES),
    ):
        for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
            if path.is_file() and path.stat().st_size < LARGE and path.suffix not in _NOT_INPUTS:
                found[f"{top}/{path.relative_to(root).as_posix()}"] = digests(path)
    names = [f"story/{name}" for name in generator_cases.stories()]
    names += [
        f"dump/{name}/{dump_type}"
        for name, variant in VARIANTS.items()
        for dump_type in (variant.types if name == "healthy" else variant.types[-1:])
        if variant.applies("x64", dump_type, "newest")
    ]
    for name in names:
        with TemporaryDirectory() as folder:
            found[name] = digests(generated(name, Path(folder)))
    return found


if __name__ == "__main__":
    rows = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in _all().items())
    DIGESTS.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    sys.exit(0)
