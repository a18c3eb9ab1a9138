"""The HTML report in a real browser: headless Chromium, as a reader uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import records
from analyzer.case import Case
from analyzer.records import Origin, Records

HOSTILE = (
    "<img src=x onerror=document.title='owned'></script><script>document.title='owned'</script>"
)


class View:
    """A page that is open in the browser."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self._file = browser, folder / "report.html"

    def open(self, case: Case, width: int = 1280, scheme: str = "light") -> View:
        """Opens the report of a case at a width, in a colour scheme."""
        self._file.write_text(case.report("html"), encoding="utf-8")
        run = self.browser.execute_cdp_cmd
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        run("Emulation.setDeviceMetricsOverride", size)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        asked = [{"name": name, "value": value} for name, value in features.items()]
        run("Emulation.setEmulatedMedia", {"features": asked})
        self.browser.get(self._file.as_uri())
        return self

    def all(self, selector: str) -> list[Any]:
        """Elements by CSS selector."""
        return list(self.browser.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        """The first such element."""
        return self.all(selector)[0]

    def click(self, element: Any) -> None:
        """Clicks with the mouse on an element in the middle of the window."""
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def js(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        return self.browser.execute_script(f"return {code}")

    def until(self, holds: Callable[[], bool]) -> bool:
        """Waits for up to five seconds."""
        end = time.monotonic() + 5
        while not holds() and time.monotonic() < end:
            time.sleep(0.05)
        return holds()

    def console(self) -> list[Any]:
        """What the browser complained about."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def view(browser: Any, tmp_path: Path) -> Iterator[View]:
    """A page; whatever a test does with it, the console stays empty."""
    made = View(browser, tmp_path)
    made.console()  # what the pages before left
    yield made
    assert made.console() == []


def worst() -> Case:
    """The worst sample."""
    return analyzer.open(SAMPLE_TRACES / "broken-x64-worst.dmp")


@pytest.mark.parametrize("name", ["healthy-x64-kernel.dmp", "broken-x64-worst.dmp"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit_the_window(view: View, name: str, scheme: str, width: int) -> None:
    """No sideways scrolling, text and background differ, in both schemes, wide and narrow."""
    view.open(analyzer.open(SAMPLE_TRACES / name), width, scheme)
    assert view.js("document.documentElement.scrollWidth") <= width
    assert view.one("h1").text == name
    colour = view.js("getComputedStyle(document.body).backgroundColor")
    assert colour == {"light": "rgb(246, 247, 249)", "dark": "rgb(18, 21, 26)"}[scheme]
    assert len(view.all("#chart .item")) == 20
    labels = view.all("#chart svg")
    assert labels[0].size["width"] <= width


def test_evidence_lands_on_the_cell(view: View) -> None:
    """From the answer to the evidence to the cell: opened, marked, focused, in sight, uncovered."""
    view.open(worst(), width=800)
    (entry,) = [x for x in view.all("#a-problems article") if "given no device" in x.text]
    view.click(entry.find_element("css selector", ".more a"))
    wanted = "r-extensions-1-device_object"
    link = view.one(f"#findings a[href='#{wanted}']")
    assert link.is_displayed()
    view.click(link)
    cell = view.one(f"#{wanted}")
    assert cell.is_displayed()
    assert cell.text == "0x0000000000000000"
    assert "found" in cell.get_attribute("class")
    assert view.js("document.activeElement.id") == wanted
    box = view.js(f"document.getElementById('{wanted}').getBoundingClientRect().toJSON()")
    first = view.js(
        f"document.getElementById('{wanted}').parentElement.cells[0].getBoundingClientRect().toJSON()"
    )
    assert 0 < box["top"] < 900
    assert first["right"] <= box["left"] + 1
    assert box["right"] <= 800
    assert first["left"] >= 0  # the first column stays
    view.js("location.hash = '#r-requests-4-duration_ns'")  # as a link that was kept
    assert view.until(lambda: view.js("document.activeElement.id") == "r-requests-4-duration_ns")
    assert view.one("#r-requests-4-duration_ns").is_displayed()


def test_search_finds_a_module(view: View) -> None:
    """The search leaves the rows with the words, opens their tables, hides the others."""
    view.open(worst())
    field = view.one("#search")
    field.send_keys("badnic")
    rows = [row for row in view.all("#t-modules tbody tr") if row.is_displayed()]
    assert rows
    assert all("badnic" in row.text for row in rows)
    assert len(rows) < len(view.all("#t-modules tbody tr"))
    assert not view.one("#t-requests").is_displayed()
    assert "row" in view.one("#matches").text
    field.clear()
    field.send_keys("no such thing at all")
    assert view.one("#matches").text == "0 rows in 0 tables"
    field.send_keys("\ue009a\ue000\ue003")  # select all, delete
    assert view.one("#t-requests").is_displayed()
    assert view.js("document.querySelectorAll('details.table[open]').length") == 0
    assert view.js("document.querySelectorAll('#tables [hidden]').length") == 0


def test_copy_copies_the_rows_in_sight(view: View) -> None:
    """The button gives the table as text with tabs: names, then the values a program takes."""
    made = Records()
    origin = Origin("a.dmp", "list walk")
    names = ["=1+1", "tab\there.sys", "-2", "acmeflt.sys"]
    for number, name in enumerate(names):
        made.add(make(records.Module, name=name, base=number, size=4096, origin=origin))
    view.open(Case(made))
    view.js("document.getElementById('t-modules').open = true")
    view.browser.set_permissions("clipboard-write", "granted")
    view.browser.set_permissions("clipboard-read", "granted")
    view.click(view.one("[data-copy=modules]"))
    told = view.one("[data-copy=modules] + span")
    assert view.until(lambda: told.text == "Copied, with tabs between the columns.")
    copied = view.browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    lines = [line.split("\t") for line in copied.splitlines()]
    assert lines[0][:2] == ["name", "base"]
    assert [line[0] for line in lines[1:]] == ["'=1+1", "tab\\there.sys", "-2", "acmeflt.sys"]
    assert lines[4][1] == "0x0000000000000003"
    assert {len(line) for line in lines} == {len(lines[0])}


def test_bad_values_look_bad(view: View) -> None:
    """The members, bytes, routine and requests that findings are about are marked, no others."""
    view.open(worst())
    error = view.js("getComputedStyle(document.querySelector('.chip.error')).color")
    marked = view.all(".members tr.wrong")
    names = {row.find_elements("css selector", "td")[2].text.split(".")[-1] for row in marked}
    assert names == {"DeviceObject", "BytesPerSector"}  # the other parts of the geometry are sound
    assert view.all("[data-extension=x0] .wrong") == []  # the other filter is well
    device = view.all("[data-extension=x1] .byte[data-member='1']")
    assert len(device) == 8
    assert all("wrong" in byte.get_attribute("class") for byte in device)
    assert device[0].value_of_css_property("color").replace("a(", "(").replace(", 1)", ")") == error
    cells = view.all(".verdict tr:not(.below) td.bad")
    assert [cell.text for cell in cells] == ["likely off", "STATUS_UNSUCCESSFUL"]
    plain = view.one("body").value_of_css_property("color")
    assert {cell.value_of_css_property("color") == plain for cell in cells} == {False}
    lines = [line.text for line in view.all(".verdict .below div.bad")]
    assert lines[0].startswith("FILTER_EXTENSION")
    assert [line.partition(" ")[0] for line in lines[1:]] == ["WRONG"] * 5
    bad = [cell.text for cell in view.all(".calls td.routine.bad")]
    assert len(bad) == 1
    assert "ntoskrnl" in bad[0]
    # Oracle: request 4 took 12 s and succeeded, request 3 failed.
    assert len(view.all("#chart .k-noted")) == 1
    assert len(view.all("#chart .k-failed")) == 1
    view.open(analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp"))
    assert view.all(".wrong, .bad, .k-noted") == []


def test_a_call_slower_than_the_baseline_is_marked(view: View) -> None:
    """The one slow call is red in its table and not green on the axis."""
    runs = SAMPLE_TRACES / "captures"
    view.open(analyzer.open(runs / "run-09.jsonl", baseline=[runs / "run-01.jsonl"]))
    assert [c.text.split(" ms")[0] for c in view.all(".calls td.bad")] == ["9.62"]
    assert [c.text for c in view.all(".verdict tr:not(.below) td.bad")] == ["9.62 ms"]
    assert len(view.all("#chart .k-noted")) == 1


#: words of some cells that stand on two lines; a code may break after an underscore
TORN = """(() => {
  const torn = [];
  for (const cell of document.querySelectorAll(".verdict td, .calls td, .calls th")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (const word of texts.currentNode.data.matchAll(/[^\\s_]+_?/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        if (range.getClientRects().length > 1) torn.push(word[0]);
      }
    }
  }
  return torn;
})()"""


@pytest.mark.parametrize("name", ["broken-x64-worst.dmp", "captures", "traces/crash-callbacks.etl"])
def test_phones_tear_no_word(view: View, name: str) -> None:
    """At 400 px names and statuses stay whole, and each value of a verdict has its name."""
    view.open(analyzer.open(SAMPLE_TRACES / name), width=400)
    assert view.js(TORN) == []
    row = view.one(".verdict tbody tr")
    assert row.size["height"] > 60  # a line for each value
    label = (
        "getComputedStyle(document.querySelector('.verdict td:nth-child(3)'), '::before').content"
    )
    assert view.js(label).startswith(('"state', '"Dump_Start'))


def test_each_crash_has_its_time_axis(view: View) -> None:
    """Two crashes two years apart: the one that failed leads, and the hung step is on its axis."""
    view.open(analyzer.open(SAMPLE_TRACES / "cases" / "two-crashes.zip"))
    assert "0x9F" in view.one(".facts").text
    titles = [title.text for title in view.all(".timeline h3")]
    assert [title[:7] for title in titles] == ["Crash 2", "Crash 1"]
    first, second = view.all(".timeline .chart")
    ticks = [tick.text for tick in view.all(".timeline .chart .tick")]
    assert all(abs(float(t.split()[0])) < 1000 for t in ticks)  # not 60,000,000 s
    assert len(second.find_elements("css selector", ".item")) == 22
    hung = first.find_elements("css selector", "rect.k-open")
    assert len(hung) == 1
    assert hung[0].size["width"] > first.size["width"] * 0.5  # open to the end of the axis
    # Oracle: event 161 is the one that says that the dump failed.
    (event,) = first.find_elements("css selector", ".k-noted")
    view.click(event)
    assert "creating the dump file failed" in view.one("#told").text
    view.js("document.getElementById('chart').focus()")
    first.send_keys("\ue011")  # home
    for _ in range(4):
        first.send_keys("\ue014")
    assert view.one("#told").text.startswith("badnic (DumpStack.log: writing the dump): at 6.55 s")


def test_runs_hours_apart_have_their_axes(view: View) -> None:
    """Captures of different nights are not pressed into two points of one axis."""
    names = [f"captures/run-{number:02}.jsonl" for number in (9, 10)]
    view.open(analyzer.open(*(SAMPLE_TRACES / name for name in names)))
    assert [title.text for title in view.all(".timeline h3")] == ["run-09.jsonl", "run-10.jsonl"]
    for chart in view.all(".timeline .chart"):
        wide = [item.size["width"] for item in chart.find_elements("css selector", "rect.item")]
        assert max(wide) > 100  # Dump_Start of acmeflt is a third of the run


@pytest.mark.parametrize(
    ("name", "hung"),
    [
        ("write-stalled-chunk.log", 0),  # slow, but it was completed
        ("write-stopped.log", 1),
        ("driver-stuck.log", 1),
        ("healthy-kernel.log", 0),
    ],
)
def test_only_a_step_that_was_never_left_is_open(view: View, name: str, hung: int) -> None:
    """A write that stalled and went on is noted, not open."""
    view.open(analyzer.open(SAMPLE_TRACES / "logs" / name))
    assert len(view.all("#chart .k-open")) == hung
    assert (len(view.all("#chart .k-noted")) > 0) == (name == "write-stalled-chunk.log")


def test_one_slow_call_marks_no_other(view: View) -> None:
    """Calls of a capture are read at one address; only the one that hung is open."""
    made, at = Records(), 1_709_647_629_123_000_000
    for number in range(5):
        origin = Origin("run.jsonl", "capture", file_offset=100 * number, address=0x1000)
        row = make(records.Callback, callback="Dump_Write", entry_time=at + number, origin=origin)
        made.add(row)
    text = "Dump_Write did not return"
    origin = made["callbacks"][3].origin
    made.add(
        make(records.Finding, rule="callback-never-returned", severity="error", text=text,
             origin=origin)
    )  # fmt: skip
    view.open(Case(made))
    assert len(view.all("#chart .k-open")) == 1
    assert view.all("#chart .k-noted") == []
    view.js("document.getElementById('chart').focus()")
    for _ in range(4):
        view.one("#chart").send_keys("\ue014")
    view.one("#chart").send_keys("\ue007")
    assert view.js("document.activeElement.id") == "r-callbacks-3"


def test_many_axes_are_folded_and_drawn_when_opened(view: View) -> None:
    """Of twelve runs three are in sight; the others are drawn as wide when they are opened."""
    view.open(analyzer.open(*sorted((SAMPLE_TRACES / "captures").glob("*.jsonl"))))
    charts = view.all(".timeline .chart")
    assert [chart.is_displayed() for chart in charts] == [True] * 3 + [False] * 9
    view.click(view.one("details.axes summary"))
    width = "document.querySelectorAll('.timeline .chart svg')[{}].getBoundingClientRect().width"
    assert view.until(lambda: view.js(width.format(11)) == view.js(width.format(0)) > 1000)


def test_phones_show_every_call(view: View) -> None:
    """At 400 px callback, called, duration and status of each call are in sight."""
    view.open(worst(), width=400)
    boxes = view.js(
        "[...document.querySelectorAll('.calls td, .calls th:not(.routine), .verdict [data-name]')]"
        ".map(cell => cell.getBoundingClientRect()).map(box => [box.left, box.right, box.width])"
    )
    assert len(boxes) > 50
    assert all(left >= 0 and right <= 400 and width > 0 for left, right, width in boxes)
    wide = "[...document.querySelectorAll('.calls, .verdict')].map(t => t.parentElement)"
    assert view.js(f"{wide}.every(box => box.scrollWidth <= box.clientWidth)")


def test_tables_sort_by_number_and_back(view: View) -> None:
    """A click sorts ascending by value, not by text; a second one descending; absent stays last."""
    view.open(worst())
    view.js("document.getElementById('t-requests').open = true")
    heads = view.all("#t-requests th")
    (place,) = [n for n, head in enumerate(heads) if head.text == "duration_ns"]
    rows = "[...document.querySelectorAll('#t-requests tbody tr')]"
    values = f"{rows}.map(row => row.cells[{place}].dataset.sort)"
    button = heads[place].find_element("css selector", "button")
    view.click(button)
    up = view.js(values)
    known = [int(value) for value in up if value]
    assert known == sorted(known)
    assert known[-1] == 12_000_000_000
    assert up[-3:] == ["", "", ""]  # one in flight, two without a start
    view.click(button)
    assert [int(value) for value in view.js(values) if value] == known[::-1]
    assert heads[place].get_attribute("aria-sort") == "descending"


def test_timeline_by_keyboard(view: View) -> None:
    """Arrow keys tell the items one by one, plus zooms, Enter goes to the row."""
    view.open(worst())
    chart = view.one("#chart")
    view.js("document.getElementById('chart').focus()")
    chart.send_keys("\ue014")  # arrow right
    assert view.one("#told").text.startswith("READ(10) (storage requests): at -12.09 s, 12 s long.")
    before = view.js("document.querySelector('#chart .on').getBoundingClientRect().width")
    chart.send_keys("+")
    after = view.js("document.querySelector('#chart .item').getBoundingClientRect().width")
    assert after > before * 0.5
    chart.send_keys("0")
    chart.send_keys("\ue007")  # enter
    assert view.js("document.activeElement.id") == "r-requests-4"


def test_timeline_zoom_buttons_and_hover(view: View) -> None:
    """The last second shows 19 requests apart; pointing at one tells it."""
    view.open(worst())
    view.click(view.one("[data-zoom=before]"))
    assert len(view.all("#chart rect.item")) > 8
    failed = view.one("#chart .k-failed")
    from selenium.webdriver import ActionChains

    ActionChains(view.browser).move_to_element(failed).perform()
    assert "SRB_STATUS_ERROR" in view.one("#told").text


def test_bytes_and_members_light_up_together(view: View) -> None:
    """Focus on DeviceObject marks its eight bytes and nothing else."""
    view.open(worst())
    row = view.all(".members tr[data-member='1']")[0]
    assert "DeviceObject" in row.text
    view.js("document.querySelector(\".members tr[data-member='1']\").focus()")
    lit = view.all(".byte.on")
    assert [byte.text for byte in lit] == ["80", "30", "00", "e4", "8b", "c0", "ff", "ff"]


def test_theme_can_be_chosen(view: View) -> None:
    """The button goes round system, light, dark."""
    view.open(worst(), scheme="light")
    button = view.one("#theme")
    button.click()
    button.click()
    assert button.text == "Theme: dark"
    colour = view.js("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(18, 21, 26)"


def test_hostile_names_stay_text(view: View) -> None:
    """A driver called like markup is shown as it is called; nothing of it runs."""
    made, at = Records(), 1_709_647_629_123_000_000
    origin = Origin(HOSTILE, HOSTILE)
    made.add(
        make(records.Source, path=HOSTILE, kind=HOSTILE, origin=origin),
        make(records.Machine, system_time=at, bugcheck=1, bugcheck_name=HOSTILE, origin=origin),
        make(records.Filter, filter=HOSTILE, stack=HOSTILE, origin=origin),
        make(records.Callback, filter=HOSTILE, callback=HOSTILE, entry_time=at, origin=origin),
        make(
            records.Finding,
            rule=HOSTILE,
            severity="error",
            text=HOSTILE,
            evidence=(records.Evidence(HOSTILE, HOSTILE),),
        ),
    )
    view.open(Case(made))
    assert view.browser.title != "owned"
    assert view.all("img") == []
    assert "<img src=x" in view.one("#filters h3").text
    view.click(view.one("#findings summary"))
    assert "<img src=x" in view.one("#findings p").text
    view.js("document.getElementById('chart').focus()")
    view.one("#chart").send_keys("\ue014")
    assert "<img src=x" in view.one("#told").text
    assert view.browser.title != "owned"


def test_printing_opens_everything(view: View) -> None:
    """On paper no details stay closed."""
    view.open(worst())
    closed = "document.querySelectorAll('details:not([open])').length"
    assert view.js(closed) > 0
    view.js("window.dispatchEvent(new Event('beforeprint'))")
    assert view.js(closed) == 0
    view.js("window.dispatchEvent(new Event('afterprint'))")
    assert view.js(closed) > 0
    assert len(view.browser.print_page()) > 10_000


def test_paper_shows_every_column(view: View) -> None:
    """On A4 nothing is wider than the sheet; wide tables become paragraphs with named values."""
    view.open(worst())
    view.js("window.dispatchEvent(new Event('beforeprint'))")
    run = view.browser.execute_cdp_cmd
    sheet = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    run("Emulation.setDeviceMetricsOverride", sheet)
    run("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        wide = "[...document.querySelectorAll('td, th, svg, dd, li')].filter(e =>"
        wide += " e.getBoundingClientRect().right > 719).map(e => e.textContent.slice(0, 60))"
        assert view.js(wide) == []
        shown = view.js("document.querySelector('#r-requests-3').innerText")
        assert "SRB_STATUS_ERROR" in shown
        name = "getComputedStyle(document.querySelector('#r-requests-3 td'), '::before').content"
        assert view.js(name).startswith('"request')
    finally:
        run("Emulation.setEmulatedMedia", {"media": ""})


def test_narrow_windows_show_every_member(view: View) -> None:
    """At 400 px no byte and no member of a FILTER_EXTENSION lies outside its box."""
    view.open(worst(), width=400)
    boxes = view.js(
        "[...document.querySelectorAll('.extension .scroll, .bytes')]"
        ".map(box => [box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight])"
    )
    assert len(boxes) == 4
    assert max(boxes) == [0, 0]


def test_thousand_requests_are_drawn_quickly(view: View) -> None:
    """A thousand items are on the page and zooming stays under a second."""
    made, at = Records(), 1_709_647_629_123_000_000
    made.add(make(records.Machine, system_time=at))
    for number in range(1000):
        start = at - (1000 - number) * 7_000_000
        made.add(
            make(
                records.Request,
                operation="WRITE",
                start=start,
                end=start + 20_000_000,
                in_flight=False,
            )
        )
    view.open(Case(made))
    assert len(view.all("#chart .item")) == 1000
    took = view.js(
        "(() => { const begin = performance.now();"
        " document.querySelector('[data-zoom=in]').click(); return performance.now() - begin })()"
    )
    assert took < 1000
