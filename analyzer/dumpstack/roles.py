"""What each module is to the dump path: kernel, crash dump driver, port driver, miniport, filter.

Invariant: a role is decided by the module's name and its place behind the dump port driver;
nothing is read from memory. A name that is neither a known port nor a known miniport driver is a
filter by elimination, and the record says so. Standard library only.

Sources: docs/facts.md: crashdmp maps each image as ``dump_<name>`` for the crash
stack and ``hiber_<name>`` for the hibernation stack; the order is port driver, miniport, filters.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..absence import Absent
from ..records import Module

KERNEL = "kernel"
CRASH_DUMP_DRIVER = "crash dump driver"
PORT = "dump port driver"
MINIPORT = "dump miniport"
FILTER = "dump filter"
DRIVER = "driver"

PREFIXES = (("dump_", "crash"), ("hiber_", "hibernation"))

_PORTS = set("diskdump dumpstorport storport dumpata dumpsd dumpsdport scsiport".split())
_MINIPORTS = set(
    """
    stornvme storahci storufs storvsc vmbkmcl atapi msahci pciide ataport intelide nvmedisk
    iastor iastora iastorac iastorav iastoravc iastorvd iastore iastorf vmd rstnvme
    lsi_sas lsi_sas2 lsi_sas2i lsi_sas3 lsi_sas3i lsi_sss lsi_scsi lsi_fc megasas megasas2i
    megasas35i percsas2i percsas3i mpi3drvi mvumis amdsata amdsbs amdxata rcraid rcbottom nvstor
    nvraid arcsas adp80xx hpsamd smartpqi smartsamd sisraid2 sisraid4 vsmraid vstxraid
    viostor vioscsi pvscsi xenvbd secnvme 3ware stexstor ql2300 ql40xx elxstor bfad wmilib
    sdbus sdstor usbstor uaspstor
    """.split()
)
#: crash dump filter drivers known by name (docs/facts.md)
KNOWN_FILTERS = {"dumpfve", "veracrypt", "truecrypt", "dcrypt", "dmpflt"}

_KERNELS = {"ntoskrnl", "ntkrnlmp", "ntkrnlpa", "ntkrpamp", "ntkrla57", "nt"}


def stem(name: str | Absent | None) -> str:
    """Lower-case base name without folder and extension, "" when the name is absent."""
    if not isinstance(name, str):
        return ""
    text = name.rsplit("\\", 1)[-1].lower()
    return text.rsplit(".", 1)[0] if text.endswith((".sys", ".exe", ".dll")) else text


def split_prefix(name: str | Absent | None) -> tuple[str, str]:
    """("crash" | "hibernation" | "", stem behind the prefix)."""
    text = stem(name)
    for prefix, stack in PREFIXES:
        if text.startswith(prefix):
            return stack, text[len(prefix) :]
    return "", text


def _known(text: str, names: set[str], cut: bool) -> bool:
    # The unloaded list of a minidump cuts names to 12 letters, prefix included.
    return text in names or (
        cut and len(text) >= 6 and any(name.startswith(text) for name in names)
    )


def _role(text: str, cut: bool) -> str:
    if _known(text, KNOWN_FILTERS, cut):
        return FILTER
    if _known(text, _PORTS, cut):
        return PORT
    return MINIPORT if _known(text, _MINIPORTS, cut) else ""


def classify(modules: Sequence[Module], unloaded: Sequence[Module] = ()) -> list[Module]:
    """All modules with role, stack and comparison with their originals filled in.

    Behind a dump port driver that has no known miniport, the first unknown image is taken for the
    miniport (crashdmp loads port driver, miniport, filters in this order).
    """
    done = [_classify_one(module) for module in modules]
    for stack in ("crash", "hibernation"):
        places = [i for i, m in enumerate(done) if m.stack == stack]
        ports = [i for i in places if done[i].role == PORT]
        unknown = [i for i in places if done[i].role == ""]
        has_miniport = any(done[i].role == MINIPORT for i in places)
        for index in unknown:
            guess_miniport = ports and not has_miniport and index > ports[0]
            origin = done[index].origin
            text = "taken for the miniport: first unknown image behind the dump port driver"
            if not guess_miniport:
                text = "taken for a filter: no known dump port or miniport driver"
            origin = origin._replace(how=f"{origin.how}; {text}")
            done[index] = done[index]._replace(
                role=MINIPORT if guess_miniport else FILTER, origin=origin
            )
            has_miniport = has_miniport or bool(guess_miniport)
    originals = {stem(m.name): m for m in done if not m.stack}
    done = [_compare(module, originals) for module in done]
    for module in unloaded:
        entry = _classify_one(module, cut=len(str(module.name)) >= 12)
        done.append(entry if entry.role else entry._replace(role=FILTER))
    return done


def _classify_one(module: Module, cut: bool = False) -> Module:
    stack, text = split_prefix(module.name)
    if stack:
        return module._replace(stack=stack, role=_role(text, cut))
    if text == "crashdmp":
        return module._replace(role=CRASH_DUMP_DRIVER)
    return module._replace(role=KERNEL if text in _KERNELS else DRIVER)


def _compare(module: Module, originals: dict[str, Module]) -> Module:
    if not module.stack:
        return module
    text = split_prefix(module.name)[1]
    original = originals.get(text)
    if module.role == PORT:
        # dump_storport.sys is mapped from the dump port driver's own file, not from storport.sys.
        why = Absent(
            "not-applicable", "dump port drivers have no running original of the same file"
        )
        return module._replace(original=why, original_match=why)
    if original is None:
        why = Absent("not-found", f"{text}.sys itself is not loaded, nothing to compare with")
        return module._replace(original=why, original_match=why)
    mine = (module.time_date_stamp, module.size)
    theirs = (original.time_date_stamp, original.size)
    if any(isinstance(value, Absent) for value in mine + theirs):
        match: str | Absent = Absent("not-recorded", "a time stamp is missing")
    else:
        match = "same image" if mine == theirs else "different image"
    return module._replace(original=original.name, original_match=match)
