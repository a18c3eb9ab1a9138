"""The shipped sample dumps are what the generator makes, and the generator keeps its promises."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import SAMPLE_TRACES
from generator import ARCHS, DUMP_TYPES, LAYOUTS, VARIANTS, Built, Spec, build, filler_frame, write

HEALTHY = [
    Spec(arch, dump_type, layout)
    for arch, dump_type, layout in itertools.product(ARCHS, DUMP_TYPES, LAYOUTS)
    if VARIANTS["healthy"].applies(arch, dump_type, layout)
]


def name_of(spec: Spec) -> str:
    """Id of a parametrized test."""
    return "-".join(str(part) for part in spec[:4])


def manifest() -> dict[str, dict[str, str]]:
    """Name -> row of MANIFEST.toml, by its plain lines; Python 3.9 has no TOML reader."""
    rows: dict[str, dict[str, str]] = {}
    for block in (SAMPLE_TRACES / "MANIFEST.toml").read_text("utf-8").split("[[sample]]")[1:]:
        row = dict(re.findall(r'^(\w+) = "?(.*?)"?$', block, re.M))
        rows[row["file"]] = row
    return rows


@pytest.fixture(scope="module")
def make_samples() -> ModuleType:
    """The command that writes the samples, as a module."""
    spec = importlib.util.spec_from_file_location("make_samples", SAMPLE_TRACES / "make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_samples"] = module
    spec.loader.exec_module(module)
    return module


# ---- shipped files -----------------------------------------------------------------------------
def test_every_dump_is_listed_and_every_listed_dump_is_there() -> None:
    """MANIFEST.toml and the folder name the same files."""
    assert sorted(manifest()) == sorted(path.name for path in SAMPLE_TRACES.glob("*.dmp"))


def test_samples_are_made_again_byte_for_byte(make_samples: ModuleType) -> None:
    """Each file, and the manifest, equals what the generator makes now."""
    made = make_samples.make()
    assert sorted(made) == sorted([*manifest(), "MANIFEST.toml"])
    for name, content in made.items():
        assert (SAMPLE_TRACES / name).read_bytes() == content, name


def test_manifest_tells_size_and_hash_of_each_file() -> None:
    """Size and SHA-256 in the manifest are those of the file."""
    for name, row in manifest().items():
        content = (SAMPLE_TRACES / name).read_bytes()
        assert row["size"] == str(len(content))
        assert row["sha256"] == hashlib.sha256(content).hexdigest()


def test_manifest_is_toml() -> None:
    """A real TOML reader gives the same files as the plain one above."""
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    rows = tomllib.loads((SAMPLE_TRACES / "MANIFEST.toml").read_text("utf-8"))["sample"]
    assert [row["file"] for row in rows] == list(manifest())
    for row in rows:
        assert row["expected_rules"] == build(Spec(**row["spec"])).truth["expected_rules"]


def test_samples_stay_small() -> None:
    """No file above 400 KB, all together below 3 MB."""
    sizes = [path.stat().st_size for path in SAMPLE_TRACES.glob("*.dmp")]
    assert max(sizes) < 400_000
    assert sum(sizes) < 3_000_000


def test_check_finds_a_changed_sample(tmp_path: Path) -> None:
    """`--check` ends with 0 on what is shipped, with 1 when a byte differs."""
    for source in [*SAMPLE_TRACES.rglob("*.py"), *SAMPLE_TRACES.glob("*.dmp")]:
        target = tmp_path / source.relative_to(SAMPLE_TRACES)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.read_bytes())
    (tmp_path / "MANIFEST.toml").write_bytes((SAMPLE_TRACES / "MANIFEST.toml").read_bytes())
    command = [sys.executable, "-B", str(tmp_path / "make_samples.py"), "--check"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    damaged = tmp_path / "healthy-x64-kernel.dmp"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    result = subprocess.run(command, capture_output=True, check=False, text=True)
    assert result.returncode == 1
    assert "differs: healthy-x64-kernel.dmp" in result.stdout


# ---- generator ---------------------------------------------------------------------------------
def test_generator_uses_the_standard_library_alone() -> None:
    """No module of the generator imports the analyzer or a package, and all of it is Python 3.9."""
    allowed = {"__future__", "functools", "hashlib", "io", "random", "struct", "typing"}
    allowed |= {"uuid", "zlib"}
    for path in sorted((SAMPLE_TRACES / "generator").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module in allowed, path


def test_the_same_spec_gives_the_same_bytes() -> None:
    """Two builds of every healthy combination agree, and no two combinations are the same file."""
    digests = {}
    for spec in HEALTHY:
        digests[spec] = hashlib.sha256(build(spec).data).digest()
        assert hashlib.sha256(build(spec).data).digest() == digests[spec], spec
    assert len(set(digests.values())) == len(HEALTHY) == 78


@pytest.mark.parametrize("spec", HEALTHY, ids=name_of)
def test_truth_names_the_bytes_of_the_file(spec: Spec) -> None:
    """Frames, node fields and size that the truth tells are found in the file."""
    built = build(spec)
    assert len(built.data) == built.truth["header"]["required_dump_space"]
    for pfn, digest in built.truth["frame_sha256"].items():
        assert hashlib.sha256(built.page(pfn)).hexdigest() == digest
    if spec.dump_type == 4:
        return
    for row in built.truth["filters"]:
        # the node's first ULONG is MajorVersion; the marker before the block is crashdmp's pool tag
        at = find(built, row["node"])
        assert int.from_bytes(built.data[at : at + 4], "little") == row["init"]["MajorVersion"]
        before = 12 if built.truth["pointer_size"] == 8 else 4
        assert built.data[at - before : at - before + 4] == b"CDmp"


def find(built: Built, va: int) -> int:
    """File offset of a virtual address, by walking the page tables in the plainest way."""
    levels = {
        "x64": ((39, 9), (30, 9), (21, 9), (12, 9)),
        "arm64": ((39, 9), (30, 9), (21, 9), (12, 9)),
        "x86-pae": ((30, 2), (21, 9), (12, 9)),
        "x86": ((22, 10), (12, 10)),
    }[built.truth["spec"]["arch"]]
    size = 4 if built.truth["spec"]["arch"] == "x86" else 8
    mask = 0xFFFFFFE0 if built.truth["spec"]["arch"] == "x86-pae" else 0x000FFFFFFFFFF000
    table = built.truth["header"]["directory_table_base"] & mask
    for shift, bits in levels:
        at = table + (va >> shift & (1 << bits) - 1) * size
        offset = built.offset(at >> 12) + (at & 0xFFF)
        table = int.from_bytes(built.data[offset : offset + size], "little") & 0x000FFFFFFFFFF000
    return built.offset(table >> 12) + (va & 0xFFF)


def first_fit(variant: str) -> Spec:
    """A spec that the variant applies to."""
    for arch, dump_type, layout in itertools.product(ARCHS, (6, 1, 4, 5, 10), ("win8", "vista")):
        if VARIANTS[variant].applies(arch, dump_type, layout):
            return Spec(arch, dump_type, layout, variant)
    raise AssertionError(variant)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "healthy"])
def test_every_variant_differs_from_the_healthy_dump(variant: str) -> None:
    """A variant is another file than the healthy one, except where healthy is the same thing."""
    spec = first_fit(variant)
    same = build(spec).data == build(spec._replace(variant="healthy")).data
    assert same == (variant == "context-only")  # the healthy small dump is this one


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("cut-")])
def test_cut_dumps_are_the_start_of_the_healthy_one(variant: str) -> None:
    """A cut file ends where the truth says, and is whole up to there."""
    spec = first_fit(variant)
    cut = build(spec)
    assert len(cut.data) == cut.truth["cut_at"]
    assert build(spec._replace(variant="healthy")).data.startswith(cut.data)


def test_only_variants_with_something_wrong_expect_a_problem() -> None:
    """Healthy variants expect at most the notes that are no fault of the dump stack."""
    for name, variant in VARIANTS.items():
        if variant.healthy:
            assert set(variant.expected) <= {
                "storage-requests-in-flight", "secondary-data-missing", "sleep-transition",
                "dump-not-by-windows",
            }  # fmt: skip
        elif name not in ("crashdmp-absent", "nodes-only", "hostile-names", "requests-in-flight"):
            assert variant.rules, name


def test_combinations_without_sense_are_refused() -> None:
    """Range dumps of 32-bit machines do not exist, nor do five levels on ARM64."""
    for spec in (Spec("x86", 8), Spec("arm64", la57=True), Spec(variant="pcid", arch="x86")):
        with pytest.raises(ValueError, match=r"no such combination|five levels"):
            build(spec)


class Counter(io.RawIOBase):
    """Counts what is written and keeps nothing."""

    size = 0

    def write(self, data: Any) -> int:
        """Counts."""
        self.size += len(data)
        return len(data)


@pytest.mark.parametrize("dump_type", [1, 5, 6, 10])
def test_filler_pages_are_stored_and_mapped(dump_type: int) -> None:
    """A dump with filler pages has them all, at the frames that `filler_frame` gives."""
    spec = Spec(dump_type=dump_type, filler_pages=5000)
    file = Counter()
    truth = write(spec, file)
    assert file.size == truth["header"]["required_dump_space"]
    assert file.size - len(build(spec._replace(filler_pages=0)).data) >= 5000 * 4096
    assert truth["filler"]["mapped_pages"] == 5000
    frames = [filler_frame(spec, index) for index in range(5000)]
    assert frames == sorted(set(frames))
    assert frames[0] >= 0x100000
