"""A .reg export, or what reg query or Get-ItemProperty shows (any encoding) -> the wanted keys.

Invariant: read line by line in constant memory; a line that cannot be read is counted as damage and
costs only itself. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from ..errors import InputError
from ..files import reason
from .registry_keys import Data, KeyValues, Registry, RegValue
from .text_file import encoding_of

#: a longer line is no value of a wanted key
LONGEST_LINE = 1 << 16
_SIGNATURES = ("Windows Registry Editor Version 5.00", "REGEDIT4")
_VALUE = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|(@))=(.*)', re.DOTALL)
_HEX = re.compile(r"hex(?:\(([0-9a-fA-F]{1,8})\))?:(.*)", re.DOTALL)
_HIVE = "HKEY_LOCAL_MACHINE\\"
#: a value as ``reg query`` shows it, and a property as PowerShell's list shows it
_QUERIED = re.compile(r"(\S.*?)(?: {4}|\t)(REG_[A-Z_]+)(?:(?: {4}|\t)(.*))?")
_SHOWN_KEY = re.compile(r"^[> \t]*HKEY_LOCAL_MACHINE\\[^\]\r\n]+\r?$", re.M)
_SHOWN_TYPE = re.compile(r"(?: {4}|\t)REG_(?:DWORD|SZ|EXPAND_SZ|MULTI_SZ)(?: {4}|\t)")
_PS_PATH = re.compile(r"^[> \t]*PSPath\s*: ", re.M)
_LISTED = re.compile(r"(\w{1,64})\s*: (.*)")
#: what stands in front of a line in a post
_QUOTE = " \t>"


def is_shown(text: str) -> bool:
    """True for a key of the machine as ``reg query`` or Get-ItemProperty shows it."""
    if f"\\Registry::{_HIVE}" in text:
        return _PS_PATH.search(text) is not None
    return _SHOWN_KEY.search(text) is not None and _SHOWN_TYPE.search(text) is not None


def is_export(text: str) -> bool:
    """True for the start of a .reg file, quoted or not."""
    return text.lstrip(_QUOTE + "\r\n").startswith(("Windows Registry Editor Version", "REGEDIT4"))


def read(path: str) -> Registry:
    """Reads the export; InputError when the file is none."""
    encoding = encoding_of(path)
    registry = Registry("registry export")
    key: KeyValues | None = None
    is_ansi = False
    try:
        with open(path, encoding=encoding, errors="replace", newline=None) as file:
            head = file.read(LONGEST_LINE)
            file.seek(0)
            if not is_export(head) and is_shown(head):
                _read_shown(registry, file)
                return registry
            for number, line in _logical_lines(file):
                if number == 1:
                    if line.strip("\ufeff \t") not in _SIGNATURES:
                        raise InputError(
                            path,
                            "is not a registry export",
                            expected=f'"{_SIGNATURES[0]}" in the first line',
                            found=repr(line[:40]),
                        )
                    is_ansi = line.startswith("REGEDIT4")
                elif line.startswith("["):
                    key = _key(registry, line, number)
                elif key is not None and line and not line.startswith(";"):
                    _value(registry, key, line, number, is_ansi)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    return registry


def _logical_lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a line that ends in a backslash goes on in the next."""
    number, pending, start = 0, "", 0
    while True:
        line = file.readline(LONGEST_LINE)
        if not line:
            break
        number += line.endswith("\n") or len(line) < LONGEST_LINE
        line = line.rstrip("\r\n \t").lstrip(_QUOTE)
        if not pending:
            start = max(number, 1)
        pending += line
        # regedit breaks only hexadecimal data; a path in quotes may end in a backslash too
        if pending.endswith("\\") and not pending.endswith('"') and len(pending) < LONGEST_LINE:
            pending = pending[:-1]
            continue
        yield start, pending
        pending = ""
    if pending:
        yield start, pending


def _read_shown(registry: Registry, file: TextIO) -> None:
    """What a command shows: keys with their values below, or properties with their key below."""
    key: KeyValues | None = None
    listed: list[tuple[str, str]] = []
    for number, line in _logical_lines(file):
        where = f"line {number} of the text"
        queried, one = _QUERIED.fullmatch(line), _LISTED.fullmatch(line)
        if line.startswith(_HIVE):
            key = _key(registry, f"[{line}]", number)
        elif queried is not None:
            if key is not None:
                value = _queried(queried[2], queried[3] or "")
                if value is None:
                    registry.damage.append(f"line {number}: data of {queried[1][:40]!r}")
                else:
                    key.values.append(RegValue(queried[1], value, where))
        elif one is not None and one[1] == "PSPath":
            held = _key(registry, f"[{one[2].rpartition('::')[2]}]", number)
            if held is not None:
                held.values.extend(RegValue(name, _listed(text), where) for name, text in listed)
                cut = [name for name, text in listed if text.endswith(("...}", "\u2026}"))]
                registry.damage += [f"line {number}: the list of {n!r} is cut off" for n in cut]
            key, listed = None, []
        elif one is not None:
            listed.append((one[1], one[2].strip()))


def _queried(kind: str, text: str) -> Data | None:
    """The data of a value as ``reg query`` shows it; None when it cannot be read."""
    try:
        if kind in ("REG_DWORD", "REG_QWORD"):
            return int(text, 16)
        if kind == "REG_BINARY":
            return bytes.fromhex(text)
    except ValueError:
        return None
    return [part for part in text.split("\\0") if part] if kind == "REG_MULTI_SZ" else text


def _listed(text: str) -> int | str | list[str]:
    """The data of a property: a number, a list in braces, or text."""
    if text.isdecimal():
        return int(text)
    if text.startswith("{") and text.endswith("}"):
        parts = (part.strip(" .\u2026") for part in text[1:-1].split(","))
        return [part for part in parts if part]
    return text


def _key(registry: Registry, line: str, number: int) -> KeyValues | None:
    if not line.endswith("]"):
        registry.damage.append(f"line {number}: key without closing bracket")
        return None
    path = line[1:-1]
    parts = path.split("\\", 2)
    if len(parts) < 3 or path.startswith("-"):  # "[-key]" asks to delete it
        return None
    short = {"HKEY_LOCAL_MACHINE": "HKLM"}.get(parts[0].upper(), parts[0])
    return registry.key(parts[2], "\\".join([short, *parts[1:]]))


def _value(registry: Registry, key: KeyValues, line: str, number: int, is_ansi: bool) -> None:
    match = _VALUE.fullmatch(line)
    if not match:
        registry.damage.append(f"line {number}: not a value")
        return
    if match[3].strip() == "-":
        return  # the file deletes this value
    name = _unescape(match[1]) if match[1] is not None else "(default)"
    try:
        data = _data(match[3].strip(), is_ansi)
    except ValueError:
        registry.damage.append(f"line {number}: data of {name[:40]!r} cannot be read")
        return
    key.values.append(RegValue(name, data, f"line {number} of the export"))


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _data(text: str, is_ansi: bool) -> Data:
    """The data of a value; raises ValueError when they cannot be read."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _unescape(text[1:-1])
    if text.lower().startswith("dword:"):
        number = int(text[6:], 16)
        if not 0 <= number < 1 << 32:
            raise ValueError(text)
        return number
    match = _HEX.fullmatch(text)
    if not match:
        raise ValueError(text)
    code = int(match[1], 16) if match[1] else 3
    raw = bytes.fromhex(match[2].replace(",", " ").replace("\\", " "))
    return decode(code, raw, "cp1252" if is_ansi else "utf-16-le")


def decode(code: int, raw: bytes, encoding: str) -> Data:
    """The data of raw bytes by their registry type."""
    if code in (1, 2, 6):
        return raw.decode(encoding, "replace").split("\0")[0]
    if code == 7:
        return [part for part in raw.decode(encoding, "replace").split("\0") if part]
    if (code == 4 and len(raw) == 4) or (code == 0xB and len(raw) == 8):
        return int.from_bytes(raw, "little")
    return raw
