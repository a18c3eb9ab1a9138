"""Expanding compressed buffers, for good and for damaged input."""

from __future__ import annotations

import hashlib
import random
from typing import Any, Callable

import etw_writer as w
import numpy as np
import pytest
import xca_writer as xca
from conftest import shared_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.etw import compression
from analyzer.etw.buffers import BUFFER_DTYPE, Account, Buffers, blocks
from analyzer.etw.trace import Trace
from analyzer.files import FileBytes

PACK = {2: xca.lznt1, 3: xca.xpress, 4: xca.xpress_huffman}
each_format = pytest.mark.parametrize("fmt", [2, 3, 4], ids=["lznt1", "xpress", "huffman"])


def dissect(fmt: int) -> Callable[[bytes], bytes]:
    """An expander that is not ours."""
    name = {2: "lznt1", 3: "lzxpress", 4: "lzxpress_huffman"}[fmt]
    module = pytest.importorskip(f"dissect.util.compression.{name}")
    return module.decompress  # type: ignore[no-any-return]


def mixed(rng: random.Random, pieces: int) -> bytes:
    """Text, repeated bytes, noise and repetitions of what came before."""
    parts: list[bytes] = []
    for _ in range(pieces):
        kind = rng.randrange(5)
        if kind == 0:
            parts.append(bytes([rng.randrange(256)]) * rng.randrange(1, 40))
        elif kind == 1:
            parts.append(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20))))
        elif kind == 2:
            parts.append("a wide text".encode("utf-16-le"))
        elif parts:
            parts.append(b"".join(parts[-rng.randrange(1, 12) :])[-200:])
    return b"".join(parts)[: pieces * 40] or b"."


def damaged(rng: random.Random, packed: bytes) -> bytes:
    """Bits flipped, bytes at their limits, a part lost."""
    out = bytearray(packed)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out))
        kind = rng.randrange(4)
        if kind < 2:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at] = rng.choice((0, 255))
        elif len(out) > 9:
            del out[at : at + rng.randrange(1, 9)]
    return bytes(out) or b"\0"


@each_format
@given(data=st.binary(max_size=600), times=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_what_a_compressor_made_is_restored(fmt: int, data: bytes, times: int) -> None:
    """They invert the compressors that the tests have from the specification."""
    whole = data * times
    assert compression.expand(fmt, PACK[fmt](whole), len(whole)) == whole


@each_format
@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 65535, 65536, 65537, 262_144 - 0x48])
def test_sizes_around_chunks_and_blocks_are_restored(fmt: int, size: int) -> None:
    """LZNT1 ends chunks at 4 KiB, XPRESS-Huffman codes at 64 KiB; buffers of 256 KiB are common."""
    data = mixed(random.Random(size), size // 20 + 9)[:size].ljust(size, b"z")
    packed = PACK[fmt](data)
    assert compression.expand(fmt, packed, size) == data


@each_format
def test_matches_of_more_than_65535_bytes_are_restored(fmt: int) -> None:
    """Both XPRESS forms write their length as 32 bits then; numbers after it are still right."""
    data = mixed(random.Random(7), 500) + b"q" * 200_000 + mixed(random.Random(8), 500)
    packed = PACK[fmt](data)
    assert compression.expand(fmt, packed, len(data)) == data


@each_format
def test_another_implementation_expands_to_the_same(fmt: int) -> None:
    """dissect.util agrees; its XPRESS-Huffman loses the bits it has read ahead at the end."""
    data = mixed(random.Random(5), 3000)
    packed = PACK[fmt](data)
    theirs = dissect(fmt)(packed)
    if fmt == 4:
        theirs = theirs[: len(data) - 64]
        assert len(theirs) > 50_000
    assert compression.expand(fmt, packed, len(data)).startswith(theirs)
    assert fmt == 4 or len(theirs) == len(data)


@pytest.mark.parametrize(
    ("name", "buffers"),
    [
        ("microsoft_demikernel__PktMon.etl", 2),
        ("microsoft_perfview__SelfDescribingSingleEvent.etl", 2),
        ("microsoft_perfview__smallEtlFile.etl", 1),
    ],
)
def test_buffers_that_windows_compressed(name: str, buffers: int) -> None:
    """We and dissect.util expand real buffers to the same bytes (INDEX.md has the count)."""
    path = shared_sample(f"etl/{name}")
    trace = Trace.open(str(path))
    raw = path.read_bytes()
    rows = [row for row in trace.buffers.table if row["flags"] & 0x40]
    assert len(rows) == buffers
    for row in rows:
        low = int(row["offset"]) + 0x48
        packed, want = raw[low : int(row["offset"] + row["stride"])], int(row["end"]) - 0x48
        theirs = dissect(3)(packed)
        assert len(theirs) == want
        assert compression.expand(3, packed, want) == theirs


#: of what 150 damaged buffers gave: format -> a digest a seed; says that something changed
DAMAGED = {
    2: ["e78e98cf", "7f0edb1f", "6289dfa0", "fa88f201"],
    3: ["e99ef7de", "6ea19208", "877b32f1", "1782ae32"],
    4: ["06d37bda", "5fe52a32", "a013ba37", "8f35c208"],
}


@each_format
@pytest.mark.parametrize("seed", range(4))
def test_damage_gives_no_more_than_asked(fmt: int, seed: int) -> None:
    """Bits flipped and bytes lost end in a result: as long as asked at most, always the same."""
    rng = random.Random(seed)
    whole = hashlib.sha256()
    for _ in range(150):
        data = mixed(rng, rng.choice((3, 20, 150)))
        broken = damaged(rng, PACK[fmt](data))
        want = rng.choice((len(data), len(data) // 2, len(data) + 500))
        out = compression.PURE[fmt](broken, want)
        assert len(out) <= want
        whole.update(out + len(out).to_bytes(4, "little"))
    assert whole.hexdigest()[:8] == DAMAGED[fmt][seed]


@each_format
@given(packed=st.binary(max_size=700), want=st.integers(0, 300_000))
@settings(max_examples=150, deadline=None)
def test_rubbish_gives_no_more_than_asked(fmt: int, packed: bytes, want: int) -> None:
    """Any bytes at all, with a code that is valid before those of XPRESS-Huffman."""
    if fmt == 4:
        packed = b"\x99" * 256 + packed
    assert len(compression.expand(fmt, packed, want)) <= want


@each_format
def test_a_cut_gives_what_came_before(fmt: int) -> None:
    """The result is shorter, and a beginning of the whole but for a few bytes at the cut."""
    data = mixed(random.Random(2), 300)
    packed = PACK[fmt](data)
    out = compression.expand(fmt, packed[: len(packed) // 2], len(data))
    assert len(data) // 10 < len(out) < len(data)
    assert data.startswith(out[:-64])


def test_a_cut_makes_little_up() -> None:
    """A decoder of XPRESS-Huffman is two words ahead: so many bits at most are taken for codes."""
    rng = random.Random(7)
    data = bytes(rng.choice(b"abcdefgh ") for _ in range(3000))
    packed = xca.xpress_huffman(data)
    for cut in [*range(257, len(packed), 47), len(packed)]:
        out = compression.PURE[4](packed[:cut], len(data) + 5000)
        alike = next((k for k, (a, b) in enumerate(zip(out, data)) if a != b), len(data))
        assert len(out) - alike <= 32
        assert cut < len(packed) or out[: len(data)] == data


@pytest.mark.parametrize("chunks", [1, 40])
def test_an_lznt1_chunk_cannot_grow_without_bound(chunks: int) -> None:
    """Matches that would lead far beyond 4 KiB of one chunk end it; once this was a ValueError."""
    body = b"\0aaaaaaaa" + (b"\xff" + b"\xff\x0f" * 8) * 240
    packed = ((0xB000 | len(body) - 1).to_bytes(2, "little") + body) * chunks
    pure = compression.expand(2, packed, 1 << 20)
    assert 4096 <= len(pure) <= 8192 * chunks


def test_long_matches_that_lie_cost_no_memory() -> None:
    """Lengths of four gigabytes are cut to what was asked for."""
    match = b"\x07\0" + b"\x0f\xff\0\0\xff\xff\xff\xff"
    packed = b"\xff\xff\xff\x7f" + b"x" + match * 20
    assert compression.PURE[3](packed, 100_000) == b"x" * 100_000


@each_format
def test_a_compressed_trace_is_the_plain_one(fmt: int) -> None:
    """Buffers of 256 KiB: the index equals that of the plain trace, column by column."""

    def columns(packed: int) -> Any:
        writer = w.Writer(compression=packed, buffer_size=262_144)
        for cpu in range(3):
            events = [w.perfinfo(0x0F2E, 2_000_000 + 3 * k + cpu, bytes([k % 7]) * (k % 90))
                      for k in range(3000)]  # fmt: skip
            writer.add(*events, cpu=cpu)
        index = Trace.of_bytes(writer.build()).index()
        return [index.sorted(name).tolist() for name in ("ts", "size", "type", "cpu", "id")]

    assert len(columns(0)[0]) == 9001
    assert columns(fmt) == columns(0)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_buffer_cannot_grow_without_bound(more: int) -> None:
    """256 times what is stored and 64 KB; what it states beyond that is not made up."""
    packed = xca.xpress(bytes(1 << 20))
    most = len(packed) * 256 + 65536
    assert most < 1 << 20
    table = np.zeros(1, BUFFER_DTYPE)
    table["stride"], table["end"] = 0x48 + len(packed), 0x48 + most + more
    table["flags"] = 0x40  # ETW_BUFFER_FLAG_COMPRESSED (ntwmi.h)
    account = Account(0)
    data = FileBytes.of(bytes(0x48) + packed, "a")
    (block,) = blocks(Buffers(data, table, 3, 0), account)
    assert block.ends.tolist() == [min(most, most + more)]
    texts = [f"a compressed buffer ended after {most} of {most + 1} bytes"] * (more > 0)
    assert [note.text for note in account.notes] == texts
