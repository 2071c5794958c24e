"""The report in a real browser: it asks for nothing, complains of nothing, sorts, filters, fits a phone, and prints."""

import os
import re
from pathlib import Path

import browser as browsers
import planted_report
import pytest
from browser import DESKTOP, PHONE

from crossseed.report import embedded

pytestmark = pytest.mark.skipif(
    browsers.find() is None,
    reason=f"none of {', '.join(browsers.NAMES)} is installed: python tests/browser.py --packages",
)
CLAIMS = "#t-claims"
FILE = "#file-phases"
# Texts of a column of the lines that are seen.
COLUMN = """[...document.querySelectorAll("{table} tbody tr")].filter((line) => line.getClientRects().length)
.map((line) => line.cells[{column}].innerText.split("\\n")[0].trim())"""
VERDICT, RIGOROUS = 2, 5


@pytest.fixture(scope="module")
def browser():
    with browsers.Browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return planted_report.write(tmp_path_factory.mktemp("report"))


@pytest.fixture
def page(browser, report):
    with browser.page(report.as_uri(), DESKTOP) as found:
        yield found


def column(page, number, table=CLAIMS):
    return page.run(COLUMN.format(table=table, column=number))


def head(number, table=CLAIMS):
    return f"{table} thead th:nth-child({number + 1}) button"


def ordered(found):
    """Numbers of cells as Python reads them; a dash is None."""
    return [None if text == "–" else float(text) for text in found]


KNOWN = sorted(value for value in planted_report.MEASURED if value is not None)


def test_nothing_is_wrong_with_it(browser, report):
    assert browsers.faults(browser, report) == []


def test_nothing_is_wrong_with_the_page_of_a_latent(browser, report):
    found = next(iter(sorted((report.parent / "features").iterdir())))
    assert browsers.faults(browser, found) == []


BROKEN = {
    "asks for": '<img alt="x" src="http://127.0.0.1:9/x.png">',
    "says loud": "<script>console.warn('loud')</script>",
    "says {": "<script>throw new Error('thrown')</script>",
    "px wide: the page is": "<div style='width: 2000px'>wide</div>",
    "printed: 1 pages for": "<style>@media print { main { height: 9cm; overflow: hidden } }</style>",
    "low contrast, P": "<p style='color: #aaa; background: #fff'>pale</p>",
    "without a text": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
    "H5 after H2": "<h5>deep</h5>",
    "table without a caption": "<table><thead><tr><th scope='col'>a</th></tr></thead></table>",
    "to nowhere": "<a href='#gone'>gone</a>",
}


@pytest.mark.parametrize(("told", "what"), BROKEN.items())
def test_what_is_wrong_is_told(browser, report, tmp_path, told, what):
    text = report.read_text().replace("</main>", f"{what}</main>")
    path = tmp_path / "broken.html"
    path.write_text(text)
    found = browsers.faults(browser, path)
    assert any(re.search(re.escape(told), one) for one in found), found


def test_a_click_sorts_numbers_up_then_down_then_as_it_was(page):
    before = ordered(column(page, RIGOROUS))
    assert before == list(planted_report.MEASURED)
    page.click(head(RIGOROUS))
    assert ordered(column(page, RIGOROUS)) == [*KNOWN, None]
    assert page.run(f"document.querySelector('{head(RIGOROUS)}').parentElement.ariaSort") == (
        "ascending"
    )
    page.click(head(RIGOROUS))
    assert ordered(column(page, RIGOROUS)) == [*KNOWN[::-1], None]
    page.click(head(RIGOROUS))
    assert ordered(column(page, RIGOROUS)) == before
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 0


def test_the_keyboard_sorts_words(page):
    page.run(f"document.querySelector('{head(VERDICT)}').focus()")
    page.key("Enter", 13, "\r")
    found = column(page, VERDICT)
    assert found == sorted(found)
    assert len(set(found)) == 2
    page.key(" ", 32, " ")
    assert column(page, VERDICT) == found[::-1]


def test_a_filter_keeps_rows_with_all_its_words_and_counts_them(page):
    count = f"document.querySelector('{CLAIMS} output').textContent"
    n = len(planted_report.MEASURED)
    assert page.run(count) == f"{n} of {n} rows"
    page.write(f"{CLAIMS} input", "NOT repro correlation")
    assert column(page, 0) == [planted_report.QUANTITY.format(n) for n in (2, 4, 6)]
    assert page.run(count) == f"3 of {n} rows"
    page.click(head(RIGOROUS))
    assert ordered(column(page, RIGOROUS)) == [1e-5, 9.0, 10.0]
    page.write(f"{CLAIMS} input", "nothing has this")
    assert column(page, 0) == []
    page.write(f"{CLAIMS} input", " ")
    assert len(column(page, 0)) == n


def opened(page):
    page.click(f"{FILE} summary")
    page.run(f"""new Promise((done) => {{
        const look = () => document.querySelector("{FILE} output") ? done() : setTimeout(look, 20);
        look();
    }})""")


def test_thousands_of_rows_are_light_until_opened_and_sort_as_a_whole(page):
    assert page.run(f"document.querySelectorAll('{FILE} tr').length") == embedded.FIRST_ROWS + 1
    said = page.run(f"document.querySelector('{FILE}').textContent")
    assert f"its first {embedded.FIRST_ROWS} of {planted_report.N_ROWS:,} rows" in said
    assert f"this page holds the first {embedded.MOST_ROWS:,}" in said
    opened(page)
    shown = column(page, 0, FILE)
    assert len(shown) == 100
    last = page.run(f"document.querySelector('{FILE} thead').rows[0].cells.length") - 1
    page.click(head(last, FILE))
    least = planted_report.N_ROWS - embedded.MOST_ROWS + 1 + 1 / 3
    assert float(column(page, last, FILE)[0]) == pytest.approx(least, rel=1e-4)
    page.click(f"{FILE} .more")
    assert len(column(page, 0, FILE)) == 200
    page.write(f"{FILE} input", f"row {planted_report.N_ROWS - 3}.3")
    assert column(page, 0, FILE) == ["row 3"]


def test_published_figures_fit_a_desktop(page):
    box = f"document.querySelector('{CLAIMS} .scroll')"
    assert page.run(f"{box}.clientWidth") <= DESKTOP[0] == 1280
    assert page.run(f"{box}.scrollWidth") == page.run(f"{box}.clientWidth")


def test_why_is_said_below_the_verdict_and_can_be_searched_for(page):
    said = page.run(f"document.querySelector('{CLAIMS} tbody tr').cells[{VERDICT}].innerText")
    assert said.split("\n") == ["not reproduced", planted_report.WHY]
    page.write(f"{CLAIMS} input", planted_report.WHY.split(",")[0])
    assert len(column(page, 0)) == len(planted_report.MEASURED)


def test_tables_scroll_within_themselves_on_a_phone(browser, report):
    with browser.page(report.as_uri(), PHONE) as page:
        assert page.run(browsers.WIDTH) <= PHONE[0]
        box = f"document.querySelector('{CLAIMS} .scroll')"
        assert page.run(f"{box}.scrollWidth > {box}.clientWidth")
        page.run(f"{box}.scrollLeft = 200")
        assert page.run(f"{box}.scrollLeft") == 200
        widest = "Math.max(...[...document.querySelectorAll('figure a')].map((a) => a.getBoundingClientRect().right))"
        assert page.run(widest) <= PHONE[0]
        # Words of nine points are not made smaller than can be read, and are scrolled to.
        shrunk = (
            "Math.min(...[...document.images].map((image) => image.width / image.naturalWidth))"
        )
        assert page.run(shrunk) >= 0.6


def test_without_javascript_all_of_it_is_there(browser, report):
    with browser.page(report.as_uri(), DESKTOP, scripts=False) as page:
        root = page.ask("DOM.getDocument")["root"]["nodeId"]

        def found(selector):
            return page.ask("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"]

        assert len(found(f"{CLAIMS} tbody tr")) == len(planted_report.MEASURED)
        assert len(found(f"{FILE} tbody tr")) == embedded.FIRST_ROWS
        assert len(found("figure img")) == 5
        assert not found("input, button")


def test_print_has_all_rows_whatever_is_filtered_and_no_controls(page):
    page.write(f"{CLAIMS} input", "0.07")
    assert len(column(page, 0)) == 1
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert len(column(page, 0)) == len(planted_report.MEASURED)
    assert page.run(f"document.querySelector('{CLAIMS} label').getClientRects().length") == 0
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.ask("Emulation.setEmulatedMedia", media="")
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert len(column(page, 0)) == 1
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    # A figure is never cut, and there are five.
    assert browsers.n_pages(pdf) >= 3


def test_screenshots_are_taken(browser, report, tmp_path):
    """Into the folder that SCREENSHOTS names, if it does; those in docs/figures are of the smoke run."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    browsers.screenshots(browser, report, folder)
    names = {path.name for path in folder.glob("report*.png")}
    assert {"report-desktop-verdicts.png", "report-phone-tables.png", "report-print.png"} <= names
    assert all((folder / name).stat().st_size > 5000 for name in names)
