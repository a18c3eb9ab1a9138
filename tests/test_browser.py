"""The HTML report in a real browser: headless Chromium, as a reader uses it."""

from __future__ import annotations

from collections.abc import Iterator
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


def test_a_click_on_evidence_shows_its_row(view: View) -> None:
    """The row is opened, marked, focused and in sight."""
    view.open(worst())
    view.js("document.querySelectorAll('details.table').forEach(d => d.open = false)")
    link = next(
        x for x in view.all(".finding a") if x.get_attribute("href").endswith("#r-requests-4")
    )
    assert "READ(10) no. 4" in link.text
    view.click(link)
    row = view.one("#r-requests-4")
    assert "found" in row.get_attribute("class")
    assert row.is_displayed()
    assert view.js("document.activeElement.id") == "r-requests-4"
    top = view.js("document.getElementById('r-requests-4').getBoundingClientRect().top")
    assert 0 < top < 900


def test_tables_sort_by_number_and_back(view: View) -> None:
    """A click sorts ascending by value, not by text; a second one descending; absent stays last."""
    view.open(worst())
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
