"""The findings as JUnit XML, for continuous integration.

Invariant: a suite per source; its first case says whether it could be read, and each finding is one
case, which fails when the finding counts by ``fail_on``. A rule without a finding
has no case: that it was not seen does not prove that it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .. import formatting as fmt
from ..absence import Absent
from ..answer import answer_of
from ..answer.problems import by_severity
from ..checks.rule import fails
from ..records import Finding, Records
from ..tables import evidence_lines


def write(records: Records, fail_on: str = "warning") -> Iterator[str]:
    """The whole document in one piece."""
    findings: dict[str, list[Finding]] = {}
    for finding in by_severity(records["findings"]):
        findings.setdefault(finding.origin.source, []).append(finding)
    sources = {str(s.path): s for s in records["sources"]}
    root = Element("testsuites", name="dumpstart")
    properties = SubElement(root, "properties")
    for sentence in answer_of(records).headline:
        SubElement(properties, "property", name="answer", value=sentence)
    for path in dict.fromkeys([*sources, *findings]):
        suite = SubElement(root, "testsuite", name=fmt.clean(path))
        if path in sources:
            kind = sources[path].kind
            case = _case(suite, path, "can be read")
            if isinstance(kind, Absent):
                SubElement(case, "error", message=fmt.clean(kind), type="input-unusable")
        for finding in findings.get(path, []):
            _finding(suite, path, finding, fail_on)
        _count(suite)
    _count(root)
    indent(root)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, "unicode") + "\n"


def _case(suite: Element, path: str, name: str) -> Element:
    return SubElement(suite, "testcase", classname=fmt.clean(path), name=name, time="0")


def _finding(suite: Element, path: str, finding: Finding, fail_on: str) -> None:
    name = fmt.fields(finding, "rule", "subject")
    case = _case(suite, path, name)
    told = fmt.clean(finding.text, 2000)
    lines = [fmt.clean(line) for line in evidence_lines(finding)]
    lines += [fmt.clean(finding.advice, 2000)] if finding.advice else []
    severity = fmt.field(finding, "severity")
    if fails(finding, fail_on):
        failure = SubElement(case, "failure", message=told, type=severity)
        failure.text = "\n".join(lines)
    else:
        SubElement(case, "system-out").text = "\n".join([f"{severity}: {told}", *lines])


def _count(element: Element) -> None:
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    element.set("skipped", "0")
    element.set("time", "0")
