"""``dumpstart dryrun`` on dumps: a real engine's, shipped ones, and patched ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES

import analyzer
from analyzer import cli
from analyzer.absence import Absent
from analyzer.dryrun import decode
from analyzer.dumpfile import open_dump

MOV_RET = {"x64": "b8{}c3", "x86": "b8{}c20400"}
ENDLESS = {"x64": "ebfe", "x86": "ebfe", "arm64": "00000014"}


def run(capsys: Any, path: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and rows of the command."""
    code = cli.main(["dryrun", str(path), "--format", "json", *options])
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return code, rows


def start_of(dump: Any, path: Path) -> tuple[int, int]:
    """Address and file offset of the last filter's Dump_Start."""
    case = analyzer.open(str(path))
    row = [r for r in case.records["callbacks"] if r.callback == "Dump_Start"][-1]
    assert isinstance(row.routine, int)
    offset = dump.file_offset(row.routine)
    assert offset is not None
    return row.routine, offset


def patched(tmp_path: Path, source: Path, code: Callable[[str], bytes]) -> Path:
    """A shipped dump with other code in the last filter's Dump_Start."""
    dump = open_dump(str(source))
    _, offset = start_of(dump, source)
    data = bytearray(source.read_bytes())
    new = code(str(dump.architecture).split("-")[0])
    data[offset : offset + len(new)] = new
    path = tmp_path / source.name
    path.write_bytes(data)
    return path


def returns(status: int) -> Callable[[str], bytes]:
    """Code that returns a status."""

    def code(architecture: str) -> bytes:
        if architecture == "arm64":  # movz w0; movk w0, lsl 16; ret
            low, high = status & 0xFFFF, status >> 16
            words = (0x52800000 | low << 5, 0x72A00000 | high << 5, 0xD65F03C0)
            return struct.pack("<3I", *words)
        return bytes.fromhex(MOV_RET[architecture].format(struct.pack("<I", status).hex()))

    return code


DUMPS = ["healthy-x64-kernel", "la57-x64-kernel", "healthy-arm64-full", "mbr-x86-kernel",
         "healthy-x86-windows7-full"]  # fmt: skip
PAGE_DUMPS = sorted(
    path.name for path in SAMPLE_TRACES.glob("*.dmp") if not path.name.startswith("minidump")
)


def test_the_dump_of_a_real_engine(shared_sample: Any, capsys: Any) -> None:
    """23 instructions, its own counter: executed by that engine's machine before (issue 15)."""
    code, rows = run(capsys, shared_sample("dmp/dbgeng_written_full.dmp"))
    start = rows[0]
    assert (start["filter"], start["callback"]) == ("dump_mydrv.sys", "Dump_Start")
    assert (start["status"], start["instructions"]) == ("0x00000000", 23)
    assert start["members_read"] == "Geometry.BytesPerSector; DumpData; Size"
    assert start["changes"] == "dump_mydrv+0x3008: 0x15c5 -> 0x15c6"
    assert start["depends_on"] == "dump_mydrv+0x3008, which it changes"
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PAGE_DUMPS, "dbgeng_written_full.dmp"])
def test_a_slice_with_code_gives_the_same(
    name: str, sample: Any, shared_sample: Any, tmp_path: Path, capsys: Any
) -> None:
    """Each callback, with each shape of MDL, ends as on the whole dump."""
    whole = sample(name) if name in PAGE_DUMPS else shared_sample(f"dmp/{name}")
    small = tmp_path / name
    assert cli.main(["export", "--slice", str(whole), "--output", str(small), "--with-code"]) == 0
    assert small.stat().st_size < whole.stat().st_size
    keep = ("filter", "callback", "dump_type", "shape", "outcome", "status", "instructions",
            "stack_bytes", "members_read", "changes")  # fmt: skip
    (code, rows), (small_code, small_rows) = (run(capsys, path) for path in (whole, small))
    assert small_code == code
    assert [[row.get(k) for k in keep] for row in small_rows] == [
        [row.get(k) for k in keep] for row in rows
    ]
    assert bool(rows) == (name != "broken-x64-cut.dmp")  # whose filters were cut off


@pytest.mark.parametrize("name", DUMPS)
def test_a_patched_return_value(name: str, sample: Any, tmp_path: Path, capsys: Any) -> None:
    """The status that the code now has, in words, and a contradiction: the dump was written."""
    path = patched(tmp_path, sample(f"{name}.dmp"), returns(0xC0000022))
    _, rows = run(capsys, path, "--callback", "Dump_Start")
    row = [r for r in rows if r["dump_type"] == 1][-1]
    assert row["status"] == "0xc0000022"
    text = "Called again on this memory, Dump_Start returns STATUS_ACCESS_DENIED (0xc0000022)."
    assert row["text"] == text
    assert row["is_repeatable"] is True
    found = analyzer.open(str(path)).dry_run().iloc[0]
    assert found["outcome"] == "returns"
    assert cli.main(["dryrun", str(path)]) in (0, 1)
    shown = " ".join(capsys.readouterr().out.split())
    assert text in shown
    assert "Any call on this memory ends like this" in shown or "any call on this memory" in shown


@pytest.mark.parametrize("name", DUMPS)
def test_an_endless_loop(name: str, sample: Any, tmp_path: Path, capsys: Any) -> None:
    """Never returns, with the place of the loop."""
    path = patched(tmp_path, sample(f"{name}.dmp"), lambda a: bytes.fromhex(ENDLESS[a]))
    _, rows = run(capsys, path, "--callback", "Dump_Start")
    row = [r for r in rows if r["dump_type"] == 1][-1]
    assert row["outcome"] == "never returns"
    assert "stays in a loop of 1 instructions that changes nothing" in row["text"]
    assert row["where"] == row["symbol"]


#: code put into Dump_Start -> outcome, words
PATCHES = {
    "cc": ("stopped", "breakpoint (int 3)"),
    "fa f4": ("stopped", "executes hlt"),
    "f3 90 eb fc": ("never returns", "a loop of 2 instructions"),
    "e4 60 c3": ("stopped", "port input, port 0x60"),
    "66 ba f8 03 ee c3": ("stopped", "port output, port 0x3f8"),
    "0f 0b": ("stopped", "executes ud2"),
    "b9 03 00 00 00 cd 29": ("bugchecks", "fast fail (int 0x29), code 0x3"),
    "31 c9 31 d2 f7 f1 c3": ("stopped", "divide error exception"),
    "31 c0 8b 40 10 c3": ("faults", "reads 0x10, an address in the user half"),
    "31 c0 ff e0": ("faults", "executes 0x0, an address in the user half"),
    "b9 3a 00 00 00 0f 32 c3": ("stopped", "rdmsr 0x3a"),
    "c5 fd ef c0 c3": ("stopped", "an AVX instruction"),
    "0f 22 d8": ("stopped", "write of cr3"),
    "0f 05": ("stopped", "executes syscall"),
    "55 eb fd": ("faults", "needs more stack than the 24 KB"),
    "44 0f 20 c0 c3": ("returns", "0x0000000f"),  # mov rax, cr8: HIGH_LEVEL
    "48 31 c0 48 ff c0 3d 00 e1 f5 05 7c f6 c3": ("stopped", "1,000,0"),
    "0f 31 89 c6 0f 31 29 f0 3d 00 2d 31 01 72 f5 31 c0 c3": ("returns", "STATUS_SUCCESS"),
}


@pytest.mark.parametrize("code", PATCHES)
def test_other_patches(code: str, sample: Any, tmp_path: Path, capsys: Any) -> None:
    """Each ends as the processor's manual says, or with the name of what is not emulated."""
    source = sample("healthy-x64-kernel.dmp")
    path = patched(tmp_path, source, lambda _: bytes.fromhex(code))
    options = ["--callback", "Dump_Start", "--filter", "dump_acmeflt.sys"]
    _, rows = run(capsys, path, *options)
    outcome, words = PATCHES[code]
    assert rows[0]["outcome"] == outcome, rows[0]["text"]
    assert words in rows[0]["text"]


@pytest.mark.parametrize("name", ["healthy-x64-kernel", "la57-x64-kernel"])
def test_a_missing_page(name: str, sample: Any, tmp_path: Path, capsys: Any) -> None:
    """Code that reads an address which this dump does not hold: a named stop or a fault."""
    kernel = 0xFFFFF6FF_12345678
    code = b"\x48\xb8" + struct.pack("<Q", kernel) + b"\x8b\x00\xc3"  # mov rax; mov eax, [rax]
    path = patched(tmp_path, sample(f"{name}.dmp"), lambda _: code)
    _, rows = run(capsys, path, "--callback", "Dump_Start")
    row = [r for r in rows if r["dump_type"] == 1][-1]
    assert row["outcome"] in ("stopped", "faults")
    assert f"Dump_Start reads {kernel:#x}" in row["text"]
    held = open_dump(str(path)).read(kernel, 4)
    assert isinstance(held, Absent)
    assert (row["outcome"] == "faults") == (held.reason == "not-mapped")


def test_a_page_of_code_that_the_dump_lacks(sample: Any, capsys: Any) -> None:
    """A minidump holds nodes, not code: said, not guessed."""
    code, rows = run(capsys, sample("minidump-x64-with-nodes.dmp"))
    assert {row["outcome"] for row in rows} == {"stopped"}
    assert all("which is not there to follow it" in row["text"] for row in rows)
    assert code == 0


def test_a_failing_filter_of_windows_7_contradicts(sample: Any) -> None:
    """crashdmp's words say that it failed; called again it returns success: both are shown."""
    path = sample("broken-x86-windows7-filter-failed.dmp")
    case = analyzer.open(str(path))
    case.dry_run()
    found = [f for f in case.records["findings"] if f.rule == "dry-run-contradicts"]
    assert found
    assert "Called again on this memory" in found[0].text
    assert "But crashdmp" in found[0].text


def test_analyze_runs_it_only_when_asked_or_before_a_crash(sample: Any, capsys: Any) -> None:
    """A crashed machine's dump is not run by itself."""
    path = str(sample("healthy-x64-kernel.dmp"))
    cli.main(["analyze", path, "--format", "json"])
    assert json.loads(capsys.readouterr().out)["tables"]["dry_runs"] == []
    cli.main(["analyze", path, "--format", "json", "--dry-run"])
    assert json.loads(capsys.readouterr().out)["tables"]["dry_runs"]
    cli.main(["analyze", path, "-v", "--dry-run"])
    assert "\nDry run\n" in capsys.readouterr().out


def test_a_live_image_is_run_by_itself(sample: Any, tmp_path: Path, capsys: Any) -> None:
    """Bugcheck 0x161 is not a crash: a pre-flight, worded as such."""
    data = bytearray(sample("healthy-x64-kernel.dmp").read_bytes())
    struct.pack_into("<I", data, 0x38, 0x161)
    path = tmp_path / "live.dmp"
    path.write_bytes(data)
    cli.main(["analyze", str(path), "--format", "json"])
    rows = json.loads(capsys.readouterr().out)["tables"]["dry_runs"]
    assert rows[0]["text"] == "Called now, Dump_Start returns STATUS_SUCCESS (0x0)."
    assert rows[0]["had_crashed"] is False


def test_what_is_asked_for_is_run(sample: Any, capsys: Any) -> None:
    """One filter, one callback; nothing to run is said."""
    path = sample("healthy-x64-kernel.dmp")
    _, rows = run(capsys, path, "--filter", "dump_acmeflt", "--callback", "Dump_Finish")
    assert {(row["filter"], row["callback"]) for row in rows} == {
        ("dump_acmeflt.sys", "Dump_Finish")
    }
    cli.main(["dryrun", str(path), "--filter", "no-such"])
    assert "No filter was found" in capsys.readouterr().out
    assert cli.main(["dryrun"]) == 2


@pytest.mark.parametrize("mode", [32, 64])
def test_lengths_of_instructions_against_capstone(mode: int) -> None:
    """20,000 random instructions: where capstone knows one, its length is ours."""
    import random

    import capstone

    rng = random.Random(4711)
    reader = capstone.Cs(
        capstone.CS_ARCH_X86, capstone.CS_MODE_64 if mode == 64 else capstone.CS_MODE_32
    )
    wrong, known = [], 0
    for _ in range(20_000):
        code = rng.randbytes(16)
        first = next(reader.disasm(code, 0), None)
        if first is None:
            continue
        known += 1
        length, _special = decode.x86(code, 0, mode == 64)
        if length != first.size and first.mnemonic != "ud0":  # makers differ on that one
            wrong.append((code.hex(), first.mnemonic, first.op_str, first.size, length))
    assert known > 5_000
    assert wrong == []


@pytest.mark.parametrize("kind", ["elf", "raw"])
def test_a_snapshot_of_a_filter_that_hangs(kind: str, specimen: Any, capsys: Any) -> None:
    """Real QEMU wrote it while Dump_Start of the second filter looped; the first returns."""
    code, rows = run(capsys, specimen(kind), "--callback", "Dump_Start")
    first, second = (row for row in rows if row["dump_type"] == 1)
    assert (first["outcome"], first["status_name"]) == ("returns", "STATUS_SUCCESS")
    assert (second["filter"], second["outcome"]) == ("dump_acmeflt.sys", "never returns")
    assert "waits for a change at FILTER_EXTENSION.DumpType" in second["text"]
    assert code == 1
    rules = {f.rule for f in analyzer.open(str(specimen(kind))).records["findings"]}
    assert "dry-run-never-returns" not in rules  # the machine had crashed: only when asked


def test_code_of_an_image_file(tmp_path: Path, sample: Any, capsys: Any) -> None:
    """``--images``: what a minidump lacks comes from the file, and the record says so."""
    path = sample("minidump-x64-with-nodes.dmp")
    row = next(m for m in open_dump(str(path)).modules() if m.name == "dump_acmeflt.sys")
    assert isinstance(row.size, int)
    assert isinstance(row.time_date_stamp, int)
    image = bytearray(0x2000)
    image[0:2] = b"MZ"
    struct.pack_into("<I", image, 0x3C, 0x80)
    pe = 0x80
    struct.pack_into("<4sHHI", image, pe, b"PE\0\0", 0x8664, 1, row.time_date_stamp)
    struct.pack_into("<HH", image, pe + 20, 0xF0, 0x22)
    struct.pack_into("<H", image, pe + 24, 0x20B)
    struct.pack_into("<II", image, pe + 24 + 32, 0x1000, 0x200)
    struct.pack_into("<II", image, pe + 24 + 56, row.size, 0x400)
    struct.pack_into("<I", image, pe + 24 + 108, 16)
    section = (b".text\0\0\0", 0x1000, 0x1000, 0x1000, 0x1000, 0, 0, 0, 0, 0x60000020)
    struct.pack_into("<8sIIIIIIHHI", image, pe + 24 + 0xF0, *section)
    image[0x1000:0x2000] = (b"\xb8\x01\0\0\xc0\xc3" + b"\xcc" * 58) * 64
    (tmp_path / "acmeflt.sys").write_bytes(image)
    options = ["--images", str(tmp_path), "--filter", "dump_acmeflt", "--callback", "Dump_Start"]
    _, rows = run(capsys, path, *options)
    assert rows[0]["status_name"] == "STATUS_UNSUCCESSFUL"
    assert "image file" in rows[0]["assumed"]
