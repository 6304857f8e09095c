"""The built book in a browser, for the tests of this folder.

Builds nothing: `make book` does. Tests that ask for a browser are skipped where the book
or Chromium is missing, unless LESSONS_REQUIRE_BROWSER=1 says that they must be there.
"""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from built_book import DESK, HTML, PAGES

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDGETS = "embed.js"  # the widget manager takes most of a page's time
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
        yield started
        started.close()


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


@pytest.fixture
def visit(browser):
    """Open a page; a word in the console, a failed or foreign request fails the test."""
    contexts, complaints = [], []

    def opened(url, viewport=DESK, theme="light", without=None, first=None, touch=False):
        context = browser.new_context(
            viewport=viewport,
            color_scheme=theme,
            reduced_motion="reduce",
            has_touch=touch,
        )
        context.set_default_timeout(60_000)  # a busy machine is no fault of a page
        contexts.append(context)
        tab = context.new_page()
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
