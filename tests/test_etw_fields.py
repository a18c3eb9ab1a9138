"""Each kind of field, amount and way of showing: whole payloads, by the numbers of tdh.h."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from analyzer.etw import payload
from analyzer.etw.payload import Field, Schema

STRUCT = 24
SID = bytes([1, 2, 0, 0, 0, 0, 0, 5]) + struct.pack("<II", 32, 544)
FIFTEEN = bytes([1, 15, 0, 0, 0, 0, 1, 2]) + struct.pack("<15I", *range(15))
LONG_SID = "S-1-258-" + "-".join(map(str, range(15)))
GUID = bytes(range(16))
GUID_TEXT = "03020100-0504-0706-0809-0a0b0c0d0e0f"
DAY = struct.pack("<8H", 2024, 3, 2, 5, 4, 7, 9, 12)
TICK = 116_444_736_000_000_000


def told(fields: list[Field], data: bytes, pointer: int = 8) -> tuple[Any, str, int, str]:
    """Values, the missing field, bytes left, and the text of a payload."""
    found = payload.decode(Schema("P", "E", tuple(fields)), data, pointer)
    return found.values, found.missing, found.left, found.text()


@pytest.mark.parametrize(
    ("kind", "out", "data", "value", "text"),
    [
        (1, "", "h\0\xe9\0\0\0", "h\xe9", "h\xe9"),
        (1, "", "\0\1\1\0\0\0", "\u0100\1", "\u0100\1"),
        (1, "", "h\0i\0", "hi", "hi"),
        (1, "", "h\0i", "h", "h"),
        (1, "", "\0\0", "", ""),
        (2, "", "h\xe9\0", "h\xe9", "h\xe9"),
        (2, "", "hi", "hi", "hi"),
        *[(2, out, "h\xc3\xa9\0", "h\xe9", "h\xe9") for out in ("utf8", "xml", "json")],
        (3, "", "\xff", -1, "-1"),
        (3, "hex", "\xff", -1, "0xffffffffffffffff"),
        (4, "", "\xff", 255, "255"),
        (4, "hex", "\xff", 255, "0xff"),
        (5, "", "\xfe\xff", -2, "-2"),
        (5, "hex", "\xfe\xff", -2, "0xfffffffffffffffe"),
        (6, "", "\xfe\xff", 65534, "65534"),
        (6, "port", "\x01\xbb", 0xBB01, "443"),
        (6, "hex", "\1\2", 0x201, "0x201"),
        (7, "", "\xfd\xff\xff\xff", -3, "-3"),
        (7, "hex", "\xfd\xff\xff\xff", -3, "0xfffffffffffffffd"),
        (7, "ipv4", "\x7f\0\0\xff", -0xFFFF81, "127.0.0.255"),
        (8, "", "\xfd\xff\xff\xff", 2**32 - 3, "4294967293"),
        (8, "ntstatus", "\x34\0\0\xc0", 0xC0000034, "STATUS_OBJECT_NAME_NOT_FOUND"),
        (7, "ntstatus", "\x34\0\0\xc0", -0x3FFFFFCC, "STATUS_OBJECT_NAME_NOT_FOUND"),
        (8, "win32", "\x05\0\0\0", 5, "0x5"),
        (8, "hresult", "\x05\0\7\x80", 0x80070005, "0x80070005"),
        (7, "win32", "\xff\xff\xff\xff", -1, "0xffffffffffffffff"),
        (8, "ipv4", "\x01\x02\x03\x04", 0x04030201, "1.2.3.4"),
        (9, "", "\xfc" + "\xff" * 7, -4, "-4"),
        (9, "hex", "\xfc" + "\xff" * 7, -4, "0xfffffffffffffffc"),
        (10, "", "\xfc" + "\xff" * 7, 2**64 - 4, str(2**64 - 4)),
        (10, "filetime", "\0" * 8, 0, "0x0"),
        (11, "", "\0\0\xc0\x3f", 1.5, "1.5"),
        (12, "", "\0\0\0\0\0\0\x02\xc0", -2.25, "-2.25"),
        (13, "", "\2\0\0\0", True, "True"),
        (13, "", "\0\0\0\0", False, "False"),
        (14, "", "\xab\xcd", b"\xab\xcd", "abcd"),
        (14, "ipv6", "\0" * 15 + "\1", bytes(15) + b"\1", "::1"),
        (14, "ipv6", "\0" * 15, bytes(15), "00" * 15),
        (14, "", "\0" * 15 + "\1", bytes(15) + b"\1", "00" * 15 + "01"),
        (15, "", GUID.decode("latin-1"), GUID_TEXT, GUID_TEXT),
        (16, "", "\1\0\0\0\0\x80\xff\xff", 0xFFFF800000000001, "0xffff800000000001"),
        (17, "", "\0" * 8, 0, "0x0"),
        (18, "", DAY.decode("latin-1"), "2024-03-05T04:07:09.012", "2024-03-05T04:07:09.012"),
        (19, "", SID.decode("latin-1"), "S-1-5-32-544", "S-1-5-32-544"),
        (19, "", FIFTEEN.decode("latin-1"), LONG_SID, LONG_SID),
        (20, "", "\x0a\0\0\0", 10, "0xa"),
        (21, "", "\x0b" + "\0" * 7, 11, "0xb"),
        (22, "", "\4\0h\0\xe9\0", "h\xe9", "h\xe9"),
        (23, "", "\2\0h\xe9", "h\xe9", "h\xe9"),
        (25, "", "\2\0\xab\xcd", b"\xab\xcd", "abcd"),
        (300, "", "\4\0h\0\xe9\0", "h\xe9", "h\xe9"),
        (301, "", "\2\0h\xe9", "h\xe9", "h\xe9"),
        (302, "", "\0\4h\0\xe9\0", "h\xe9", "h\xe9"),
        (303, "", "\0\2h\xe9", "h\xe9", "h\xe9"),
        (303, "", "\1\0" + "x" * 256, "x" * 256, "x" * 256),
        (304, "", "h\0\xe9\0", "h\xe9", "h\xe9"),
        (305, "", "h\xe9", "h\xe9", "h\xe9"),
        (306, "", "\xe9\0", "\xe9", "\xe9"),
        (307, "", "\xe9", "\xe9", "\xe9"),
        (308, "", "\1\0\0\0\2\0\0\0", 0x200000001, str(0x200000001)),
        (309, "", "\2\0\0\0\xab\xcd", b"\xab\xcd", "abcd"),
        (310, "", "\1" * 16 + SID.decode("latin-1"), "S-1-5-32-544", "S-1-5-32-544"),
        (310, "", "\0" * 16 + FIFTEEN.decode("latin-1"), LONG_SID, LONG_SID),
        (310, "", "\0" * 8, "", ""),
        (1000, "", "\1", True, "True"),
    ],
)  # fmt: skip
def test_each_kind_of_field(kind: int, out: str, data: str, value: Any, text: str) -> None:
    """Its value, its words, and not a byte more or less; one byte less is a missing field."""
    raw = data.encode("latin-1")
    field = Field("a", kind, out)
    assert told([field], raw) == ({"a": value}, "", 0, f"a={text}")
    assert type(told([field], raw)[0]["a"]) is type(value)
    if kind not in (1, 2, 14, 304, 305):
        assert told([field], raw[:-1])[1] == "a"
        extra = told([field], raw + b"!")
        assert extra == ({"a": value}, "", 1, f"a={text}, (+1 bytes)")


@pytest.mark.parametrize("kind", [0, 26, 299, 311, 999, 1001])
def test_a_kind_that_nobody_knows_is_missing(kind: int) -> None:
    """A number outside tdh.h decodes nothing."""
    assert told([Field("a", kind)], bytes(20)) == ({}, "a", 20, "(payload too short for a)")


@pytest.mark.parametrize(
    ("kind", "data", "value", "left"),
    [
        (16, bytes.fromhex("01000000ff"), 1, 1),
        (308, bytes.fromhex("02000000ff"), 2, 1),
        (310, b"\1" * 8 + SID, "S-1-5-32-544", 0),
        (310, b"\1" * 4 + b"\0" * 3, "", 3),
    ],
)
def test_pointers_of_four_bytes(kind: int, data: bytes, value: Any, left: int) -> None:
    """A 32-bit machine's pointers, sizes, and token users."""
    values, missing, rest, _ = told([Field("a", kind)], data, 4)
    assert (values, missing, rest) == ({"a": value}, "", left)


@pytest.mark.parametrize(
    "head",
    [b"\2\2\0\0\0\0\0\5", b"\1\x10\0\0\0\0\0\5", b"\1\2\1\0\0\0\0\5", b"\1\2\0\1\0\0\0\5",
     b"\1\2\0\0\1\0\0\5", b"\1\2\0\0\0\1\0\5", b"\1\2\0\0\0\0"],
)  # fmt: skip
def test_what_is_no_sid_behind_a_token_user(head: bytes) -> None:
    """Another revision, sixteen parts, an authority too high, a cut one: there is no SID."""
    data = bytes(16) + head
    assert told([Field("a", 310)], data)[:3] == ({"a": ""}, "", len(data) - 8)


def test_an_authority_of_two_bytes_is_one_of_a_sid() -> None:
    """Only the upper four of the six bytes have to be zero."""
    data = bytes(16) + b"\1\0\0\0\0\0\1\2"
    assert told([Field("a", 310)], data)[:3] == ({"a": "S-1-258"}, "", 0)


def test_a_sid_of_sixteen_parts_is_missing() -> None:
    """Windows allows fifteen."""
    data = b"\1\x10" + bytes(6) + bytes(64)
    assert told([Field("a", 19)], data)[:2] == ({}, "a")


@pytest.mark.parametrize(
    ("field", "data", "value", "left", "text"),
    [
        (Field("a", 1, length=2), "h\0i\0!\0", "hi", 2, "hi"),
        (Field("a", 1, length=3), "h\0\0\0!\0", "h", 0, "h"),
        (Field("a", 1, length="n"), "h\0!\0", "h", 2, "h"),
        (Field("a", 2, length=2), "hi!", "hi", 1, "hi"),
        (Field("a", 2, length="*"), "\2\0hi!", "hi", 1, "hi"),
        (Field("a", 14, length=1), "xy", b"x", 1, "78"),
        (Field("a", 14, length=0), "xy", b"", 2, ""),
        (Field("a", 14, length="n"), "xy", b"x", 1, "78"),
        (Field("a", 14, length="*"), "\1\0xy", b"x", 1, "78"),
        (Field("a", 8, count="*"), "\2\0\1\0\0\0\2\0\0\0", [1, 2], 0, "[1, 2]"),
        (Field("a", 8, count="n"), "\7\0\0\0", [7], 0, "[7]"),
        (Field("a", 8, count=0), "", [], 0, "[]"),
        (Field("a", 4, count=2), "xyz", b"xy", 1, "7879"),
        (Field("a", 3, count=2), "xyz", b"xy", 1, "7879"),
        (Field("a", 307, count=2), "xyz", b"xy", 1, "7879"),
        (Field("a", 13, count=2), "\1\0\0\0\0\0\0\0", [True, False], 0, "[True, False]"),
        (Field("a", 20, count=1), "\x0a\0\0\0", [10], 0, "[0xa]"),
        (Field("a", 21, count=1), "\x0a" + "\0" * 7, [10], 0, "[0xa]"),
        (Field("a", 16, count=1), "\x0a" + "\0" * 7, [10], 0, "[0xa]"),
        (Field("a", 1, count=2), "h\0\0\0i\0\0\0", ["h", "i"], 0, "[h, i]"),
        (Field("a", STRUCT, fields=(Field("b", 4), Field("c", 20))), "\7\x0a\0\0\0",
         {"b": 7, "c": 10}, 0, "{b=7, c=0xa}"),
        (Field("a", STRUCT, count=2, fields=(Field("b", 4),)), "\7\x08",
         [{"b": 7}, {"b": 8}], 0, "[{b=7}, {b=8}]"),
        (Field("a", STRUCT, fields=(Field("m", 4), Field("b", 2, length="m"))), "\2hi!",
         {"m": 2, "b": "hi"}, 1, "{m=2, b=hi}"),
        (Field("a", STRUCT, fields=(Field("b", 2, length="n"),)), "hi", {"b": "h"}, 1, "{b=h}"),
        (Field("a", 4, names={1: "one"}), "\1", 1, 0, "one"),
        (Field("a", 4, names={1: "one"}), "\2", 2, 0, "2"),
        (Field("a", 4, names={0: "no", 1: "r", 2: "w"}, is_bits=True), "\3", 3, 0, "r | w"),
        (Field("a", 4, names={3: "rw", 4: "x"}, is_bits=True), "\5", 5, 0, "x"),
        (Field("a", 4, names={0: "no", 1: "r"}, is_bits=True), "\x10", 16, 0, "0x10"),
        (Field("a", 8, names={1: "one"}, count=1), "\1\0\0\0", [1], 0, "[one]"),
    ],
)  # fmt: skip
def test_amounts_structs_and_names(
    field: Field, data: str, value: Any, left: int, text: str
) -> None:
    """Lengths and counts: given, of an earlier field, or in the data; n is 1 here."""
    values, missing, rest, words = told([Field("n", 4), field], b"\1" + data.encode("latin-1"))
    assert (values, missing, rest) == ({"n": 1, "a": value}, "", left)
    assert words == f"n=1, a={text}" + (f", (+{left} bytes)" if left else "")


@pytest.mark.parametrize(
    ("first", "second", "data", "missing"),
    [
        (Field("n", 3), Field("a", 8, count="n"), b"\xff" + bytes(8), "a"),
        (Field("n", 2), Field("a", 8, count="n"), b"1\0" + bytes(8), "a"),
        (Field("n", 4), Field("a", 8, count="m"), b"\1" + bytes(8), "a"),
        (Field("n", 4), Field("a", 8, count="n"), b"\3" + bytes(8), "a"),
        (Field("n", 8), Field("a", 4, count="n"), struct.pack("<I", 0x10000) + bytes(0x10000), "a"),
        (Field("n", 8), Field("a", 4, count="n"), struct.pack("<I", 0xFFFF) + bytes(0xFFFF), ""),
        (Field("n", 3), Field("a", 14, length="n"), b"\xff" + bytes(8), "a"),
        (Field("n", 6), Field("a", STRUCT, count="n"), struct.pack("<H", 4096), ""),
        (Field("n", 6), Field("a", STRUCT, count="n"), struct.pack("<H", 4097), "a"),
    ],
)  # fmt: skip
def test_amounts_that_lie(first: Field, second: Field, data: bytes, missing: str) -> None:
    """Negative, not a number, of an unknown field, too many: the field is missing."""
    values, lacks, _, _ = told([first, second], data)
    assert (lacks, "a" in values) == (missing, not missing)


@pytest.mark.parametrize(("count", "kept"), [(4095, 4095), (4096, 4096), (4097, 4096)])
def test_a_long_array_is_read_whole_and_kept_in_part(count: int, kept: int) -> None:
    """The bytes behind it are found, 4096 elements stay."""
    data = struct.pack(f"<{count}H", *[7] * count) + b"\x09"
    values, missing, left, _ = told([Field("a", 6, count=count), Field("b", 4)], data)
    assert (values, missing, left) == ({"a": [7] * kept, "b": 9}, "", 0)


@pytest.mark.parametrize("count", [63, 64, 65])
def test_sixty_four_elements_or_bytes_are_shown(count: int) -> None:
    """A longer array or blob ends in dots."""
    field = Field("a", 6, count=count)
    more = count > 64
    numbers = ", ".join(["5"] * min(count, 64)) + (", ..." if more else "")
    assert payload.show(field, [5] * count) == f"[{numbers}]"
    assert payload.show(Field("a", 14), b"\5" * count) == "05" * min(count, 64) + "..." * more


@pytest.mark.parametrize(
    ("filetime", "text"),
    [
        (TICK - 1, f"{TICK - 1:#x}"),
        (TICK, "1970-01-01T00:00:00.0000000Z"),
        (TICK + 12_345_678_901, "1970-01-01T00:20:34.5678901Z"),
    ],
)
def test_times_of_100_ns(filetime: int, text: str) -> None:
    """A FILETIME, by its kind or by its output type, to the last digit."""
    raw = struct.pack("<Q", filetime)
    assert told([Field("a", 17)], raw)[3] == f"a={text}"
    assert told([Field("a", 10, "filetime")], raw)[3] == f"a={text}"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("", ""), ("plain", "plain"), ("%1", "one"), ("%2!s!.", "two."), ("%1%2", "onetwo"),
        ("a%nb%tc%rd%be", "a b c d e"), ("100%%", "100%"), ("100%", "100%"), ("%", "%"),
        ("%3", "%3"), ("%12", "%12"), ("%123", "%123"), ("%0", ""), ("x%0y", "xy"), ("%00", ""),
        ("%01", "one"), ("%1!x", "one!x"), ("%1!d!!", "one!"), ("%1!!", "one"), ("%!", "!"),
        ("%\xb2", "\xb2"), ("  two   spaces ", "two spaces"), ("%1 of\r\n%2", "one of two"),
        ("%2!s!!%1", "two!one"),
    ],
)  # fmt: skip
def test_messages_with_inserts(message: str, text: str) -> None:
    """The marks of FormatMessage; what has no value stays as it is."""
    assert payload.fill(message, ["one", "two"]) == text


def test_a_message_is_filled_when_nothing_is_missing() -> None:
    """In place of pairs; a short payload gives the pairs that there are."""
    schema = Schema("P", "E", (Field("a", 4), Field("b", 4)), "%2 then %1")
    assert payload.decode(schema, b"\1\2\3").text() == "2 then 1"
    assert payload.decode(schema, b"\1").text() == "a=1, (payload too short for b)"


def test_a_plan_follows_the_width_of_pointers() -> None:
    """Leading fields of fixed size, then the rest; one plan for each width."""
    schema = Schema("P", "E", (Field("a", 16), Field("b", 308), Field("c", 2), Field("d", 4)))
    for pointer, code in ((4, "I"), (8, "Q")):
        plan = payload.plan_of(schema, pointer)
        assert plan.fixed == (("a", code, None), ("b", code, None))
        assert (plan.size, plan.rest) == (2 * pointer, schema.fields[2:])
        assert payload.plan_of(schema, pointer) is plan
    many = payload.plan_of(Schema("P", "E", (Field("a", 8, count=2), Field("b", 4))), 8)
    assert (many.fixed, many.size, len(many.rest)) == ((), 0, 2)
    assert payload.plan_of(Schema("P", "E", (Field("a", 13),)), 8).fixed == (("a", "I", bool),)
