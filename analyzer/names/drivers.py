"""The drivers of a dump stack by name: port drivers, miniports, crash dump filters; their roles.

Invariant: a name in the table proves nothing of an image in memory, so whoever has better evidence
(the order of the stack, imports, a filter node) uses that first; ``encrypts`` is None where no
public source says it. Names are compared without folder, extension and case. Standard library only.

Sources: module lists of real dumps, the filters' public source code, Microsoft's documentation
(docs/facts.md). No public list of vendors' filters exists, so an unknown name is only unknown.
"""

from __future__ import annotations

from typing import NamedTuple

KERNEL = "kernel"
CRASH_DUMP_DRIVER = "crash dump driver"
PORT = "dump port driver"
MINIPORT = "dump miniport"
FILTER = "dump filter"
DRIVER = "driver"

#: prefix of crashdmp's copies of the drivers -> stack
PREFIXES = (("dump_", "crash"), ("hiber_", "hibernation"))
#: the filter that Windows registers itself
IN_BOX = "dumpfve.sys"


class Driver(NamedTuple):
    """One driver that can be in a dump stack."""

    name: str  #: base name without extension, lower case
    role: str  #: PORT, MINIPORT or FILTER
    vendor: str
    product: str = ""
    encrypts: bool | None = None
    is_in_box: bool = False

    @property
    def owner(self) -> str:
        """Product and vendor in words."""
        text = f"{self.product} ({self.vendor})" if self.product else self.vendor
        return f"{text}, in-box" if self.is_in_box and self.role == FILTER else text


_FILTERS = (
    Driver("dumpfve", FILTER, "Microsoft", "BitLocker", True, True),
    Driver("veracrypt", FILTER, "IDRIX", "VeraCrypt", True),
    Driver("truecrypt", FILTER, "TrueCrypt Foundation", "TrueCrypt", True),
    Driver("dcrypt", FILTER, "ntldr", "DiskCryptor", True),
    Driver("dmpflt", FILTER, "A. LeMasters", "dmpflt, a research filter", False),
)
# "vendor: names"; pciidex and ataport are the port drivers of IDE and AHCI disks on Windows 7
_PORTS = """
Microsoft: diskdump dumpstorport storport dumpata dumpsd dumpsdport scsiport ataport pciidex
"""
_MINIPORTS = """
Microsoft: stornvme storahci storufs storvsc vmbkmcl atapi msahci pciide intelide nvmedisk sdbus
Microsoft: sdstor usbstor uaspstor wmilib
Intel: iastor iastora iastorac iastorav iastoravc iastorvd iastore iastorf vmd rstnvme
Broadcom: lsi_sas lsi_sas2 lsi_sas2i lsi_sas3 lsi_sas3i lsi_sss lsi_scsi lsi_fc megasas megasas2i
Broadcom: megasas35i mpi3drvi bfad elxstor 3ware
Dell: percsas2i percsas3i
AMD: amdsata amdsbs amdxata rcraid rcbottom
NVIDIA: nvstor nvraid
Microchip: arcsas adp80xx smartpqi smartsamd
HPE: hpsamd
Marvell: mvumis ql2300 ql40xx
SiS: sisraid2 sisraid4
VIA: vsmraid vstxraid
Red Hat: viostor vioscsi
VMware: pvscsi
Xen: xenvbd
Samsung: secnvme
Promise: stexstor
"""


def _table(text: str, role: str) -> list[Driver]:
    rows = [line.split(": ") for line in text.strip().splitlines()]
    return [
        Driver(name, role, vendor, is_in_box=vendor == "Microsoft")
        for vendor, names in rows
        for name in names.split()
    ]


KNOWN: dict[str, Driver] = {
    driver.name: driver
    for driver in (*_FILTERS, *_table(_PORTS, PORT), *_table(_MINIPORTS, MINIPORT))
}

_KERNELS = {"ntoskrnl", "ntkrnlmp", "ntkrnlpa", "ntkrpamp", "ntkrla57", "nt"}
_EXTENSIONS = (".sys", ".exe", ".dll")
#: a name cut shorter than this could stand for too many
_LEAST_CUT = 6


def stem(name: object) -> str:
    """Lower-case base name without folder and extension, "" when the name is absent."""
    if not isinstance(name, str):
        return ""
    text = name.rsplit("\\", 1)[-1].lower()
    return text.rsplit(".", 1)[0] if text.endswith(_EXTENSIONS) else text


def split_prefix(name: object) -> tuple[str, str]:
    """("crash" | "hibernation" | "", stem behind the prefix)."""
    text = stem(name)
    for prefix, stack in PREFIXES:
        if text.startswith(prefix):
            return stack, text[len(prefix) :]
    return "", text


def plain_name(name: object) -> str:
    """A driver's name whatever stack its copy is in: dump_Dcrypt.sys and hiber_dcrypt -> dcrypt."""
    return split_prefix(name)[1]


def known(name: object, *, is_cut: bool = False) -> Driver | None:
    """The row of a driver, or of its copy in a stack; None for a name that is not in the table.

    ``is_cut``: the name may have lost its end (the unloaded list of a minidump keeps 12 letters).
    """
    text = plain_name(name)
    found = KNOWN.get(text)
    if found is None and is_cut and len(text) >= _LEAST_CUT:
        found = next((row for key, row in KNOWN.items() if key.startswith(text)), None)
    return found


def is_kernel(name: object) -> bool:
    """True for nt itself, under any of its file names."""
    return stem(name) in _KERNELS


def encrypts(name: object) -> bool | None:
    """Whether a filter encrypts what is written through it; None when that is not known."""
    found = known(name)
    return found.encrypts if found is not None and found.role == FILTER else None


def product(name: object) -> str:
    """Whose filter it is, and whether it encrypts; "" when the name is not that of a filter."""
    found = known(name)
    if found is None or found.role != FILTER:
        return ""
    return f"{found.owner}; {'encrypts' if found.encrypts else 'does not encrypt'}"
