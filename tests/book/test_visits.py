"""The tab that visits share is as good as a new one."""

from built_book import DESK, PHONE, on_disk

PAGE = on_disk("book/about")
HELD = """() => [
    "kept" in localStorage, "kept" in sessionStorage, matchMedia("print").matches,
    matchMedia("(prefers-color-scheme: dark)").matches, innerWidth,
    document.querySelectorAll("main :hover").length,
]"""


def test_a_visit_finds_nothing_of_the_one_before(browser, shared):
    """Neither storage nor media, mouse, routes or size; and what was said is heard once."""
    tab = shared.opened(PHONE, "dark")
    tab.goto(PAGE)
    tab.evaluate("localStorage.kept = sessionStorage.kept = 1")
    tab.emulate_media(media="print")
    tab.mouse.move(200, 600)
    tab.route("**/*.css", lambda route: route.abort())
    tab.evaluate("console.error('planted')")
    assert shared.left() == ["console error: planted"]
    assert shared.opened(DESK, "light") is tab, "it was shared for nothing"
    tab.goto(PAGE)
    assert tab.evaluate(HELD) == [False, False, False, False, DESK["width"], 0], (
        "put it back in Shared.left of conftest.py"
    )
    assert shared.left() == []
