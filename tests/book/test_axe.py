"""The rules of WCAG and axe's best practices: no page breaks one.

test_page of test_pages.py looks at each page once, in one of the six looks, in turn; here
are the dialogs, and, for `make sweep`, every page in every look.
"""

import pytest
from accessible import LOOKS, open_all, set_look, violations
from built_book import DESK, PAGES, PHONE, on_disk


@pytest.mark.slow
def test_search(visit):
    """The search dialog, opened, and the page of results."""
    tab = visit(on_disk(PAGES[0]), DESK)
    tab.keyboard.press("Control+k")
    tab.locator("#pst-search-dialog[open] input").wait_for()
    assert violations(tab) == []
    tab = visit(on_disk("search") + "?q=softmax", PHONE, "dark")
    tab.locator("#search-results li a").first.wait_for()
    assert violations(tab) == []


@pytest.mark.slow
def test_menus_on_a_phone(visit):
    """The course's menu and the page's headings, opened."""
    tab = visit(on_disk(PAGES[1]), PHONE, "dark")
    for toggle in ("primary", "secondary"):
        tab.locator(f".{toggle}-toggle:visible").click()
        tab.locator("dialog[open]").wait_for()
        assert violations(tab) == []
        tab.keyboard.press("Escape")


@pytest.mark.sweep
@pytest.mark.parametrize("page", [*PAGES, "search"])
def test_every_look(visit, page):
    """The whole page, quizzes answered and folds open, at three widths in both themes."""
    query = "?q=softmax" if page == "search" else ""
    tab = visit(on_disk(page) + query)
    open_all(tab)
    for width, theme in LOOKS:
        set_look(tab, width, theme)
        assert violations(tab) == [], (page, width, theme)
