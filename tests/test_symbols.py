"""PDBs against LLVM's own tools, symbol paths, and hostile files.

Oracles: llvm-pdbutil and llvm-symbolizer read the same PDB that clang and lld made.
"""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import missing
from counting import calls
from kd.image import LINK, MissingCompilerError, run, tool

from analyzer.absence import Absent
from analyzer.files import FileBytes
from analyzer.symbols import pe
from analyzer.symbols.paths import Folders, folders_of
from analyzer.symbols.pdb import Pdb, open_pdb

BASE = 0x140000000
#: what clang-cl is: clang with the front end of Microsoft's compiler
CLANG_CL = ("--driver-mode=cl", "--target=x86_64-pc-windows-msvc", "/c", "/Z7", "/Od", "/GS-", "/X")


class Driver(NamedTuple):
    """A driver that was built here."""

    image: Path
    pdb: Path


def build(folder: Path, sources: dict[str, str], name: str) -> Driver:
    """Compiles and links a driver of some sources."""
    try:
        clang, link = tool("clang"), tool("lld-link")
    except MissingCompilerError as error:
        missing(str(error))
    jobs = []
    for source, text in sources.items():
        (folder / source).write_text(text)
        obj = folder / f"{source}.obj"
        command = [clang, *CLANG_CL, str(folder / source), f"/Fo{obj}"]
        jobs.append(subprocess.Popen(command))
    for job in jobs:
        assert job.wait(120) == 0
    image, pdb = folder / f"{name}.sys", folder / f"{name}.pdb"
    objects = [str(folder / f"{source}.obj") for source in sources]
    run([link, *LINK, "/entry:DriverEntry", f"/pdb:{pdb}", f"/out:{image}", *objects])
    return Driver(image, pdb)


def llvm(name: str, *arguments: str, given: str = "") -> str:
    """Output of a tool of LLVM (Debian: llvm)."""
    try:
        program = tool(name)
    except MissingCompilerError as error:
        missing(str(error))
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """A driver in C of 300 functions, every third of them static."""
    text = ["int DriverEntry(void) { return 0; }"]
    for number in range(300):
        kind = "static __attribute__((used)) " if number % 3 == 0 else ""
        body = " ".join(f"x = x * {k + 3} ^ {number};" for k in range(number % 7))
        text.append(f"{kind}int Function{number}(int x) {{ {body} return x; }}")
    return build(tmp_path_factory.mktemp("driver"), {"many.c": "\n".join(text)}, "many")


def procedures_of(pdb: Path, sections: list[int]) -> set[tuple[int, int, str]]:
    """Address, size and name of every procedure, by llvm-pdbutil."""
    rows = re.findall(
        r"S_[GL]PROC32(?:_ID)? \[size = \d+\] `(.*)`\n"
        r"\s+parent = \d+, end = \d+, addr = (\d+):(\d+), code size = (\d+)",
        llvm("llvm-pdbutil", "dump", "-symbols", str(pdb)),
    )
    return {(sections[int(seg) - 1] + int(at), int(size), name) for name, seg, at, size in rows}


def publics_of(pdb: Path, sections: list[int]) -> set[tuple[int, str]]:
    """Address and name of every public function, by llvm-pdbutil."""
    rows = re.findall(
        r"S_PUB32 \[size = \d+\] `(.*)`\n\s+flags = (.*), addr = (\d+):(\d+)",
        llvm("llvm-pdbutil", "dump", "-publics", str(pdb)),
    )
    functions = [row for row in rows if "function" in row[1]]
    return {(sections[int(seg) - 1] + int(at), name) for name, _, seg, at in functions}


def same_as_llvm(pdb: Path) -> tuple[int, int]:
    """Compares all names of a PDB; returns how many procedures and publics there are."""
    ours = open_pdb(str(pdb))
    procedures = {(name.offset, name.size, name.text) for name in ours.procedures()}
    assert procedures == procedures_of(pdb, ours.sections)
    publics = {(name.offset, name.text) for name in ours.publics()}
    assert publics == publics_of(pdb, ours.sections)
    return len(procedures), len(publics)


def test_every_name_is_llvms(driver: Driver) -> None:
    """All procedures and publics of a small driver."""
    procedures, publics = same_as_llvm(driver.pdb)
    assert procedures == 301
    assert publics >= 200


def test_a_thousand_addresses_are_llvms(driver: Driver) -> None:
    """llvm-symbolizer names the same function at each of them, which lies in a function's code."""
    pdb = open_pdb(str(driver.pdb))
    chance = random.Random(1)
    procedures = sorted(procedures_of(driver.pdb, pdb.sections))
    chosen = [chance.choice(procedures) for _ in range(1000)]
    places = [start + chance.randrange(size) for start, size, _ in chosen]
    asked = "".join(f"{BASE + place:#x}\n" for place in places)
    options = (f"--obj={driver.image}", "--output-style=JSON", "--no-demangle")
    rows = [json.loads(row) for row in llvm("llvm-symbolizer", *options, given=asked).splitlines()]
    theirs = [(row.get("Symbol") or [{"FunctionName": ""}])[-1]["FunctionName"] for row in rows]
    ours = [found.text if (found := pdb.at(place)) else "" for place in places]
    assert ours == theirs
    assert len(set(ours)) > 200


def test_the_image_names_its_pdb(driver: Driver) -> None:
    """GUID and age of the image's debug directory are those of the PDB."""
    image = pe.ImageFile(str(driver.image))
    identity = pe.pdb_identity(image.read, image.header)
    assert identity == ("many.pdb", open_pdb(str(driver.pdb)).key)
    text = llvm("llvm-pdbutil", "dump", "-summary", str(driver.pdb))
    (guid,) = re.findall(r"GUID: \{(.*)\}", text)
    assert open_pdb(str(driver.pdb)).key == guid.replace("-", "") + "1"


@pytest.mark.slow
def test_a_large_pdb_is_llvms(tmp_path: Path) -> None:
    """Every name of a PDB of 20 MB or more, in a dozen calls a name (half a second)."""
    filler = "with_a_name_long_enough_to_fill_the_file_" + "x" * 200
    sources = {}
    for module in range(4):
        rows = ["int DriverEntry(void) { return 0; }"] if not module else []
        for number in range(5500):
            kind = "static " if number % 3 == 0 else ""
            name = f"Function_{filler}_{module}_{number}"
            rows.append(f"{kind}__attribute__((used)) int {name}(int x) {{ return x + {number}; }}")
        sources[f"m{module}.c"] = "\n".join(rows)
    large = build(tmp_path, sources, "large")
    assert large.pdb.stat().st_size >= 20_000_000
    found: list[Any] = []
    work = calls(lambda: found.extend(open_pdb(str(large.pdb)).names()))
    assert len(found) >= 22_001
    assert work < 12 * len(found)  # nine to ten: a second pass over the names would show
    procedures, publics = same_as_llvm(large.pdb)
    assert procedures == 22_001
    assert publics >= 14_000


# ---- hostile and unusable files ------------------------------------------------------------------


def test_mutated_pdbs_end_in_our_error(driver: Driver) -> None:
    """1,500 damaged PDBs: names or ValueError, in bounded time."""
    raw, chance, refused = driver.pdb.read_bytes(), random.Random(2), 0
    for number in range(1500):
        data = bytearray(raw)
        for _ in range(chance.choice((1, 5, 50, 500))):
            at = chance.choice((chance.randrange(len(data)), 0x20 + chance.randrange(0x40)))
            data[at] = chance.randrange(256)
        if number % 5 == 0:
            data = data[: chance.randrange(len(data))]
        before = time.process_time()
        try:
            pdb = Pdb(bytes(data))
            pdb.names()
            pdb.at(0x1000)
        except ValueError:
            refused += 1
        assert time.process_time() - before < 1
    assert 300 < refused < 1500


def test_mutated_images_end_in_our_error(driver: Driver, tmp_path: Path) -> None:
    """1,000 damaged image files: a header, a reason or ValueError."""
    raw, chance = driver.image.read_bytes(), random.Random(3)
    path = tmp_path / "damaged.sys"
    for number in range(1000):
        data = bytearray(raw)
        for _ in range(chance.choice((1, 5, 50))):
            data[chance.randrange(0x400 if number % 2 else len(data))] = chance.randrange(256)
        path.write_bytes(data if number % 5 else data[: chance.randrange(1, len(data))])
        try:
            image = pe.ImageFile(str(path))
        except ValueError:
            continue
        for offset in (0, 0x1000, image.header.size_of_image - 8):
            found = image.read(offset, 8)
            assert isinstance(found, Absent) or len(found) == 8
        pe.pdb_identity(image.read, image.header)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"Microsoft MSFZ Container\r\n\x1aALD\0\0", "compressed PDB (MSFZ)"),
        (b"Microsoft C/C++ program database 2.00\r\n\x1aJG\0\0", "old format 2.00"),
        (b"MZ" + bytes(200), "not a PDB"),
        (b"", "not a PDB"),
    ],
)
def test_other_files_are_refused_in_words(start: bytes, words: str) -> None:
    """What is not read is named."""
    with pytest.raises(ValueError, match=re.escape(words)):
        Pdb(start)


def test_a_pdb_of_another_build_is_refused(driver: Driver, tmp_path: Path) -> None:
    """A wrong age and a wrong GUID are told apart; nothing of the file is used."""
    key = open_pdb(str(driver.pdb)).key
    folder = Folders([str(driver.pdb.parent)])
    assert folder.pdb("MANY.PDB", key) is not None
    assert folder.refused == []
    assert folder.pdb("many.pdb", key[:32] + "7") is None
    assert folder.pdb("many.pdb", "0" * 32 + "1") is None
    (age, guid) = folder.refused
    assert "age 1, the image wants 7" in age
    assert f"its key is {key}" in guid
    packed = tmp_path / "many.pdb" / key
    packed.mkdir(parents=True)
    (packed / "many.pd_").write_bytes(b"MSCF")
    folder = Folders([str(tmp_path)])
    assert folder.pdb("many.pdb", key) is None
    assert "it is compressed" in folder.refused[0]


def test_a_pdb_that_is_damaged_inside_is_refused(driver: Driver, tmp_path: Path) -> None:
    """Its head is sound, a stream of names lies behind the end: refused when it is found."""
    data = bytearray(driver.pdb.read_bytes())
    block, _, _, size, _, place = struct.unpack_from("<6I", data, 32)
    (first,) = struct.unpack_from("<I", data, place * block)
    (count,) = struct.unpack_from("<I", data, first * block)
    sizes = struct.unpack_from(f"<{count}I", data, first * block + 4)
    at = first * block + 4 + 4 * count + 4 * sum(-(-n // block) for n in sizes[:4])
    assert size < block
    for offset in range(at, first * block + size, 4):  # the blocks of all later streams
        struct.pack_into("<I", data, offset, 1 << 20)
    key = open_pdb(str(driver.pdb)).key
    (tmp_path / "many.pdb").write_bytes(data)
    folder = Folders([str(tmp_path)])
    assert folder.pdb("many.pdb", key) is None
    assert "behind the end of the file" in folder.refused[0]


def test_types_only_is_refused(driver: Driver) -> None:
    """A PDB without its list of modules, as stripped ones of types are."""
    data = bytearray(driver.pdb.read_bytes())
    block, _, _, _, _, place = struct.unpack_from("<6I", data, 32)
    (directory,) = struct.unpack_from("<I", data, place * block)
    struct.pack_into("<I", data, directory * block + 4 + 4 * 3, 0)  # stream 3
    with pytest.raises(ValueError, match="types only"):
        Pdb(bytes(data))


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        (r"srv*C:\symbols*https://msdl.microsoft.com/download/symbols", [r"C:\symbols"]),
        (r"cache*D:\c;srv*https://server", [r"D:\c"]),
        (r"symsrv*symsrv.dll*C:\s*\\share\symbols", [r"C:\s"]),
        (r"C:\a;;C:\b;C:\a", [r"C:\a", r"C:\b"]),
        (r"\\server\share;//server/share;http://x", []),
        ("/home/me/symbols", ["/home/me/symbols"]),
    ],
)
def test_symbol_paths(text: str, folders: list[str]) -> None:
    """Local folders alone: servers and shares are never asked."""
    assert folders_of(text) == folders


def test_rearranged_images(driver: Driver) -> None:
    """OMAP: a symbol is moved to where the map says, one that the image left out is dropped."""
    pdb = open_pdb(str(driver.pdb))
    first = pdb.sections[0]
    before = pdb._offset(1, 0x10)
    assert before == first + 0x10
    pdb._moves = [(first, first + 0x5000), (first + 0x20, 0), (first + 0x40, first)]
    pdb._move_starts = [start for start, _ in pdb._moves]
    assert pdb._offset(1, 0x10) == first + 0x5010
    assert pdb._offset(1, 0x30) is None
    assert pdb._offset(1, 0x48) == first + 8


def test_files_are_read_in_pieces(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PDB too large to be held is read block by block, with the same names."""
    whole = open_pdb(str(driver.pdb)).names()
    monkeypatch.setattr("analyzer.files.WHOLE_BYTES", 0)
    assert FileBytes(str(driver.pdb)).whole() is None
    assert open_pdb(str(driver.pdb)).names() == whole
