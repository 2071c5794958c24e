"""A headless Chromium, driven over a pipe by the DevTools protocol, and what tests ask of a page in it.

python tests/browser.py --packages             installs chromium where it can
python tests/browser.py PAGE FOLDER            screenshots of a page: desktop, phone and print

The protocol is JSON with a zero byte after each message, read from file 3 and written to file 4 of the browser's process:
https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import base64
import fcntl
import functools
import json
import math
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import system_packages

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-dejavu-core")
SECONDS = 120
DESKTOP, PHONE = (1280, 900), (390, 844)
# What is printed of A4, 190 mm at 96 dots an inch; and the whole height of the paper, which no page fills.
PAPER, PAPER_PX = (718, 1016), 1122
OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check"),
    *("--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--mute-audio"),
)
# Becomes the browser, with its ends of the pipes as files 3 and 4.
STARTED = "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)]; os.execvp(sys.argv[3], sys.argv[3:])"


class BrowserError(Exception):
    """No browser can be had or started here; the message says why."""


@functools.cache
def find():
    """The browser's command; None if there is none, or only a stand-in that says where to get one."""
    for command in filter(None, map(shutil.which, NAMES)):
        told = subprocess.run([command, "--version"], capture_output=True, check=False)
        if told.returncode == 0:
            return command
    return None


def install():
    """Installs a browser where there is none, and starts it once.

    Raises:
        BrowserError: it cannot be installed, or does not start.
    """
    if find() is None:
        try:
            system_packages.install(PACKAGES)
        except system_packages.PackageError as error:
            raise BrowserError(
                f"none of {', '.join(NAMES)} is installed; the package is {PACKAGES[0]}. {error}"
            ) from None
        find.cache_clear()
    with Browser() as browser, browser.page("data:text/html,<p>here", DESKTOP) as page:
        if page.run("document.body.innerText") != "here":
            raise BrowserError(f"{find()}: shows no page")


class Browser:
    """A browser with a profile of its own, which goes with it."""

    def __enter__(self):
        command = find()
        if command is None:
            raise BrowserError(f"none of {', '.join(NAMES)} is installed")
        self.folder = tempfile.mkdtemp(prefix="browser-")
        theirs_in, self.out = os.pipe()
        self.inward, theirs_out = os.pipe()
        # Root may not have a sandbox.
        options = [*OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        # Numbers that putting one in its place does not overwrite.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]
        profile = f"--user-data-dir={self.folder}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTED, *map(str, theirs), command, *options, profile],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs_in, theirs_out, *theirs):
            os.close(fd)
        self.number, self.buffer, self.events = 0, b"", []
        return self

    def __exit__(self, *error):
        try:
            self.ask("Browser.close")
            self.process.wait(20)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.out)
        os.close(self.inward)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method, session=None, **parameters):
        """What the browser answers to one message; events that come before are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next(method)
            if found.get("id") == self.number:
                if "error" in found:
                    raise BrowserError(f"{method}: {found['error']['message']}")
                return found["result"]
            self.events.append(found)

    def wait(self, method, session):
        """Until an event of a page has come."""
        while not any((e["method"], e.get("sessionId")) == (method, session) for e in self.events):
            self.events.append(self._next(method))

    def _next(self, what):
        end = time.monotonic() + SECONDS
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.inward], [], [], max(0, end - time.monotonic()))
            data = os.read(self.inward, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"{what}: the browser does not answer")
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def page(self, url, size, dark=False, scripts=True):
        return Page(self, url, size, dark, scripts)


class Page:
    """A page in a tab of its own, of a size in CSS pixels."""

    def __init__(self, browser, url, size, dark, scripts):
        self.browser, self.url, self.size = browser, url, size
        self.dark, self.scripts = dark, scripts

    def __enter__(self):
        self.target = self.browser.ask("Target.createTarget", url="about:blank")["targetId"]
        found = self.browser.ask("Target.attachToTarget", targetId=self.target, flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        width, height = self.size
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=self.size == PHONE,
        )
        scheme = "dark" if self.dark else "light"
        self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.ask("Emulation.setScriptExecutionDisabled", value=not self.scripts)
        self.ask("Page.navigate", url=self.url)
        self.browser.wait("Page.loadEventFired", self.session)
        return self

    def __exit__(self, *error):
        self.browser.ask("Target.closeTarget", targetId=self.target)

    def ask(self, method, **parameters):
        return self.browser.ask(method, self.session, **parameters)

    def run(self, script):
        """The value of an expression of JavaScript, or of what it promises."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def click(self, selector):
        """A click with the mouse on the middle of what a selector finds first."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center', inline: 'center'}}); "
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def key(self, name, code, text=""):
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, text=text,
                windowsVirtualKeyCode=code,
            )  # fmt: skip

    def write(self, selector, text):
        """Text into a field, as from a keyboard."""
        self.run(f"document.querySelector({selector!r}).select()")
        self.ask("Input.insertText", text=text)

    def screenshot(self, path, whole=False):
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def pdf(self):
        """The page as printed on A4."""
        found = self.ask(
            "Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69
        )
        return base64.b64decode(found["data"])

    def requests(self):
        """Addresses that the page asked for, but for what it holds itself."""
        urls = [e["params"]["request"]["url"] for e in self._of("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self):
        """What it said on the console, of whatever level, and exceptions that nothing caught."""
        said = [
            " ".join(str(a.get("value", a.get("description"))) for a in e["params"]["args"])
            for e in self._of("Runtime.consoleAPICalled")
        ]
        said += [e["params"]["entry"]["text"] for e in self._of("Log.entryAdded")]
        thrown = self._of("Runtime.exceptionThrown")
        return said + [str(e["params"]["exceptionDetails"]) for e in thrown]

    def _of(self, method):
        # Whatever was sent before this is answered has come then.
        self.run("new Promise((done) => setTimeout(done, 50))") if self.scripts else None
        return [
            e for e in self.browser.events
            if (e["method"], e.get("sessionId")) == (method, self.session)
        ]  # fmt: skip


def n_pages(pdf):
    """How many pages a PDF has, by its objects."""
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


# Texts that are seen, whose contrast with what is behind them (WCAG 2.1) is below what text of their size needs.
CONTRAST = """
(() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parse(getComputedStyle(e).backgroundColor);
      if (found.alpha === 1) return found.rgb;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(style.color).rgb), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) bad.push(`${e.tagName} ${ratio.toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return bad.slice(0, 10);
})()
"""

# What a reader who does not see the page would miss.
STRUCTURE = """
(() => {
  const bad = [];
  let before = 0;
  for (const head of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const level = Number(head.tagName[1]);
    if (level > before + 1) bad.push(`${head.tagName} after H${before}: ${head.textContent}`);
    before = level;
  }
  if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
  for (const image of document.images)
    if (!image.alt.trim() || !image.complete || !image.naturalWidth) bad.push(`image ${image.alt || "without a text"}`);
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption?.textContent.trim()) bad.push("table without a caption");
    if ([...table.tHead.rows[0].cells].some((cell) => cell.scope !== "col")) bad.push("column without a scope");
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) bad.push(`twice: #${id}`);
  for (const link of document.querySelectorAll('a[href^="#"]'))
    if (!ids.includes(link.hash.slice(1))) bad.push(`to nowhere: ${link.hash}`);
  return bad;
})()
"""
# How far down what stands on the page reaches, whether it is seen or cut off.
LENGTH = """Math.max(...[...document.querySelectorAll("body, body *")].map((e) => e.getBoundingClientRect().bottom)) + window.scrollY"""
WIDTH = "document.documentElement.scrollWidth"


def faults(browser, path):
    """What is wrong with a page of a report, in words: requests, complaints, what overflows, texts that are hard to read."""
    url = path.resolve().as_uri()
    found = []
    for size, dark in ((DESKTOP, False), (PHONE, False), (PHONE, True)):
        words = f"{size[0]} px wide{', dark' if dark else ''}"
        with browser.page(url, size, dark) as page:
            # All that can be opened.
            page.run("document.querySelectorAll('details').forEach((d) => { d.open = true })")
            page.run("new Promise((done) => setTimeout(done, 300))")
            found += [f"{words}: low contrast, {text}" for text in page.run(CONTRAST)]
            found += [f"{words}: {text}" for text in page.run(STRUCTURE)]
            if (wide := page.run(WIDTH)) > size[0]:
                found.append(f"{words}: the page is {wide} px wide")
            found += [f"{words}: asks for {one}" for one in page.requests() if one != url]
            found += [f"{words}: says {text}" for text in page.complaints()]
    with browser.page(url, PAPER, dark=True) as page:
        page.run("window.dispatchEvent(new Event('beforeprint'))")
        page.ask("Emulation.setEmulatedMedia", media="print")
        found += [f"printed: low contrast, {text}" for text in page.run(CONTRAST)]
        controls = "[...document.querySelectorAll('.controls label, .more, nav')].filter((e) => e.getClientRects().length).length"
        if page.run(controls):
            found.append("printed: with controls")
        # A page with a table wider than paper is printed smaller, and shorter; at half the size nobody could read it.
        least = math.ceil(page.run(LENGTH) / PAPER_PX / 2)
        page.ask("Emulation.setEmulatedMedia", media="")
        if (printed := n_pages(page.pdf())) < least:
            found.append(f"printed: {printed} pages for what fills {least} at half the size")
    return found


def screenshots(browser, path, folder):
    """The page on a desktop and on a phone, at its verdicts, figures and tables, and as printed."""
    url = path.resolve().as_uri()
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        with browser.page(url, size) as page:
            for place in ("verdicts", "figures", "tables"):
                page.run(f"document.querySelector('#{place}').scrollIntoView()")
                page.screenshot(folder / f"report-{name}-{place}.png")
    with browser.page(url, PAPER) as page:
        page.run("window.dispatchEvent(new Event('beforeprint'))")
        page.ask("Emulation.setEmulatedMedia", media="print")
        page.screenshot(folder / "report-print.png")
        (folder / "report.pdf").write_bytes(page.pdf())


def main(arguments):
    try:
        if arguments == ["--packages"]:
            install()
        else:
            page, folder = map(Path, arguments)
            with Browser() as browser:
                screenshots(browser, page, folder)
    except BrowserError as error:
        print(f"tests/browser.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
