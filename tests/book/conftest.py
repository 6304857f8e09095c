"""The built book in a browser, for the tests of this folder.

Builds nothing: `make book` does. Tests that ask for a browser are skipped where the book
or Chromium is missing, unless LESSONS_REQUIRE_BROWSER=1 says that they must be there.
LESSONS_LATE=300 lets every frame that a page asks for come 300 ms late, as on a busy machine:
a test that does not wait for what a page does in its next frame fails then, and not once in
a hundred runs.
"""

import os
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from built_book import DESK, HTML, PAGES

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDGETS = "embed.js"  # the widget manager takes most of a page's time
PLAIN = (HTML / "_static" / "nn.css").as_uri()  # where no script runs
# Puts the milliseconds in place of %d; a frame's number is that of its timer.
LATE = """(() => {
    const ask = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = call => setTimeout(() => ask(call), %d);
    window.cancelAnimationFrame = clearTimeout;
})()"""
# The theme logs each change of colours.
KNOWN_MESSAGES = ("[PST]", "[SBT]")


def absent(reason: str) -> None:
    """Skip, unless what is absent was said to be there."""
    if os.environ.get("LESSONS_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium():
    """Chromium, started once in a process: playwright takes no second one."""
    if not CHROMIUM:
        absent("neither chromium nor google-chrome is on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        late_frames(started, int(os.environ.get("LESSONS_LATE", 0)))
        yield started
        started.close()


def late_frames(browser, late: int) -> None:
    """Let each frame of pages that are opened from now on come so many milliseconds late."""
    plain = browser.new_context

    def new_context(**options):
        context = plain(**options)
        context.add_init_script(LATE % late)
        return context

    if late:
        browser.new_context = new_context


@pytest.fixture(scope="session")
def browser(chromium):
    """Chromium for the built book, or the reason why these tests cannot be run."""
    missing = [page for page in PAGES if not (HTML / f"{page}.html").is_file()]
    if missing:
        absent(f"the book is not built ({missing[0]} is missing): run make book")
    return chromium


@pytest.fixture(scope="session")
def host():
    """The book on localhost: its address."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=HTML))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Shared:
    """The tab that visits to pages on disk share in a process. A page in a new tab takes a
    second more of the processor: its scripts are compiled anew."""

    def __init__(self, browser):
        self.browser, self.tab, self.complaints, self.is_free = browser, None, [], True

    def opened(self, viewport, theme):
        """The tab in this look; a new one where the last one could not be cleaned."""
        if self.tab is None:
            self.tab = tab_of(self.browser, viewport, theme)
            listen(self.tab, "", self.complaints)
        self.is_free = False
        self.tab.set_viewport_size(viewport)
        self.tab.emulate_media(color_scheme=theme)
        return self.tab

    def left(self) -> list[str]:
        """Put the tab back as it was at first; the complaints since then."""
        tab, self.tab, self.is_free = self.tab, None, True
        try:
            tab.evaluate("0")  # what the page has said until now is heard
            complaints = list(self.complaints)
            tab.unroute_all()
            tab.goto(PLAIN, wait_until="commit")
            tab.evaluate("localStorage.clear(), sessionStorage.clear()")
            tab.emulate_media(media="null", reduced_motion="reduce")
            tab.mouse.move(-1, -1)
        except Exception:
            self.complaints.clear()
            tab.context.close()
            raise
        self.complaints.clear()
        self.tab = tab
        return complaints


def tab_of(browser, viewport, theme, touch=False):
    """A new tab that shares nothing with others."""
    context = browser.new_context(
        viewport=viewport, color_scheme=theme, reduced_motion="reduce", has_touch=touch
    )
    context.set_default_timeout(60_000)  # a busy machine is no fault of a page
    return context.new_page()


@pytest.fixture(scope="session")
def shared(browser):
    return Shared(browser)


@pytest.fixture
def visit(browser, shared):
    """Open a page; a word in the console, a failed or foreign request fails the test."""
    with visits(browser, shared) as opened:
        yield opened


@pytest.fixture(scope="module")
def visit_once(browser):
    """The same for a page that several tests of a file look at: it fails the last one."""
    with visits(browser, None) as opened:
        yield opened


@contextmanager
def visits(browser, shared):
    """A function that opens pages, each in the shared tab where it is free."""
    contexts, complaints, borrowed = [], [], []

    def opened(url, viewport=DESK, theme="light", without=None, first=None, touch=False):
        is_plain = url.startswith("file:") and not (without or first or touch)
        if is_plain and shared and shared.is_free:
            tab = shared.opened(viewport, theme)
            borrowed.append(tab)
        else:
            tab = tab_of(browser, viewport, theme, touch)
            contexts.append(tab.context)
            listen(tab, url.split("/")[2], complaints)
        if without:  # a script that never comes
            tab.route(f"**/{without}*", lambda route: route.fulfill(body=""))
        if first:  # a script that runs before those of the page
            tab.add_init_script(first)
        tab.goto(url, wait_until="load")
        if without != WIDGETS:
            wait_for_widgets(tab)
        return tab

    yield opened
    for context in contexts:
        context.close()
    if borrowed:
        complaints += shared.left()
    assert not complaints, "\n".join(complaints)


def listen(tab, own_host: str, complaints: list[str]) -> None:
    """Collect whatever goes wrong on a page, or asks another host."""

    def on_console(message):
        if not message.text.startswith(KNOWN_MESSAGES):
            complaints.append(f"console {message.type}: {message.text}")

    def on_response(response):
        if response.status >= 400:
            complaints.append(f"{response.status}: {response.url}")

    def on_request(request):
        inside = request.url.startswith(("data:", "blob:"))
        if not inside and request.url.split("/")[2] != own_host:
            complaints.append(f"another host: {request.url}")

    tab.on("console", on_console)
    tab.on("response", on_response)
    tab.on("request", on_request)
    tab.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    tab.on("requestfailed", lambda r: complaints.append(f"failed: {r.url[:100]}"))


def wait_for_widgets(tab) -> None:
    """Wait until the widget manager has drawn all that the page has."""
    views = tab.locator("script[type='application/vnd.jupyter.widget-view+json']")
    tab.wait_for_function(
        "n => document.querySelectorAll('.nn-stepper, .nn-quiz').length >= n",
        arg=views.count(),
    )
