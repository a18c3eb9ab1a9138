"""Private structures of crashdmp.sys, as far as public knowledge goes.

Invariant: only what was published or proved on a real dump stands here, with its confidence; no
public symbol file types these structures, so readers must check what they find by content.
"""

import ctypes
from typing import NamedTuple

from . import ntdddump
from .ntdddump import Structure, filter_extension, filter_initialization_data, structure


class NodeLayout(NamedTuple):
    """FILTER_CONTEXT: crashdmp's node for one filter; offsets from its start, in bytes.

    The node starts with FILTER_INITIALIZATION_DATA (a filter's DriverEntry gets the node as its
    RegistryPath argument). ``confidence`` is that of the tail, in the words of ``Origin``.
    """

    name: str
    pointer_size: int
    extension: int  #: FILTER_EXTENSION (DriverEntry's DriverObject argument)
    link: int  #: LIST_ENTRY in the ring of filters
    state: int  #: ULONG; bit 0 = disabled after a failure
    stack_context: int  #: pointer to the dump stack context
    driver_entry: int  #: pointer to the driver list entry
    size: int
    init_class: type[Structure]
    extension_class: type[Structure]
    confidence: str


#: state bit 0: crashdmp drops a filter whose callback failed and goes on (Windows 7 x86 code)
STATE_DISABLED = 0x1
WINDOWS_7 = (7600, 7601)  #: builds


def knows_state(build: object, architecture: object) -> bool:
    """True where it is proven which word of a node is its state: in 32-bit code of Windows 7."""
    return build in WINDOWS_7 and str(architecture).startswith("x86")


def _layout(
    name: str, pointer_size: int, extension_version: int, offsets: str, confidence: str
) -> NodeLayout:
    extension, link, state, stack_context, driver_entry, size = (
        int(offset, 16) for offset in offsets.split()
    )
    return NodeLayout(
        name,
        pointer_size,
        extension,
        link,
        state,
        stack_context,
        driver_entry,
        size,
        filter_initialization_data(pointer_size, name),
        filter_extension(pointer_size, extension_version),
        confidence,
    )


# Member order: lilhoser/dmpflt, and the Windows 7 x86 code (exact there). The Windows 8 x86 link is
# confirmed by lilhoser/dmpext. On 19041 x64 a real filter link ends in 8, which the "win8" and
# "vista" layouts allow and "newest" does not. The rest follows from the C ABI.
NODE_LAYOUTS: tuple[NodeLayout, ...] = (
    # offsets in hex: extension, link, state, stack context, driver entry, size
    _layout("win8", 8, 2, "40 98 A8 B0 B8 C0", "likely"),
    _layout("newest", 8, 2, "48 A0 B0 B8 C0 C8", "guess"),
    _layout("vista", 8, 1, "38 88 98 A0 A8 B0", "likely"),
    _layout("win8", 4, 2, "28 78 80 84 88 90", "likely"),
    _layout("newest", 4, 2, "30 80 88 8C 90 98", "guess"),
    _layout("vista", 4, 1, "28 70 78 7C 80 88", "certain"),
)


# crashdmp!Context on 64-bit builds starts with this word, then 1 (seen on 22000 ARM64; the same
# four bytes are crashdmp's pool tag, so a hit counts only inside the image).
CONTEXT_SIGNATURE = b"CDmp"
CONTEXT_DUMP_BLOCK = 0xD0  # nt!CrashdmpDumpBlock is embedded here (22000 ARM64)
CONTEXT_STACK_POINTERS = (0x18, 0x88)  # both hold the crash dump stack context (22000 ARM64)

# nt!CrashdmpDumpBlock, 64-bit (Windows 10 x64; 0x18 to 0x40 also seen on 22000 ARM64).
DUMP_BLOCK_BUGCHECK_CODE = 0x18
DUMP_BLOCK_PARAMETERS = 0x20
DUMP_BLOCK_CONTEXT_RECORD = 0x40
DUMP_BLOCK_PROGRESS = 0x57C


class Win7Context(NamedTuple):
    """crashdmp!Context of Windows 7 x86: field -> offset. Exact, and valid for that build only."""

    crash_stack: int = 0x20
    last_error_location: int = 0x3EC
    failing_port_routine: int = 0x3F0
    failing_port_status: int = 0x3F4
    failing_filter_routine: int = 0x3F8
    failing_filter_status: int = 0x3FC
    hibernation_stack: int = 0x408
    size: int = 0x418


#: ContextCopy follows Context and should equal it.
WIN7_X86_CONTEXT = Win7Context()


class StackContextTail(NamedTuple):
    """The end of the dump stack context; offsets from its DISK_GEOMETRY_EX.

    Only this part keeps its shape from Windows 7 (both sizes) to 19041 x64; where the geometry lies
    in the whole block changes with the build, so it is found by content.
    """

    pointer_size: int
    scsi_address: int
    disk_size: int
    partition_info: int
    attached_device: int
    filter_list: int


STACK_CONTEXT_TAILS = {
    8: StackContextTail(8, -0x08, 0x18, 0x20, 0x38, 0x40),
    # Windows 7 x86: geometry at 0xF8, attached device at 0x130, filter list at 0x134.
    4: StackContextTail(4, -0x0C, 0x18, 0x20, 0x38, 0x3C),
}

#: DUMP_INITIALIZATION_CONTEXT.Length, the first word of a dump stack context, by pointer size.
STACK_CONTEXT_LENGTHS = {8: (0x108, 0xA0), 4: (0xC0, 0x70)}


def node_layouts(pointer_size: int) -> tuple[NodeLayout, ...]:
    """The layouts to try for pointers of this size, the most likely first."""
    return tuple(layout for layout in NODE_LAYOUTS if layout.pointer_size == pointer_size)


def node_class(layout: NodeLayout) -> type[Structure]:
    """The whole node as one ctypes structure, for writing one (sample generator, tests)."""
    pointer = ntdddump.pointer_class(layout.pointer_size)
    members: ntdddump.Members = []
    end = 0
    for name, offset, kind in (
        ("FilterInitData", 0, layout.init_class),
        ("FilterExtension", layout.extension, layout.extension_class),
        ("Flink", layout.link, pointer),
        ("Blink", layout.link + layout.pointer_size, pointer),
        ("State", layout.state, ctypes.c_uint32),
        ("StackContext", layout.stack_context, pointer),
        ("DriverEntry", layout.driver_entry, pointer),
    ):
        if offset > end:
            members.append((f"Padding_0x{end:02X}", ctypes.c_ubyte * (offset - end)))
        members.append((name, kind))
        end = offset + ctypes.sizeof(kind)
    if layout.size > end:
        members.append((f"Padding_0x{end:02X}", ctypes.c_ubyte * (layout.size - end)))
    return structure(f"FILTER_CONTEXT_{layout.name}_{layout.pointer_size * 8}", members)
