"""Structure layouts against a C compiler with Microsoft's alignment, and against fixed facts."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from analyzer.layouts import crashdmp, devicedump, guids, mindumpdef, ntdddump

SOURCE = Path(__file__).parent / "c" / "layouts.c"
COMPILERS = {8: "x86_64-w64-mingw32-gcc", 4: "i686-w64-mingw32-gcc"}
ROW = struct.Struct("<48sII")


@pytest.fixture(scope="module", params=[8, 4], ids=["64-bit", "32-bit"])
def compiled(request, tmp_path_factory):
    """(pointer size, {"STRUCTURE.Member": (offset, size)}) as the compiler lays them out."""
    compiler = shutil.which(COMPILERS[request.param])
    if compiler is None:
        message = f"{COMPILERS[request.param]} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    output = tmp_path_factory.mktemp("layouts") / "layouts.o"
    subprocess.run([compiler, "-c", "-Wall", "-Werror", SOURCE, "-o", output], check=True)
    data = output.read_bytes()
    position = data.index(b"dumpstart layouts begin\0") + ROW.size
    rows = {}
    while data[position]:
        name, offset, size = ROW.unpack_from(data, position)
        rows[name.rstrip(b"\0").decode()] = (offset, size)
        position += ROW.size
    return request.param, rows


def of_compiler(rows, prefix):
    """Member -> (offset, size) of one structure, and its size."""
    dot = prefix + "."
    return {k[len(dot) :]: v for k, v in rows.items() if k.startswith(dot)}, rows.get(prefix)


def assert_same(structure, rows, prefix):
    """The class has the compiler's members, no more and no less, and its size."""
    members, (_, size) = of_compiler(rows, prefix)
    assert ntdddump.members(structure) == {k: v for k, v in members.items() if "." not in k}
    assert ctypes.sizeof(structure) == size


@pytest.mark.parametrize("version", ntdddump.INITIALIZATION_VERSIONS)
def test_filter_initialization_data(compiled, version):
    """FILTER_INITIALIZATION_DATA of each header version lies as the compiler lays it."""
    pointer_size, rows = compiled
    structure = ntdddump.filter_initialization_data(pointer_size, version)
    assert_same(structure, rows, f"INIT_{version}")


@pytest.mark.parametrize("version", [1, 2])
def test_filter_extension(compiled, version):
    """FILTER_EXTENSION of each header version lies as the compiler lays it."""
    pointer_size, rows = compiled
    structure = ntdddump.filter_extension(pointer_size, version)
    assert_same(structure, rows, f"EXTENSION_{version}")


def test_filter_extension_sizes(compiled):
    """The two values that a filter may meet in Size are the header's macros."""
    pointer_size, rows = compiled
    assert ntdddump.FILTER_EXTENSION_SIZE_V1[pointer_size] == rows["EXTENSION_2.Size"][0]
    assert ntdddump.FILTER_EXTENSION_SIZE_V2[pointer_size] == rows["EXTENSION_2"][1]


@pytest.mark.parametrize("name", ["GUID", "DISK_GEOMETRY"])
def test_disk_types(compiled, name):
    """The disk types equal those of the compiler's own Windows headers."""
    assert_same(getattr(ntdddump, name), compiled[1], name)


def test_disk_partition_info(compiled):
    """Both arms of DISK_PARTITION_INFO lie where the compiler's own Windows headers have them."""
    info = ntdddump.DISK_PARTITION_INFO
    ours = {k: v for k, v in ntdddump.members(info).items() if k != "Style"}
    start = info.Style.offset
    mbr = ntdddump.members(ntdddump.PARTITION_INFO_MBR)
    gpt = ntdddump.members(ntdddump.PARTITION_INFO_GPT)
    ours["Mbr"] = (start, ctypes.sizeof(ntdddump.PARTITION_INFO_MBR))
    ours["Gpt"] = (start, ctypes.sizeof(ntdddump.PARTITION_INFO_GPT))
    ours.update({f"Mbr.{k}": (start + offset, size) for k, (offset, size) in mbr.items()})
    ours.update({f"Gpt.{k}": (start + offset, size) for k, (offset, size) in gpt.items()})
    members, (_, size) = of_compiler(compiled[1], "DISK_PARTITION_INFO")
    assert ours == members
    assert ctypes.sizeof(info) == size


def test_media_types(compiled):
    """Every MEDIA_TYPE value has the name of the compiler's own Windows headers."""
    members, _ = of_compiler(compiled[1], "enum")
    assert {value: name for name, (value, _) in members.items()} == ntdddump.MEDIA_TYPES


@pytest.mark.parametrize("name", ["vista", "win8", "newest"])
def test_node_layout(compiled, name):
    """Each node layout is what the compiler makes of the member order."""
    pointer_size, rows = compiled
    members, (_, size) = of_compiler(rows, f"NODE_{name}")
    (layout,) = [x for x in crashdmp.node_layouts(pointer_size) if x.name == name]
    assert {
        "FilterInitData": (0, ctypes.sizeof(layout.init_class)),
        "FilterExtension": (layout.extension, ctypes.sizeof(layout.extension_class)),
        "Link": (layout.link, 2 * pointer_size),
        "State": (layout.state, 4),
        "StackContext": (layout.stack_context, pointer_size),
        "DriverEntry": (layout.driver_entry, pointer_size),
    } == members
    assert layout.size == size


@pytest.mark.parametrize(
    "layout", crashdmp.NODE_LAYOUTS, ids=lambda x: f"{x.name}-{x.pointer_size}"
)
def test_node_class(layout):
    """The writable node has its parts at the layout's offsets and the layout's size."""
    node = crashdmp.node_class(layout)
    offsets = {name: offset for name, (offset, _) in ntdddump.members(node).items()}
    assert offsets == {
        "FilterInitData": 0,
        "FilterExtension": layout.extension,
        "Flink": layout.link,
        "Blink": layout.link + layout.pointer_size,
        "State": layout.state,
        "StackContext": layout.stack_context,
        "DriverEntry": layout.driver_entry,
    }
    assert ctypes.sizeof(node) == layout.size


def assert_same_fields(layout, rows, prefix):
    """The field table has the compiler's members, no more and no less, and its size."""
    members, size = of_compiler(rows, prefix)
    ours = {name: (field.offset, field.size) for name, field in mindumpdef.fields(layout).items()}
    assert ours == members
    if size is not None and hasattr(layout, "size"):
        assert layout.size == size[1]


@pytest.mark.parametrize(
    ("prefix", "layout"),
    [
        ("HEADER64", mindumpdef.DumpHeader64),
        ("HEADER32", mindumpdef.DumpHeader32),
        ("TRIAGE64", mindumpdef.TriageDump64),
        ("TRIAGE32", mindumpdef.TriageDump32),
        ("SUMMARY64", mindumpdef.SummaryDump64),
        ("SUMMARY32", mindumpdef.SummaryDump32),
        ("DEBUGGER", mindumpdef.DEBUGGER_DATA),
    ],
)
def test_dump_file_headers(compiled, prefix, layout):
    """Every field of the dump file headers lies, and is as wide, as the compiler has it."""
    assert_same_fields(layout, compiled[1], prefix)


@pytest.mark.parametrize(
    ("prefix", "structure"),
    [
        ("DEVICE_VERSION", devicedump.DEVICEDUMP_STRUCTURE_VERSION),
        ("DEVICE_RECORD", devicedump.DEVICEDUMP_STORAGESTACK_PUBLIC_STATE_RECORD),
        ("DEVICE_DUMP", devicedump.DEVICEDUMP_STORAGESTACK_PUBLIC_DUMP),
    ],
)
def test_device_dump(compiled, prefix, structure):
    """The storage port's block is laid out packed."""
    assert_same(structure, compiled[1], prefix)


def test_published_offsets():
    """Offsets that were proved by other means than a compiler."""
    # Windows 7 x86 dumpfve code: DumpType 0, DeviceObject 4, BytesPerSector 0x1C, DumpData 0x40
    members = ntdddump.members(ntdddump.filter_extension(4, 1))
    assert members["DumpType"][0] == 0
    assert members["DeviceObject"][0] == 4
    assert members["Geometry"][0] + ntdddump.DISK_GEOMETRY.BytesPerSector.offset == 0x1C
    assert members["DumpData"][0] == 0x40
    # lilhoser/dmpext, Windows 8 x86: a node is its list entry less 0x78, and starts with 40 bytes
    layouts = {x.name: x for x in crashdmp.node_layouts(4)}
    assert layouts["win8"].link == 0x78
    assert ctypes.sizeof(layouts["win8"].init_class) == 40
    # Windows 7 x86 crashdmp!FilterCallback: link 0x70, state 0x78
    assert (layouts["vista"].link, layouts["vista"].state) == (0x70, 0x78)


def test_misspelt_member_is_an_error():
    """A structure takes no attribute that is not a member."""
    extension = ntdddump.filter_extension(8, 2)()
    with pytest.raises(AttributeError):
        extension.DiscSize = 1


def test_field_reads_little_endian():
    """A Field reads its value at its offset from a base, whatever the host."""
    data = b"\xff" * 8 + bytes(0xF98) + b"\x05\x00\x00\x00"
    assert mindumpdef.DumpHeader64.DumpType.read(data, 8) == 5
    with pytest.raises(struct.error):
        mindumpdef.DumpHeader64.DumpType.read(data, 9)


@pytest.mark.parametrize("raw", [bytes(range(16)), bytes(16), b"\xff" * 16, bytes(range(240, 256))])
def test_guids_as_the_standard_library_reads_them(raw):
    """To text and back; what is not 16 bytes or not a GUID is refused as there."""
    assert guids.text_of(raw) == str(uuid.UUID(bytes_le=raw))
    assert guids.stored(guids.text_of(raw)) == raw
    with pytest.raises(ValueError, match="15 bytes"):
        guids.text_of(raw[1:])
    with pytest.raises(ValueError, match="unpack"):
        guids.stored(guids.text_of(raw)[:-13])
