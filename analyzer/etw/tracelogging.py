"""Events that describe themselves: the TraceLogging schema in an extended item.

Invariant: the item is the proof; keyword bits or channels alone are not taken for one. Layout as in
TraceLoggingProvider.h (Windows SDK).
"""

from __future__ import annotations

from .payload import IN_DATA, STRUCT, Field, Schema

OUT = {
    1: "noprint", 2: "string", 3: "boolean", 4: "hex", 5: "pid", 6: "tid", 7: "port", 8: "ipv4",
    9: "ipv6", 10: "socketaddress", 11: "xml", 12: "json", 13: "win32", 14: "ntstatus",
    15: "hresult", 16: "filetime", 17: "signed", 18: "unsigned", 35: "utf8", 36: "pkcs7",
    37: "hex", 38: "datetime_utc",
}  # fmt: skip
_CACHE: dict[tuple[bytes, str], Schema | None] = {}


def provider_name(traits: bytes) -> str:
    """The name in a provider-traits item."""
    end = traits.find(b"\0", 2)
    return traits[2 : end if end >= 0 else len(traits)].decode("utf-8", "replace")


def schema(item: bytes, provider: str = "") -> Schema | None:
    """The schema of the item; None when the item is damaged. Equal items give the same object."""
    key = (item, provider)
    if key not in _CACHE:
        if len(_CACHE) >= 4096:
            _CACHE.clear()
        try:
            _CACHE[key] = _parse(item, provider)
        except IndexError:
            _CACHE[key] = None
    return _CACHE[key]


def _string(item: bytes, at: int) -> tuple[str, int]:
    end = item.find(b"\0", at)
    if end < 0:
        raise IndexError
    return item[at:end].decode("utf-8", "replace"), end + 1


def _tags(item: bytes, at: int) -> int:
    while item[at] & 0x80:
        at += 1
    return at + 1


def _parse(item: bytes, provider: str) -> Schema:
    size = min(int.from_bytes(item[:2], "little"), len(item))
    item = item[:size] if size >= 4 else item
    at = _tags(item, 2)
    name, at = _string(item, at)
    flat: list[tuple[Field, int]] = []  # with the number of struct members
    while at < len(item):
        label, at = _string(item, at)
        kind = item[at]
        at += 1
        out = 0
        if kind & 0x80:
            out = item[at]
            at += 1
            if out & 0x80:
                at = _tags(item, at)
                out &= 0x7F
        count: int | str | None = None
        mode = kind & 0x60
        if mode == 0x20:
            count = item[at] | item[at + 1] << 8
            at += 2
        elif mode == 0x40:
            count = IN_DATA
        elif mode == 0x60:  # custom: a blob of type data follows, the value is opaque
            skip = item[at] | item[at + 1] << 8
            at += 2 + skip
            count = IN_DATA
        kind &= 0x1F
        length: int | str | None = IN_DATA if kind == 14 else None
        field = Field(label, kind, OUT.get(out, "") if kind != STRUCT else "", count, length)
        flat.append((field, out if kind == STRUCT else 0))
    fields, _ = _nest(flat, 0, len(flat), 0)
    return Schema(provider, name, tuple(fields), told_by="TraceLogging")


def _nest(
    flat: list[tuple[Field, int]], at: int, members: int, depth: int
) -> tuple[list[Field], int]:
    out: list[Field] = []
    names: dict[str, int] = {}
    while at < len(flat) and len(out) < members:
        field, inner = flat[at]
        at += 1
        if field.kind == STRUCT and depth < 8:
            parts, at = _nest(flat, at, inner, depth + 1)
            field = field._replace(fields=tuple(parts))
        names[field.name] = names.get(field.name, 0) + 1
        if names[field.name] > 1:  # two fields of one name must not hide each other
            field = field._replace(name=f"{field.name}#{names[field.name]}")
        out.append(field)
    return out, at
