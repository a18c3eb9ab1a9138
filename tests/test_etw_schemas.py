"""What tells the schema of an event, word by word: TMF files, manifests, mappings, dump blocks."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import etw_writer as w
import pytest
from conftest import make
from test_etw_memory import CONTEXT, POOL, machine

from analyzer.absence import Absent
from analyzer.errors import InputError
from analyzer.etw import callbacks, dumpblock, manifests, memory, payload, schema_fit, wpp
from analyzer.etw.clock import Clock
from analyzer.records import Event
from analyzer.target import PAGE

PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"


# -- TMF -------------------------------------------------------------------------------------------


def said(form: str, items: str, data: bytes, pointer: int = 8) -> str:
    """The text of a message with these items, numbered from 10."""
    lines = "".join(f"A{k}, {item} -- {10 + k}\n" for k, item in enumerate(items.split()))
    text = f'{PROVIDER} drv\n#typev name 5 "{form}" // FUNC=F LEVEL=L\n{{\n{lines}}}\n'
    return wpp.parse(text)[PROVIDER, 5].decode(data, pointer)[1]


@pytest.mark.parametrize(
    ("form", "items", "data", "text"),
    [
        ("%10!d!", "ItemChar", b"\xff", "-1"), ("%10!d!", "ItemUChar", b"\xff", "255"),
        ("%10!d!", "ItemCharShort", b"\xff", "-1"), ("%10!d!", "ItemCharSign", b"\xff", "-1"),
        ("%10!d!", "ItemShort", b"\xfe\xff", "-2"), ("%10!d!", "ItemUShort", b"\xfe\xff", "65534"),
        ("%10!d!", "ItemLong", b"\xfd\xff\xff\xff", "-3"),
        ("%10!u!", "ItemULong", b"\xfd\xff\xff\xff", "4294967293"),
        ("%10!x!", "ItemULongX", b"\x0b\0\0\0", "b"), ("%10!08X!", "ItemULongX", b"\x0b\0\0\0",
                                                       "0000000B"),
        ("%10!d!", "ItemULongX", b"\x0b\0\0\0", "11"), ("%10!s!", "ItemULongX", b"\x0b\0\0\0",
                                                        "0xb"),
        ("%10!I64d!", "ItemLongLong", b"\xfc" + b"\xff" * 7, "-4"),
        ("%10!I64u!", "ItemULongLong", b"\x05" + bytes(7), "5"),
        ("%10!I64x!", "ItemLongLongX", b"\xff" * 8, "f" * 16),
        ("%10!llX!", "ItemULongLongX", b"\xff" * 8, "F" * 16),
        ("%10!#x!", "ItemLongLongXX", b"\x10" + bytes(7), "0x10"),
        ("%10!o!", "ItemLongLongO", b"\x08" + bytes(7), "10"),
        ("%10!p!", "ItemPtr", b"\x0c" + bytes(7), "0xc"), ("%10!5d!|", "ItemLong", b"\x07\0\0\0",
                                                           "7|"),
        ("a%10!5d!|", "ItemLong", b"\x07\0\0\0", "a 7|"),
        ("%10!05d!", "ItemLong", b"\x07\0\0\0", "00007"),
        ("%10!05d!", "ItemLong", b"\xfd\xff\xff\xff", "-0003"), ("%10!s!", "ItemDouble",
                                                       struct.pack("<d", 1.5), "1.5"),
        ("%10!s!", "ItemString", b"ab\0", "ab"), ("%10!s!", "ItemWString", w.utf16("ab"), "ab"),
        ("%10!s!", "ItemRString", b"ab\0", "ab"), ("%10!s!", "ItemRWString", w.utf16("ab"), "ab"),
        ("%10!s!", "ItemPString", b"\2\0ab", "ab"), ("%10!s!", "ItemMLString", b"ab\0", "ab"),
        ("%10!s!", "ItemPWString", b"\4\0a\0b\0", "ab"),
        *[("%10!s!", item, bytes(range(16)), "03020100-0504-0706-0809-0a0b0c0d0e0f")
          for item in ("ItemGuid", "ItemCLSID", "ItemIID", "ItemLIBID")],
        ("%10!s!", "ItemNTSTATUS", b"\x34\0\0\xc0", "STATUS_OBJECT_NAME_NOT_FOUND"),
        ("%10!s!", "ItemNTerror", b"\x34\0\0\xc0", "STATUS_OBJECT_NAME_NOT_FOUND"),
        ("%10!s!", "ItemWINERROR", b"\5\0\0\0", "0x5"), ("%10!s!", "ItemHRESULT", b"\5\0\7\x80",
                                                         "0x80070005"),
        ("%10!s!", "ItemHRes", b"\5\0\7\x80", "0x80070005"),
        ("%10!s!", "ItemTimestamp", struct.pack("<Q", w.EPOCH), "1970-01-01T00:00:00.0000000Z"),
        ("%10!s!", "ItemTimeDelta", b"\xff" * 8, "-1"), ("%10!s!", "ItemWaitTime", b"\xff" * 8,
                                                         "-1"),
        ("%10!s!", "ItemSid", bytes([1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]), "S-1-5-18"),
        ("%10!s!", "ItemIPAddr", b"\1\2\3\4", "1.2.3.4"), ("%10!s!", "ItemPort", b"\x01\xbb",
                                                           "443"),
        ("%10!s!", "ItemHexDump", b"\2\0\xca\xfe", "cafe"), ("%10!s!", "ItemChar4", b"abcd",
                                                             "0x64636261"),
        ("%10!s!", "ItemBool", b"\1", "1"), ("%10!s!", "ItemBOOLEAN", b"\2", "2"),
        ("%10!s!", "ItemListByte(a,b)", b"\1", "b"), ("%10!s!", "ItemListShort(a,b)", b"\0\0", "a"),
        ("%10!s!", "ItemListLong(a,b)", b"\2\0\0\0", "2"),
        ("%10!s!", "ItemEnum(a=5,b=0x6)", b"\6\0\0\0", "b"),
        ("%10!s!", "ItemSetByte(a,b,c)", b"\5", "a | c"), ("%10!s!", "ItemSetShort(a,b)", b"\2\0",
                                                           "b"),
        ("%10!s!", "ItemSetLong(a,b)", b"\4\0\0\0", "0x4"),
        ("%10!s!", "ItemFlagsEnum(a=0x10,b=1)", b"\x11\0\0\0", "a | b"),
        ("%0%!FUNC!-%!LEVEL!-%!NONE! 100%% %n end", "", b"", "F-L- 100% end"),
        ("%10 and %11!d! %12", "ItemLong ItemChar", b"\7\0\0\0\x08", "7 and 8 <12?>"),
        ("%10!d! %11!d!", "ItemLong ItemLong", b"\7\0\0\0", "7 <11?>"),
        ("%10!s!", "ItemUnknown", b"x", "<10?>"),
    ],
)  # fmt: skip
def test_items_of_a_trace_message(form: str, items: str, data: bytes, text: str) -> None:
    """Each kind of argument by its name in the TMF, each printf letter."""
    assert said(form, items, data) == text


def test_a_tmf_with_more_than_one_message() -> None:
    """Providers, messages without braces, arguments out of order, and what is no message."""
    text = f"""// PDB: x
#typev before 1 "lost"
{PROVIDER} one // SRC=a.c
#type a 10 "%10!d! %11!s!" // LEVEL=X
{{
S, ItemString -- 11
N, ItemLong -- 10
}}
N, ItemLong -- 12
#typev b 11 "say \\"%10!s!\\"" // FUNC=G
N, ItemLong -- 10
{PROVIDER.replace("8e", "9e").upper()} two
#typev c 12 "plain"
"""
    found = wpp.parse(text)
    other = PROVIDER.replace("8e", "9e")
    assert {key: (m.provider, m.name, [f.name for f in m.fields], m.marks)
            for key, m in found.items()} == {
        (PROVIDER, 10): ("one", "a", ["10", "11"], {"LEVEL": "X"}),
        (other, 11): ("two", "b", ["10"], {"FUNC": "G"}), (other, 12): ("two", "c", [], {}),
    }  # fmt: skip
    assert found[PROVIDER, 10].decode(b"\5\0\0\0ab\0", 8)[1] == "5 ab"


# -- manifests -------------------------------------------------------------------------------------


def test_a_manifest_in_all_its_parts() -> None:
    """Providers, maps, templates, tasks, opcodes; what is not given has a name all the same."""
    xml = f"""<m xmlns="urn:x"><provider name="P" guid="{{{PROVIDER.upper()}}}">
<maps><valueMap name="V"><map value="0x2" message="$(string.two)"/><map value="3" message="m"/>
<map value="x" message="$(string.none)"/></valueMap><bitMap name="B"><map value="4"/></bitMap>
</maps>
<opcodes><opcode name="Go" value="12"/></opcodes><tasks><task name="T" value="1"/></tasks>
<templates><template tid="A"><data name="a" inType="win:UInt8" outType="xs:hexBinary" map="V"/>
<data inType="win:Int16" outType="win:HexInt16" length="4"/>
<data name="u" inType="win:UnicodeString" length="3"/><data name="n" inType="win:AnsiString"/>
<data name="n2" inType="win:AnsiString" length="n"/>
<data name="c" inType="Nothing" map="B"/>
<data name="d" inType="win:Binary" length="a"/><data name="e" inType="win:UInt32" count="07x"/>
<struct name="s" count="2"><data name="t" inType="win:Pointer" outType="win:Port"/></struct>
</template></templates>
<events><event value="0x10" template="A" task="T" opcode="win:Start" message="$(string.two)"/>
<event value="17" version="2" symbol="S" message="direct"/><event value="18" task="T"/><event/>
</events></provider><provider name="none"/><r><stringTable><string id="two" value="zwei"/>
<string id="bare"/></stringTable></r></m>"""
    (told,) = manifests.parse(xml.encode(), "here")
    names = {2: "zwei", 3: "m", 0: ""}
    field, schema = payload.Field, payload.Schema
    fields = (
        field("a", 4, "", names=names), field("field1", 5, "hex"),
        field("u", 1, "", length=3), field("n", 2, ""), field("n2", 2, "", length="n"),
        field("c", 0, "", names={4: ""}, is_bits=True), field("d", 14, "", length="a"),
        field("e", 8, "", count=0),
        field("s", 24, "", count=2, fields=(field("t", 16, "port"),)),
    )  # fmt: skip
    assert told == manifests.Provider("P", PROVIDER, {
        (16, 0): schema("P", "T/Start", fields, "zwei", "here", "T", "Start"),
        (17, 2): schema("P", "S", (), "direct", "here"),
        (18, 0): schema("P", "T", (), "", "here", "T"), (-1, 0): schema("P", "event -1", (), "",
                                                                        "here"),
    })  # fmt: skip


def test_parts_of_a_manifest_are_put_together() -> None:
    """By provider, process and number of parts; what is no part of one is left alone."""
    xml = f'<m><provider name="P" guid="{PROVIDER}"/></m>'.encode()

    def part(total: int, number: int, data: bytes, form: int = 1, magic: int = 0x5B) -> bytes:
        return struct.pack("<BBBBHH", form, 0, 0, magic, total, number) + data

    for wrong in (part(1, 0, xml, form=2), part(1, 0, xml, magic=0), part(1, 1, xml), b"\1" * 7,
                  part(0, 0, xml)):  # fmt: skip
        made = manifests.Assembler()
        made.add(PROVIDER, 1, wrong)
        assert (made.providers, made.unfinished, made.broken) == ([], [], [])
    made = manifests.Assembler()
    made.add(PROVIDER, 1, part(2, 1, xml[9:] + b"\0\0"))
    made.add(PROVIDER, 2, part(2, 0, xml[:9]))
    assert made.unfinished == [PROVIDER]
    made.add(PROVIDER, 1, part(2, 0, xml[:9]))
    assert [one.name for one in made.providers] == ["P"]
    made.add(PROVIDER, 3, part(1, 0, b"<"))
    assert len(made.broken) == 1
    made.add(PROVIDER, 2, part(2, 1, xml[9:]))
    assert made.unfinished == []


def test_tmf_files_and_folders_of_them(tmp_path: Path) -> None:
    """Every .tmf of a folder; what is not there or holds no format is said."""
    text = PROVIDER + ' drv\n#typev name {} "f" // FUNC=F\n{{\n}}\n'
    (tmp_path / "a.tmf").write_text(text.format(5))
    (tmp_path / "B.TMF").write_bytes(text.format(6).encode("utf-16"))
    (tmp_path / "c.txt").write_text(text.format(7))
    assert sorted(wpp.load(str(tmp_path))) == [(PROVIDER, 5), (PROVIDER, 6)]
    for name, problem in (("none.tmf", "cannot be opened"), ("d.tmf", "no trace message format")):
        (tmp_path / "d.tmf").write_text("x")
        with pytest.raises(InputError, match=problem):
            wpp.load(str(tmp_path / name))
    with pytest.raises(InputError, match="cannot be opened"):
        manifests.load(str(tmp_path / "none.man"))


@pytest.mark.parametrize("more", [0, 1])
def test_the_largest_manifest(more: int) -> None:
    """Sixteen megabytes."""
    with pytest.raises(InputError) as caught:
        manifests.parse(b" " * ((16 << 20) + more), "here")
    assert ("the manifest is larger than 16 MiB" in str(caught.value)) is bool(more)


# -- mappings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no [[event]] in this mapping"), ("event = 5", "no [[event]] in this mapping"),
        ("event = [5]", "no [[event]] in this mapping"),
        ("[[event]]\nzz = 1\naa = 2", "event 1: unknown key aa"),
        ("[[event]]\nrole = 'x'", "event 1: role must be entry or return"),
        ("[[event]]\nrole = 'entry'", "event 1: provider is missing"),
        ("[[event]]\nrole = 'entry'\nprovider = 5", "event 1: provider is missing"),
        ("[[event]]\nrole = 'entry'\nprovider = 'a'", "event 1: id or name is missing"),
        ("[[event]]\nrole = 'entry'\nprovider = 'a'\nid = 1",
         "event 1: callback or callback_field is missing"),
        ("[[event]]\nrole = 'entry'\nprovider = 'a'\nid = 1\ncallback = 'x'",
         "event 1: callback is one of Dump_Start, Dump_Write, Dump_Finish, Dump_Unload, Dump_"),
        ("[[event]]\nrole = 'entry'\nprovider = 'a'\nid = '1'\ncallback = 'Dump_Start'",
         "event 1: id is a number"),
        ("[[event]]\nrole='return'\nprovider='a'\nname='n'\ncallback_field='c'\n[[event]]",
         "event 2: role must be entry or return"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_mapping(tmp_path: Path, text: str, problem: str) -> None:
    """The number of the event and the first mistake."""
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        callbacks.load_mapping(str(path))
    assert problem in str(error.value)


RULE = callbacks.Rule("p", 7, "n", "entry", callback="Dump_Read", filter="f.sys", stack="crash")


@pytest.mark.parametrize(
    ("rule", "event", "values", "told"),
    [
        (RULE, ("P", "g", 7, "x"), {}, ("f.sys", "Dump_Read", "crash", None)),
        (RULE, ("q", "P", 7, "x"), {}, ("f.sys", "Dump_Read", "crash", None)),
        (RULE, ("q", "g", 7, "x"), {}, None), (RULE, ("p", "g", 8, "x"), {}, None),
        (RULE, ("p", "g", 8, "n"), {}, ("f.sys", "Dump_Read", "crash", None)),
        (RULE._replace(name=""), ("p", "g", 8, ""), {}, None),
        (RULE._replace(id=None), ("p", "g", 7, "x"), {}, None),
        (RULE._replace(id=None), ("p", "g", 9, "n"), {}, ("f.sys", "Dump_Read", "crash", None)),
        (RULE._replace(callback_field="c"), ("p", "g", 7, "x"), {"c": 3},
         ("f.sys", "Dump_Finish", "crash", None)),
        (RULE._replace(callback_field="c"), ("p", "g", 7, "x"), {"c": 9}, None),
        (RULE._replace(callback_field="c"), ("p", "g", 7, "x"), {"c": "Dump_Write"},
         ("f.sys", "Dump_Write", "crash", None)),
        (RULE._replace(callback_field="c"), ("p", "g", 7, "x"), {}, None),
        (RULE._replace(filter_field="f", stack_field="s", status_field="t"), ("p", "g", 7, "x"),
         {"f": "g.sys", "s": "hibernation", "t": -1}, ("g.sys", "Dump_Read", "hibernation",
                                                       0xFFFFFFFF)),
        (RULE._replace(filter="", status_field="t"), ("p", "g", 7, "x"), {"t": "5"},
         ("p", "Dump_Read", "crash", None)),
    ],
)  # fmt: skip
def test_which_end_of_a_call_an_event_is(rule: Any, event: Any, values: Any, told: Any) -> None:
    """By provider or GUID, by id or else name; what is told by fields comes first."""
    names = ("provider", "provider_id", "event_id", "name")
    record: Event = make(Event, **dict(zip(names, event)))
    found = callbacks.end_of([rule], record, 5, values)
    shown = None if found is None else (found.filter, found.callback, found.stack, found.status)
    assert shown == told
    assert found is None or (found.ts, found.role, found.event) == (5, "entry", record)


# -- whether a layout fits -------------------------------------------------------------------------


NO_ADDRESS = "a would be {:#x}, which is no address"


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (1, "plain", ""), (1, "\ud7ff\uf900", ""), (1, chr(0xD800), "a would be no text"),
        (2, "\ue000", "a would be no text"), (22, "\uf8ff", "a would be no text"),
        (23, "\ufdd0", "a would be no text"), (1, "\ufdf0\ufffc", ""),
        (1, "\ufffd", "a would be no text"), (14, "\ufffd", ""),
        (16, 0, ""), (16, (1 << 56) - 1, ""), (16, 1 << 56, NO_ADDRESS.format(1 << 56)),
        (16, 0xFEFFFFFFFFFFFFFF, NO_ADDRESS.format(0xFEFFFFFFFFFFFFFF)),
        (16, 0xFF00000000000000, ""), (10, 1 << 56, ""),
    ],
)  # fmt: skip
def test_why_a_layout_does_not_fit(kind: int, value: Any, why: str) -> None:
    """Characters that no text has, addresses that no machine has."""
    schema = payload.Schema("P", "E", (payload.Field("a", kind),))
    assert schema_fit.misfit(payload.Decoded(schema, {"a": value}, "", 0)) == why
    assert schema_fit.misfit(payload.Decoded(schema, {"a": 1 << 56}, "", 0), 4) == ""
    assert schema_fit.misfit(payload.Decoded(schema, {}, "a", 3)) == (
        "the payload is too short for a"
    )
    assert schema_fit.misfit(payload.Decoded(schema, {"a": value}, "", 3)) == (
        "3 bytes would be left over"
    )


# -- sessions of dumps and of memory ---------------------------------------------------------------


def saved(cpu: int, flags: int, used: int = 0x98, size: int = 4096, logger: int = 3) -> bytes:
    """One saved buffer with one event."""
    event = w.event(PROVIDER, 5, w.FILETIME_2024 + 1)
    return struct.pack("<IIIiqqQHHIIHHQQ", size, 0x98, used, 0, 7, 1, 0, cpu, logger, 1, 0x98,
                       flags, 0, 0, 0) + event  # fmt: skip


def block(*pieces: bytes, length: int = 2) -> dumpblock.DumpBlock:
    """A block with one session and these bytes behind its name."""
    head = struct.pack("<IIIIQQ", 156250, 0xF0004A61, 3000, 0, 77, 10**7)
    head += struct.pack("<6I3Q", 0x01EBAFE1, 3, 0x401, 2, 4096, length, w.FILETIME_2024, 88, 99)
    return dumpblock.sessions(head + b"S\0" + b"".join(pieces), "x", 1000)


@pytest.mark.parametrize(
    ("cpu", "flags", "number"),
    [(3, 0x20, 3), (0x7FF, 0x20, 0x7FF), (0x800, 0x20, 0), (0x7FF, 0, 0x7FF), (0x803, 0, 3)],
)
def test_processors_of_saved_buffers(cpu: int, flags: int, number: int) -> None:
    """By index; without that flag the high byte of a large number is an alignment."""
    found = block(saved(cpu, flags))
    (trace,) = found.traces
    assert trace.buffers.table["cpu"].tolist() == [number]
    assert found[:5] == (156250, 0x4A61, 3000, 77, 10**7)
    assert (found.bytes_total, found.bytes_headers, found.bytes_buffers, found.bytes_skipped) == (
        0x20 + 0x30 + 2 + 0x98, 0x52, 0x98, 0,
    )  # fmt: skip
    told = trace.session
    assert (told.name, told.logger_id, told.mode, told.buffer_size, told.build) == (
        "S", 3, 0x401, 4096, 0x4A61,
    )  # fmt: skip
    assert (told.start_time, told.boot_time) == (w.FILETIME_2024, 77)
    assert told.clock == Clock(2, 10_000_000, 0, 0)
    assert trace.origin(0, 0x48).file_offset == 1000 + 0x52 + 0x48


@pytest.mark.parametrize(
    ("buffer", "skipped"),
    [
        (saved(0, 0x20, used=0x48)[:0x48], 0), (saved(0, 0x20, used=0x47), 0x98),
        (saved(0, 0x20, used=5000), 0), (saved(0, 0x20, size=8192), 0x98),
        (saved(0, 0x20, logger=4), 0x98), (saved(0, 0x20)[:-1], 0x97), (b"rubbish", 7),
    ],
)  # fmt: skip
def test_what_is_no_saved_buffer_is_skipped(buffer: bytes, skipped: int) -> None:
    """Too short, too long, of another size or session; the next one is found again."""
    first = saved(1, 0x20)
    found = block(first, buffer, first)
    assert (found.bytes_skipped, len(found.notes)) == (skipped, skipped > 0)
    assert found.bytes_total == found.bytes_headers + found.bytes_buffers + skipped
    cut = block(first, buffer)
    assert cut.bytes_skipped == skipped


def test_rubbish_in_the_second_session_of_a_block() -> None:
    """The buffers behind it are those of the session that it stands in."""
    other = struct.pack("<6I3Q", 0x01EBAFE1, 4, 0x401, 2, 8192, 2, w.FILETIME_2024, 88, 99)
    second = saved(1, 0x20, size=8192, logger=4)
    found = block(saved(0, 0x20), other + b"T\0", second, b"rubbish!", second)
    assert [len(trace.buffers.table) for trace in found.traces] == [1, 2]
    assert (found.bytes_skipped, [trace.session.name for trace in found.traces]) == (8, ["S", "T"])


@pytest.mark.parametrize(
    ("length", "name"), [(0, ""), (2, "A"), (0x1FFE, "A" * 0xFFF), (0x2000, "A" * 0x1000),
                         (0x2002, None)]
)  # fmt: skip
def test_the_longest_name_of_a_saved_session(length: int, name: str | None) -> None:
    """4096 letters; more is no session."""
    head = struct.pack("<IIIIQQ", 156250, 0xF0004A61, 3000, 0, 77, 10**7)
    head += struct.pack("<6I3Q", 0x01EBAFE1, 3, 0x401, 2, 4096, length, w.FILETIME_2024, 88, 99)
    found = dumpblock.sessions(head + b"A\0" * (length // 2) + saved(0, 0x20), "x")
    assert [trace.session.name for trace in found.traces] == ([] if name is None else [name])


def test_a_block_that_is_cut() -> None:
    """Thirty-one bytes are no header; a name that is too long is no session."""
    short = dumpblock.sessions(bytes(31), "x", 5)
    assert short == dumpblock.DumpBlock(
        0, 0, 0, 0, 0, (), 31, 0, 0, 31,
        (("cut", 5, "the block has 31 bytes; its header takes 32"),),
    )  # fmt: skip
    assert block(length=3).traces == ()
    assert len(block(length=2).traces) == 1


@pytest.mark.parametrize("distance", [0x60, 0x20, 0x1F8, 0x200, 0x58])
def test_sessions_in_memory_by_their_context(distance: int) -> None:
    """Of the build that is known with clock and name; of others what the context around tells."""
    made = machine(buffers=2, distance=distance)
    (trace,) = memory.sessions(made, made.runs(), 10**7)
    assert len(trace) == 60
    assert trace.session.logger_id == 5
    assert trace.session.buffer_size == trace.buffers.nominal == 0x10000
    assert trace.clock.known is (distance == 0x60)
    assert trace.addresses.tolist() == [POOL, POOL + 0x10000]
    assert trace.buffers.table["cpu"].tolist() == [0, 1]
    assert trace.buffers.table["state"].tolist() == [0, 1]
    origin = trace.origin(1, 0x48)
    assert (origin.address, origin.file_offset) == (POOL + 0x10048, None)
    assert CONTEXT % PAGE == 0


@pytest.mark.parametrize(
    ("cpu", "flags", "number"),
    [(3, 0x20, 3), (0x7FF, 0x20, 0x7FF), (0x803, 0x20, 3), (0x7FF, 0, 0x7FF), (0x803, 0, 3),
     (0x9FF, 0x20, 0x1FF), (0x9FF, 0xDF, 0xFF), (0x9FF, 0, 0xFF)],
)  # fmt: skip
def test_processors_of_buffers_in_memory(cpu: int, flags: int, number: int) -> None:
    """As in saved buffers."""
    made = machine(buffers=1)
    made.put(POOL + 0x28, struct.pack("<H", cpu))
    made.put(POOL + 0x34, struct.pack("<H", flags))
    (trace,) = memory.sessions(made, made.runs(), 10**7)
    assert trace.buffers.table["cpu"].tolist() == [number]
    assert trace.buffers.table["flags"].tolist() == [flags & ~0x40]  # memory holds none compressed


@pytest.mark.parametrize(("buffer", "page"), [(0, 1), (0, 2), (1, 1)])
def test_a_buffer_in_memory_without_a_page(buffer: int, page: int) -> None:
    """What is missing is told with its place; no byte of the rest is given up."""
    made = machine(buffers=2)
    (whole,) = memory.sessions(made, made.runs(), 10**7)
    address = POOL + 0x10000 * buffer
    used = int(whole.buffers.table["end"][buffer])
    del made.pages[(address + page * PAGE) // PAGE]
    (trace,) = memory.sessions(made, made.runs(), 10**7)
    (note,) = (note for note in trace.account.notes if note.kind == "cut")
    text = f"{used - page * PAGE} bytes of the buffer at {address:#x} are missing"
    before = int(whole.buffers.table["stride"][:buffer].sum())
    assert tuple(note) == ("cut", before, text)
    assert trace.buffers.table["end"].tolist()[buffer] == page * PAGE


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "Acme-Session"), ({"length": 2}, "A"), ({"length": 0}, ""), ({"length": 3}, ""),
        ({"most": 24}, "Acme-Session"), ({"most": 23}, ""), ({"most": 0x800}, "Acme-Session"),
        ({"most": 0x802}, ""), ({"pad": 1}, ""), ({"buffer": 0xFFFF7FFF_FFFFF000}, ""),
        ({"text": "Ac\1e-Session"}, ""),
    ],
)  # fmt: skip
def test_names_of_sessions_in_memory(changes: dict[str, Any], name: str) -> None:
    """A UNICODE_STRING of the kernel whose text can be shown; else the number is the name."""
    made = machine(buffers=1)
    length, most = changes.get("length", 24), changes.get("most", 26)
    buffer = changes.get("buffer", CONTEXT + 0x800)
    made.put(buffer & (1 << 64) - 1, changes.get("text", "Acme-Session").encode("utf-16-le"))
    made.put(CONTEXT + 0x98, struct.pack("<HHIQ", length, most, changes.get("pad", 0), buffer))
    (trace,) = memory.sessions(made, made.runs(), 10**7)
    assert trace.session.name == (name or "logger 5")


@pytest.mark.parametrize(
    ("at", "code", "value", "is_one"),
    [
        (0, "I", 0xA400, True), (0, "I", 0xA600, False), (0, "I", 0xA800, True),
        (0, "I", 0xA000, False), (0, "I", 16 << 20, True), (0, "I", (16 << 20) + 0x400, False),
        (4, "I", 0x10000, True), (4, "I", 0x10001, False), (0x30, "I", 0x10000, True),
        (0x30, "I", 0x10001, False), (8, "I", 0x48, True), (8, "I", 0x47, False),
        (8, "I", 0x10001, True), (0x2C, "I", 4, True), (0x2C, "I", 5, False),
        (0x34, "H", 0xFF, True), (0x34, "H", 0x100, False), (0x36, "H", 8, True),
        (0x36, "H", 9, False),
    ],
)  # fmt: skip
def test_what_a_buffer_in_memory_looks_like(at: int, code: str, value: int, is_one: bool) -> None:
    """WMI_BUFFER_HEADER (ntwmi.h): sizes, offsets, state, flags and kind that can be."""
    made = machine(buffers=1)
    made.put(POOL + at, struct.pack("<" + code, value))
    assert len(list(memory.sessions(made, made.runs(), 10**7))) == is_one


def test_bounds_of_sessions_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many sessions, so many bytes of them all; one that is reached is told."""
    one, other = machine(buffers=1), machine(buffers=1, logger=6)
    both = machine(buffers=1)
    moved = {page + 0x1000: data for page, data in other.pages.items() if page < 0xFFFFF78000000}
    both.pages.update(moved)
    for place in (POOL, CONTEXT):
        for at in (0x38, 0x40, 0x60, 0x68):
            told = both.unpack("Q", place + 0x1000000 + at)
            assert not isinstance(told, Absent)
            if told[0] >= POOL:
                both.put(place + 0x1000000 + at, struct.pack("<Q", told[0] + 0x1000000))
    whole = list(memory.sessions(both, both.runs(), 10**7))
    assert [len(trace) for trace in whole] == [30, 30]
    size = len(whole[0].data)
    assert (both.limits, len(one.limits)) == ((), 0)
    for bound, value, found in (("_MAX_SESSIONS", 1, 1), ("MAX_BYTES", size + 0x47, 1),
                                ("MAX_BYTES", 2 * size, 2), ("_MAX_SESSIONS", 3, 2)):  # fmt: skip
        both.limits = ()
        with monkeypatch.context() as patch:
            patch.setattr(memory, bound, value)
            traces = list(memory.sessions(both, both.runs(), 10**7))
        assert len(traces) == found
        text = f"{found} ETW sessions were read from memory"
        assert both.limits == ((text,) if bound == "MAX_BYTES" or found == 1 else ())


def test_memory_that_is_not_asked_or_not_whole() -> None:
    """32 bits, a broken ring, a page that is not there, more bytes than are read of all."""
    made = machine(buffers=2)
    made.pointer_size = 4
    assert list(memory.sessions(made, made.runs(), 10**7)) == []
    made = machine(buffers=2)
    del made.pages[(POOL + 0x10000 + PAGE) // PAGE]
    (trace,) = memory.sessions(made, made.runs(), 10**7)
    assert [note.kind for note in trace.account.notes] == ["cut"]
    assert 30 < len(trace) < 60
    made = machine(buffers=2)
    del made.pages[CONTEXT // PAGE]
    assert list(memory.sessions(made, made.runs(), 10**7)) == []
    assert isinstance(made.read(CONTEXT, 1), Absent)
