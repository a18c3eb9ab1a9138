"""Events decoded together say what each says alone."""

from __future__ import annotations

import random
import struct
from typing import Any

import etw_writer as w
import numpy as np
import pytest
from conftest import shared_names, shared_sample

from analyzer.errors import AnalyzerError
from analyzer.etw import payload
from analyzer.etw.batch import Bytes, Many, Payloads
from analyzer.etw.decode import take_apart
from analyzer.etw.events import details, events
from analyzer.etw.trace import Trace


def assert_same_alone(trace: Trace) -> int:
    """Compares each event of the batches with its own description; how many there are."""
    count = 0
    for cols in trace.chunks():
        rows = list(details(trace, cols))
        assert [row.event for row in rows] == list(events(trace, cols))
        names = ("buffer", "offset", "size", "type", "provider", "id", "version", "opcode")
        for row, (buffer, offset, size, kind, number, ident, version, opcode) in zip(
            rows, zip(*(cols[name].tolist() for name in names))
        ):
            parts = take_apart(trace.event_bytes(buffer, offset, size), kind)
            guid = trace.providers.guids[number]
            alone = trace.decoder.describe(parts, guid, ident, version, opcode)
            # an event that names its provider names it for others as well: later ones, here
            assert row.described._replace(provider="") == alone._replace(provider="")
            assert row.event.text == alone.text
            assert row.event.name == alone.name
            assert row.event.origin == trace.origin(buffer, offset)
            count += 1
    return count


@pytest.mark.parametrize("name", shared_names("etl/*.etl"))
def test_real_events_are_the_same_alone(name: str) -> None:
    """Every event of every real trace."""
    assert assert_same_alone(Trace.open(str(shared_sample(name)))) > 0


@pytest.mark.parametrize("seed", range(6))
def test_damaged_events_are_the_same_alone(seed: int) -> None:
    """Bytes changed anywhere behind the first header: the same words, or one of our errors."""
    name = ("airbus-cert_etl-parser__AMSITrace", "microsoft_perfview__PerfViewData",
            "microsoft_krabsetw__powershell")[seed % 3]  # fmt: skip
    raw = bytearray(shared_sample(f"etl/{name}.etl").read_bytes())
    rng = random.Random(seed)
    for _ in range(400):
        raw[rng.randrange(0x400, len(raw))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    try:
        trace = Trace.of_bytes(bytes(raw))
    except AnalyzerError:
        return
    assert_same_alone(trace)


FIELDS = (
    payload.Field("Irp", payload.POINTER),
    payload.Field("Status", payload.UINT32, "ntstatus"),
    payload.Field("Good", payload.BOOLEAN),
    payload.Field("Id", payload.GUID),
    payload.Field("Name", payload.UNICODE),
    payload.Field("Count", payload.UINT16),
    payload.Field("Items", payload.UINT32, count="Count"),
)


@pytest.mark.parametrize("fields", [FIELDS, FIELDS[:4], FIELDS[:1], FIELDS[4:], ()])
@pytest.mark.parametrize("message", ["", "%1 is 100%% of %2"])
@pytest.mark.parametrize("pointer", [4, 8])
def test_payloads_of_any_length_are_the_same_alone(fields: Any, message: str, pointer: int) -> None:
    """Cut at any place and with bytes left over, whichever field is the last."""
    schema = payload.Schema("provider", "name", fields, message)
    number = (7).to_bytes(pointer, "little")
    whole = number + struct.pack("<II", 0xC000000D, 1) + bytes(range(16)) + w.utf16("n\u00e4me")
    whole += struct.pack("<HII", 2, 5, 6)
    some = [whole[:size] for size in range(len(whole) + 1)] + [whole + b"more"] * 2 + [b""]
    for few in (some, some[:3]):  # of the latter all are too short for any field
        data, ends = b"".join(few), np.cumsum([len(one) for one in few])
        starts = ends - [len(one) for one in few]
        many = Many(schema, Payloads(Bytes(data), starts, ends, pointer))
        alone = [payload.decode(schema, one, pointer) for one in few]
        assert many.decoded() == alone
        assert many.texts() == [one.text() for one in alone]
        assert many.is_off() == [n for n, one in enumerate(alone) if one.missing or one.left]


def test_broken_strings_are_the_same_alone() -> None:
    """Halves of surrogates and of UTF-8 sequences at any place: none spoils its neighbour."""
    rng = random.Random(5)
    odd = bytes.fromhex("41 d8 dc db 00 00 e2 82 ac f0 9f 98 80 ed a0 c3 ff 01 81")
    fields = (
        payload.Field("A", payload.UNICODE), payload.Field("B", payload.ANSI, "utf8"),
        payload.Field("C", payload.UNICODE), payload.Field("D", payload.ANSI),
    )  # fmt: skip
    schema = payload.Schema("provider", "name", fields)
    some = [bytes(rng.choices(odd, k=rng.randrange(40))) for _ in range(4000)]
    ends = np.cumsum([len(one) for one in some])
    starts = ends - [len(one) for one in some]
    many = Many(schema, Payloads(Bytes(b"".join(some)), starts, ends, 8))
    assert many.decoded() == [payload.decode(schema, one, 8) for one in some]
