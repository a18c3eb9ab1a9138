"""Every synthetic dump gives the findings its flaw deserves, and a healthy one no error.

The oracle is the generator's own list of rules per variant, written without the analyzer.
"""

from __future__ import annotations

import generator
import pytest
from conftest import SAMPLE_TRACES
from said import sentences

import analyzer
from analyzer import checks
from analyzer.errors import InputError
from analyzer.sources import dump

SPECS = [
    generator.Spec(arch, dump_type, layout, name)
    for index, (name, variant) in enumerate(generator.VARIANTS.items())
    for arch, layouts in (
        ("x64", ("vista", "win8", "newest")),
        ("arm64", ("win8",)),
        ("x86-pae", ("vista", "win8")),
        ("x86", ("vista",)),
    )
    for layout in layouts
    for dump_type in generator.DUMP_TYPES
    if variant.applies(arch, dump_type, layout)
    # every dump type on one machine, one dump type on every machine; what is healthy in three
    if (arch, layout) == ("x64", "win8")
    or dump_type in ((1, 4, 6) if name == "healthy" else (1, 4, 6)[index % 3 : index % 3 + 1])
]


def found_in(spec, folder):
    """The truth about a synthetic dump and what the checks find in it; None when it is refused."""
    built = generator.build(spec)
    path = folder / "made.dmp"
    path.write_bytes(built.data)
    try:
        return built.truth, checks.run(dump.collect(str(path)))
    except InputError:
        assert built.truth["may_refuse"]
        return built.truth, None


def judge(spec, folder):
    """Expected rules are found, no id is unknown, and what is healthy has no error."""
    truth, findings = found_in(spec, folder)
    if findings is None:
        return
    rules = {finding.rule for finding in findings}
    assert set(truth["expected_rules"]) <= rules
    assert "internal-unknown-rule" not in rules
    if truth["healthy"]:
        # a live request and a lack of secondary data are facts, not flaws
        assert rules == set(truth["expected_rules"])
        assert "error" not in {finding.severity for finding in findings}


@pytest.mark.parametrize("name", generator.VARIANTS)
def test_variant_gives_its_findings(name, tmp_path):
    """Each variant is judged alike whatever the dump type, architecture and node layout."""
    specs = [spec for spec in SPECS if spec.variant == name]
    assert specs
    for spec in specs:
        judge(spec, tmp_path)


@pytest.mark.parametrize(
    ("hidden", "modules", "answer"),
    [
        (
            ("acmeflt",),
            "1 filter module",
            "According to the module list, the dump stack contained dump_dumpfve.sys.",
        ),
        (
            ("acmeflt", "dumpfve"),
            "no filter modules",
            "None of the 13 loaded modules is a crash dump filter",
        ),
    ],
)
def test_a_filter_without_a_module_is_not_lost(tmp_path, hidden, modules, answer):
    """crashdmp's list in this minidump has two members, whose nodes it does not hold."""
    data = (SAMPLE_TRACES / "minidump-x64.dmp").read_bytes()
    for name in hidden:
        data = data.replace(f"dump_{name}".encode("utf-16-le"), f"xump_{name}".encode("utf-16-le"))
    (tmp_path / "m.dmp").write_bytes(data)
    records = analyzer.open(tmp_path / "m.dmp").records
    assert sentences(records)[1].startswith(answer)
    told = [f.text for f in records["findings"] if f.rule == "filter-count-differs"]
    (text,) = told
    assert text.startswith(f"The crash stack has {modules}, but crashdmp's list")
    assert text.endswith(" has at least 2 filters.")
    assert all(row.is_reconstructed for row in records["extensions"])
