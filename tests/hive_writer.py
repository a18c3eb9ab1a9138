"""Writes small registry hives for the tests, after the public description of the regf format.

Only what a SYSTEM hive needs: key nodes, "lf" lists, value keys, one bin. The tests let regipy read
them.
"""

from __future__ import annotations

import struct
from typing import Any, Union

Tree = dict[str, Any]  # name -> subtree (dict) or value
Value = Union[int, str, bytes, list[str]]
NONE = 0xFFFFFFFF


class _Bin:
    def __init__(self) -> None:
        self.data = bytearray(32)  # hbin header, filled at the end

    def cell(self, content: bytes) -> int:
        """Adds an allocated cell; returns its offset as other cells refer to it."""
        offset = len(self.data)
        size = (4 + len(content) + 7) & ~7
        self.data += struct.pack("<i", -size) + content.ljust(size - 4, b"\0")
        return offset


def _value(block: _Bin, name: str, value: Value) -> int:
    if isinstance(value, int):
        kind, data = 4, struct.pack("<I", value)
    elif isinstance(value, bytes):
        kind, data = 3, value
    elif isinstance(value, list):
        kind, data = 7, ("\0".join(value) + "\0\0").encode("utf-16-le")
    elif value.startswith("@"):
        kind, data = 2, (value[1:] + "\0").encode("utf-16-le")
    else:
        kind, data = 1, (value + "\0").encode("utf-16-le")
    if len(data) <= 4:
        size, place = len(data) | 0x80000000, int.from_bytes(data.ljust(4, b"\0"), "little")
    else:
        size, place = len(data), block.cell(data)
    raw = name.encode("ascii")
    return block.cell(b"vk" + struct.pack("<HIIIHH", len(raw), size, place, kind, 1, 0) + raw)


def _key(block: _Bin, name: str, tree: Tree, is_root: bool = False) -> int:
    children = [(n, _key(block, n, t)) for n, t in tree.items() if isinstance(t, dict)]
    values = [_value(block, n, v) for n, v in tree.items() if not isinstance(v, dict)]
    subkeys = values_list = NONE
    if children:
        entries = b"".join(
            struct.pack("<I", at) + n[:4].encode("ascii").ljust(4, b"\0") for n, at in children
        )
        subkeys = block.cell(b"lf" + struct.pack("<H", len(children)) + entries)
    if values:
        values_list = block.cell(struct.pack(f"<{len(values)}I", *values))
    raw = name.encode("ascii")
    flags = 0x20 | (0x0C if is_root else 0)
    fields = struct.pack(
        "<HQIIIIIIIIIIIIIIIHH",
        flags, 0x01DCA89C718C4A00, 0, NONE, len(children), 0, subkeys, NONE, len(values),
        values_list, NONE, NONE, 0, 0, 0, 0, 0, len(raw), 0,
    )  # fmt: skip
    return block.cell(b"nk" + fields + raw)


def write(tree: Tree) -> bytes:
    """The hive file of a tree; keys are dicts, values int, text ("@": expandable), bytes, list."""
    block = _Bin()
    # readers take the first cell of the first bin for the root, so its place is kept free
    root_size = len(_root_cell(_Bin(), {}))
    block.data += bytes(root_size)
    children = {n: t for n, t in tree.items() if isinstance(t, dict)}
    root = _root_cell(block, children)
    block.data[32 : 32 + root_size] = root
    size = (len(block.data) + 0xFFF) & ~0xFFF
    rest = size - len(block.data)
    if rest:
        block.data += struct.pack("<i", rest) + bytes(rest - 4)
    block.data[:32] = b"hbin" + struct.pack("<IIIIQI", 0, size, 0, 0, 0, 0)
    head = b"regf" + struct.pack("<IIQIIIIIII", 1, 1, 0x01DCA89C718C4A00, 1, 5, 0, 1, 32, size, 1)
    head += "SYSTEM".encode("utf-16-le").ljust(64, b"\0")
    head = head.ljust(508, b"\0")
    checksum = 0
    for (word,) in struct.iter_unpack("<I", head):
        checksum ^= word
    return (head + struct.pack("<I", checksum)).ljust(4096, b"\0") + bytes(block.data)


def _root_cell(block: _Bin, children: Tree) -> bytes:
    """The root key's cell, written apart because it must lie at the start of the bin."""
    at = _key(block, "ROOT", children, is_root=True)
    (size,) = struct.unpack_from("<i", block.data, at)
    return bytes(block.data[at : at - size])
