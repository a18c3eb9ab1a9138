"""Small inputs, damaged in many ways or mixed with others, with a digest of all that is told.

The digests lie in tests/damaged.json and say that something changed, not what is right.
After a change that was meant: ``python tests/damaged.py`` writes them again and says which changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fuzzing
import told
from conftest import REPOSITORY  # makes the generators importable
from made_inputs import MADE

# isort: split
import generator_cases
from generator import Spec, build
from generator.variants import VARIANTS

import analyzer
from analyzer.errors import AnalyzerError

DIGESTS = REPOSITORY / "tests" / "damaged.json"
KNOWN: dict[str, str] = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
SHIPPED = ("minidump*.dmp", "broken-x64-cut.dmp", "captures/run-09.jsonl", "logs/*.log")
#: every dump type and architecture; words change where a reader follows them
WORDS = "/words"
SPECS = (
    Spec("x64", 1, "win8", "worst"), Spec("x86", 1, "vista"), Spec("x86-pae", 2, "vista"),
    Spec("x64", 4, "newest", "node-in-blocks"), Spec("arm64", 5, "newest", "worst"),
    Spec("x64", 6, "win8", "nodes-only"), Spec("arm64", 9, "win8"), Spec("x64", 10, "win8"),
)  # fmt: skip
#: so many cases of two to four inputs that have nothing to do with each other; bytes of the largest
MIXED, SMALL = 150, 20_000
#: how many copies of each input, by the end of its name; of others 12
COPIES = {
    ".etl": 40,
    ".evtx": 30,
    ".dmp": 40,
    ".jsonl": 30,
    "generated": 4,
    "words": 25,
    "mixed": 2,
}
_WORDS = "0 1 -1 7 0x40 0xffff 99999 STATUS_SUCCESS 0xc0000185 2024-03-05T14:07:09Z , : | \t"


#: how many checks passed: each new rule would change all digests
CHECKS = re.compile(r"\d+\s+checks\s+passed;\s+\d+\s+more")


def inputs() -> dict[str, dict[str, bytes]]:
    """The files of each: what the told files hold, what is made, stories, small shipped samples."""
    found = {name: {name: make()} for name, make in MADE.items()}
    for path in sorted(told.FOLDER.glob("*.txt")):
        for number, case in enumerate(told.cases(path)):
            if case.name not in MADE:
                found[f"{path.stem}-{number}/{case.name}"] = {case.name: case.text.encode()}
    for name, story in generator_cases.stories().items():
        found[f"story/{name}"] = dict(story.files)
    shipped = REPOSITORY / "sample-traces"
    for path in sorted(path for pattern in SHIPPED for path in shipped.glob(pattern)):
        found[f"shipped/{path.name}"] = {path.name: path.read_bytes()}
    for name, variant in VARIANTS.items():
        kind = variant.types[-1]
        if variant.applies("x64", kind, "newest"):
            found[f"{name}/generated"] = {"x.dmp": generator_cases.dump(name, kind)[0]}
    for spec in SPECS:
        found["-".join(map(str, spec[:4])) + WORDS] = {"x.dmp": build(spec).data}
    small = {
        name: files
        for name, files in found.items()
        if sum(map(len, files.values())) < SMALL and not name.endswith(".etl")
    }
    for number in range(MIXED):  # by digests, so that a new input changes few of them
        chosen = sorted(
            small, key=lambda name: hashlib.sha256(f"{number} {name}".encode()).digest()
        )
        files = {}
        for place, name in enumerate(chosen[: 2 + number % 3]):
            files.update({f"{place}/{file}": data for file, data in small[name].items()})
        found[f"{number}/mixed"] = files
    return found


def copies(name: str, files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """(file, its bytes with damage): the same on every machine."""
    source = random.Random(name)
    end = name.rpartition("/")[2]
    count = COPIES.get(end, COPIES.get(Path(end).suffix, 12))
    if name.endswith(WORDS):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.dmp"
            path.write_bytes(files["x.dmp"])
            where = fuzzing.places(path)
        for damage in fuzzing.hostile_words(files["x.dmp"], where, count, source):
            yield "x.dmp", damage.data
        return
    if end == "mixed":
        yield min(files), files[min(files)]  # as they are
    for _ in range(count):
        one = sorted(files)[source.randrange(len(files))]
        is_text = b"\0" not in files[one][:4096]
        yield one, _text(files[one], source) if is_text else _binary(files[one], source)


def _binary(data: bytes, source: random.Random) -> bytes:
    """A word that is not zero, or its neighbour, gets another value; seldom the end is cut off."""
    out = bytearray(data)
    if source.randrange(12) == 0:
        return bytes(out[: source.randrange(len(out))])
    for _ in range(source.randrange(1, 4)):
        size = 1 << source.randrange(4)
        for _ in range(200):
            at = source.randrange(0, len(out) - size + 1, size)
            if any(out[max(0, at - 8) : at + size]):
                break
        old = int.from_bytes(out[at : at + size], "little")
        flipped = old ^ 1 << source.randrange(8 * size)
        values = (0, 1, -1, old + 1, old - 1, old + 8, old * 2, flipped)
        number = values[source.randrange(len(values))] & (1 << 8 * size) - 1
        out[at : at + size] = number.to_bytes(size, "little")
    return bytes(out)


def _text(data: bytes, source: random.Random) -> bytes:
    """Lines lost, doubled, exchanged or cut; words exchanged for others."""
    lines = data.split(b"\n")
    for _ in range(source.randrange(1, 4)):
        kind, at = source.randrange(6), source.randrange(len(lines))
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(source.randrange(len(lines)), lines[at])
        elif kind == 2:
            lines[at] = lines[at][: source.randrange(len(lines[at]) + 1)]
        else:
            words = lines[at].split(b" ")
            others = _WORDS.encode().split(b" ")
            other = others[source.randrange(len(others))]
            words[source.randrange(len(words))] = other
            lines[at] = b" ".join(words)
    return b"\n".join(lines)


def digests(name: str, files: dict[str, bytes], folder: Path) -> str:
    """One digest a copy."""
    found = []
    for number, (one, copy) in enumerate(copies(name, files)):
        case = folder / f"{number}"  # a new one each: the last files may still be mapped
        case.mkdir()
        for path, data in {**files, one: copy}.items():
            (case / path).parent.mkdir(parents=True, exist_ok=True)
            (case / path).write_bytes(data)
        found.append(_digest(case, one if len(files) == 1 else "."))
    return " ".join(found)


def _digest(folder: Path, path: str) -> str:
    """Of every record and of the report."""
    here = Path.cwd()
    os.chdir(folder)  # sources are named as they are given, and lines are folded by their length
    try:
        case = analyzer.open(path)
        whole = "\n".join([*told.lines_of(case.records), case.report(details=True)])
    except AnalyzerError as error:
        whole = str(error)
    finally:
        os.chdir(here)
    whole = CHECKS.sub("", whole)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:5]


def main() -> int:
    """Writes the digests and says how many copies of each input changed."""
    rows = {}
    for name, files in inputs().items():
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = digests(name, files, Path(folder))
        before, after = KNOWN.get(name, "").split(), rows[name].split()
        changed = sum(one != two for one, two in zip(before, after))
        if changed or len(before) != len(after):
            print(f"{name}: {changed} of {len(after)} changed")
    lines = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    DIGESTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
